"""The table of a run, a sweep or a comparison for elsewhere: CSV, Markdown, LaTeX.

CSV has every number as it is measured (shares); Markdown and LaTeX have percent and points with one decimal.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from augcond.evaluation.differences import METRICS, Difference, MetricName
from augcond.evaluation.results import share_text
from augcond.evaluation.verdicts import how_judged, in_words, missing_text

if TYPE_CHECKING:
    from augcond.evaluation.results import ArmResult, Results

_HEAD = ("arm", "recipe", "leaky", "seeds", "real images", "synthetic images")
_SETUP = ("loss", "counts", "steps", "batch size", "synthetic share", "overrides")
_GAIN = ("baseline", "gain", "gain low", "gain high", "p", "verdict")
_SHOWN: tuple[MetricName, ...] = ("overall", "class_mean", "many", "medium", "few")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def table_files(results: Results, stem: str = "results") -> dict[str, str]:
    """Return the tables of `results` as texts, by the name of the file that each belongs to."""
    return {
        f"{stem}.csv": to_csv(results),
        f"{stem}.md": to_markdown(results),
        f"{stem}.tex": to_latex(results),
        f"{stem}-differences.csv": differences_csv(results),
        f"{stem}-seeds.csv": seeds_csv(results),
    }


def swept_keys(results: Results) -> list[str]:
    """Return the keys that a sweep set for its arms, in the order in which they come; none of a run."""
    return list(dict.fromkeys(key for arm in results.arms for key in arm.settings))


def to_csv(results: Results) -> str:
    """Return one line per arm, with a column per swept key; accuracies as shares."""
    keys = swept_keys(results)
    spreads = [f"spread of {name}" for name in METRICS]
    titles = [*_HEAD, *keys, *METRICS, *spreads, *_GAIN, *_SETUP]
    return _csv([titles, *(_line(results, arm, keys) for arm in results.arms)])


def _line(results: Results, arm: ArmResult, keys: list[str]) -> list[Any]:
    head = [arm.name, arm.recipe, arm.leaky, len(arm.seeds), arm.real_images, arm.synthetic_images]
    swept = [plain(arm.settings[key]) if key in arm.settings else None for key in keys]
    means = [getattr(arm.mean, name) for name in METRICS]
    spreads = [getattr(arm.spread, name) if arm.spread is not None else None for name in METRICS]
    return [*head, *swept, *means, *spreads, *_gain(results.gain(arm.name)), *_setup(arm)]


def _gain(found: Difference | None) -> list[Any]:
    if found is None:
        return [None] * len(_GAIN)
    return [found.baseline, found.mean, found.low, found.high, found.p, found.verdict]


def _setup(arm: ArmResult) -> list[Any]:
    about = arm.setup
    if about is None:
        return [None, None, arm.steps, None, None, None]
    overrides = "; ".join(about.overrides)
    return [about.loss, about.counts, arm.steps, about.batch_size, about.synthetic_share, overrides]


def plain(value: Any) -> str:
    """Return the value of a swept key as it is written on a command line."""
    return value if isinstance(value, str) else json.dumps(value)


def differences_csv(results: Results) -> str:
    """Return one line per comparison: every metric, every baseline, every interval; as shares."""
    head = ("arm", "baseline", "metric", "difference", "low", "high", "p", "verdict", "compared together", "seeds")
    lines = (
        [one.arm, one.baseline, one.metric, one.mean, one.low, one.high, one.p, one.verdict, one.family, one.seeds]
        for one in results.differences
    )
    return _csv([head, *lines])


def seeds_csv(results: Results) -> str:
    """Return one line per model: its seeds and its metrics, as shares."""
    head = ("arm", "split seed", "generation seed", "training seed", *METRICS)
    lines = (
        [arm.name, seed.seeds.split, seed.seeds.generation, seed.seeds.training]
        + [getattr(seed.metrics, name) for name in METRICS]
        for arm in results.arms
        for seed in arm.seeds
    )
    return _csv([head, *lines])


def _csv(lines: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def to_markdown(results: Results) -> str:
    """Return one line per arm, with a column per swept key; accuracies in percent."""
    keys = swept_keys(results)
    titles = ["arm", *keys, "seeds", "synthetic"]
    titles += [*(name.replace("_", " ") for name in _SHOWN), "gain on overall (95 %)", "verdict"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for arm in results.arms:
        gain = results.gain(arm.name)
        cells = [share_text(getattr(arm.mean, name), getattr(arm.spread, name, None)) for name in _SHOWN]
        told = [gain.text, in_words(gain)] if gain else ["", ""]
        name = f"{arm.name} (leaky)" if arm.leaky else arm.name
        swept = [plain(arm.settings[key]) if key in arm.settings else "" for key in keys]
        row = [name, *swept, str(len(arm.seeds)), str(arm.synthetic_images), *cells, *told]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join([*lines, "", *_notes(results), ""])


def _notes(results: Results) -> Iterator[str]:
    yield f"Percent of {results.test_images} {results.on} images by {results.model}."
    yield from filter(None, (how_judged(results), missing_text(results)))


def to_latex(results: Results) -> str:
    """Return a table in LaTeX that needs `booktabs` alone: one line per arm, gains with intervals.

    Accuracies are bold only where the arm's gain in overall accuracy is decided.
    """
    keys, metrics = swept_keys(results), [name for name in _SHOWN if any(_has(arm, name) for arm in results.arms)]
    titles = ["arm", *keys, "seeds", *(name.replace("_", " ") for name in metrics)]
    columns = "l" * (1 + len(keys)) + "r" * (1 + len(metrics)) + "rll"
    lines = [
        "% Needs \\usepackage{booktabs}.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(results)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join([*map(latex, titles), "gain", r"95\,\% interval", "verdict"]) + r" \\",
        r"\midrule",
        *(_latex_line(results, arm, keys, metrics) for arm in results.arms),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _has(arm: ArmResult, name: MetricName) -> bool:
    return getattr(arm.mean, name) is not None


def _caption(results: Results) -> str:
    said = (
        f"Accuracy in percent of {results.test_images} real {results.on} images by {results.model}, mean and standard "
        "deviation over seeds; gains in points of overall accuracy with their own 95 % intervals. Bold: decided."
    )
    texts = [said, how_judged(results), missing_text(results)]
    if results.leaky:
        texts.append("The protocol is leaky.")
    return latex(" ".join(filter(None, texts)))


def _latex_line(results: Results, arm: ArmResult, keys: list[str], metrics: list[MetricName]) -> str:
    gain = results.gain(arm.name)
    decided = gain is not None and gain.verdict == "gain"
    cells = [latex(f"{arm.name} (leaky)" if arm.leaky else arm.name)]
    cells += [latex(plain(arm.settings[key])) if key in arm.settings else "" for key in keys]
    cells.append(str(len(arm.seeds)))
    for name in metrics:
        mean, spread = getattr(arm.mean, name), getattr(arm.spread, name, None)
        text = "--" if mean is None else f"{100 * mean:.1f}"
        if decided and name == "overall":
            text = rf"\textbf{{{text}}}"
        cells.append(text if spread is None or mean is None else rf"{text} $\pm$ {100 * spread:.1f}")
    return " & ".join([*cells, *_latex_gain(gain)]) + r" \\"


def _latex_gain(gain: Difference | None) -> list[str]:
    if gain is None:
        return ["--", "", ""]
    interval = "--"
    if gain.low is not None and gain.high is not None:
        interval = f"$[{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]$"
    return [f"${100 * gain.mean:+.1f}$", interval, latex(in_words(gain))]


def latex(text: str) -> str:
    """Return `text` with what LaTeX would take for a command escaped."""
    return "".join(_LATEX.get(character, character) for character in text)
