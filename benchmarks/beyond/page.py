"""Make docs/beyond.md and its figure from the records of `python -m benchmarks.beyond`; no number is typed by hand.

    python -m benchmarks.beyond --page

Whatever is not measured yet is written down as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.beyond.campaign import STEPS, Beyond
from benchmarks.beyond.figure import save_gains
from benchmarks.beyond.settings import NOT_CHOSEN, PILOTS, PROMPTLESS, Cell, Idea
from benchmarks.evidence.campaign import NotMeasured
from benchmarks.evidence.measured import GROUPS, Measured, Row, compared
from benchmarks.evidence.records import Record, read_records
from benchmarks.evidence.settings import CEILING, REAL_STRONG, UNNAMED_PROMPT
from benchmarks.evidence.tables import MISSING, accuracy, ceiling_share, gains, markdown

from augcond.evaluation.verdicts import FEW_SEEDS
from augcond.files import write_atomically

COMMAND = "`python -m benchmarks.beyond --page`"
DISCUSSION = Path(__file__).parent / "discussion.md"
"""What people make of it; the page has it where it is."""

_GOAL = 0.5
"""Share of the ceiling's gain on the long tail that was asked for."""

_KINDS = {
    "named": "Each class by its own name.",
    "unnamed": f'"{UNNAMED_PROMPT}" for every class.',
    "coarse": "Classes of a group (pullover, coat, shirt; sandal, sneaker, boot) share the group's names, one drawn "
    "per image (`benchmarks/evidence/names/coarse.tsv`).",
    "wrong-senses": "Some classes carry their own name or that of another group "
    "(`benchmarks/evidence/names/wrong-senses.tsv`).",
}


def write(beyond: Beyond, docs: Path) -> str:
    """Write the page and its figure, and return what was written.

    Raises:
        ValueError: the records do not go together, or are of other settings than the campaign has now.
    """
    records = list(read_records(beyond.results)) if beyond.results.is_dir() else []
    beyond.check_current(records)
    docs.mkdir(parents=True, exist_ok=True)
    write_atomically(docs / "beyond.md", page_of(beyond, records, docs).encode())
    return f"{docs / 'beyond.md'} from {len(records)} records"


def page_of(beyond: Beyond, records: Sequence[Record], docs: Path) -> str:
    """Return the page; its figure is written under `docs`."""
    return _Page(beyond, records, docs).text()


class _Page:
    """The page of a state of the records."""

    def __init__(self, beyond: Beyond, records: Sequence[Record], docs: Path) -> None:
        self._beyond, self._size, self._records, self._docs = beyond, beyond.size, records, docs
        self._measured = Measured(records)
        try:
            self._chosen: tuple[Idea, ...] | None = beyond.chosen()
        except NotMeasured:
            self._chosen = None

    def text(self) -> str:
        """Return the page."""
        parts = [
            "# Harder worlds, and ideas beyond the paper",
            "",
            f"Made by {COMMAND} from the records in `benchmarks/results/beyond`, which `python -m benchmarks.beyond` "
            "measures; nothing here is typed by hand. All of it is on the built-in world ([what that is](world.md)), "
            "in its protocols and with the tuning of [the evidence](results.md): it says nothing about your images.",
            "",
            *self._state(),
            *self._reading(),
            "## The ideas",
            "",
            "All are training-free, and each is a setting of augcond ([conditioning](conditioning.md), "
            "[protocols](protocols.md)). A row makes as many images as `dropout`, however many it keeps, and has as "
            "many optimiser steps; nothing of an idea is tuned: it takes what was found for the row it changes. (Rows "
            "of two recipes use half of the images of each; their runs made the other halves too, which they do not "
            "use.) `screened` rows need the 500 labelled validation images for one number, their threshold. The "
            "rows whose judge is the encoder were thought of when five seeds of the others had been seen, the last "
            "of them after seven, and `away-mild` after all. One more of these was measured and taken out: two "
            "recipes, of which half of each was to be kept, left uneven numbers (augcond refuses that now).",
            "",
            markdown(
                ["row", "changes", "how"],
                [[f"`{i.name}`", f"`{i.of}`" if i.of else "", i.about] for i in self._size.ideas],
            ),
            "",
        ]
        if not self._records:
            return "\n".join([*parts, "## What came of them", "", "Nothing is measured yet.", ""])
        parts += self._pilots()
        parts += self._probes()
        parts += self._goal()
        parts += self._final()
        parts += self._senses()
        if DISCUSSION.exists():
            parts += ["## What we make of it", "", DISCUSSION.read_text(encoding="utf-8").strip(), ""]
        return "\n".join(parts)

    def _row(self, step: str, cell: Cell, name: str) -> Row | None:
        # In the final step they are measured once for all kinds of prompts.
        if step == "final" and name in {spec.name for spec in PROMPTLESS}:
            cell = Cell("any", cell.shots)
        return self._measured.row(f"{step}/{cell.name}/{name}", name)

    # What there is

    def _state(self) -> Iterator[str]:
        size = self._size
        hours = {step: 0.0 for step in STEPS}
        done = dict.fromkeys(STEPS, 0)
        for record in self._records:
            step = record["unit"].partition("/")[0]
            done[step] += 1
            hours[step] += sum(record["seconds"].values()) / 3600
        lines = []
        for step in STEPS:
            of = str(self._beyond.planned(step)) if step != "final" or self._chosen else "open"
            lines.append([step, str(done[step]), of, f"{hours[step]:.1f}"])
        yield markdown(["step", "units measured", "of", "hours"], lines)
        yield ""
        left = [line[0] for line in lines if line[1] != line[2]]
        if left:
            yield f"**Not complete: {', '.join(left)}.** What is missing is marked; verdicts may still change."
            yield ""
        yield (
            f"Pilots: every idea on {len(PILOTS)} cells, {_count(size.pilot_seeds, 'seed')}, one training each. Final: "
            f"the {size.chosen} rows that did best on validation images (where the best images and the best training "
            "each beat what they change, both together take the last place), on all cells, "
            f"{_count(size.seeds, 'seed')} that no pilot had, a seed's value the mean of "
            f"{_count(size.trainings, 'training')}. Wrong senses: {_count(size.sense_seeds, 'seed')} of these. All "
            f"images in {size.scale.base['generator']['steps']} sampling steps."
        )
        yield ""
        if self._records:
            generator = self._records[0]["generator"]
            threads = sorted({record["machine"]["threads"] for record in self._records})
            failed = sum(record["images"]["failed"] for record in self._records)
            versions = {f"{name} {value}" for record in self._records for name, value in record["versions"].items()}
            yield (
                f"Generator `{generator['name']}:{generator['model']}`, revision `{generator['revision']}`; "
                f"{', '.join(sorted(versions))}. {sum(hours.values()):.1f} hours of wall-clock time of processes with "
                f"{' or '.join(map(str, threads))} threads; {failed} images failed."
            )
            yield ""

    def _reading(self) -> Iterator[str]:
        yield "## How to read it"
        yield ""
        yield (
            "Accuracies are percent of the test images, mean ± standard deviation over seeds; differences are in "
            "points, paired over seeds and test images, with 95 % intervals from three seeds on "
            "([how](protocols.md#what-is-reported)). **Bold** is decided: not zero at 5 %, corrected (Holm) for the "
            f"comparisons of its column. A † is a verdict from fewer than {FEW_SEEDS} seeds. Ideas were chosen on "
            "validation images. Kinds of prompts:"
        )
        yield ""
        yield from (f"- **{kind}.** {text}" for kind, text in _KINDS.items())
        yield ""

    # Tables

    def _pilots(self) -> Iterator[str]:
        yield "## Pilots"
        yield ""
        names = [idea.name for idea in self._size.ideas if idea.name not in NOT_CHOSEN]
        for cell in PILOTS:
            yield f"### {_title(cell)}"
            yield ""
            rows = [spec.name for spec in (*PROMPTLESS, *self._size.baselines)]
            yield self._against(
                "pilots", cell, [*(n for n in rows if self._row("pilots", cell, n)), *names], validation=True
            )
            yield ""
            for one, other in (("useful", "screened"), ("useful-encoder", "screened-encoder")):
                if {one, other} <= {*names}:
                    (told,) = gains([(self._row("pilots", cell, one), self._row("pilots", cell, other))])
                    yield f"`{one}` against `{other}`: {told}."
                    yield ""
        yield from self._went_on(names)

    def _went_on(self, names: Sequence[str]) -> Iterator[str]:
        if self._chosen is None:
            yield "Which ideas go on is open until all pilots are measured."
        else:
            on = self._beyond.on_validation
            told = ", ".join(f"`{idea.name}`" for idea in self._chosen)
            order = sorted(names, key=on, reverse=True)
            ranked = ", ".join(f"`{name}` {100 * on(name):.1f}" for name in order)
            baselines = ", ".join(f"`{s.name}` {100 * on(s.name):.1f}" for s in self._size.baselines)
            yield f"**Went on: {told}.** Validation accuracy, mean of both cells: {ranked}; beside them {baselines}."
        yield ""
        yield from self._nowhere(names)

    def _nowhere(self, names: Sequence[str]) -> Iterator[str]:
        """Tell what came of the ideas that did not go on."""
        ideas = {idea.name: idea for idea in self._size.ideas}
        on = {part for idea in self._chosen or () for part in idea.name.split("+")}
        lines = []
        for cell in PILOTS:
            pairs = [(self._row("pilots", cell, n), self._row("pilots", cell, ideas[n].of)) for n in names]
            for name, found in zip(names, compared(pairs), strict=True):
                if found is None or name in on:
                    continue
                verdict = {"gain": "decided above", "loss": "decided below"}.get(found.verdict, "undecided against")
                told = f"{found.text} points, {verdict} `{ideas[name].of}`"
                if found.spread is not None and not found.spread.own:
                    told = f"the same as `{ideas[name].of}`, by construction"
                lines.append(f"- `{name}`, {_title(cell).lower()}: {told}.")
        if lines and self._chosen is not None:
            yield "Led nowhere here:"
            yield ""
            yield from sorted(lines)
            yield ""

    def _probes(self) -> Iterator[str]:
        yield "## A probe on the encoder, with synthetic images"
        yield ""
        yield (
            "What a user with few images would pick is often a linear probe on a pretrained encoder. Differences are "
            "against the same probe on real images alone. All three train with what was found best for that one, on "
            "the long tail: nothing is tuned for a probe with synthetic images."
        )
        yield ""
        lines = []
        for cell in PILOTS:
            alone = self._row("pilots", cell, "probe")
            rows = [self._row("pilots", cell, name) for name in NOT_CHOSEN]
            told = gains([(row, alone) for row in rows])
            for name, row, gain in zip(NOT_CHOSEN, rows, told, strict=True):
                lines.append([_title(cell), f"`{name}`", _seeds(row), accuracy(row), "" if name == "probe" else gain])
        yield markdown(["cell", "row", "seeds", "accuracy", "against `probe`"], lines)
        yield ""

    def _goal(self) -> Iterator[str]:
        yield "## What was asked for"
        yield ""
        yield (
            f"At least one of the rows that went on has {100 * _GOAL:.0f} % of the ceiling's gain on the long tail, "
            "and is decided above `text` at each number of shots (corrected for the rows of a line): each in two of "
            "the three kinds of prompts."
        )
        yield ""
        if self._chosen is None:
            yield f"{MISSING}."
            yield ""
            return
        names = [idea.name for idea in self._chosen]
        lines = []
        for kind in self._size.kinds:
            tail = Cell(kind)
            strong, ceiling = (self._row("final", tail, name) for name in (REAL_STRONG, CEILING.name))
            shares = [ceiling_share(self._row("final", tail, name), strong, ceiling) for name in names]
            lines.append([f"long tail, {kind}: share of the ceiling's gain", *(share or MISSING for share in shares)])
        for shots in (None, *self._size.shots):
            for kind in self._size.kinds:
                cell = Cell(kind, shots)
                text = self._row("final", cell, "text")
                lines.append(
                    [f"{_title(cell)}: against `text`", *gains([(self._row("final", cell, n), text) for n in names])]
                )
        yield markdown(["", *(f"`{name}`" for name in names)], lines)
        yield ""
        yield from (f"- `{name}`: {self._reached(name)}" for name in names)
        yield ""

    def _reached(self, name: str) -> str:
        """Return in words whether a row does what was asked for."""
        shares = []
        for kind in self._size.kinds:
            rows = [self._row("final", Cell(kind), each) for each in (name, REAL_STRONG, CEILING.name)]
            means = [row.mean() if row else None for row in rows]
            if None in means:
                return f"{MISSING} on the long tail."
            own, base, top = (float(mean) for mean in means if mean is not None)
            shares.append((own - base) / (top - base) if top > base else 0.0)
        held = []
        for shots in self._size.shots:
            above = 0
            for kind in self._size.kinds:
                cell = Cell(kind, shots)
                text = self._row("final", cell, "text")
                names = [idea.name for idea in self._chosen or ()]
                found = compared([(self._row("final", cell, each), text) for each in names])[names.index(name)]
                if found is None:
                    return f"{MISSING} at {_count(shots, 'shot')}."
                above += found.verdict == "gain"
            held.append(above)
        asked = min(2, len(self._size.kinds))
        reached = sum(share >= _GOAL for share in shares) >= asked and all(above >= asked for above in held)
        tail = ", ".join(f"{100 * s:.0f} % {kind}" for s, kind in zip(shares, self._size.kinds, strict=True))
        few = ", ".join(f"{above} at k = {k}" for above, k in zip(held, self._size.shots, strict=True))
        return (
            f"{'reached' if reached else 'not reached'}: long tail {tail}; kinds of prompts in which it is decided "
            f"above `text`: {few}."
        )

    def _final(self) -> Iterator[str]:
        yield "## All cells"
        yield ""
        if self._chosen is None:
            yield f"{MISSING}: the pilots decide what is."
            yield ""
            return
        names = [spec.name for spec in self._size.baselines] + [idea.name for idea in self._chosen]
        for shots in (None, *self._size.shots):
            for kind in self._size.kinds:
                cell = Cell(kind, shots)
                yield f"### {_title(cell)}"
                yield ""
                fixed = [spec.name for spec in PROMPTLESS if shots is None or spec is not CEILING]
                yield self._against("final", cell, [*fixed, *names])
                yield ""
        cells = [Cell(kind, shots) for shots in (None, *self._size.shots) for kind in self._size.kinds]
        told = [name for name in names if name != "text"]
        lines = {}
        for cell in cells:
            text = self._row("final", cell, "text")
            lines[_title(cell)] = dict(
                zip(told, compared([(self._row("final", cell, n), text) for n in told]), strict=True)
            )
        if save_gains(lines, self._docs / "img" / "beyond" / "gains.svg"):
            yield "![Gain of every row over `text`, by cell](img/beyond/gains.svg)"
            yield ""
            yield COMMAND
            yield ""

    def _senses(self) -> Iterator[str]:
        yield "## Words with two senses"
        yield ""
        yield f"{_KINDS['wrong-senses']} Expected of the method: image recipes above `text`."
        yield ""
        names = [spec.name for spec in self._size.baselines]
        for shots in (None, *self._size.shots):
            cell = Cell("wrong-senses", shots)
            yield f"### {_title(cell)}"
            yield ""
            rows = [self._row("senses", cell, name) for name in names]
            told = gains([(row, rows[0]) for row in rows])
            kinds = [kind for kind in ("named", "unnamed") if kind in self._size.kinds]
            lines = []
            for name, row, gain in zip(names, rows, told, strict=True):
                beside = [self._row("final", Cell(kind, shots), name) for kind in kinds]
                same = [other.at(row) if other is not None and row is not None else None for other in beside]
                told_of = [accuracy(other if other is not None and other.seeds else None) for other in same]
                lines.append([f"`{name}`", _seeds(row), accuracy(row), "" if name == "text" else gain, *told_of])
            yield markdown(["row", "seeds", "accuracy", "against `text`", *(f"{k}, same seeds" for k in kinds)], lines)
            yield ""

    def _against(self, step: str, cell: Cell, names: Sequence[str], *, validation: bool = False) -> str:
        """Return the table of a cell: each row beside `text`, real images alone, and the row that it changes."""
        rows = [self._row(step, cell, name) for name in names]
        strong, ceiling = (self._row(step, cell, name) for name in (REAL_STRONG, CEILING.name))
        text, dropout = (self._row(step, cell, name) for name in ("text", "dropout"))
        columns = [gains([(row, base) for row in rows]) for base in (strong, text, dropout)]
        titles = ["row", "seeds", "overall"]
        groups = GROUPS[1:] if cell.shots is None else ()
        titles += [*groups, *(["validation"] if validation else [])]
        titles += ["share of the ceiling's gain"] if cell.shots is None else []
        titles += [f"against `{name}`" for name in (REAL_STRONG, "text", "dropout")]
        lines = []
        for name, row, *told in zip(names, rows, *columns, strict=True):
            cells = [
                f"`{name}`",
                _seeds(row),
                accuracy(row),
                *(accuracy(row, group) if row else "" for group in groups),
            ]
            cells += [accuracy(row, part="validation") if row else ""] if validation else []
            cells += [ceiling_share(row, strong, ceiling)] if cell.shots is None else []
            lines.append([*cells, *(told if row else [""] * len(told))])
        return markdown(titles, lines)


def _seeds(row: Row | None) -> str:
    return str(row.seeds) if row else "0"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _title(cell: Cell) -> str:
    where = "Long tail" if cell.shots is None else f"k = {cell.shots}"
    return f"{where}, {cell.kind.replace('-', ' ')}"
