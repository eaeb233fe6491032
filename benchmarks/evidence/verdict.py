"""Whether what the method promises holds here: decided by the paired intervals, said in words."""

from __future__ import annotations

from benchmarks.evidence.measured import Measured
from benchmarks.evidence.settings import REAL_STRONG, Scale
from benchmarks.evidence.tables import MISSING, difference, markdown

from augcond.evaluation.results import Difference


def expectations(measured: Measured, scale: Scale) -> list[str]:
    """Return a table: every image recipe against `text` and against real images, where it should help most."""
    lines = []
    for baseline in ("text", REAL_STRONG):
        for metric in ("medium", "few"):
            other = measured.row(f"long-tail/{baseline}", baseline)
            found = {name: measured.row(f"long-tail/{name}", name) for name in scale.recipes}
            decided = [difference(row, other, metric) for row in found.values()]
            lines.append([f"long tail, {metric} classes", f"above `{baseline}`", *_counts(decided)])
        for shots in (k for k in scale.shots if k <= 4):
            other = measured.row(f"few-shot/{baseline}-k{shots}", baseline)
            found = {name: measured.row(f"few-shot/{name}-k{shots}", name) for name in scale.recipes}
            decided = [difference(row, other, "overall") for row in found.values()]
            lines.append([f"few shot, k = {shots}", f"above `{baseline}`", *_counts(decided)])
    titles = ["where", "expected of the image recipes", "hold", "undecided", "the reverse", "of"]
    note = "A recipe counts as above or below where the whole 95 % interval of its difference is on that side of 0."
    return [note, "", markdown(titles, lines)]


def _counts(decided: list[Difference | None]) -> list[str]:
    known = [difference for difference in decided if difference is not None]
    if not known:
        return [MISSING, "", "", "0 recipes"]
    above = sum(difference.low > 0 for difference in known)
    below = sum(difference.high < 0 for difference in known)
    return [str(above), str(len(known) - above - below), str(below), f"{len(known)} recipes"]
