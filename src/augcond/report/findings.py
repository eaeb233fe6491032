"""What a table of results shows: what helped, over what, on which classes, how surely, and what is not decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from augcond.errors import RunError
from augcond.evaluation.differences import Difference, MetricName
from augcond.evaluation.power import MOST_SEEDS, components, needed
from augcond.evaluation.results import FEWEST_SEEDS
from augcond.evaluation.verdicts import FEW_SEEDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.evaluation.results import ArmResult, Results

GROUPS: tuple[MetricName, ...] = ("overall", "many", "medium", "few")
_NAMED = 8
"""Up to so many arms are named in one sentence."""

Tone = Literal["good", "look", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One arm against one baseline.

    Attributes:
        arm: its name.
        baseline: what it is compared with.
        cells: the difference in each metric of `GROUPS`; None where it was not compared.
        seeds: how many seeds decide a true difference as large as the one measured overall; None where it is decided,
            where that cannot be said, or where it takes more than `MOST_SEEDS`.
        out_of_reach: it takes more than `MOST_SEEDS`.
    """

    arm: str
    baseline: str
    cells: tuple[Difference | None, ...]
    seeds: int | None = None
    out_of_reach: bool = False

    @property
    def overall(self) -> Difference | None:
        """The difference in overall accuracy."""
        return self.cells[0]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a table shows.

    Attributes:
        headline: the answer in a sentence.
        sentences: what makes it up: arms by name, with their numbers.
        tone: `good` only where something is decided, from seeds enough, and nothing against it.
        against: per baseline (the first arm, and `text` where there is one) a finding per arm.
    """

    headline: str
    sentences: tuple[str, ...]
    tone: Tone
    against: dict[str, tuple[Finding, ...]]


def find(results: Results) -> Findings:
    """Return what `results` show of their arms with generated images."""
    base = results.arms[0].name
    names = [arm.name for arm in results.arms if arm.kind == "synthetic"]
    texts = [arm.name for arm in results.arms if arm.recipe == "text" and arm.name != base]
    against = {over: _against(results, names, over) for over in (base, *texts)}
    against = {over: found for over, found in against.items() if found}
    first = against.get(base, ())
    if not first:
        return Findings("Nothing was compared with real images alone.", (), "unknown", against)
    sentences = [
        *_verdict_sentences(first, base),
        *(line for over in texts for line in _text_sentence(against.get(over, ()), over)),
        *_group_sentences(first, base),
        *above_ceiling(results),
    ]
    if len(results.classes) == 1:
        sentences.insert(0, "There is one class: every accuracy is 100 %, and says nothing.")
    return Findings(_headline(first, results), tuple(sentences), _tone(first, results), against)


def _against(results: Results, names: Sequence[str], over: str) -> tuple[Finding, ...]:
    found = []
    for name in names:
        cells = tuple(results.difference(name, over, metric) for metric in GROUPS)
        if cells[0] is not None:
            found.append(Finding(name, over, cells, *_seeds_for(results, cells[0])))
    return tuple(found)


def _seeds_for(results: Results, one: Difference) -> tuple[int | None, bool]:
    """Return how many seeds decide a difference as large as `one`, and whether that is more than is looked for."""
    if one.verdict not in ("undecided", "too few seeds") or abs(one.mean) < 1e-4:
        return None, False
    try:
        measured = components(results)
    except RunError:
        return None, False
    (cell, *_) = needed(measured, abs(one.mean), trainings=(1,))
    return cell.seeds, cell.seeds is None


def _headline(found: Sequence[Finding], results: Results) -> str:
    base = found[0].baseline
    kinds = {kind: [one for one in found if _verdict(one) == kind] for kind in ("gain", "loss")}
    leaky = " (a leaky protocol: for comparison with published numbers only)" if results.leaky else ""
    on = "" if results.on == "test" else f" on {results.on} images, where choices are made"
    if kinds["gain"]:
        names = listed([one.arm for one in kinds["gain"]])
        rest = len(found) - len(kinds["gain"])
        others = f" Of the other {rest}, none is decided to be better." if rest else ""
        return f"Yes{on}: {names} {_verb(kinds['gain'], 'is', 'are')} decided to be better than {base}{leaky}.{others}"
    if kinds["loss"]:
        names = listed([one.arm for one in kinds["loss"]])
        are = _verb(kinds["loss"], "is", "are")
        return f"No{on}: {names} {are} decided to be worse than {base}, and none better{leaky}."
    seeds = min(one.overall.seeds for one in found if one.overall)
    if all(_verdict(one) == "not judged" for one in found):
        return "Not judged: these results are of an older augcond; run augcond evaluate again."
    if all(_verdict(one) == "exploratory" for one in found):
        return f"No arm was asked about beforehand{on}: everything here is exploratory."
    if seeds < FEWEST_SEEDS:
        count = f"{seeds} seed{'s' if seeds != 1 else ''}"
        return f"Not known: {count} can decide nothing{on}; it takes {FEWEST_SEEDS} at least."
    return f"Not shown: no arm is decided to be better or worse than {base}{on}. What differs may be chance{leaky}."


def _verdict(one: Finding) -> str:
    return one.overall.verdict if one.overall is not None else ""


def _verb(found: Sequence[Finding], one: str, many: str) -> str:
    return one if len(found) == 1 else many


def listed(names: Sequence[str], most: int = _NAMED) -> str:
    """Return names as a text, at most `most` of them."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _verdict_sentences(found: Sequence[Finding], base: str) -> list[str]:
    titles = {
        "gain": f"Better than {base}, decided",
        "loss": f"Worse than {base}, decided",
        "undecided": f"Not decided against {base}",
        "too few seeds": f"Too few seeds against {base}",
        "exploratory": f"Exploratory, over {base}",
        "not judged": f"Not judged, over {base}",
    }
    lines = []
    for verdict, title in titles.items():
        members = [one for one in found if _verdict(one) == verdict]
        if members:
            said = [points_of(one) for one in members[:_NAMED]]
            more = f"; and {len(members) - _NAMED} more in the table" if len(members) > _NAMED else ""
            lines.append(f"{title}: {'; '.join(said)}{more}.")
    return lines


def verdict_lines(results: Results) -> list[str]:
    """Return what a table of several runs decides, each arm over its own baseline, in a sentence per verdict."""
    gains = [gain for arm in results.arms if arm.kind == "synthetic" and (gain := results.gain(arm.name)) is not None]
    titles = {"gain": "Better, decided", "loss": "Worse, decided", "undecided": "Not decided"}
    titles |= {"too few seeds": "Too few seeds to decide", "exploratory": "Exploratory", "not judged": "Not judged"}
    lines = [] if gains else ["No arm with generated images was compared with one without."]
    for verdict, title in titles.items():
        members = [one for one in gains if one.verdict == verdict]
        said = "; ".join(f"{one.arm} {difference_text(one)} over {one.baseline}" for one in members[:_NAMED])
        more = f"; and {len(members) - _NAMED} more in the table" if len(members) > _NAMED else ""
        lines += [f"{title} ({len(members)} of {len(gains)}): {said}{more}."] if members else []
    return [*lines, *above_ceiling(results)]


def points_of(one: Finding) -> str:
    """Return an arm with its difference, its interval, and what it takes where it is not decided."""
    if one.overall is None:
        return one.arm
    text = f"{one.arm} {difference_text(one.overall)}"
    if one.seeds is not None:
        return f"{text}: a true difference of that size takes {one.seeds} seeds to decide"
    return f"{text}: so small a difference takes more than {MOST_SEEDS} seeds" if one.out_of_reach else text


def difference_text(one: Difference) -> str:
    """Return a difference in points with its interval, such as `+2.1 points (95 % interval +0.8 to +3.4)`."""
    about = "95\N{NO-BREAK SPACE}% interval " if one.low is not None else ""
    return f"{100 * one.mean:+.1f} points ({about}{one.interval})"


def _text_sentence(found: Sequence[Finding], over: str) -> list[str]:
    """Return how arms stand to `text`: prompts alone, without an image."""
    if not found:
        return []
    said = [f"{one.arm} {difference_text(one.overall)}{clear(one.overall)}" for one in found[:_NAMED] if one.overall]
    more = f"; and {len(found) - _NAMED} more in the table" if len(found) > _NAMED else ""
    return [f"Against {over} (prompts alone), exploratory: {'; '.join(said)}{more}."]


def clear(one: Difference) -> str:
    """Return whether an interval holds 0, in words; empty where there is none."""
    if one.low is None or one.high is None:
        return ""
    return ", which holds 0" if one.low <= 0 <= one.high else ", clear of 0"


def _group_sentences(found: Sequence[Finding], base: str) -> list[str]:
    """Return how arms do on the classes with few images, which they are for, and where else they lose."""
    lines = []
    few = [(one.arm, one.cells[GROUPS.index("few")]) for one in found]
    told = [f"{arm} {difference_text(cell)}{clear(cell)}" for arm, cell in few[:_NAMED] if cell is not None]
    if told:
        lines.append(f"On the few classes over {base}, exploratory: {'; '.join(told)}.")
    lost = [
        f"{one.arm} on {group} {difference_text(cell)}"
        for one in found
        for group, cell in zip(GROUPS[1:], one.cells[1:], strict=True)
        if group != "few" and cell is not None and cell.high is not None and cell.high < 0
    ]
    if lost:
        lines.append(f"And what it costs elsewhere, exploratory: {'; '.join(lost[:_NAMED])}.")
    return lines


def _tone(found: Sequence[Finding], results: Results) -> Tone:
    gains = [one for one in found if _verdict(one) == "gain"]
    losses = [one for one in found if _verdict(one) == "loss"]
    enough = all(one.overall.seeds >= FEW_SEEDS for one in found if one.overall)
    return "good" if gains and not losses and enough and not results.leaky and results.on == "test" else "look"


def above_ceiling(results: Results) -> list[str]:
    """Return, per ceiling, which arms lie above it and why that can be; a ceiling ought to be above all others."""
    lines = []
    for ceiling in (arm for arm in results.arms if arm.kind == "ceiling"):
        others = [arm for arm in results.arms if arm.kind == "synthetic"]
        above = [
            f"{arm.name} on {group} ({_percent(arm, group)} against {_percent(ceiling, group)})"
            for group in GROUPS
            for arm in others
            if _higher(arm, ceiling, group)
        ]
        if above:
            overall = any(_higher(arm, ceiling, "overall") for arm in others)
            why = _why(ceiling, others, overall=overall)
            lines.append(f"Above {ceiling.name}: {', '.join(above[:_NAMED])}. {why}")
    return lines


def _percent(arm: ArmResult, group: MetricName) -> str:
    return f"{100 * getattr(arm.mean, group):.1f}"


def _higher(arm: ArmResult, ceiling: ArmResult, group: MetricName) -> bool:
    own, other = getattr(arm.mean, group), getattr(ceiling.mean, group)
    return own is not None and other is not None and own > other


def _why(ceiling: ArmResult, others: Sequence[ArmResult], *, overall: bool) -> str:
    setup = ceiling.setup
    if setup is not None and setup.loss != "cross-entropy" and setup.counts == "real":
        return (
            f"{ceiling.name} is no ceiling here: its loss ({setup.loss}) corrects for the counts of the real images, "
            "while its classes are filled up with unused real ones. training.ceiling_counts=effective mends it."
        )
    shown = setup is not None and setup.counts == "effective"
    if shown and not overall and any(arm.setup and arm.setup.counts == "real" for arm in others):
        return (
            "Its loss counts what its batches show, and theirs the real images: that moves accuracy between classes of "
            "many and of few images. Overall it lies above them."
        )
    return (
        f"{ceiling.name} has as many unused real images in place of generated ones and the same steps: what is above "
        "it is chance, or images that teach more than as many real ones."
    )
