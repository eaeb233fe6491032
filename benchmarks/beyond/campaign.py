"""The units of the steps, in the order in which they are measured: seed by seed, so that a stop leaves whole seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.beyond.settings import NOT_CHOSEN, PILOTS, PROBES, PROMPTLESS, Cell, Idea, Size
from benchmarks.evidence.campaign import Campaign, NotMeasured
from benchmarks.evidence.estimate import pool_of
from benchmarks.evidence.measuring import Measuring
from benchmarks.evidence.records import Record, read_record
from benchmarks.evidence.settings import SELECTION_SEED, ArmSpec, Protocol, synthetic, tuned_spec
from benchmarks.evidence.units import Setting, Unit, make_unit

from augcond.amounts import images_to_make
from augcond.config import RunConfig
from augcond.datasets.splits import draw_split, source_images
from augcond.experiments.rounds import generate_in_rounds
from augcond.training.arms import HeldOut

STEPS = ("pilots", "final", "senses")

_Row = tuple[str, Idea, Cell, int, int]
"""Start of its units' names, what it is, in which cell, with which seed, and how many trainings."""

_BOTH: tuple[HeldOut, ...] = ("validation", "test")


@dataclass(frozen=True, slots=True)
class Beyond:
    """Where everything lies, and how large it is.

    Attributes:
        size: how large.
        results: the folder of the records.
        tuned: gives the settings that the evidence's tuning has found.
        work: the folder of the runs.
        revision: of the generator's weights.
        guess: take the first ideas where pilots have chosen none yet: to list units, not to measure them.
    """

    size: Size
    results: Path
    tuned: Campaign
    work: Path
    revision: str
    guess: bool = False
    _found: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def units(self, step: str) -> Iterator[Unit]:
        """Yield the units of a step; each must be measured before the next is asked for."""
        return (self._unit(*row) for row in self._rows(step))

    def planned(self, step: str) -> int:
        """Return how many units a step has.

        Raises:
            NotMeasured: see `chosen`.
        """
        return sum(1 for _ in self._rows(step))

    def _rows(self, step: str) -> Iterator[_Row]:
        yield from {"pilots": self._pilots, "final": self._final, "senses": self._senses}[step]()

    def check_current(self, records: Sequence[Record]) -> None:
        """Refuse records that were measured with other settings than the campaign has now.

        Raises:
            ValueError: naming the first of them.
        """
        if not records:
            return
        wanted: dict[str, str] = {}
        for step in STEPS:
            # Which the final ones are is not known yet.
            with suppress(NotMeasured):
                wanted |= {unit.name: unit.fingerprint for unit in self.units(step)}
        stale = [record["unit"] for record in records if wanted.get(record["unit"]) != record["fingerprint"]]
        if stale:
            raise ValueError(
                f"{len(stale)} records were measured with other settings than python -m benchmarks.beyond has now, "
                f"such as {stale[0]}: measure on, or delete them"
            )

    def chosen(self) -> tuple[Idea, ...]:
        """Return the ideas that did best on validation images, on the average of cells and seeds of the pilots.

        The last of them makes room for both in one: the best idea of which images there are, trained on by the best
        one of how, where each did better than what it changes.

        Raises:
            NotMeasured: a pilot is not measured yet.
        """
        asked = [idea for idea in self.size.ideas if idea.name not in NOT_CHOSEN]
        try:
            order = sorted(asked, key=lambda idea: self.on_validation(idea.name), reverse=True)
        except NotMeasured:
            if self.guess:
                return tuple(asked[: self.size.chosen])
            raise
        own = [next((idea for idea in order if idea.of_training is kind), None) for kind in (False, True)]
        better = [one for one in own if one is not None and self.on_validation(one.name) > self.on_validation(one.of)]
        if len(better) < 2:
            return tuple(order[: self.size.chosen])
        return (*order[: self.size.chosen - 1], better[0].with_training_of(better[1]))

    def on_validation(self, row: str) -> float:
        """Return how a row of the pilots did on validation images, on the average of cells and seeds.

        Raises:
            NotMeasured: one of its units is not measured yet.
        """
        found = []
        for cell in PILOTS:
            for seed in range(self.size.pilot_seeds):
                name = f"pilots/{cell.name}/{row}/seed-{seed}"
                record = read_record(self.results, name)
                if record is None:
                    raise NotMeasured(f"{name} must be measured before the second step")
                found.append(float(record["models"][0]["validation"]["overall"]))
        return fmean(found)

    def _pilots(self) -> Iterator[_Row]:
        rows = [Idea(spec) for spec in (*PROMPTLESS, *self.size.baselines)]
        for seed in range(self.size.pilot_seeds):
            for cell in PILOTS:
                for idea in (*rows, *self.size.ideas):
                    if _fits(idea.spec, cell):
                        yield f"pilots/{cell.name}", idea, cell, seed, 1

    def _final(self) -> Iterator[_Row]:
        chosen = self.chosen()
        for seed in self.size.measuring_seeds:
            for shots in (None, *self.size.shots):
                cell = Cell("any", shots)
                for spec in PROMPTLESS:
                    if _fits(spec, cell):
                        yield f"final/{cell.name}", Idea(spec), cell, seed, self.size.trainings
                for cell in (Cell(kind, shots) for kind in self.size.kinds):
                    for idea in (*map(Idea, self.size.baselines), *chosen):
                        yield f"final/{cell.name}", idea, cell, seed, self.size.trainings

    def _senses(self) -> Iterator[_Row]:
        for seed in self.size.measuring_seeds[: self.size.sense_seeds]:
            for shots in (None, *self.size.shots):
                cell = Cell("wrong-senses", shots)
                for spec in self.size.baselines:
                    yield f"senses/{cell.name}", Idea(spec), cell, seed, self.size.trainings

    def _unit(self, start: str, idea: Idea, cell: Cell, seed: int, trainings: int) -> Unit:
        overrides = {**cell.overrides, **idea.overrides}
        setting = Setting(cell.protocol, (idea.spec,), seed, cell.shots, overrides=overrides, names=cell.names)
        setting = replace(setting, rounds=idea.rounds)
        setting = replace(setting, overrides={**self._tuned(setting), **overrides})
        further: dict[str, Any] = {}
        if trainings > 1:
            # The first is that of the other tables.
            further["training.seeds"] = [seed + 1000 * training for training in range(trainings)]
        if idea.halved:
            further["plan.per_class"] = _halves(self._parsed(setting))
            further["plan.fill_to"] = None
        setting = replace(setting, overrides={**setting.overrides, **further})
        return self._made(f"{start}/{idea.name}/seed-{seed}", setting)

    def _tuned(self, setting: Setting) -> dict[str, Any]:
        """Return what the evidence's tuning has found for the arm of a setting.

        A probe trains as that of the evidence, which is tuned on the long tail, on the images of the row of its recipe.
        """
        spec = setting.arms[0]
        if spec not in PROBES:
            return self._tuned_as(setting.protocol, spec.tuned_as)
        trained = self._tuned_as("long-tail", "encoder-probe")
        made = self._tuned_as(setting.protocol, None if spec.recipe is None else synthetic(str(spec.recipe)).tuned_as)
        return {key: value for key, value in trained.items() if key.startswith("training.")} | {
            key: value for key, value in made.items() if not key.startswith("training.")
        }

    def _tuned_as(self, protocol: Protocol, name: str | None) -> dict[str, Any]:
        if name is None:
            return {}
        if (protocol, name) not in self._found:
            setting = Setting(protocol, (tuned_spec(name),), SELECTION_SEED)
            self._found[protocol, name] = dict(self.tuned.with_tuned(setting).overrides)
        return self._found[protocol, name]

    def _made(self, name: str, setting: Setting) -> Unit:
        return make_unit(name, setting, self.size.scale, work=self.work, revision=self.revision, judged=_BOTH)

    def _parsed(self, setting: Setting) -> RunConfig:
        """Return the config of a setting with the whole budget, all at once."""
        plain = {key: value for key, value in setting.overrides.items() if key != "plan.oversample"}
        return self._made("whole", replace(setting, overrides=plain, rounds=0)).config


def _fits(spec: ArmSpec, cell: Cell) -> bool:
    # The pool of the built-in world has no ceiling of few shots that was tuned.
    return cell.shots is None or spec.recipe != "unused-real"


def whole_amounts(config: RunConfig) -> dict[str, int]:
    """Return how many images each class of a run gets, by class id."""
    pool = pool_of(config)
    sources = source_images(config, pool, draw_split(config, pool))
    return dict(zip(sources.classes, images_to_make(config.plan, sources.classes, sources.counts()), strict=True))


def _halves(config: RunConfig) -> dict[str, int]:
    return {class_id: amount // 2 for class_id, amount in whole_amounts(config).items()}


class Practising(Measuring):
    """Measures units, those in rounds by making their images in rounds first."""

    def measure(self, unit: Unit) -> Record:
        """See `Measuring.measure`."""
        plan = unit.config.plan
        if plan.rounds is not None:
            begun = whole_amounts(unit.config.model_copy(update={"plan": plan.model_copy(update={"rounds": None})}))
            per_class = round(sum(begun.values()) / len(begun) / ROUNDS)
            reuse = self.alike(unit, unit.config.model_dump(mode="json"))
            generate_in_rounds(unit.config, rounds=ROUNDS, per_class=max(1, per_class), reuse=reuse)
        return super().measure(unit)


ROUNDS = 2
"""Of the idea `rounds`: half of the budget at once, the rest in so many."""
