"""Whether what the method promises holds here: counted from the verdicts."""

from __future__ import annotations

from benchmarks.evidence.measured import Measured, compared
from benchmarks.evidence.settings import REAL_STRONG, Scale, few_shots
from benchmarks.evidence.tables import MISSING, markdown

from augcond.evaluation.results import Difference
from augcond.evaluation.verdicts import FEW_SEEDS


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
                counts = _counts(compared([(row, other) for row in found], metric))
                lines.append([where, prompts, f"above `{baseline}`", *counts])
    titles = ["where", "prompts", "expected of the image recipes", "hold", "undecided", "the reverse", "of", "seeds"]
    note = (
        "A recipe counts as above or below where that is decided at 5 %, corrected for the recipes of its line (Holm); "
        f"lines are not corrected for each other. Verdicts from fewer than {FEW_SEEDS} seeds may well be others with "
        "more."
    )
    return [note, "", markdown(titles, lines)]


def _counts(decided: list[Difference | None]) -> list[str]:
    known = [difference for difference in decided if difference is not None]
    if not known:
        return [MISSING, "", "", "0 recipes", "0"]
    above, below = (sum(difference.verdict == kind for difference in known) for kind in ("gain", "loss"))
    seeds = "-".join(map(str, sorted({difference.seeds for difference in known})))
    return [str(above), str(len(known) - above - below), str(below), f"{len(known)} recipes", seeds]
