"""What `benchmarks.tuning` measures: its settings, pairs of these with seeds, and their units."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.evidence.measuring import trained_and_judged
from benchmarks.evidence.records import Record, read_record

from augcond.config import RunConfig, parse_config
from augcond.evaluation.results import REAL_ONLY, Results
from augcond.experiments.tuning.candidates import Candidate, candidate_of, config_of, designed
from augcond.experiments.tuning.schedule import Effort
from augcond.experiments.tuning.tune import METHOD, tune
from augcond.experiments.tuning.writing import tuned_config
from augcond.files import file_sha256
from augcond.pipeline import generate
from augcond.store import RunFolder

REPOSITORY = Path(__file__).parents[1]
COARSE = REPOSITORY / "benchmarks" / "evidence" / "names" / "coarse.tsv"
"""Names that several classes share."""

Prompts = Mapping[str, Mapping[str, Any]]
PROMPTS: Prompts = {
    "named": {},
    "unnamed": {"prompt": ["a photo of a garment"]},
    "coarse": {"data": {"class_names": str(COARSE), "several_names": True}},
}
"""How prompts name the classes, as sections of the config."""


@dataclass(frozen=True, slots=True)
class World:
    """One setting: which real images there are, and how prompts name their classes."""

    name: str
    split: Mapping[str, Any]
    plan: Mapping[str, Any]
    prompts: str


def _long_tail(imbalance: int, prompts: str) -> World:
    split = {"name": "long-tail", "imbalance": imbalance, "head": 100, "order": "shuffled"}
    return World(f"long-tail-{imbalance}-{prompts}", split, {"fill_to": 100}, prompts)


def _shots(count: int, prompts: str) -> World:
    return World(f"{count}-shot-{prompts}", {"name": "few-shot", "k": count}, {"per_class": 30}, prompts)


WORLDS = (
    _long_tail(50, "named"),
    _long_tail(50, "unnamed"),
    _long_tail(20, "coarse"),
    _shots(2, "named"),
    _shots(4, "unnamed"),
    _shots(4, "named"),
    _shots(8, "coarse"),
    _shots(16, "named"),
)


@dataclass(frozen=True, slots=True)
class Scale:
    """How large everything is.

    Attributes:
        worlds: the settings.
        seeds: of each.
        budgets: of a tuning, in images.
        base: sections of the config that all share.
        effort: of a tuning.
        sets: of the design that the grid measures; all where None.
    """

    worlds: tuple[World, ...] = WORLDS
    seeds: int = 5
    budgets: tuple[int, ...] = (500, 2000)
    base: Mapping[str, Any] = field(
        default_factory=lambda: {
            "data": {"source": "builtin"},
            "generator": {"name": "stable-unclip", "model": "builtin", "guidance_scale": 4.0, "steps": 5},
            # Half the resolution: four trainings for the price of one, and it is the choice that is measured here.
            "training": {"model": "small-cnn", "image_size": 16, "batch_size": 32, "steps": 120, "seeds": 3},
        }
    )
    effort: Effort = field(default_factory=lambda: Effort(candidates=12))
    sets: int | None = None


SMOKE = Scale(
    worlds=(_shots(3, "named"),),
    seeds=1,
    budgets=(480,),
    base={
        "data": {"source": "builtin"},
        "generator": {"name": "stable-unclip", "model": "builtin", "guidance_scale": 4.0, "steps": 1},
        "training": {"model": "small-cnn", "image_size": 16, "batch_size": 4, "steps": 1, "seeds": 1},
        "engine": {"shard_size": 64},
    },
    effort=Effort(candidates=3, sets=2, folds=2, trainings=2),
    sets=3,
)
"""Does the whole chain run on this machine? Its numbers mean nothing."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of work.

    Attributes:
        name: of its record.
        fingerprint: of all that decides what is measured.
        measure: measures it.
    """

    name: str
    fingerprint: str
    measure: Callable[[], dict[str, Any]]

    def known(self, results: Path) -> Record | None:
        """Return its record; None where it is not measured, or was with other settings."""
        record = read_record(results, self.name)
        return record if record is not None and record["fingerprint"] == self.fingerprint else None


@dataclass(frozen=True, slots=True)
class Pair:
    """A setting with a seed; `revision` is that of the generator's weights."""

    world: World
    seed: int
    scale: Scale
    work: Path
    results: Path
    revision: str = ""

    @property
    def name(self) -> str:
        """The folder of its records and runs."""
        return f"{self.world.name}/seed-{self.seed}"

    def config(self, run: str) -> RunConfig:
        """Return the config of a run of this pair; a seed is that of split, plan and training together."""
        values = json.loads(json.dumps(self.scale.base))
        for section, keys in PROMPTS[self.world.prompts].items():
            values[section] = {**values.get(section, {}), **keys} if isinstance(keys, Mapping) else keys
        values["data"]["split"] = {**self.world.split, "seed": self.seed}
        values["plan"] = {**self.world.plan, "seed": self.seed}
        trainings = values["training"]["seeds"]
        values["training"]["seeds"] = [self.seed * 100 + number for number in range(trainings)]
        return parse_config({**values, "run": str(self.work / self.name / run)}, origin=self.name)

    def grid(self) -> list[Candidate]:
        """Return the sets of images that are measured, trained on as configured."""
        return designed(self.config("unused"))[0][: self.scale.sets]

    def units(self) -> Iterator[Unit]:
        """Yield the units: tunings first, what they chose last."""
        grid = [(REAL_ONLY, None), *((each.name, each) for each in self.grid())]
        for budget in self.scale.budgets:
            yield Unit(f"{self.name}/tune-{budget}", self.tuned_fingerprint, partial(self._tune, budget))
        for name, candidate in grid:
            yield Unit(f"{self.name}/grid/{name}", self.grid_fingerprint, partial(self._measure, candidate))
        for budget in self.scale.budgets:
            yield Unit(f"{self.name}/outcome-{budget}", self.tuned_fingerprint, partial(self._outcome, budget))

    @property
    def tuned_fingerprint(self) -> str:
        """Of all that decides what a tuning finds; where files lie does not."""
        return self._fingerprint({"effort": asdict(self.scale.effort), "method": METHOD})

    @property
    def grid_fingerprint(self) -> str:
        """Of all that decides what is measured without a tuning."""
        return self._fingerprint({})

    def _fingerprint(self, more: Mapping[str, Any]) -> str:
        about = {
            "base": self.scale.base,
            "world": asdict(self.world),
            "names": file_sha256(COARSE) if self.world.prompts == "coarse" else "",
            "prompt": PROMPTS[self.world.prompts].get("prompt"),
            "seed": self.seed,
            "revision": self.revision,
            **more,
        }
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def _measure(self, candidate: Candidate | None) -> dict[str, Any]:
        if candidate is None:
            given = self.config(f"grid/{REAL_ONLY}")
            return measured(_real_alone(given))
        run = self.config(f"grid/{candidate.name}").run
        return measured(config_of(self.config("unused"), candidate.settings, run, None))

    def _tune(self, budget: int) -> dict[str, Any]:
        return asdict(tune(self.config(f"tune-{budget}"), str(budget), effort=self.scale.effort))

    def _outcome(self, budget: int) -> dict[str, Any]:
        config = self.config(f"tune-{budget}")
        folder = RunFolder(config.run)
        # Of its record, not of its run, which may lie on another machine.
        tuned = read_record(self.results, f"{self.name}/tune-{budget}") or {}
        found: Any = SimpleNamespace(**{key: tuned[key] for key in ("chosen", "settings", "gain")})
        name = candidate_of(found.settings).name if found.chosen != REAL_ONLY else REAL_ONLY
        known = read_record(self.results, f"{self.name}/grid/{name}")
        if known is not None and known["fingerprint"] == self.grid_fingerprint:
            return {"chosen": name, **{on: known[on] for on in ("test", "validation")}}
        return {"chosen": name, **measured(tuned_config(folder, config, found))}


def _real_alone(config: RunConfig) -> RunConfig:
    training = config.training.model_dump() | {"arms": [{"name": REAL_ONLY}]}
    return config.model_copy(update={"training": type(config.training).model_validate(training)})


def measured(config: RunConfig) -> dict[str, Any]:
    """Return the mean accuracy per class of each training of a run's last arm, on test and on validation images."""
    real_alone = [arm.name for arm in config.training.arms or ()] == [REAL_ONLY]
    if not real_alone:
        recipe = config.conditioning.recipe_names[0]
        training = config.training.model_dump() | {"arms": [{"name": recipe, "recipe": recipe}]}
        config = config.model_copy(update={"training": type(config.training).model_validate(training)})
        generate(config)
    found, _ = trained_and_judged(config, ("test", "validation"))
    return {on: _class_means(results) for on, results in found.items()}


def _class_means(results: Results) -> list[float]:
    (arm,) = results.arms
    return [round(seed.metrics.class_mean, 6) for seed in arm.seeds]


def pairs_of(scale: Scale, work: Path, results: Path, revision: str = "") -> list[Pair]:
    """Return all pairs, seed by seed."""
    seeds = range(scale.seeds)
    return [Pair(world, seed, scale, work, results, revision) for seed in seeds for world in scale.worlds]
