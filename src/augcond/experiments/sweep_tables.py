"""The table of a sweep, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from augcond.evaluation.results import METRICS, Difference, Results, share_text
from augcond.evaluation.verdicts import how_judged, in_words, missing_text

_COLUMNS = ("arm", "recipe", "leaky", "seeds", "real images", "synthetic images", *METRICS, "spread of overall")
_GAIN = ("baseline", "gain", "gain low", "gain high", "p", "verdict")


def to_csv(results: Results) -> str:
    """Return one line per arm; accuracies as shares."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *_GAIN])
    writer.writerows(_lines(results))
    return text.getvalue()


def to_markdown(results: Results) -> str:
    """Return one line per arm; accuracies in percent."""
    shown = ("overall", "class_mean", "many", "medium", "few")
    titles = [
        "arm",
        "seeds",
        "synthetic",
        *(name.replace("_", " ") for name in shown),
        "gain on overall (95 %)",
        "verdict",
    ]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for arm in results.arms:
        gain = results.gain(arm.name)
        cells = [share_text(getattr(arm.mean, name), getattr(arm.spread, name, None)) for name in shown]
        told = [gain.text, in_words(gain)] if gain else ["", ""]
        name = f"{arm.name} (leaky)" if arm.leaky else arm.name
        lines.append("| " + " | ".join([name, str(len(arm.seeds)), str(arm.synthetic_images), *cells, *told]) + " |")
    notes = [f"Percent of {results.test_images} {results.on} images by {results.model}.", how_judged(results)]
    return "\n".join([*lines, "", *filter(None, (*notes, missing_text(results))), ""])


def _lines(results: Results) -> Iterator[list[Any]]:
    for arm in results.arms:
        gain = results.gain(arm.name)
        metrics = [getattr(arm.mean, name) for name in METRICS]
        spread = arm.spread.overall if arm.spread is not None else None
        head = [arm.name, arm.recipe, arm.leaky, len(arm.seeds), arm.real_images, arm.synthetic_images]
        yield [*head, *metrics, spread, *(_gain(gain))]


def _gain(found: Difference | None) -> list[Any]:
    if found is None:
        return [None] * len(_GAIN)
    return [found.baseline, found.mean, found.low, found.high, found.p, found.verdict]
