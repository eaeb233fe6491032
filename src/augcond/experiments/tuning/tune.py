"""`tune`: the rounds, one after the other, shared by however many processes there are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from augcond.config.base import counted
from augcond.evaluation.results import REAL_ONLY
from augcond.evaluation.tuning import Round, Tried, Tuning
from augcond.evaluation.tuning_choice import Choice, Folded, choice_of, own_gain, sentence_of, spearman
from augcond.experiments.tuning.candidates import AS_CONFIGURED, Candidate, Settings, with_models
from augcond.experiments.tuning.judging import Bench, Standing
from augcond.experiments.tuning.schedule import Effort, Schedule, parse_budget
from augcond.experiments.tuning.sharing import Shared
from augcond.experiments.tuning.survey import (
    Ground,
    check_budget,
    ground_of,
    images_of,
    measured_rates,
    survey_lines,
    survey_of,
)
from augcond.experiments.tuning.writing import write_outcome
from augcond.files import file_sha256
from augcond.guest import as_guest
from augcond.progress import Stage, no_stage
from augcond.store import RunFolder

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.experiments.tuning.study import Search
    from augcond.store.claims import Claims

AGREEING = 0.5
"""Rank correlation with training from which the cheap judge ranks."""

METHOD = 6
"""How a tuning goes about it: goes up with what makes it judge or choose otherwise, so that none goes on as another."""

_TUNING = "tuning"
"""What is claimed by who reads or writes the study."""


@as_guest
def tune(
    config: RunConfig,
    budget: str,
    *,
    effort: Effort | None = None,
    progress: Stage = no_stage,
    say: Callable[[str], None] = lambda text: None,
) -> Tuning:
    """Find out which recipe, guidance and amount suit a run's real images, and write RUN/tuned.yaml and what it is of.

    Call it again to resume; other processes may do the same beside it. Test images are never opened.

    Args:
        config: the run to tune; `config.run` is the folder of the tuning.
        budget: images to make in all, such as `2000`, or hours of the generator, such as `2h`.
        effort: how much is tried and trained.
        progress: see `augcond.progress.Stage`.
        say: is told what the budget buys, before any of it is spent.

    Raises:
        ConfigError: the budget is none or too small, or the config leaks or plans nothing.
        RunMismatchError: the folder holds a tuning of something else.
        MissingExtraError: Optuna is not installed.
        AugcondError: as the stages do.
    """
    from augcond.experiments.tuning.study import Search  # needs an extra, which is said before anything is made

    effort = effort or Effort()
    parse_budget(budget)  # before anything takes time
    folder = RunFolder(config.run)
    folder.create()
    with progress("real images") as told:
        ground = ground_of(config, effort, cache=folder.decoded_path(), progress=told)
    if ground.folds < 2:
        found = _unjudged(ground, budget)
        write_outcome(folder, config, found)
        return found
    check_budget(ground, budget, effort)
    bench = Bench(ground.config, folder, ground.real, ground.folds, ground.held)
    with folder.claims() as claims:
        with claims.held(_TUNING):
            schedule = _settle(bench, ground, budget, effort, say)
            search = Search(folder.study_path, bench.config, schedule, ground.recipes)
        shared = Shared(bench, ground, schedule, claims, progress)
        return _Work(config, bench, ground, schedule, effort, claims, search, shared).run(budget)


def _settle(bench: Bench, ground: Ground, budget: str, effort: Effort, say: Callable[[str], None]) -> Schedule:
    """Return the rounds, as who came first settled them, having said what they are."""
    from augcond.experiments.tuning.study import settled

    about = _about(bench, ground, budget, effort)
    known = settled(bench.folder.study_path, about, None)
    rates = None if known else measured_rates(ground)
    images = known if rates is None else images_of(budget, rates)
    schedule = ground.schedule(images, effort)
    settled(bench.folder.study_path, about, images)
    text = json.dumps({**about, "images": images}, sort_keys=True)
    bench.study = hashlib.sha256(text.encode()).hexdigest()[:8]
    for line in survey_lines(survey_of(ground, schedule, effort, rates)):
        say(line)
    return schedule


def _about(bench: Bench, ground: Ground, budget: str, effort: Effort) -> dict[str, Any]:
    """Return all that decides what comes out of a tuning."""
    config = ground.config
    return {
        "method of tuning": METHOD,
        "budget": budget.strip(),
        "effort": asdict(effort),
        "real images": ground.real.contents_sha256(),
        "class names": list(ground.real.class_names),
        "planned": list(ground.planned),
        "prompt": list(config.prompt),
        "seed": config.plan.seed,
        "recipe": config.conditioning.recipe_names[0],
        "weights": asdict(bench.generator.identity),
        **{
            name: counted(getattr(config, name), "images", "models")
            for name in ("conditioning", "generator", "output", "training")
        },
    }


@dataclass(slots=True)
class _Work:
    """A tuning under way.

    Attributes:
        given: the config as it was given.
        bench: the real images and what is made of them.
        ground: what it starts from.
        schedule: its rounds.
        effort: how much is trained.
        claims: this process's part.
        search: the study; see `_held`.
        shared: the images and the trainings.
    """

    given: RunConfig
    bench: Bench
    ground: Ground
    schedule: Schedule
    effort: Effort
    claims: Claims
    search: Search
    shared: Shared

    def run(self, budget: str) -> Tuning:
        """Go through all rounds, and return what came of them."""
        first = self.schedule.pilots[0]
        designed = self.ground.designed[: first.sets - self.schedule.proposed]
        candidates = with_models(self.bench.config, designed, first.candidates - self.schedule.proposed)
        with self._held():
            self.search.add(candidates)
        rounds: list[Round] = []
        agreed: tuple[float | None, int] = (None, 0)
        for number in range(len(self.schedule.pilots)):
            sets, judge = _sets(self._candidates(number)), "training"
            self.shared.grow(sets, number)
            if number == 0 and not self._is_last(0):
                folded, judge, agreed = self._first(sets)
            else:
                standing = self.shared.standing(sets, number)
                folded = self.shared.trained(standing, self._candidates(number), self._trainings(number))
            with self._held():
                self.search.report(number, folded)
                self.search.cut(number)
                lines = self.search.lines(number)
            default = AS_CONFIGURED if AS_CONFIGURED in folded.made else REAL_ONLY
            choice = choice_of(folded, later=self._later, lines=lines, default=default)
            rounds.append(self._round(number, folded, judge, choice, rounds))
        with self._held():
            self.search.finish(folded)
        return self._found(rounds, folded, choice, budget, agreed)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the study: nobody else reads or writes it meanwhile."""
        with self.claims.held(_TUNING):
            self.search.mend()
            yield

    def _candidates(self, number: int) -> list[Candidate]:
        with self._held():
            return self.search.candidates(number)

    def _is_last(self, number: int) -> bool:
        return number + 1 == len(self.schedule.pilots)

    def _trainings(self, number: int) -> range:
        """Return which trainings round `number` takes: its last one none that has picked its candidates."""
        if not self._is_last(number):
            return range(1)
        first = 1 if number else 0
        return range(first, first + self.effort.trainings)

    def _first(self, sets: Mapping[str, Settings]) -> tuple[Folded, str, tuple[float | None, int]]:
        """Return who is right in the first round, what judged, and how far the cheap judge agreed with training."""
        designed = self._candidates(0)
        standing = self.shared.standing(sets, 0)
        folded, judge, agreed = self._judged(standing, designed)
        if not self.schedule.proposed:
            return folded, judge, agreed
        with self._held():
            self.search.report(0, folded)
            proposed = self.search.propose(self.schedule.proposed, 0)
        self.shared.grow(_sets(proposed), 0)
        everything = [*designed, *proposed]
        standing = self.shared.standing(_sets(everything), 0)
        if judge == "probe":
            return self.shared.probed(standing, everything), judge, agreed
        return self.shared.trained(standing, everything, range(1)), judge, agreed

    def _judged(
        self, standing: Standing, candidates: Sequence[Candidate]
    ) -> tuple[Folded, str, tuple[float | None, int]]:
        few = self.effort.calibrating
        if len(candidates) <= few or few < 3:
            return self.shared.trained(standing, candidates, range(1)), "training", (None, 0)
        places = np.unique(np.linspace(0, len(candidates) - 1, few).round().astype(int))
        both = [candidates[place] for place in places]
        trained = self.shared.trained(standing, both, range(1))
        cheap = self.shared.probed(standing, candidates)
        agreed = spearman([cheap.score(each.name) for each in both], [trained.score(each.name) for each in both])
        if agreed >= AGREEING:
            return cheap, "probe", (agreed, len(both))
        return self.shared.trained(standing, candidates, range(1)), "training", (agreed, len(both))

    def _round(self, number: int, folded: Folded, judge: str, choice: Choice, before: Sequence[Round]) -> Round:
        """Return what a round came to, once its scores are reported."""
        order = sorted(folded.made, key=lambda name: -folded.score(name))
        kept = [choice.chosen] if self._is_last(number) else [each.name for each in self._candidates(number + 1)]
        with self._held():
            known = self.search.known()
        sets = _sets([known[name] for name in order])
        grown = sum(sum(self.shared.made(images, number)) for images in sets.values())
        if number:
            grown -= sum(sum(self.shared.made(images, number - 1)) for images in sets.values())
        tried = tuple(Tried(name, dict(known[name].settings), folded.score(name), name in kept) for name in order)
        used = int(self.shared.used(number).sum())
        return Round(used, (before[-1].made if before else 0) + grown, judge, tried, choice.gain)

    @property
    def _later(self) -> int:
        """How many trainings will measure what is chosen."""
        return len(self.given.training.training_seeds)

    def _found(
        self,
        rounds: Sequence[Round],
        folded: Folded,
        choice: Choice,
        budget: str,
        agreed: tuple[float | None, int],
    ) -> Tuning:
        *_, last = rounds
        settings = {tried.name: tried.settings for tried in last.tried}
        with self._held():
            study_sha256 = file_sha256(self.bench.folder.study_path)
        found = Tuning(
            chosen=choice.chosen,
            settings=settings.get(choice.chosen, {}),
            gain=choice.gain,
            finalists=tuple((each.name, own_gain(folded, each.name, later=self._later)) for each in last.tried),
            sentence=sentence_of(choice),
            budget=budget.strip(),
            images=last.made,
            real_images=len(self.bench.real.images),
            judged_images=len(folded.labels),
            classes=int(folded.labels.max()) + 1,
            folds=self.bench.folds,
            trainings=self.effort.trainings,
            real_accuracy=float((folded.real.mean(axis=0) * folded.weights).sum()),
            rounds=tuple(rounds),
            rank_correlation=agreed[0],
            compared=agreed[1],
            left_out=self.ground.left_out,
            notes=self.ground.notes,
            study_sha256=study_sha256,
        )
        with self._held():
            write_outcome(self.bench.folder, self.given, found)
        return found


def _sets(candidates: Sequence[Candidate]) -> dict[str, Settings]:
    """Return the sets of images of candidates by name."""
    return {each.set_name: each.images for each in candidates}


def _unjudged(ground: Ground, budget: str) -> Tuning:
    """Return the config's own settings, of which nothing is known: every class has one real image."""
    return Tuning(
        chosen=AS_CONFIGURED,
        settings={},
        gain=None,
        finalists=(),
        sentence=(
            "Every class has one real image, so none can be held out and nothing can be judged: these are the config's "
            "own settings. A second image of each class would let them be tuned."
        ),
        budget=budget.strip(),
        images=0,
        real_images=len(ground.real.images),
        judged_images=0,
        classes=0,
        folds=0,
        trainings=0,
        real_accuracy=None,
        rounds=(),
        rank_correlation=None,
        compared=0,
        left_out=(),
        notes=(),
        study_sha256="",
    )
