"""Make docs/results.md and its figures from the records of `python -m benchmarks.evidence`; no number is typed by hand.

    python -m benchmarks.evidence.page
    python -m benchmarks.evidence.page --results FOLDER --docs FOLDER

Whatever is not measured yet is written down as such.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evidence import figures, tables
from benchmarks.evidence.campaign import Campaign
from benchmarks.evidence.measured import Measured, Row, compared, read_measured
from benchmarks.evidence.records import unpack_labels
from benchmarks.evidence.settings import FULL, REAL_STRONG, SELECTION_SEED, STAND_IN, UNNAMED_PROMPT, Scale
from benchmarks.evidence.verdict import expectations

from augcond.evaluation.results import Difference
from augcond.evaluation.verdicts import FEW_SEEDS
from augcond.files import write_atomically

REPOSITORY = Path(__file__).parents[2]
COMMAND = "`python -m benchmarks.evidence.page`"


def main(arguments: Sequence[str] | None = None, scale: Scale = FULL) -> int:
    """Write the page, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence.page")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "benchmarks" / "results" / "evidence")
    parser.add_argument("--docs", type=Path, default=REPOSITORY / "docs")
    parser.add_argument("--readme", type=Path, default=REPOSITORY / "README.md", help="gets the short table")
    options = parser.parse_args(arguments)
    try:
        measured = read_measured(options.results)
        check_current(measured, scale, options.results)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    options.docs.mkdir(parents=True, exist_ok=True)
    text = page(measured, scale, options.docs)
    write_atomically(options.docs / "results.md", text.encode())
    if options.readme.exists():
        write_atomically(options.readme, with_summary(options.readme.read_text(encoding="utf-8"), measured).encode())
    sys.stdout.write(f"{options.docs / 'results.md'} from {len(measured.records)} records\n")
    return 0


def check_current(measured: Measured, scale: Scale, results: Path) -> None:
    """Refuse records that were measured with other settings than the campaign has now, what tuning chose among them.

    Raises:
        ValueError: naming the first of them.
    """
    revision = measured.records[0]["generator"]["revision"]
    campaign = Campaign(scale, results, results, revision, max(map(scale.measured_seeds, scale.seeds)))
    wanted = {unit.name: unit.fingerprint for unit in campaign.measurable()}
    stale = [record["unit"] for record in measured.records if wanted.get(record["unit"]) != record["fingerprint"]]
    if stale:
        raise ValueError(
            f"{len(stale)} records were measured with other settings than python -m benchmarks.evidence has now, such "
            f"as {stale[0]}: measure on, or delete them"
        )


def with_summary(readme: str, measured: Measured) -> str:
    """Return a README with the short table between its markers; without markers, the README itself."""
    before, start, rest = readme.partition("<!-- results -->")
    _, end, after = rest.partition("<!-- end of results -->")
    return (
        f"{before}{start}\n{tables.summary(measured)}\n\n{tables.headline_words(measured)}\n{end}{after}"
        if end
        else readme
    )


def page(measured: Measured, scale: Scale, docs: Path) -> str:
    """Return the page; its figures are written under `docs`."""
    pictures = docs / "img" / "results"
    drawn = {
        "long-tail": figures.save_long_tail(measured, scale, pictures / "long-tail.svg"),
        "few-shot": figures.save_few_shot(measured, scale, "few-shot", pictures / "few-shot.svg"),
        "published": figures.save_few_shot(measured, scale, "published", pictures / "published.svg"),
        "guidance": figures.save_gains(_guidance(measured), "guidance scale", pictures / "guidance.svg"),
        "amount": figures.save_gains(_amounts(measured), "synthetic images per class", pictures / "amount.svg"),
    }

    def figure(name: str, caption: str) -> list[str]:
        if not drawn[name]:
            return []
        return [f"![{caption}](img/results/{name}.svg)", "", COMMAND, ""]

    parts = [
        *_head(measured),
        "## How to read it",
        "",
        "Differences are in points of accuracy, with their 95 % intervals over seeds and test images "
        "([how](protocols.md#what-is-reported)); from two seeds there is none, and what each gained is printed. "
        "**Bold** is decided: not zero at 5 %, corrected (Holm) for the comparisons of its column, or of its line "
        "where a table compares along lines. Everything else is undecided, which is not the same as equal. Columns and "
        f"tables are not corrected for each other. A † is a verdict from fewer than {FEW_SEEDS} seeds: others may well "
        "say otherwise. "
        "Of all this the first table holds what was asked; the rest is exploratory.",
        "",
        "## The rows that were asked about",
        "",
        f"The long tail below, for the rows that are measured with up to {scale.headline_seeds} seeds. They were named "
        f"when seeds 0 to {scale.seeds['long-tail'] - 1} were there, so the later seeds alone are the cleaner answer. "
        f"Differences are against `{REAL_STRONG}`, corrected for the rows of this table.",
        "",
        tables.headline(measured, scale),
        "",
        tables.headline_words(measured),
        "",
        "## Long tail",
        "",
        f"From {scale.head} to {max(1, round(scale.head / scale.imbalance))} real images per class, filled to "
        f"{scale.head}; {scale.steps['long-tail']} steps for every row. Each seed draws which classes are large and "
        "which small, their real images, and what is generated from these, and trains from other weights. Percent of "
        "the test images, mean ± standard deviation over seeds; as seeds differ in which classes are small, much of "
        "that spread is common to all rows, and the differences are what to look at: they are paired over seeds and "
        "test images, with 95 % intervals, over the seeds that both rows have. Rows ending in `-effective` use "
        "Balanced Softmax with the counts that batches show, all other rows with synthetic images with the counts of "
        "the real ones. The ceiling has unused real images in place of the synthetic ones, and, as its classes are "
        "then equally large, the counts that batches show.",
        "",
        tables.long_tail(measured, scale),
        "",
        *figure("long-tail", "Gain of every row over real-strong"),
        "### What the method promises",
        "",
        *expectations(measured, scale),
        "",
        "### What we make of it",
        "",
        (Path(__file__).parent / "discussion.md").read_text(encoding="utf-8").strip(),
        "",
        "## Screening",
        "",
        "The same generated images, with and without those that a judge places in another class. Its threshold comes "
        "from real validation images.",
        "",
        tables.screening(measured),
        "",
        "## Few shot",
        "",
        f"k real images per class, {scale.few_per_class} synthetic ones conditioned on those alone; "
        f"{scale.steps['few-shot']} steps for every row. Another subset for every seed.",
        "",
        tables.few_shot(measured, scale, "few-shot"),
        "",
        tables.few_shot_gains(measured, scale),
        "",
        *figure("few-shot", "Accuracy over k"),
        "## The published protocol, beside ours",
        "",
        "The same recipes, networks and steps, with the four leaks of the published scripts (see "
        "[protocols](protocols.md)). **Leaky: these are no results, they show what the leaks do.** They are judged on "
        "other images than ours, so there are no paired intervals.",
        "",
        tables.few_shot(measured, scale, "published"),
        "",
        "How much of a curve is left: accuracy at the ends, and the rise between them.",
        "",
        tables.flatness(measured, scale),
        "",
        *figure("published", "Accuracy over k by the published protocol (leaky)"),
        "One leak at a time:",
        "",
        tables.single_leaks(measured),
        "",
        "## Prompts that do not name the class",
        "",
        f'The same runs with the prompt "{UNNAMED_PROMPT}" for every class, as if the generator did not know the '
        "classes by name: what is left of a class comes from the real images. The column `class named` is over those "
        "of these seeds that were measured with names too. On the long tail:",
        "",
        tables.unnamed_long_tail(measured, scale),
        "",
        "Few shot:",
        "",
        tables.unnamed_few_shot(measured, scale),
        "",
        "## A gentler crop before pixel mixing",
        "",
        "Recipes that mix pixels crop their sources at random first, to 8 to 100 % of the area as in the paper. The "
        "same long tail with a crop that keeps more:",
        "",
        tables.crops(measured),
        "",
        "## Guidance",
        "",
        tables.guidance(measured),
        "",
        *figure("guidance", "Gain over guidance"),
        "## Number of synthetic images",
        "",
        f"Synthetic images per class, beside the long tail; column 0 is `{REAL_STRONG}`.",
        "",
        tables.amounts(measured, scale),
        "",
        *figure("amount", "Gain over the number of synthetic images"),
        "## Longer trainings",
        "",
        "The same rows of the long tail, trained for more steps with nothing else changed.",
        "",
        tables.longer(measured, scale),
        "",
        "## How the rows were tuned",
        "",
        "Every tuned row was tried with the same number of settings, in three rounds (how training images are "
        f"augmented; its own knob; learning rate), each from the best so far, with the split and the "
        f"images of seed {SELECTION_SEED}, which no other table uses, on validation images. "
        "`real-weak` is not tuned. "
        f"The image recipes take what was found for `{STAND_IN}`. What was better than all before it is bold, and "
        "the last of these is what is measured; one seed decides, so near ties are chance.",
        "",
        tables.tuning(measured),
        "",
        "## Published numbers",
        "",
        *_published(),
    ]
    return "\n".join(parts)


def _head(measured: Measured) -> list[str]:
    first = measured.records[0]
    versions: dict[str, set[str]] = {}
    for record in measured.records:
        for name, value in record["versions"].items():
            versions.setdefault(name, set()).add(value)
    listed = ", ".join(f"{name} {' and '.join(sorted(values))}" for name, values in sorted(versions.items()))
    generator = first["generator"]
    seconds = sum(sum(record["seconds"].values()) for record in measured.records)
    judged = sorted({len(unpack_labels(record["test"]["labels"])) for record in measured.records if "test" in record})
    failed = sum(record["images"]["failed"] for record in measured.records)
    return [
        "# Results",
        "",
        f"Made by {COMMAND} from the {len(measured.records)} records in `benchmarks/results/evidence`, which "
        "`python -m benchmarks.evidence` measures; nothing here is typed by hand. All of it is on the built-in world "
        "([what that is](world.md)): it says nothing about your images.",
        "",
        f"Generator `{generator['name']}:{generator['model']}`, revision `{generator['revision']}`. "
        f"{listed}. {seconds / 3600:.1f} hours of wall-clock time; {failed} images failed. "
        f"{' and '.join(f'{count:,}' for count in judged)} test images, each judged once.",
        "",
    ]


_Gains = dict[str, list[tuple[float, Difference]]]


def _guidance(measured: Measured) -> _Gains:
    return _gains(measured, [(row.arm, tables.guidance_of(row), row) for row in measured.rows("guidance/")])


def _amounts(measured: Measured) -> _Gains:
    rows = measured.rows("amount/")
    return _gains(
        measured, [(row.table.removeprefix("amount/"), float(row.arm.rpartition("-")[2]), row) for row in rows]
    )


def _gains(measured: Measured, rows: Sequence[tuple[str, float, Row]]) -> _Gains:
    """Return what rows gain over real images alone: by recipe, in the order of where they lie on an axis."""
    strong = measured.row(f"long-tail/{REAL_STRONG}", REAL_STRONG)
    gains: _Gains = {}
    ordered = sorted(rows, key=lambda found: found[:2])
    for (recipe, at, _), gain in zip(ordered, compared([(row, strong) for *_, row in ordered]), strict=True):
        if gain is not None:
            gains.setdefault(recipe, []).append((at, gain))
    return gains


def _published() -> list[str]:
    known = json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))
    shots = [f"k = {k}" for k in known["few_shot"]["shots"]]
    few = [[row["method"], row["data"], *_percent(row["accuracy"])] for row in known["few_shot"]["rows"]]
    tail = [[row["method"], *_percent(row["accuracy"])] for row in known["imagenet_lt"]["rows"]]
    return [
        known["note"],
        "",
        tables.markdown(["method", "data", *shots], few),
        "",
        tables.markdown(["ImageNet-LT, ResNet-50", *known["imagenet_lt"]["columns"]], tail),
        "",
    ]


def _percent(values: list[float | None]) -> list[str]:
    return ["-" if value is None else f"{100 * value:.1f}" for value in values]


if __name__ == "__main__":
    sys.exit(main())
