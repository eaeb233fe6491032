"""All units, in the order in which they are measured: after each pass there is a whole page for one seed more.

Units are named one after the other, because what tuning chose decides the next: their records must be there by then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from benchmarks.evidence.records import read_record
from benchmarks.evidence.settings import (
    BOTH_COUNTS,
    CEILING,
    CROPS,
    FEW_SHOT_REAL,
    HEADLINE,
    LONG_TAIL_REAL,
    OPTIMISER,
    PIXEL_RECIPES,
    ROUNDS,
    SCREENS,
    SECTIONS,
    SELECTION_SEED,
    STAND_IN,
    UNNAMED_PROMPT,
    ArmSpec,
    Protocol,
    Scale,
    few_shots,
    synthetic,
    tuned_spec,
)
from benchmarks.evidence.units import Setting, Unit, make_unit

from augcond.config.training import LeakName
from augcond.training.arms import HeldOut

_BOTH: tuple[HeldOut, ...] = ("validation", "test")


class NotMeasured(Exception):
    """A unit that decides which come next has no record yet."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """Where everything lies, and how large it is.

    Attributes:
        scale: how large.
        results: the folder of the records.
        work: the folder of the runs.
        revision: of the generator's weights.
        seeds: at most so many of them in each section.
        sections: those to measure.
        guess: take the first setting where tuning has chosen none yet: to list units, not to measure them.
    """

    scale: Scale
    results: Path
    work: Path
    revision: str
    seeds: int
    guess: bool = False
    sections: tuple[str, ...] = tuple(chain(*SECTIONS.values()))

    def units(self, tier: str) -> Iterator[Unit]:
        """Yield the units of tier `a` or `b`; each must be measured before the next is asked for."""
        measured = {
            "long-tail": self._long_tail,
            "few-shot": self._few_shot,
            "screening": self._screening,
            "published": self._published,
            "crop": self._crop,
            "unnamed": self._unnamed,
            "guidance": self._guidance,
            "amount": self._amounts,
            "longer": self._longer,
            "leaks": self._single_leaks,
            "other-recipes": self._other_recipes,
        }
        for seed in range(self.seeds):
            for section in SECTIONS[tier]:
                if section in self.sections and seed < self.scale.measured_seeds(section):
                    yield from measured[section](seed)

    def measurable(self) -> Iterator[Unit]:
        """Yield the units of both tiers, of each section up to the first that needs a record that is not there."""
        for tier, sections in SECTIONS.items():
            for section in sections:
                with suppress(NotMeasured):
                    yield from replace(self, sections=(section,)).units(tier)

    def _long_tail(self, seed: int) -> Iterator[Unit]:
        rows = (*LONG_TAIL_REAL, *map(synthetic, ("text", "real-guidance", *self.scale.recipes)), CEILING)
        yield from self._tuning("long-tail", rows)
        further = seed >= self.scale.seeds["long-tail"]
        for spec in rows:
            if further and spec.name not in HEADLINE:
                continue
            arms = (spec, with_effective_counts(spec)) if spec.name in BOTH_COUNTS else (spec,)
            yield self._measured(f"long-tail/{spec.name}", Setting("long-tail", arms, seed))

    def _few_shot(self, seed: int) -> Iterator[Unit]:
        yield from self._tuning("few-shot", (*FEW_SHOT_REAL, *map(synthetic, ("text", *self.scale.recipes))))
        for recipe in self.scale.recipes:
            yield self._choice(recipe)
        recipes = dict.fromkeys(("text", "image", STAND_IN, self.best_recipe("few-shot")))
        for shots in self.scale.shots:
            for spec in (*FEW_SHOT_REAL, *map(synthetic, recipes)):
                yield self._few_shot_unit(spec, seed, shots)

    def _few_shot_unit(self, spec: ArmSpec, seed: int, shots: int) -> Unit:
        return self._measured(f"few-shot/{spec.name}-k{shots}", Setting("few-shot", (spec,), seed, shots))

    def _choice(self, recipe: str) -> Unit:
        setting = Setting("few-shot", (synthetic(recipe),), SELECTION_SEED, self.scale.tuning_shots)
        return self._unit(f"choice/few-shot/{recipe}", self.with_tuned(setting), ("validation",))

    def _screening(self, seed: int) -> Iterator[Unit]:
        for recipe in ("text", self.best_recipe("long-tail")):
            for judge in SCREENS:
                setting = Setting("long-tail", (synthetic(recipe),), seed, overrides={"screening.by": judge})
                yield self._measured(f"screening/{recipe}-{judge}", setting)

    def _published(self, seed: int) -> Iterator[Unit]:
        recipes = dict.fromkeys(("image", self.best_recipe("few-shot")))
        for shots in self.scale.shots:
            for spec in (FEW_SHOT_REAL[0], *map(synthetic, recipes)):
                setting = self.with_tuned(Setting("few-shot", (spec,), seed, shots, published=True))
                # Its validation images are what it reports, so there is one table only.
                yield self._unit(f"published/{spec.name}-k{shots}/seed-{seed}", setting, ("test",))

    def _other_recipes(self, seed: int) -> Iterator[Unit]:
        rows = tuple(map(synthetic, ("real-guidance", *self.scale.recipes)))
        yield from self._tuning("few-shot", rows)
        for spec in rows:
            for shots in self.scale.shots:
                yield self._few_shot_unit(spec, seed, shots)

    def _crop(self, seed: int) -> Iterator[Unit]:
        for recipe in (name for name in self.scale.recipes if name in PIXEL_RECIPES):
            for lowest in CROPS:
                overrides = {"conditioning.crop_scale": [lowest, 1.0]}
                setting = Setting("long-tail", (synthetic(recipe),), seed, overrides=overrides)
                yield self._measured(f"crop/{recipe}-{lowest:g}", setting)

    def _unnamed(self, seed: int) -> Iterator[Unit]:
        overrides = {"prompt": [UNNAMED_PROMPT]}
        for shots in few_shots(self.scale):
            for recipe in ("text", *self.scale.recipes):
                setting = Setting("few-shot", (synthetic(recipe),), seed, shots, overrides=overrides)
                yield self._measured(f"unnamed/{recipe}-k{shots}", setting)
        for recipe in ("text", *self.scale.recipes):
            setting = Setting("long-tail", (synthetic(recipe),), seed, overrides=overrides)
            yield self._measured(f"unnamed/{recipe}-long-tail", setting)

    def _guidance(self, seed: int) -> Iterator[Unit]:
        for recipe in ("text", self.best_recipe("long-tail")):
            for guidance in self.scale.guidance:
                overrides = {"generator.guidance_scale": guidance}
                setting = Setting("long-tail", (synthetic(recipe),), seed, overrides=overrides)
                yield self._measured(f"guidance/{recipe}-{guidance:g}", setting)

    def _amounts(self, seed: int) -> Iterator[Unit]:
        for recipe in ("text", self.best_recipe("long-tail")):
            spec = synthetic(recipe)
            arms = tuple(replace(spec, name=f"{recipe}-{count}", per_class=count) for count in self.scale.amounts)
            overrides = {"plan.per_class": max(self.scale.amounts)}
            yield self._measured(f"amount/{recipe}", Setting("long-tail", arms, seed, overrides=overrides))

    def _longer(self, seed: int) -> Iterator[Unit]:
        recipes = dict.fromkeys(("text", "image", self.best_recipe("long-tail")))
        for spec in (LONG_TAIL_REAL[0], *map(synthetic, recipes), CEILING):
            for steps in self.scale.longer:
                setting = Setting("long-tail", (spec,), seed, overrides={"training.steps": steps})
                yield self._measured(f"longer/{spec.name}-{steps}", setting)

    def _single_leaks(self, seed: int) -> Iterator[Unit]:
        for shots in dict.fromkeys((min(self.scale.shots), max(self.scale.shots))):
            for leak in get_args(LeakName):
                setting = Setting("few-shot", (synthetic("image"),), seed, shots, overrides={"leaks": [leak]})
                name = f"leak/{leak}-k{shots}/seed-{seed}"
                yield self._unit(name, self.with_tuned(setting), ("test",))

    def _measured(self, name: str, setting: Setting) -> Unit:
        return self._unit(f"{name}/seed-{setting.seed}", self.with_tuned(setting), _BOTH)

    def _unit(self, name: str, setting: Setting, judged: Sequence[HeldOut]) -> Unit:
        return make_unit(name, setting, self.scale, work=self.work, revision=self.revision, judged=judged)

    # Tuning

    def _tuning(self, protocol: Protocol, rows: Sequence[ArmSpec]) -> Iterator[Unit]:
        """Yield the units that settle how `rows` are trained and sampled: three rounds on the validation images.

        A round of all rows comes before the next one: several processes then seldom wait for each other.
        """
        shots = self.scale.tuning_shots if protocol == "few-shot" else None
        tuned = dict.fromkeys(spec.tuned_as for spec in rows if spec.tuned_as is not None)
        for round_name in ROUNDS:
            for spec in map(tuned_spec, tuned):
                setting = Setting(protocol, (spec,), SELECTION_SEED, shots)
                best = self._chosen(protocol, spec, before=round_name)
                for number, overrides in enumerate(self._tried(spec, round_name)):
                    name = _tuning_name(protocol, spec, round_name, number)
                    yield self._unit(name, _overridden(setting, {**best, **overrides}), ("validation",))

    def _tried(self, spec: ArmSpec, round_name: str) -> Sequence[Mapping[str, Any]]:
        """Return what is tried in a round of the tuning, as dotted keys of the config."""
        if spec.knob is None:
            raise ValueError(f"{spec.name} is tuned as {spec.tuned_as}, which has no knob")
        own = [{spec.knob.key: value} for value in spec.knob.values]
        grid: Sequence[Mapping[str, Any]] = {"augment": spec.augment, "own": own, "optimiser": OPTIMISER}[round_name]
        return grid[: self.scale.tried[round_name]]

    def _chosen(self, protocol: Protocol, spec: ArmSpec, before: str | None = None) -> dict[str, Any]:
        """Return the best settings of all rounds, or of those before one of them.

        Where nothing that a round tried is better than what it started from, that stays.
        """
        best: dict[str, Any] = {}
        reached = -math.inf
        for round_name in ROUNDS[: ROUNDS.index(before) if before else None]:
            better: Mapping[str, Any] = {}
            for number, overrides in enumerate(self._tried(spec, round_name)):
                accuracy = self._on_validation(_tuning_name(protocol, spec, round_name, number))
                if accuracy > reached:
                    reached, better = accuracy, overrides
            best |= better
        return best

    def with_tuned(self, setting: Setting) -> Setting:
        """Return a setting with what tuning chose for its arms; its own overrides go before that."""
        spec = setting.arms[0]
        if spec.tuned_as is None:
            return setting
        chosen = self._chosen(setting.protocol, tuned_spec(spec.tuned_as))
        return _overridden(setting, {**chosen, **setting.overrides})

    def best_recipe(self, protocol: Protocol) -> str:
        """Return the image recipe that did best on validation images.

        On the long tail those of seed 0, where every recipe is measured anyway; few-shot those of the selection seed.
        Never on test images, and never on later seeds: what was chosen stays.
        """
        name = "long-tail/{}/seed-0" if protocol == "long-tail" else "choice/few-shot/{}"
        return max(self.scale.recipes, key=lambda recipe: self._on_validation(name.format(recipe)))

    def _on_validation(self, name: str) -> float:
        """Return how a unit's first arm did on validation images."""
        record = read_record(self.results, name)
        if record is None:
            if self.guess:
                return -1.0
            raise NotMeasured(f"{name} must be measured before what depends on it")
        return float(record["models"][0]["validation"]["overall"])


def with_effective_counts(spec: ArmSpec) -> ArmSpec:
    """Return the same row with Balanced Softmax by the counts that batches really show."""
    return replace(spec, name=f"{spec.name}-effective", training={**spec.training, "counts": "effective"})


def _tuning_name(protocol: Protocol, spec: ArmSpec, round_name: str, number: int) -> str:
    return f"tuning/{protocol}/{spec.name}/{round_name}-{number}"


def _overridden(setting: Setting, overrides: Mapping[str, Any]) -> Setting:
    return replace(setting, overrides=dict(overrides))
