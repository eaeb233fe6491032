"""The tables of docs/results.md, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.evidence.measured import GROUPS, Measured, Pair, Row, compared
from benchmarks.evidence.settings import (
    BOTH_COUNTS,
    CEILING,
    FEW_SHOT_REAL,
    HEADLINE,
    IMAGE_RECIPES,
    LONG_TAIL_REAL,
    OPTIMISER,
    RANDAUGMENT,
    REAL_STRONG,
    ROUNDS,
    SCREENS,
    STAND_IN,
    Scale,
    tuned_spec,
)

from augcond.evaluation.results import Difference
from augcond.evaluation.verdicts import FEW_SEEDS

MISSING = "not measured yet"


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = ["| " + " | ".join(titles) + " |", "| " + " | ".join(["---"] * len(titles)) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def accuracy(row: Row | None, metric: str = "overall", part: str = "test") -> str:
    """Return mean and spread in percent."""
    mean = row.mean(metric, part) if row else None
    if row is None or mean is None:
        return MISSING if row is None else "-"
    spread = row.spread(metric, part)
    return f"{100 * mean:.1f}" + (f" ± {100 * spread:.1f}" if spread is not None else "")


def gains(pairs: Sequence[Pair], metric: str = "overall") -> list[str]:
    """Return the paired differences of rows that stand together: in points, with intervals, bold where decided."""
    return [_gain(found, *pair) for found, pair in zip(compared(pairs, metric), pairs, strict=True)]


def _gain(found: Difference | None, row: Row | None, baseline: Row | None) -> str:
    if found is None:
        return MISSING if row is None or baseline is None else "-"
    if found.verdict not in ("gain", "loss"):
        return found.text
    return f"**{found.text}**" + ("" if found.seeds >= FEW_SEEDS else " †")


def beside(row: Row | None, other: Row) -> str:
    """Return mean and spread of `row` over the seeds of `other`, to stand beside it."""
    return accuracy(row.at(other) if row else None)


def long_tail(measured: Measured, scale: Scale) -> str:
    """Return the table of the long tail; shares and differences are over the seeds that both rows have."""
    strong, text = (measured.row(f"long-tail/{name}", name) for name in (REAL_STRONG, "text"))
    ceiling = measured.row(f"long-tail/{CEILING.name}", CEILING.name)
    named = long_tail_rows(scale)
    rows = [measured.row(f"long-tail/{table}", arm) for table, arm in named]
    lines = []
    columns = [gains([(row, baseline) for row in rows]) for baseline in (strong, text)]
    for (_, arm), row, *told in zip(named, rows, *columns, strict=True):
        cells = [accuracy(row, metric) if row else "" for metric in GROUPS]
        if row is None:
            cells[0] = MISSING
        share = ceiling_share(row, strong, ceiling)
        lines.append([f"`{arm}`", str(row.seeds) if row else "0", *cells, share, *(told if row else ["", ""])])
    titles = ["row", "seeds", *GROUPS, "share of the ceiling's gain", "against `real-strong`", "against `text`"]
    return markdown(titles, lines)


def headline(measured: Measured, scale: Scale) -> str:
    """Return the rows with most seeds against real images alone: all seeds, the few classes, later seeds alone."""
    strong = measured.row(f"long-tail/{REAL_STRONG}", REAL_STRONG)
    names = [name for name in HEADLINE if name != REAL_STRONG]
    rows = [measured.row(f"long-tail/{name}", name) for name in names]
    first = scale.seeds["long-tail"]
    later = [row.since(first) if row else None for row in (strong, *rows)]
    columns = [gains([(row, strong) for row in rows], metric) for metric in ("overall", "few")]
    columns.append(gains([(row, later[0]) for row in later[1:]]))
    lines = [
        [f"`{name}`", str(row.seeds) if row else "0", accuracy(row), *told]
        for name, row, *told in zip(names, rows, *columns, strict=True)
    ]
    titles = ["row", "seeds", "overall", "difference", "on the few classes", f"seeds from {first} on alone"]
    return markdown(titles, lines)


def headline_words(measured: Measured) -> str:
    """Return what is decided of the rows with most seeds, over all classes and on those with few images."""
    strong = measured.row(f"long-tail/{REAL_STRONG}", REAL_STRONG)
    names = [name for name in HEADLINE if name != REAL_STRONG]
    pairs = [(measured.row(f"long-tail/{name}", name), strong) for name in names]
    sentences = []
    for metric, where in (("overall", "over all classes"), ("few", "on the classes with few images")):
        told: dict[str, list[str]] = {}
        for name, found in zip(names, compared(pairs, metric), strict=True):
            if found is not None:
                seeds = f"{found.seeds} seeds"
                told.setdefault(found.verdict, []).append(f"`{name}` ({100 * found.mean:+.1f}, {seeds})")
        above, below = (", ".join(told.get(kind, ["none"])) for kind in ("gain", "loss"))
        sentence = f"Long tail, {where}: decided above `{REAL_STRONG}`: {above}"
        if below != "none":
            sentence += f"; below: {below}"
        if "undecided" in told:
            sentence += f"; undecided: {', '.join(told['undecided'])}"
        sentences.append(f"{sentence}.")
    return " ".join(sentences)


def summary(measured: Measured) -> str:
    """Return the short table: the long tail, and few-shot at k = 4, for the rows that both have."""
    lines = []
    for name in (REAL_STRONG, RANDAUGMENT.name, "text", "image", STAND_IN, CEILING.name):
        tail, few = measured.row(f"long-tail/{name}", name), measured.row(f"few-shot/{name}-k4", name)
        seeds = " / ".join(str(row.seeds) if row else "-" for row in (tail, few))
        cells = [accuracy(tail), accuracy(tail, "few"), accuracy(few) if few else "-"]
        lines.append([f"`{name}`", seeds, *cells])
    return markdown(["row", "seeds", "long tail", "its few classes", "4 images a class"], lines)


def long_tail_rows(scale: Scale) -> list[tuple[str, str]]:
    """Return table and arm of every row of the long tail, in order."""
    rows = [(spec.name, spec.name) for spec in LONG_TAIL_REAL]
    for name in ("text", "real-guidance", *scale.recipes, CEILING.name):
        rows += [(name, name), (name, f"{name}-effective")] if name in BOTH_COUNTS else [(name, name)]
    return rows


def ceiling_share(row: Row | None, strong: Row | None, ceiling: Row | None) -> str:
    """Return which share of the ceiling's gain over real images alone a row has, over the seeds that it has."""
    if row is None or row is strong:
        return ""
    means = [found.at(row).mean() if found else None for found in (row, strong, ceiling)]
    if any(mean is None for mean in means):
        return ""
    own, base, top = (float(mean) for mean in means if mean is not None)
    return f"{100 * (own - base) / (top - base):.0f} %" if top > base else "no gain to share"


def screening(measured: Measured) -> str:
    """Return the table of screening on and off."""
    rows = sorted(measured.rows("screening/"), key=lambda row: row.table)
    pairs = [(row, measured.row(f"long-tail/{row.arm}", row.arm)) for row in rows]
    lines = []
    for (row, plain), told in zip(pairs, gains(pairs), strict=True):
        dropped = [model["screened_out"] for model in row.models]
        planned = [model["screened_out"] + model["synthetic_images"] for model in row.models]
        judge = next(judge for judge in SCREENS if row.table.endswith(f"-{judge}"))
        share = f"{100 * sum(dropped) / max(1, sum(planned)):.0f} %"
        lines.append([f"`{row.arm}`", judge, str(row.seeds), share, beside(plain, row), accuracy(row), told])
    titles = ["recipe", "judge", "seeds", "dropped", "off", "on", "on against off"]
    return markdown(titles, lines) if lines else MISSING


def few_shot(measured: Measured, scale: Scale, start: str) -> str:
    """Return the table of `few-shot` or `published`, one column per k."""
    names = few_shot_rows(measured, start)
    lines = []
    for name in names:
        rows = [measured.row(f"{start}/{name}-k{shots}", name) for shots in scale.shots]
        seeds = sorted({row.seeds for row in rows if row})
        label = f"`{name}`" + (" (leaky)" if any(row and row.leaky for row in rows) else "")
        lines.append([label, "-".join(map(str, seeds)) or "0", *(accuracy(row) for row in rows)])
    return markdown(["row", "seeds", *(f"k = {shots}" for shots in scale.shots)], lines) if lines else MISSING


def few_shot_rows(measured: Measured, start: str) -> list[str]:
    """Return the names of the rows, in the order of the long tail's."""
    found = {row.arm for row in measured.rows(f"{start}/")}
    order = (*(spec.name for spec in FEW_SHOT_REAL), "text", "real-guidance", *IMAGE_RECIPES)
    return [name for name in order if name in found]


def few_shot_gains(measured: Measured, scale: Scale) -> str:
    """Return the paired differences of the few-shot rows."""
    names = [name for name in few_shot_rows(measured, "few-shot") if name != REAL_STRONG]
    lines = []
    for baseline in (REAL_STRONG, "text"):
        shown = [name for name in names if name != baseline]
        columns = []
        for k in scale.shots:
            other = measured.row(f"few-shot/{baseline}-k{k}", baseline)
            columns.append(gains([(measured.row(f"few-shot/{name}-k{k}", name), other) for name in shown]))
        told = zip(*columns, strict=True)
        lines += [[f"`{name}`", f"`{baseline}`", *cells] for name, cells in zip(shown, told, strict=True)]
    return markdown(["row", "against", *(f"k = {shots}" for shots in scale.shots)], lines) if lines else MISSING


def flatness(measured: Measured, scale: Scale) -> str:
    """Return how much of a curve is there at the smallest k, ours beside the published protocol."""
    low, high = min(scale.shots), max(scale.shots)
    lines = []
    for name in few_shot_rows(measured, "published"):
        cells = [f"`{name}`"]
        for start in ("few-shot", "published"):
            ends = [measured.row(f"{start}/{name}-k{k}", name) for k in (low, high)]
            means = [row.mean() if row else None for row in ends]
            cells += [accuracy(row) for row in ends]
            known = [mean for mean in means if mean is not None]
            cells.append(f"{100 * (known[1] - known[0]):+.1f}" if len(known) == 2 else MISSING)
        lines.append(cells)
    titles = ["row"] + [f"{who}, {what}" for who in ("ours", "leaky") for what in (f"k = {low}", f"k = {high}", "rise")]
    return markdown(titles, lines) if lines else MISSING


def single_leaks(measured: Measured) -> str:
    """Return what each leak is worth alone."""
    lines = []
    for row in measured.rows("leak/"):
        name, _, shots = row.table.removeprefix("leak/").rpartition("-k")
        honest = measured.row(f"few-shot/image-k{shots}", "image")
        lines.append([f"{name} (leaky)", shots, str(row.seeds), beside(honest, row), accuracy(row)])
    return markdown(["leak", "k", "seeds", "`image` without", "`image` with"], lines) if lines else MISSING


def unnamed_few_shot(measured: Measured, scale: Scale) -> str:
    """Return what few-shot recipes are worth with prompts that do not name the class."""
    lines = []
    for shots in scale.shots:
        strong = measured.row(f"few-shot/{REAL_STRONG}-k{shots}", REAL_STRONG)
        text = measured.row(f"unnamed/text-k{shots}", "text")
        names = few_shot_rows(measured, "few-shot")
        rows = [row for name in names if (row := measured.row(f"unnamed/{name}-k{shots}", name))]
        columns = [gains([(row, baseline) for row in rows]) for baseline in (strong, text)]
        for row, *told in zip(rows, *columns, strict=True):
            named = measured.row(f"few-shot/{row.arm}-k{shots}", row.arm)
            lines.append([f"`{row.arm}`", str(shots), str(row.seeds), beside(named, row), accuracy(row), *told])
    titles = ["recipe", "k", "seeds", "class named", "not named", f"against `{REAL_STRONG}`"]
    return markdown([*titles, "against `text`, not named"], lines) if lines else MISSING


def unnamed_long_tail(measured: Measured, scale: Scale) -> str:
    """Return what the recipes are worth on the long tail with prompts that do not name the class."""
    strong = measured.row(f"long-tail/{REAL_STRONG}", REAL_STRONG)
    text = measured.row("unnamed/text-long-tail", "text")
    names = ("text", *scale.recipes)
    rows = [row for name in names if (row := measured.row(f"unnamed/{name}-long-tail", name))]
    columns = [gains([(row, strong) for row in rows])]
    columns += [gains([(row, text) for row in rows], metric) for metric in ("overall", "medium", "few")]
    lines = [
        [
            *(f"`{row.arm}`", str(row.seeds), beside(measured.row(f"long-tail/{row.arm}", row.arm), row)),
            *(accuracy(row), *told),
        ]
        for row, *told in zip(rows, *columns, strict=True)
    ]
    titles = ["recipe", "seeds", "class named", "not named", f"against `{REAL_STRONG}`"]
    against = ("against `text`, not named", "on the medium classes", "on the few classes")
    return markdown([*titles, *against], lines) if lines else MISSING


def crops(measured: Measured) -> str:
    """Return what a gentler crop before pixel mixing does."""
    rows = sorted(measured.rows("crop/"), key=lambda row: row.table)
    pairs = [(row, measured.row(f"long-tail/{row.arm}", row.arm)) for row in rows]
    lines = []
    for (row, plain), *told in zip(pairs, gains(pairs), gains(pairs, "few"), strict=True):
        lowest = next(iter(row.records.values()))["config"]["conditioning"]["crop_scale"][0]
        lines.append([f"`{row.arm}`", f"{100 * lowest:g} %", str(row.seeds), beside(plain, row), accuracy(row), *told])
    titles = ["recipe", "at least", "seeds", "default crop", "gentler crop", "difference", "on the few classes"]
    return markdown(titles, lines) if lines else MISSING


def guidance(measured: Measured) -> str:
    """Return the table of guidance."""
    rows, strong = guidance_rows(measured), measured.row(f"long-tail/{REAL_STRONG}", REAL_STRONG)
    lines = [
        [
            *(f"`{row.arm}`", f"{guidance_of(row):g}", str(row.seeds)),
            *(accuracy(row, part="validation"), accuracy(row), told),
        ]
        for row, told in zip(rows, gains([(row, strong) for row in rows]), strict=True)
    ]
    titles = ["recipe", "guidance", "seeds", "validation", "test", f"against `{REAL_STRONG}`"]
    if not lines:
        return MISSING
    ends = [(of[-1], of[0]) for recipe in dict.fromkeys(row.arm for row in rows) if (of := _of(rows, recipe))]
    among = [
        f"`{high.arm}` at {guidance_of(high):g} against {guidance_of(low):g}: {told}."
        for (high, low), told in zip(ends, gains(ends), strict=True)
    ]
    return "\n".join([markdown(titles, lines), "", " ".join(among)])


def guidance_rows(measured: Measured) -> list[Row]:
    """Return the rows of the table of guidance, in its order."""
    return sorted(measured.rows("guidance/"), key=lambda row: (row.arm, guidance_of(row)))


def _of(rows: Sequence[Row], recipe: str) -> list[Row]:
    return [row for row in rows if row.arm == recipe]


def guidance_of(row: Row) -> float:
    """Return the guidance scale that a row was made with."""
    return float(next(iter(row.records.values()))["config"]["generator"]["guidance_scale"])


def amounts(measured: Measured, scale: Scale) -> str:
    """Return the table of the number of synthetic images per class."""
    strong = measured.row(f"long-tail/{REAL_STRONG}", REAL_STRONG)
    recipes = dict.fromkeys(row.table.removeprefix("amount/") for row in measured.rows("amount/"))
    lines = []
    for recipe in recipes:
        rows = [row for count in scale.amounts if (row := measured.row(f"amount/{recipe}", f"{recipe}-{count}"))]
        lines.append([f"`{recipe}`", str(rows[0].seeds), beside(strong, rows[0]), *map(accuracy, rows)])
        lines.append([f"against `{REAL_STRONG}`", "", "", *gains([(row, strong) for row in rows])])
    return markdown(["recipe", "seeds", "0", *map(str, scale.amounts)], lines) if lines else MISSING


def longer(measured: Measured, scale: Scale) -> str:
    """Return what more steps do to some rows of the long tail."""
    arms = [*dict.fromkeys(row.arm for row in measured.rows("longer/"))]
    lines = []
    for arm in arms:
        rows = [row for steps in scale.longer if (row := measured.row(f"longer/{arm}-{steps}", arm))]
        lines.append([f"`{arm}`", str(rows[0].seeds), beside(measured.row(f"long-tail/{arm}", arm), rows[0])])
        lines[-1] += map(accuracy, rows)
    others = [arm for arm in arms if arm != REAL_STRONG]
    columns = []
    for steps in scale.longer:
        strong = measured.row(f"longer/{REAL_STRONG}-{steps}", REAL_STRONG)
        columns.append(gains([(measured.row(f"longer/{arm}-{steps}", arm), strong) for arm in others]))
    for arm, told in zip(others, zip(*columns, strict=True), strict=True):
        lines.append([f"`{arm}` against `{REAL_STRONG}`", "", "", *told])
    titles = ["row", "seeds", f"{scale.steps['long-tail']} steps", *(f"{steps} steps" for steps in scale.longer)]
    return markdown(titles, lines) if lines else MISSING


def tuning(measured: Measured) -> str:
    """Return every setting that was tried, with its accuracy on validation images."""
    rounds: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in measured.rows("tuning/"):
        _, protocol, arm, what = row.table.split("/")
        rounds.setdefault((protocol, arm), {}).setdefault(what.partition("-")[0], []).append(row)
    lines = []
    for (protocol, arm), found in rounds.items():
        reached = 0.0
        for what in ROUNDS:
            tried = sorted(found.get(what, []), key=lambda row: int(row.table.rpartition("-")[2]))
            values = [row.mean("overall", "validation") or 0.0 for row in tried]
            cells = [
                f"**{_tried(row, what)}: {accuracy(row, part='validation')}**"
                if value > reached and place == values.index(max(values))
                else f"{_tried(row, what)}: {accuracy(row, part='validation')}"
                for place, (row, value) in enumerate(zip(tried, values, strict=True))
            ]
            if cells:
                lines.append([protocol, f"`{arm}`", what, "; ".join(cells)])
                reached = max(reached, *values)
    return markdown(["protocol", "row", "round", "tried: validation accuracy"], lines) if lines else MISSING


def _tried(row: Row, what: str) -> str:
    arm = tuned_spec(row.arm)
    own = [arm.knob.key] if arm.knob else []
    keys = {"augment": ["training.augment.transforms"], "own": own, "optimiser": [*OPTIMISER[0]]}[what]
    return ", ".join(_set_to(row, key) for key in keys)


def _set_to(row: Row, key: str) -> str:
    """Return a dotted key of the config, as a row has it, in words."""
    section, *names = key.split(".")
    found = row.models[0]["settings"] if section == "training" else next(iter(row.records.values()))["config"][section]
    for name in names:
        found = found[name]
    if names[-1] == "transforms":
        return " and ".join(f"{step['name']} {step['magnitude']}" for step in found) or "plain"
    return f"{names[-1].replace('_', ' ')} {found if isinstance(found, str) else format(found, 'g')}"
