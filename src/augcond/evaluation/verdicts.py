"""What a table decides: each comparison is a gain, a loss, undecided, or exploratory.

Many comparisons make chance findings, so few of them get a verdict. Those that `evaluation.primary` names (the gain in
overall accuracy of these arms over the first one) are corrected for their number, and everything else is exploratory.
Where it names none, all gains in overall accuracy over the first arm are corrected for theirs. Under Holm's correction
a table without any true difference has a verdict of gain or loss in at most 5 % of all cases;
`benchmarks/null_table.py` measures it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from augcond.evaluation.results import FEWEST_SEEDS, LEVEL

if TYPE_CHECKING:
    from augcond.evaluation.results import Difference, Results

FEW_SEEDS = 5
"""Below so many seeds a verdict stands with a caveat."""


def judged(table: Sequence[Difference], asked: Collection[int]) -> list[Difference]:
    """Return the differences of a table with their verdicts.

    Args:
        table: with intervals.
        asked: places in it of those that are corrected together; all others are exploratory.
    """
    found = [replace(difference, family=0, verdict="exploratory") for difference in table]
    # What has no p-value now may get one with more seeds: it counts for the correction.
    values = {place: value for place in asked if (value := table[place].p) is not None}
    decided = holm(values, len(asked))
    for place in asked:
        one = table[place]
        if place not in values:
            found[place] = replace(one, family=len(asked), verdict="too few seeds")
        elif place in decided:
            found[place] = replace(one, family=len(asked), verdict="gain" if one.mean > 0 else "loss")
        else:
            found[place] = replace(one, family=len(asked), verdict="undecided")
    return found


def holm(values: dict[int, float], count: int, level: float = 1 - LEVEL) -> set[int]:
    """Return which of some p-values are decided by Holm's step-down correction for `count` comparisons."""
    decided: set[int] = set()
    for rank, place in enumerate(sorted(values, key=values.__getitem__)):
        if values[place] > level / (count - rank):
            break
        decided.add(place)
    return decided


def caveat(seeds: int) -> str | None:
    """Return what to say beside every verdict from so few seeds; None from five on."""
    if seeds >= FEW_SEEDS:
        return None
    if seeds < FEWEST_SEEDS:
        return f"{seeds} seed{'s' if seeds != 1 else ''}: too few for an interval or a verdict"
    return f"only {seeds} seeds: others may well say otherwise"


def in_words(difference: Difference) -> str:
    """Return a difference's verdict, with the caveat that belongs to it."""
    said: str = difference.verdict
    if difference.verdict in ("gain", "loss", "undecided") and (note := caveat(difference.seeds)):
        said += f" ({note})"
    return said


def how_judged(results: Results) -> str:
    """Return in a sentence how the verdicts of a table were found; empty where nothing was compared."""
    asked = [one for one in results.differences if one.family]
    if any(one.verdict == "not judged" for one in results.differences):
        return "These results are of augcond 0.1, whose intervals were too narrow: run augcond evaluate again."
    if not asked:
        return ""
    over = (
        ", ".join(dict.fromkeys(one.baseline for one in asked))
        if len({one.baseline for one in asked}) < 3
        else ("each arm's baseline")
    )
    count = len(asked)
    how = f"corrected for {count} comparisons (Holm)" if count > 1 else "one comparison"
    text = f"Verdicts: the gain in overall accuracy over {over}, {how}; intervals are each one's own, 95 %."
    if any(not one.family for one in results.differences):
        text += " All other differences are exploratory."
    draws = {(seed.seeds.split, seed.seeds.generation) for arm in results.arms for seed in arm.seeds}
    if len(draws) == 1:
        text += " Seeds are trainings on one split and its images: another draw of these is in no interval."
    notes = dict.fromkeys(note for one in asked if (note := caveat(one.seeds)))
    return text + "".join(f" {note[0].upper()}{note[1:]}." for note in notes)


def missing_text(results: Results, named: int = 5) -> str:
    """Return which of the judged images could not be used, at most `named` of them by name; empty for none."""
    if not results.missing:
        return ""
    some = "; ".join(results.missing[:named])
    more = f"; and {len(results.missing) - named} more" if len(results.missing) > named else ""
    images = f"{len(results.missing)} {results.on} image{'s' if len(results.missing) != 1 else ''}"
    return f"{images} could not be used and count{'' if len(results.missing) != 1 else 's'} nowhere: {some}{more}."
