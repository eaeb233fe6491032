"""Before a tuning spends anything: what its budget buys, how long that takes, and what so few images can decide."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from augcond.amounts import checked_amounts
from augcond.config import RunConfig
from augcond.datasets.splits import Split
from augcond.errors import ConfigError
from augcond.evaluation.power import POWER
from augcond.evaluation.tuning_choice import ASSUMED_SPREAD, half_width_of
from augcond.experiments.forecast import estimate_cost
from augcond.experiments.tuning.candidates import Candidate, arm_of, designed, recipe_of, source_count
from augcond.experiments.tuning.folds import Blocks, draw_folds, most_folds
from augcond.experiments.tuning.notes import few_images, set_as_none, weak_guidance
from augcond.experiments.tuning.schedule import (
    FEWEST,
    Effort,
    Schedule,
    parse_budget,
    pilot_amounts,
    schedule_of,
)
from augcond.generators import load_generator
from augcond.guest import as_guest
from augcond.pipeline import assemble, load_training_images, plan_for
from augcond.progress import format_seconds
from augcond.store import RunFolder
from augcond.training.arm_images import RunImages
from augcond.training.experiment import Experiment
from augcond.training.trainer import train_one

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.datasets import Dataset
    from augcond.progress import Progress

DISAGREEMENT = 0.2
"""Share of the real images that two classifiers are taken to judge differently, before any was trained."""

_FEWEST_STEPS, _TIMED_STEPS = 2, 8
"""A cosine over one step is warned of by timm."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a tuning starts from.

    Attributes:
        config: of the run that is tuned; it names no held-out images.
        real: its real training images.
        planned: images per class of its plan.
        folds: of each cross-validation; fewer than two where no class has two images.
        held: the fold that holds each real image out, (N,); see `draw_folds`.
        blocks: of each class.
        designed: the sets of images to choose from.
        left_out: recipes that cannot be tried, each with the reason.
        notes: what of the config is set aside, and which classes are judged otherwise than they will be used.
    """

    config: RunConfig
    real: Dataset
    planned: tuple[int, ...]
    folds: int
    held: np.ndarray
    blocks: Blocks
    designed: tuple[Candidate, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def fewest(self) -> int:
        """Images of a pilot, at least: see `FEWEST`."""
        used = FEWEST * sum(1 for count in self.planned if count)
        return int(self.blocks.made(pilot_amounts(self.planned, used)).sum())

    @property
    def whole(self) -> int:
        """Images of a set of which every fold uses as many as the run plans."""
        return int(self.blocks.made(self.planned).sum())

    def schedule(self, budget: int, effort: Effort) -> Schedule:
        """Return the rounds that so many images buy; see `schedule_of`."""
        return schedule_of(budget, self.fewest, self.whole, len(self.designed), effort)

    @property
    def judged(self) -> list[int]:
        """Real images of each class that has any that is held out."""
        return [count for count in self.real.counts() if count > 1]

    @property
    def recipes(self) -> list[str]:
        """The recipes that can be tried, each once."""
        return list(dict.fromkeys(recipe_of(self.config, each) for each in self.designed))


def ground_of(
    config: RunConfig, effort: Effort, *, cache: Path | None = None, progress: Progress | None = None
) -> Ground:
    """Return what a tuning of `config` starts from.

    Args:
        config: the run to tune.
        effort: see there.
        cache: see `load_training_images`.
        progress: see there.

    Raises:
        ConfigError: the config leaks or names rounds, or what it plans is nothing.
        DatasetError: the real images cannot be used.
    """
    if config.leaks:
        raise ConfigError(f"leaks: a tuning judges on images that no training saw; leave {', '.join(config.leaks)} out")
    if config.plan.rounds is not None:
        raise ConfigError("plan.rounds: a tuning chooses the sources of its images itself: leave the key out")
    notes = set_as_none(config)
    config = without_held_out(config)
    real = load_training_images(config, cache=cache, progress=progress)
    planned = tuple(checked_amounts(real, config.plan, config.conditioning))
    if not any(planned):
        raise ConfigError("plan: it asks for no image, so there is nothing to tune")
    for class_id, amount, count in zip(real.classes, planned, real.counts(), strict=True):
        if amount and not count:
            raise ConfigError(f"class {class_id!r} has no readable image to judge on: add one, or leave the class out")
    labels = np.array([image.label for image in real.images], dtype=np.int64)
    folds = most_folds(labels, effort.folds)
    held = draw_folds(labels, folds, config.plan.seed) if folds > 1 else np.full(len(labels), -1)
    blocks = Blocks.of(labels, held, len(planned))
    if folds < 2:
        return Ground(config, real, planned, folds, held, blocks, (), (), ())
    sets, left_out = designed(config)
    if not sets:
        raise ConfigError(f"conditioning.recipe: there is none to try ({'; '.join(left_out)})")
    mixed = max(source_count(config, each) for each in sets) * (np.array(planned) > 0)
    notes += [*few_images(real.counts(), blocks, mixed), *weak_guidance(config, real.counts())]
    return Ground(config, real, planned, folds, held, blocks, tuple(sets), tuple(left_out), tuple(notes))


def without_held_out(config: RunConfig) -> RunConfig:
    """Return a config that names neither test nor validation images, so that no stage can open them.

    What leans on other training images than its sources, which a fold may hold out, is set as if it were not there.
    """
    data = config.data.model_copy(update={"test": None, "validation": None})
    screening = config.screening.model_copy(update={"by": "none"})
    plan = config.plan.model_copy(update={"oversample": 1})
    # Trackers would be told of dozens of pilots.
    update: dict[str, object] = {"data": data, "screening": screening, "plan": plan, "tracking": ()}
    for section, key in (("generator", "away_from"), ("conditioning", "neighbours")):
        if getattr(getattr(config, section), key, None) is not None:
            update[section] = getattr(config, section).model_copy(update={key: None})
    return config.model_copy(update=update)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a budget buys.

    Attributes:
        schedule: the rounds; None where nothing can be judged.
        sets: designed sets of images that will be tried.
        real_images: real training images.
        judged_images: of these, how many are held out once in each cross-validation.
        folds: of each.
        detectable: a true gain that would be decided in 80 % of all cases, as a share; None where nothing is judged.
        trainings: classifiers to train, at most.
        image_seconds: seconds that the images take with one process; None where none was timed.
        training_seconds: the same of the trainings.
        left_out: recipes that cannot be tried, each with the reason.
        notes: see `Ground`.
    """

    schedule: Schedule | None
    sets: int
    real_images: int
    judged_images: int
    folds: int
    detectable: float | None
    trainings: int
    image_seconds: float | None
    training_seconds: float | None
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rates:
    """What this machine takes, in seconds: for an image, and for a training."""

    image: float
    training: float


@as_guest
def survey(config: RunConfig, budget: str, effort: Effort | None = None) -> Survey:
    """Return what a budget buys; a few images and steps are made to time them, and none is kept.

    Raises:
        ConfigError: the budget is none, or too small.
        DatasetError: the real images cannot be used.
    """
    effort = effort or Effort()
    parse_budget(budget)  # before anything takes time
    ground = ground_of(config, effort)
    if ground.folds < 2:
        return survey_of(ground, None, effort, None)
    check_budget(ground, budget, effort)
    rates = measured_rates(ground)
    images = images_of(budget, rates)
    schedule = ground.schedule(images, effort)
    return survey_of(ground, schedule, effort, rates)


def check_budget(ground: Ground, budget: str, effort: Effort) -> None:
    """Refuse a budget of images that is too small, before anything is made.

    Raises:
        ConfigError: it is.
    """
    images, hours = parse_budget(budget)
    if not hours:
        ground.schedule(int(images), effort)


def images_of(budget: str, rates: Rates) -> int:
    """Return how many images a budget is.

    Raises:
        ConfigError: it is none.
    """
    amount, hours = parse_budget(budget)
    if not hours:
        return int(amount)
    images = int(amount * 3600 / rates.image)
    if not images:
        raise ConfigError(f"--budget {budget}: an image takes {format_seconds(rates.image)} here; give more hours")
    return images


def measured_rates(ground: Ground) -> Rates:
    """Return how long an image and a training of real images alone take here."""
    generator = load_generator(ground.config.generator)
    plan, materials = assemble(ground.config, ground.real, plan_for(ground.config, ground.real), generator)
    image = estimate_cost(plan.plan, materials, ground.config.engine).seconds_per_image
    return Rates(image, _training_seconds(ground))


def _training_seconds(ground: Ground) -> float:
    """Return how long one classifier takes, from a training of two steps and one of a few more."""
    config = ground.config
    split = Split("tuning", 0, (), tuple(image.key for image in ground.real.images))
    images = RunImages(Experiment(config, RunFolder(config.run), ground.real, split, ground.real, None, {}))

    def seconds(steps: int) -> float:
        few = {"steps": steps, "warmup_steps": 0, "real_steps": 0, "arms": None}
        training = config.training.model_copy(update=few)
        started = time.perf_counter()
        train_one(images, arm_of(config.model_copy(update={"training": training}), None), 0)
        return time.perf_counter() - started

    seconds(_FEWEST_STEPS)  # decodes the images, which is done once for all
    begun = seconds(_FEWEST_STEPS)
    # What a training takes before its first step is no part of a step.
    step = max(0.0, seconds(_FEWEST_STEPS + _TIMED_STEPS) - begun) / _TIMED_STEPS
    return begun + step * max(0, config.training.steps - _FEWEST_STEPS)


def survey_of(ground: Ground, schedule: Schedule | None, effort: Effort, rates: Rates | None) -> Survey:
    """Return the survey of a schedule."""
    trainings = training_passes(schedule, effort) * ground.folds if schedule else 0
    return Survey(
        schedule=schedule,
        sets=schedule.pilots[0].sets - schedule.proposed if schedule else 0,
        real_images=len(ground.real.images),
        judged_images=sum(ground.judged) if schedule else 0,
        folds=ground.folds if schedule else 0,
        detectable=detectable(ground.judged, ground.folds, ground.config, effort) if schedule else None,
        trainings=trainings,
        image_seconds=schedule.images * rates.image if schedule and rates else None,
        training_seconds=trainings * rates.training if schedule and rates else None,
        left_out=ground.left_out,
        notes=ground.notes,
    )


def training_passes(schedule: Schedule, effort: Effort) -> int:
    """Return how many cross-validations there are at most, those of real images alone among them."""
    *earlier, last = schedule.pilots
    return sum(pilot.candidates for pilot in earlier) + bool(earlier) + (last.candidates + 1) * effort.trainings


def detectable(counts: list[int], folds: int, config: RunConfig, effort: Effort) -> float:
    """Return the true gain in mean accuracy per class that such images decide in 80 % of all cases.

    Args:
        counts: real images of each class that is judged.
        folds: of each cross-validation.
        config: of the run.
        effort: its trainings.
    """
    images = sum(DISAGREEMENT / count for count in counts) / len(counts) ** 2
    later = len(config.training.training_seeds)
    between = ASSUMED_SPREAD**2
    reach = half_width_of(images, between, effort.trainings + 1, trainings=effort.trainings, later=later)
    error = float(np.sqrt(images + between / effort.trainings + between / later))
    left_out = sum(1 / min(count, folds) for count in counts) / len(counts)
    return reach / (1 - left_out) + NormalDist().inv_cdf(POWER) * error


def survey_lines(found: Survey) -> list[str]:
    """Return a survey in sentences."""
    if found.schedule is None:
        return ["Every class has one real image: there are no folds to judge on, and nothing is tried."]
    rounds = ", then ".join(
        f"{pilot.sets} set{'s' if pilot.sets > 1 else ''} of {pilot.images:,}" for pilot in found.schedule.pilots
    )
    proposed = found.schedule.proposed
    searched = f", {proposed} of the first ones proposed by the sampler" if proposed else ""
    lines = [
        f"{found.schedule.images:,} images: {rounds}{searched}.",
        f"{found.judged_images:,} of {found.real_images:,} real images are judged, in {found.folds} folds; "
        f"{found.trainings:,} trainings at most.",
    ]
    if found.image_seconds is not None and found.training_seconds is not None:
        lines.append(
            f"About {format_seconds(found.image_seconds)} for the images and {format_seconds(found.training_seconds)} "
            "for the trainings, with one process."
        )
    if found.detectable is not None:
        lines.append(
            f"So many real images decide a gain of {100 * found.detectable:.1f} points in 80 % of all cases; a smaller "
            "one shows, if at all, as undecided."
        )
    return [*lines, *(f"left out: {each}" for each in found.left_out), *found.notes]
