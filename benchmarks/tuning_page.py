"""From the records of `benchmarks.tuning` to the table and the figure of docs/tuning.md.

python -m benchmarks.tuning --page
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from benchmarks.evidence.records import Record, read_records
from benchmarks.tuning_units import Pair
from matplotlib import pyplot as plt

from augcond.evaluation.differences import Spread
from augcond.evaluation.results import REAL_ONLY
from augcond.evaluation.statistics import half_width

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "tuning.md"
FIGURE = REPOSITORY / "docs" / "img" / "tuning" / "regret.svg"
_MARKS = "<!-- from the records: python -m benchmarks.tuning --page -->", "<!-- end of what the records say -->"
_STYLE: Any = {"svg.hashsalt": "augcond", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}

FIXED: Mapping[str, str] = {
    "embed-cutmix-dropout,guidance=2": "the paper's default, guidance 2",
    "embed-cutmix-dropout,guidance=10": "the paper's default, guidance 10",
    "as-configured": "our default",
    REAL_ONLY: "real images alone",
}
"""Settings that need no tuning, by their name in the grid."""

BY_PROTOCOL = "the paper's guidance: 2 on long tails, 10 in few shots"
"""What was best in the paper for each of its two protocols: a rule that asks for no images."""

UNTUNED = (*FIXED.values(), BY_PROTOCOL)
"""All that a tuning should be better than."""

SEEN = ("seed-0", "seed-1")
"""Seeds whose pairs showed what was wrong with earlier methods of tuning."""


@dataclass(frozen=True, slots=True)
class Study:
    """What is known of a pair.

    Attributes:
        name: setting and seed.
        test: mean accuracy per class on test images, over trainings, by candidate of the grid.
        validation: the same on validation images.
        tuned: test accuracy of what a tuning chose, by budget.
        chosen: its name, by budget.
        gains: the estimated gain (mean, low, high) of what was chosen, by budget; None for real images alone.
        noise: 1.96 standard errors of a difference of two of these accuracies, from the spread over trainings.
    """

    name: str
    test: Mapping[str, float]
    validation: Mapping[str, float]
    tuned: Mapping[int, float]
    chosen: Mapping[int, str]
    gains: Mapping[int, tuple[float, float, float] | None]
    noise: float

    @property
    def world(self) -> str:
        """The setting."""
        return self.name.partition("/")[0]

    @property
    def seed(self) -> str:
        """Of its real images."""
        return self.name.rpartition("/")[2]

    @property
    def best(self) -> float:
        """Test accuracy of the best of all that was measured."""
        return max(*self.test.values(), *self.tuned.values())

    def regrets(self) -> dict[str, float]:
        """Return how far each way to choose stays behind the best, in points."""
        by_validation = max(self.validation, key=lambda name: self.validation[name])
        found = {f"augcond tune, {budget} images": value for budget, value in sorted(self.tuned.items())}
        found |= {title: self.test[name] for name, title in FIXED.items() if name in self.test}
        published = f"embed-cutmix-dropout,guidance={2 if self.world.startswith('long-tail') else 10}"
        found |= {BY_PROTOCOL: self.test[published]} if published in self.test else {}
        found["the grid, by validation images"] = self.test[by_validation]
        found["one of the grid at random"] = float(np.mean([v for name, v in self.test.items() if name != REAL_ONLY]))
        return {name: 100 * (self.best - value) for name, value in found.items()}


def studies_of(results: Path) -> list[Study]:
    """Return the pairs of which every unit is measured that compares: real images alone, the grid, and all tunings."""
    return _studies(list(read_records(results)) if results.is_dir() else [])


def _studies(records: Sequence[Record], pairs: Sequence[Pair] | None = None) -> list[Study]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for record in records:
        world, seed, unit = record["unit"].split("/", 2)
        found.setdefault(f"{world}/{seed}", {})[unit] = record
    asked = None if pairs is None else {pair.name: {unit.name for unit in pair.units()} for pair in pairs}
    whole = {
        name: units
        for name, units in found.items()
        # A grid that is half measured has no best.
        if asked is None or asked.get(name, set()) <= {f"{name}/{unit}" for unit in units}
    }
    return [study for name, units in sorted(whole.items()) if (study := _study(name, units)) is not None]


def _study(name: str, units: Mapping[str, dict[str, Any]]) -> Study | None:
    grid = {unit.removeprefix("grid/"): record for unit, record in units.items() if unit.startswith("grid/")}
    outcomes = {int(unit.rpartition("-")[2]): record for unit, record in units.items() if unit.startswith("outcome-")}
    if REAL_ONLY not in grid or len(grid) < 2 or not outcomes:
        return None
    gains: dict[int, tuple[float, float, float] | None] = {}
    for budget, outcome in outcomes.items():
        gain = units[f"tune-{budget}"]["gain"]
        known = gain is not None and outcome["chosen"] != REAL_ONLY
        gains[budget] = (gain["mean"], gain["low"], gain["high"]) if known else None
    return Study(
        name,
        {candidate: float(np.mean(record["test"])) for candidate, record in grid.items()},
        {candidate: float(np.mean(record["validation"])) for candidate, record in grid.items()},
        {budget: float(np.mean(record["test"])) for budget, record in outcomes.items()},
        {budget: record["chosen"] for budget, record in outcomes.items()},
        gains,
        _noise([record["test"] for record in grid.values()]),
    )


def _noise(trainings: Sequence[Sequence[float]]) -> float:
    spreads = [np.var(each, ddof=1) / len(each) for each in trainings if len(each) > 1]
    return float(1.96 * np.sqrt(2 * np.mean(spreads))) if spreads else 0.0


def wilson(held: int, of: int) -> tuple[float, float]:
    """Return the 95 % binomial interval of a share (Wilson 1927)."""
    z, share = 1.959964, held / of
    centre, reach = share + z * z / (2 * of), z * (share * (1 - share) / of + z * z / (4 * of * of)) ** 0.5
    return (centre - reach) / (1 + z * z / of), (centre + reach) / (1 + z * z / of)


def text_of(studies: Sequence[Study]) -> str:
    """Return the tables and what follows from them, as Markdown."""
    if not studies:
        return "No pair is whole yet, so nothing can be said."
    lines = [
        "Regret: points of mean accuracy per class on test images behind the best of all that was measured of a pair. "
        "The last column counts pairs in which a way ends below real images alone by more than a point and the noise "
        "of three trainings.",
        "",
        *_regret_table(studies),
    ]
    unseen = [study for study in studies if study.seed not in SEEN]
    if unseen and len(unseen) < len(studies):
        told = f"Pairs of seeds 0 and 1 showed what to mend in the method. Without them ({len(unseen)}):"
        lines += ["", told, "", *_regret_table(unseen)]
    for budget in sorted({budget for study in studies for budget in study.gains}):
        lines += ["", _goal(studies, budget), "", _changes(studies, budget), "", _honesty(studies, budget)]
    return "\n".join([*lines, "", *_by_world(studies)])


def _regret_table(studies: Sequence[Study]) -> list[str]:
    """Return a row for each way to choose."""
    lines = ["| how it was chosen | median | mean | worst | below real images alone |", "|---|---|---|---|---|"]
    limits = [study.regrets()[FIXED[REAL_ONLY]] + 1 + 100 * study.noise for study in studies]
    for way, regrets in _regrets_of(studies).items():
        below = sum(regret > limit for regret, limit in zip(regrets, limits, strict=True))
        told = f"{np.nanmedian(regrets):.1f} | {np.nanmean(regrets):.1f} | {np.nanmax(regrets):.1f}"
        lines.append(f"| {way} | {told} | {below} of {np.isfinite(regrets).sum()} |")
    return lines


def _regrets_of(studies: Sequence[Study]) -> dict[str, np.ndarray]:
    """Return the regret of each way to choose in each pair; NaN where it was not measured."""
    every = [study.regrets() for study in studies]
    ways = dict.fromkeys(name for each in every for name in each)
    return {way: np.array([each.get(way, np.nan) for each in every]) for way in ways}


def _goal(studies: Sequence[Study], budget: int) -> str:
    """Return in words whether a budget does what was asked for."""
    way = f"augcond tune, {budget} images"
    regrets = _regrets_of(studies)
    median = float(np.nanmedian(regrets[way]))
    means = {name: np.nanmean(values) for name, values in regrets.items()}
    better = [name for name in UNTUNED if name in means and means[way] >= means[name]]
    told = "below every fixed setting" if not better else f"not below {', '.join(better)}"
    against = "; ".join(f"{name} {_paired(studies, way, name)}" for name in UNTUNED if name in means)
    return (
        f"Asked for: a median regret of at most 1.0 point, and on average below every fixed setting. With {budget} "
        f"images: {median:.1f} ({'met' if median <= 1 else 'not met'}), on average {told}. Its regret minus that of "
        f"each, paired, on average (less is better): {against}."
    )


def _paired(studies: Sequence[Study], way: str, other: str) -> str:
    """Return the mean difference of two regrets and its 95 % interval: what is drawn is seeds, not settings."""
    by_seed: dict[str, list[float]] = {}
    for study in studies:
        regrets = study.regrets()
        if way in regrets and other in regrets:
            by_seed.setdefault(study.seed, []).append(regrets[way] - regrets[other])
    values = [float(np.mean(each)) for each in by_seed.values()]
    # Student's: how far the test images make a seed's difference vary is a part of how it varies between seeds.
    between = float(np.var(values, ddof=1)) if len(values) > 1 else 0.0
    half = half_width(Spread(len(values), between, 0.0, 0.0))
    mean = float(np.mean(values))
    return f"{mean:+.1f}" + (f" ({mean - half:+.1f} to {mean + half:+.1f})" if half is not None else "")


def _changes(studies: Sequence[Study], budget: int) -> str:
    """Return how often something else than the config's own settings was chosen, and what that was worth."""
    default = next(name for name, title in FIXED.items() if title == "our default")
    left = {
        study.name: 100 * (study.tuned[budget] - study.test[default])
        for study in studies
        if study.chosen.get(budget, default) != default and default in study.test
    }
    kept = f"With {budget} images the config's own settings, our default, were kept in {len(studies) - len(left)} of "
    kept += f"{len(studies)} pairs."
    if not left:
        return kept
    values = np.array(list(left.values()))
    better = values[values > 0]
    worst = min(left, key=lambda name: left[name])
    told = f"{kept} What was chosen instead was better on the test images in {len(better)} of {len(left)}, and"
    told += f" {values.mean():+.1f} points on average"
    return told + (f"; worst in {worst}, {left[worst]:+.1f} points." if left[worst] < 0 else ".")


def _by_world(studies: Sequence[Study]) -> list[str]:
    """Return the table of the settings: accuracies in percent, the mean over their seeds."""
    budgets = sorted({budget for study in studies for budget in study.tuned})
    heads = ["setting", "seeds", *FIXED.values(), *(f"tuned, {b}" for b in budgets), "best"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for world in dict.fromkeys(study.world for study in studies):
        own = [study for study in studies if study.world == world]
        columns = [[study.test.get(name) for study in own] for name in FIXED]
        columns += [[study.tuned.get(budget) for study in own] for budget in budgets]
        columns.append([study.best for study in own])
        known = [[value for value in column if value is not None] for column in columns]
        cells = [f"{100 * np.mean(values):.1f}" if values else "" for values in known]
        lines.append(f"| {' | '.join([world, str(len(own)), *cells])} |")
    return lines


def state_of(pairs: Sequence[Pair], records: Sequence[Record], studies: Sequence[Study]) -> str:
    """Return in words what was measured, what is missing, and how long it took.

    Raises:
        ValueError: records are of other settings than the benchmark has now.
    """
    wanted = {unit.name: unit.fingerprint for pair in pairs for unit in pair.units()}
    stale = [record["unit"] for record in records if wanted.get(record["unit"]) != record["fingerprint"]]
    if stale:
        raise ValueError(
            f"{len(stale)} records were measured with other settings than python -m benchmarks.tuning has now, such as "
            f"{stale[0]}: measure on, or delete them"
        )
    scale = pairs[0].scale
    training = scale.base["training"]
    hours = sum(record["seconds"] for record in records) / 3600
    missing = len(pairs) - len(studies)
    left = f" **Not complete: {missing} pairs are missing; this may still change.**" if missing else ""
    return (
        f"{len(studies)} of {len(pairs)} pairs of a setting and a seed are whole.{left} "
        f"{scale.base['generator']['steps']} sampling steps; our default with guidance "
        f"{scale.base['generator']['guidance_scale']:g}; {training['model']} at {training['image_size']} pixels, "
        f"{training['steps']} steps, {training['seeds']} trainings of each accuracy; {scale.effort.candidates} "
        f"candidates and {scale.effort.folds} folds. {hours:.1f} hours of wall-clock time of one process."
    )


def _honesty(studies: Sequence[Study], budget: int) -> str:
    """Return how often the interval of the estimated gain held the measured one."""
    pairs = [
        (gain, study.tuned[budget] - study.test[REAL_ONLY])
        for study in studies
        if (gain := study.gains.get(budget)) is not None
    ]
    alone = sum(study.chosen.get(budget) == REAL_ONLY for study in studies)
    text = f"With {budget} images real images alone were chosen in {alone} of {len(studies)} pairs."
    if not pairs:
        return text
    held = sum(low <= measured <= high for (_, low, high), measured in pairs)
    errors = np.array([mean - measured for (mean, _, _), measured in pairs])
    low, high = wilson(held, len(pairs))
    return (
        f"{text} In the other {len(pairs)} the interval of the estimated gain held the measured one in {held} "
        f"({100 * held / len(pairs):.0f} %, binomial interval {100 * low:.0f} to {100 * high:.0f} %); the estimate was "
        f"off by {100 * errors.mean():+.1f} points on average, {100 * np.abs(errors).mean():.1f} in size."
    )


def draw(studies: Sequence[Study], path: Path) -> None:
    """Draw the regret of every way to choose: each pair a dot, the median a line."""
    regrets = [study.regrets() for study in studies]
    ways = list(dict.fromkeys(name for each in regrets for name in each))
    path.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7, 0.8 + 0.36 * len(ways)), layout="constrained")
        for place, way in enumerate(reversed(ways)):
            values = [each[way] for each in regrets if way in each]
            spread = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else [0.0]
            axes.plot(values, place + np.asarray(spread), ".", color="#0072b2", alpha=0.6)
            axes.plot([np.median(values)] * 2, [place - 0.3, place + 0.3], color="#d55e00", linewidth=2)
        axes.set_yticks(range(len(ways)), list(reversed(ways)))
        axes.set_xlabel("regret on test images, points; line: median")
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def write(results: Path, pairs: Sequence[Pair], page: Path | None = None, figure: Path | None = None) -> str:
    """Write the table into the page and the figure beside it, and return the table.

    Raises:
        ValueError: the page lacks the marks, or records are of other settings.
    """
    page, figure = page or PAGE, figure or FIGURE
    records = list(read_records(results)) if results.is_dir() else []
    studies = _studies(records, pairs)
    state = state_of(pairs, records, studies) if records else "Nothing is measured yet."
    text = "\n\n".join([state, *([text_of(studies)] if records else [])])
    if studies:
        draw(studies, figure)
        text += f"\n\n![Regret of every way to choose](img/tuning/{figure.name})"
    fill(page, _MARKS, text)
    return text


def fill(page: Path, marks: tuple[str, str], text: str) -> None:
    """Put a text between two marks of a page.

    Raises:
        ValueError: the page lacks the marks.
    """
    begin, end = map(re.escape, marks)
    whole = page.read_text(encoding="utf-8")
    if not re.search(f"{begin}.*{end}", whole, re.DOTALL):
        raise ValueError(f"{page} lacks the marks {marks}")
    inside = "\n".join([marks[0], text, marks[1]])
    page.write_text(re.sub(f"{begin}.*{end}", lambda _: inside, whole, flags=re.DOTALL), encoding="utf-8")
