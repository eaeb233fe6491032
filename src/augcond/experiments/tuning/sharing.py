"""The work of a tuning that several processes share: images, and trainings that leave a record."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from augcond.amounts import Round, rounds_content
from augcond.errors import RunMismatchError
from augcond.evaluation.results import REAL_ONLY
from augcond.evaluation.tuning_choice import Folded
from augcond.experiments.tuning.candidates import Candidate, Settings, candidate_of, config_of, source_count
from augcond.experiments.tuning.folds import block_rounds
from augcond.experiments.tuning.judging import Bench, Standing, probed, read_right, record_path, train_folds
from augcond.experiments.tuning.schedule import Schedule, pilot_amounts
from augcond.files import make_folder
from augcond.pipeline import generate
from augcond.sealed import write_json
from augcond.store.names import FILES

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.experiments.tuning.survey import Ground
    from augcond.progress import Stage
    from augcond.store.claims import Claims

_POLL = 0.2
"""Seconds between two looks at what others are at."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What this process does of a tuning, and what is known of what all did.

    Attributes:
        bench: the real images and what is made of them.
        ground: what the tuning starts from.
        schedule: the rounds.
        claims: this process's part.
        progress: is told how far the work is.
    """

    bench: Bench
    ground: Ground
    schedule: Schedule
    claims: Claims
    progress: Stage

    def grow(self, sets: dict[str, Settings], number: int) -> None:
        """Make the images that these sets lack: first of those that nobody is at, then with the others."""
        here = f"(round {number + 1} of {len(self.schedule.pilots)})"

        def left() -> list[str]:
            return [name for name in sets if not self._is_grown(name, sum(self.made(sets[name], number)))]

        def make(name: str) -> None:
            run = self._set_config(name, sets[name], number)
            with self.progress(f"images of {name} {here}") as told:
                generate(run, progress=told)

        for name in left():
            claim = self.claims.take(f"images-{number}-{name}")
            if claim is not None:
                with self.claims.giving_back(claim):
                    if not self._is_grown(name, sum(self.made(sets[name], number))):
                        make(name)
        for name in left():
            make(name)
        self._check(sets, number)

    def _is_grown(self, name: str, images: int) -> bool:
        run = self.bench.run(name)
        if not run.plan_path.exists():
            return False
        plan = run.read_plan()
        # It grows only once a round is through: what is larger was whole, and may be growing now.
        return len(plan.plan) > images or (len(plan.plan) == images and None not in run.markers(plan))

    def _set_config(self, name: str, images: Settings, number: int) -> RunConfig:
        """Return the config of the run that makes a set of images, as large as it is by the end of a round."""
        config, run, classes = self.bench.config, self.bench.run(name).path, self.bench.real.classes
        if not source_count(config, candidate_of(images)):
            return config_of(config, images, run, dict(zip(classes, self.used(number).tolist(), strict=True)))
        path = self.bench.folder.path / FILES["blocks"].pattern.format(round=number)
        make_folder(path.parent, 2)  # RUN/tuning
        write_json(path, rounds_content(self._rounds(number)))
        return config_of(config, images, run, dict.fromkeys(classes, 0), path)

    def _rounds(self, number: int) -> list[Round]:
        """Return what sets are made of by the end of a round."""
        bench = self.bench
        grown = [self.ground.blocks.turns(self._asked(each)) for each in range(number + 1)]
        return block_rounds(bench.keys, bench.labels, bench.held, bench.real.classes, grown)

    def _check(self, sets: Mapping[str, Settings], number: int) -> None:
        """Make sure that sets are made of what this tuning lays out: folds rest on it.

        Raises:
            RunMismatchError: one is of another tuning, whose study was deleted.
        """
        pools: dict[str, list[set[str]]] = {class_id: [] for class_id in self.bench.real.classes}
        for one in self._rounds(number):
            for class_id, chosen in one.items():
                pools[class_id] += [set(chosen.sources)] * chosen.count
        of_label = list(pools.values())
        for name, images in sets.items():
            made, run = self.made(images, number), self.bench.run(name)
            rows = [row for row in run.read_plan().plan.rows() if row.index < made[row.label]]
            counts = np.bincount([row.label for row in rows], minlength=len(made)).tolist()
            strange = (
                row for row in rows if row.source_keys and not of_label[row.label][row.index] >= {*row.source_keys}
            )
            if counts != list(made) or next(strange, None) is not None:
                raise RunMismatchError(
                    f"{run.path} holds images of a tuning with other folds, real images or budget: name another folder "
                    f"as `run`, or delete {self.bench.folder.path / 'cells' / 'pilot'}"
                )

    def _asked(self, number: int) -> list[int]:
        """Return how many images a fold is to use of each class in round `number`: the most that its pilots allow."""
        planned, blocks = self.ground.planned, self.ground.blocks
        totals = range(sum(planned) + 1)
        fitting = bisect_right(
            totals,
            self.schedule.pilots[number].images,
            key=lambda total: int(blocks.made(pilot_amounts(planned, total)).sum()),
        )
        return pilot_amounts(planned, max(0, fitting - 1))

    def used(self, number: int) -> np.ndarray:
        """Return how many images a fold uses of each class in round `number`, (C,)."""
        return self.ground.blocks.used(self._asked(number))

    def made(self, images: Settings, number: int) -> tuple[int, ...]:
        """Return how many images a set has of each class by the end of round `number`, (C,)."""
        if not source_count(self.bench.config, candidate_of(images)):
            return tuple(self.used(number).tolist())
        return tuple(self.ground.blocks.made(self._asked(number)).tolist())

    def standing(self, sets: Mapping[str, Settings], number: int) -> Standing:
        """Return the sets of round `number`."""
        made = {name: self.made(images, number) for name, images in sets.items()}
        return Standing(number, tuple(self.used(number).tolist()), made)

    def trained(self, standing: Standing, candidates: Sequence[Candidate], trainings: Sequence[int]) -> Folded:
        """Return who is right over these trainings of candidates, which are done where they are not yet."""
        alone: list[Candidate | None] = [None]
        self._share(standing, [(each, training) for each in (*alone, *candidates) for training in trainings])
        return self._folded(standing, candidates, trainings)

    def _share(self, standing: Standing, units: Sequence[tuple[Candidate | None, int]]) -> None:
        """Do trainings that are not recorded and that nobody else is at, until all are recorded."""

        def left() -> list[tuple[Candidate | None, int]]:
            return [unit for unit in units if not record_path(self.bench, standing, _name(unit[0]), unit[1]).exists()]

        what = f"trainings (round {standing.number + 1} of {len(self.schedule.pilots)})"
        with self.progress(what) as told:
            todo = left()
            told.start(len(todo))
            while todo:
                done = next(self._done(standing, todo), None)
                before, todo = len(todo), left()
                if done is None and len(todo) == before:
                    self.claims.bury_dead(at_once=True)
                    time.sleep(_POLL)
                told.advance(before - len(todo), 0)

    def _done(
        self, standing: Standing, units: Sequence[tuple[Candidate | None, int]]
    ) -> Iterator[tuple[Candidate | None, int]]:
        """Yield the units that this process has just done."""
        for candidate, training in units:
            path = record_path(self.bench, standing, _name(candidate), training)
            # A name for the file of the claim; whoever else derives it gets the same.
            claim = self.claims.take(f"{standing.name}-{_name(candidate)}-{training}")
            if claim is None:
                continue
            with self.claims.giving_back(claim):
                if not path.exists():
                    train_folds(self.bench, standing, candidate, training)
            yield candidate, training

    def _folded(self, standing: Standing, candidates: Sequence[Candidate], trainings: Sequence[int]) -> Folded:
        judged, labels = self._judged_images()

        def right(name: str) -> np.ndarray:
            paths = [record_path(self.bench, standing, name, training) for training in trainings]
            return np.stack([read_right(self.bench, path)[judged] for path in paths])

        return Folded(
            labels, self.bench.held[judged], right(REAL_ONLY), {each.name: right(each.name) for each in candidates}
        )

    def probed(self, standing: Standing, candidates: Sequence[Candidate]) -> Folded:
        """Return who is right by the cheap judge, which is asked where it was not yet."""
        judged, labels = self._judged_images()
        made: dict[str, np.ndarray] = {}
        with self.progress("candidates probed") as told:
            told.start(len(candidates))
            for each in candidates:
                made[each.name] = probed(self.bench, standing, each)[judged][None]
                told.advance(1, 0)
        return Folded(labels, self.bench.held[judged], probed(self.bench, standing, None)[judged][None], made)

    def _judged_images(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of the real images that are ever held out, and their classes, counted from 0."""
        judged = np.flatnonzero(self.bench.held >= 0)
        return judged, np.unique(self.bench.labels[judged], return_inverse=True)[1]


def _name(candidate: Candidate | None) -> str:
    return REAL_ONLY if candidate is None else candidate.name
