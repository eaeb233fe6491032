"""Whether what the method promises holds here: decided by the paired intervals, said in words."""

from __future__ import annotations

from benchmarks.evidence.measured import Measured
from benchmarks.evidence.settings import REAL_STRONG, Scale, few_shots
from benchmarks.evidence.tables import MISSING, difference, markdown

from augcond.evaluation.results import Difference


def expectations(measured: Measured, scale: Scale) -> list[str]:
    """Return a table: every image recipe against `text` and against real images, where it should help most."""
    places = [
        (f"long tail, {group} classes", group, "long-tail/{}", "unnamed/{}-long-tail") for group in ("medium", "few")
    ]
    places += [
        (f"few shot, k = {shots}", "overall", f"few-shot/{{}}-k{shots}", f"unnamed/{{}}-k{shots}")
        for shots in few_shots(scale)
    ]
    lines = []
    for prompts in ("name the class", "do not"):
        for baseline in ("text", REAL_STRONG):
            for where, metric, named, unnamed in places:
                table = named if prompts == "name the class" else unnamed
                # Real images alone are the same row under all prompts.
                other = measured.row((table if baseline == "text" else named).format(baseline), baseline)
                found = [measured.row(table.format(name), name) for name in scale.recipes]
                counts = _counts([difference(row, other, metric) for row in found])
                lines.append([where, prompts, f"above `{baseline}`", *counts])
    titles = ["where", "prompts", "expected of the image recipes", "hold", "undecided", "the reverse", "of"]
    note = "A recipe counts as above or below where the whole 95 % interval of its difference is on that side of 0."
    return [note, "", markdown(titles, lines)]


def _counts(decided: list[Difference | None]) -> list[str]:
    known = [difference for difference in decided if difference is not None]
    if not known:
        return [MISSING, "", "", "0 recipes"]
    above = sum(difference.low > 0 for difference in known)
    below = sum(difference.high < 0 for difference in known)
    return [str(above), str(len(known) - above - below), str(below), f"{len(known)} recipes"]
