"""All units, in the order in which they are measured: after each pass there is a whole page for one seed more.

Units are named one after the other, because what tuning chose decides the next: their records must be there by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    LONG_TAIL_DRAW,
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
    synthetic,
    tuned_spec,
)
from benchmarks.evidence.units import Setting, Unit, make_unit

from augcond.config_training import LeakName
from augcond.training.identity import EvaluationPart

_BOTH: tuple[EvaluationPart, ...] = ("validation", "test")


@dataclass(frozen=True, slots=True)
class Campaign:
    """Where everything lies, and how large it is.

    Attributes:
        scale: how large.
        results: the folder of the records.
        work: the folder of the runs.
        revision: of the generator's weights.
        seeds: number of measured seeds.
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
            "leaks": self._single_leaks,
            "other-recipes": self._other_recipes,
        }
        for seed in range(self.seeds if tier == "a" else min(self.seeds, self.scale.tier_b_seeds)):
            for section in SECTIONS[tier]:
                if section in self.sections:
                    yield from measured[section](seed)

    def _long_tail(self, seed: int) -> Iterator[Unit]:
        rows = (*LONG_TAIL_REAL, *map(synthetic, ("text", "real-guidance", *self.scale.recipes)), CEILING)
        for spec in rows:
            yield from self._tuning("long-tail", spec)
            arms = (spec, with_effective_counts(spec)) if spec.name in BOTH_COUNTS else (spec,)
            yield self._measured(f"long-tail/{spec.name}", Setting("long-tail", arms, seed, draw=LONG_TAIL_DRAW))

    def _few_shot(self, seed: int) -> Iterator[Unit]:
        for spec in (*FEW_SHOT_REAL, *map(synthetic, ("text", *self.scale.recipes))):
            yield from self._tuning("few-shot", spec)
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
        return self._unit(f"choice/few-shot/{recipe}", self._with_tuned(setting), ("validation",))

    def _screening(self, seed: int) -> Iterator[Unit]:
        for recipe in ("text", self.best_recipe("long-tail")):
            for judge in SCREENS:
                setting = Setting(
                    "long-tail", (synthetic(recipe),), seed, draw=LONG_TAIL_DRAW, overrides={"screening.by": judge}
                )
                yield self._measured(f"screening/{recipe}-{judge}", setting)

    def _published(self, seed: int) -> Iterator[Unit]:
        recipes = dict.fromkeys(("image", self.best_recipe("few-shot")))
        for shots in self.scale.shots:
            for spec in (FEW_SHOT_REAL[0], *map(synthetic, recipes)):
                setting = self._with_tuned(Setting("few-shot", (spec,), seed, shots, published=True))
                # Its validation images are what it reports, so there is one table only.
                yield self._unit(f"published/{spec.name}-k{shots}/seed-{seed}", setting, ("test",))

    def _other_recipes(self, seed: int) -> Iterator[Unit]:
        for spec in map(synthetic, ("real-guidance", *self.scale.recipes)):
            yield from self._tuning("few-shot", spec)
            for shots in self.scale.shots:
                yield self._few_shot_unit(spec, seed, shots)

    def _crop(self, seed: int) -> Iterator[Unit]:
        for recipe in (name for name in self.scale.recipes if name in PIXEL_RECIPES):
            for lowest in CROPS:
                overrides = {"conditioning.crop_scale": [lowest, 1.0]}
                setting = Setting("long-tail", (synthetic(recipe),), seed, draw=LONG_TAIL_DRAW, overrides=overrides)
                yield self._measured(f"crop/{recipe}-{lowest:g}", setting)

    def _unnamed(self, seed: int) -> Iterator[Unit]:
        for shots in dict.fromkeys((min(self.scale.shots), self.scale.tuning_shots)):
            for recipe in dict.fromkeys(("text", "image", STAND_IN, self.best_recipe("few-shot"))):
                overrides = {"prompt": [UNNAMED_PROMPT]}
                setting = Setting("few-shot", (synthetic(recipe),), seed, shots, overrides=overrides)
                yield self._measured(f"unnamed/{recipe}-k{shots}", setting)

    def _guidance(self, seed: int) -> Iterator[Unit]:
        for recipe in ("text", self.best_recipe("long-tail")):
            for guidance in self.scale.guidance:
                overrides = {"generator.guidance_scale": guidance}
                setting = Setting("long-tail", (synthetic(recipe),), seed, draw=LONG_TAIL_DRAW, overrides=overrides)
                yield self._measured(f"guidance/{recipe}-{guidance:g}", setting)

    def _amounts(self, seed: int) -> Iterator[Unit]:
        for recipe in ("text", self.best_recipe("long-tail")):
            spec = synthetic(recipe)
            arms = tuple(replace(spec, name=f"{recipe}-{count}", per_class=count) for count in self.scale.amounts)
            overrides = {"plan.per_class": max(self.scale.amounts)}
            yield self._measured(
                f"amount/{recipe}", Setting("long-tail", arms, seed, draw=LONG_TAIL_DRAW, overrides=overrides)
            )

    def _single_leaks(self, seed: int) -> Iterator[Unit]:
        for shots in dict.fromkeys((min(self.scale.shots), max(self.scale.shots))):
            for leak in get_args(LeakName):
                setting = Setting("few-shot", (synthetic("image"),), seed, shots, overrides={"leaks": [leak]})
                name = f"leak/{leak}-k{shots}/seed-{seed}"
                yield self._unit(name, self._with_tuned(setting), ("test",))

    def _measured(self, name: str, setting: Setting) -> Unit:
        return self._unit(f"{name}/seed-{setting.seed}", self._with_tuned(setting), _BOTH)

    def _unit(self, name: str, setting: Setting, judged: Sequence[EvaluationPart]) -> Unit:
        return make_unit(name, setting, self.scale, work=self.work, revision=self.revision, judged=judged)

    # Tuning

    def _tuning(self, protocol: Protocol, spec: ArmSpec) -> Iterator[Unit]:
        """Yield the units that settle how `spec` is trained and sampled: three rounds on the validation images."""
        if spec.tuned_as is None:
            return
        spec = tuned_spec(spec.tuned_as)
        setting = Setting(
            protocol, (spec,), SELECTION_SEED, self.scale.tuning_shots if protocol == "few-shot" else None
        )
        for round_name in ROUNDS:
            best = self._chosen(protocol, spec, before=round_name)
            for number, overrides in enumerate(self._tried(spec, round_name)):
                name = _tuning_name(protocol, spec, round_name, number)
                yield self._unit(name, _overridden(setting, {**best, **overrides}), ("validation",))

    def _tried(self, spec: ArmSpec, round_name: str) -> Sequence[Mapping[str, Any]]:
        """Return what is tried in a round of the tuning, as dotted keys of the config."""
        if spec.knob is None:
            raise ValueError(f"{spec.name} is tuned as {spec.tuned_as}, which has no knob")
        own = [{spec.knob.key: value} for value in spec.knob.values]
        return {"augment": spec.augment, "own": own, "optimiser": OPTIMISER}[round_name][: self.scale.tried]

    def _chosen(self, protocol: Protocol, spec: ArmSpec, before: str | None = None) -> dict[str, Any]:
        """Return the best settings of all rounds, or of those before one of them."""
        best: dict[str, Any] = {}
        for round_name in ROUNDS[: ROUNDS.index(before) if before else None]:
            tried = self._tried(spec, round_name)
            names = [_tuning_name(protocol, spec, round_name, number) for number in range(len(tried))]
            best |= tried[self._first_best(names)]
        return best

    def _with_tuned(self, setting: Setting) -> Setting:
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
        return self.scale.recipes[self._first_best([name.format(recipe) for recipe in self.scale.recipes])]

    def _first_best(self, names: Sequence[str]) -> int:
        """Return which of the units did best on validation images by its first arm; the first among equals."""
        found = []
        for name in names:
            record = read_record(self.results, name)
            if record is None and not self.guess:
                raise RuntimeError(f"{name} must be measured before what depends on it")
            found.append(-1.0 if record is None else float(record["models"][0]["validation"]["overall"]))
        return found.index(max(found))


def with_effective_counts(spec: ArmSpec) -> ArmSpec:
    """Return the same row with Balanced Softmax by the counts that batches really show."""
    return replace(spec, name=f"{spec.name}-effective", training={**spec.training, "counts": "effective"})


def _tuning_name(protocol: Protocol, spec: ArmSpec, round_name: str, number: int) -> str:
    return f"tuning/{protocol}/{spec.name}/{round_name}-{number}"


def _overridden(setting: Setting, overrides: Mapping[str, Any]) -> Setting:
    return replace(setting, overrides=dict(overrides))
