"""The six questions that the page answers first, each in a sentence or two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from augcond.evaluation.results import Difference, Results
from augcond.evaluation.verdicts import FEW_SEEDS, how_judged, in_words
from augcond.generators import toy_warning
from augcond.progress import format_bytes, format_seconds
from augcond.report.copies import Copies
from augcond.report.costs import training_cost
from augcond.report.facts import RunFacts
from augcond.report.quality import Quality

_TOLD = 2
"""Up to so many arms are told one by one."""

Tone = Literal["good", "look", "unknown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One question and its answer.

    Attributes:
        question: as a reader would ask it.
        answer: sentences.
        tone: whether all is well, something wants a look, or nothing is known.
        anchor: id of the section that tells more.
    """

    question: str
    answer: str
    tone: Tone
    anchor: str


def answers(
    facts: RunFacts, quality: Quality | None, results: Results | None, disk: int, copies: Copies | None = None
) -> tuple[Answer, ...]:
    """Return the six answers of a run.

    Args:
        facts: the run.
        quality: None where it was not measured.
        results: None where no classifier was evaluated.
        disk: bytes of the run folder.
        copies: None where they were not looked for.
    """
    return (
        _had(facts),
        _made(facts),
        _looks(facts, quality),
        _helped(results),
        _cost(facts, results, disk),
        _trust(facts, results, copies),
    )


def _had(facts: RunFacts) -> Answer:
    groups = ", ".join(f"{g.classes:,} {g.shot_group}" for g in facts.shot_groups if g.classes)
    text = f"{_count(facts.real, 'real image')} in {_count(len(facts.classes), 'class', 'classes')} ({groups})."
    if facts.rejected:
        text += f" {_count(len(facts.rejected), 'file')} could not be used."
    return Answer("What did I have?", text, "look" if facts.rejected else "good", "data")


def _made(facts: RunFacts) -> Answer:
    status = facts.status
    if not facts.recipes:
        return Answer("What was made?", "Nothing was planned.", "unknown", "data")
    recipes = facts.recipes[0] if len(facts.recipes) == 1 else f"{len(facts.recipes)} recipes"
    text = f"{status.ok:,} of {_count(status.planned, 'planned image')} by {recipes}."
    before, after = [c.real for c in facts.classes], [c.after for c in facts.classes]
    text += f" Classes had {_span(before)} images and now have {_span(after)}."
    if status.failed:
        text += f" {status.failed:,} failed."
    if status.left:
        text += f" {status.left:,} are not made yet."
    return Answer("What was made?", text, "look" if status.failed or status.left else "good", "data")


def _looks(facts: RunFacts, quality: Quality | None) -> Answer:
    question = "Does it look right?"
    if not facts.status.ok:
        return Answer(question, "There are no images yet.", "unknown", "gallery")
    if quality is None:
        return Answer(question, "Not measured. The gallery shows a sample for your own eyes.", "unknown", "gallery")
    count = sum(entry.images for entry in quality.recipes)
    error = _weighted([(e.semantic_error, e.images) for e in quality.recipes])
    shift = _weighted([(e.domain_shift, e.images) for e in quality.recipes])
    parts = []
    if error is not None and quality.reference.semantic_error is not None:
        parts.append(
            f"{percent(error)} look more like another class (of real images the same encoder says so of "
            f"{percent(quality.reference.semantic_error)})"
        )
    if shift is not None and quality.reference.domain_shift is not None:
        parts.append(
            f"{percent(shift)} lie outside their class's style (real images: {percent(quality.reference.domain_shift)})"
        )
    if not parts:
        return Answer(question, "Too few real images to judge by. The gallery shows a sample.", "unknown", "gallery")
    text = f"Of {count:,} measured images, {', and '.join(parts)}."
    worse = _exceeds(error, quality.reference.semantic_error) or _exceeds(shift, quality.reference.domain_shift)
    return Answer(question, text, "look" if worse else "good", "misses")


def percent(share: float, digits: int = 0) -> str:
    """Return a share as a percentage, with a space that does not break."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def _exceeds(share: float | None, reference: float | None) -> bool:
    return share is not None and reference is not None and share > reference + 0.1


def _helped(results: Results | None) -> Answer:
    question = "Did it help?"
    if results is None:
        text = "Not known yet: no classifier was trained and evaluated on this run."
        return Answer(question, text, "unknown", "accuracy")
    arms = [arm for arm in results.arms if arm.kind == "synthetic"]
    base = results.arms[0].name
    found = [(arm, gain) for arm in arms if (gain := results.gain(arm.name, base)) is not None]
    if not found:
        return Answer(question, "Nothing was compared with real images alone.", "unknown", "accuracy")
    better, worse, open_ = ([one for _, one in found if one.verdict == kind] for kind in ("gain", "loss", "undecided"))
    if len(found) <= _TOLD:
        gains = "; ".join(f"{arm.name} {gain_text(difference)}" for arm, difference in found)
        text = f"{results.on.capitalize()} accuracy over {base}: {gains}."
    else:
        # No arm is singled out: the best of many on the test set would look better than it is.
        text = (
            f"Of {len(found)} arms, {len(better)} gain in {results.on} accuracy over {base}, {len(worse)} lose, and "
            f"{len(found) - len(better) - len(worse)} are not decided."
        )
    text += f" {how_judged(results)}"
    if results.leaky:
        text += " The protocol is leaky: these numbers are for comparison with published ones only."
    sure = better and not worse and not results.leaky and all(one.seeds >= FEW_SEEDS for one in (*better, *open_))
    return Answer(question, text.strip(), "good" if sure else "look", "accuracy")


def gain_text(difference: Difference) -> str:
    """Return a difference in points with its interval and verdict: `+2.1 points (95 % interval +0.8 to +3.4): gain`."""
    about = "95 % interval " if difference.low is not None else ""
    return f"{100 * difference.mean:+.1f} points ({about}{difference.interval}): {in_words(difference)}"


def _cost(facts: RunFacts, results: Results | None, disk: int) -> Answer:
    rate = facts.status.images_per_second
    parts = ["nothing was generated yet"]
    if rate is not None:
        parts = [f"{format_seconds(facts.seconds)} of generation at {rate:,.1f} images/s"]
    if results is not None:
        cost = training_cost(results)
        parts.append(f"{format_seconds(cost.training)} of training of {_count(cost.models, 'model')}")
    text = f"{', '.join(parts)}, and {format_bytes(disk)} on disk."
    return Answer("What did it cost?", text[0].upper() + text[1:], "good", "cost")


def _trust(facts: RunFacts, results: Results | None, copies: Copies | None) -> Answer:
    doubts = list(_doubts(facts, results, copies))
    if doubts:
        return Answer("Can I trust it?", f"Look at this first: {'; '.join(doubts)}.", "look", "provenance")
    text = "Every planned row is accounted for, and every source is a training image of its own class."
    return Answer("Can I trust it?", text, "good", "provenance")


def _doubts(facts: RunFacts, results: Results | None, copies: Copies | None) -> Iterator[str]:
    if facts.status.left:
        yield f"the run is not finished ({facts.status.left:,} images left)"
    toy = toy_warning(facts.config.generator, facts.config.data.source)
    if toy:
        yield f"generator.model: {toy}"
    if facts.status.failed:
        yield f"{facts.status.failed:,} rows failed"
    if facts.data_warnings:
        yield f"{_count(len(facts.data_warnings), 'thing')} about the real images (under The data)"
    for entry in copies.recipes if copies is not None else ():
        if entry.of_test:
            yield f"{percent(entry.of_test, 1)} of the images by {entry.recipe} are copies of test images"
    if facts.foreign_sources:
        yield f"{facts.foreign_sources:,} source images are no training images of their class"
    mixed = sorted(name for name, versions in facts.versions().items() if len(versions) > 1)
    if mixed:
        yield f"shards were made with different versions of {', '.join(mixed)}"
    if results is not None and results.leaky:
        yield "the accuracy comes from a protocol with leaks"
    if results is not None and results.classes != facts.plan.classes:
        yield "the accuracy was measured on other classes"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _span(values: list[int]) -> str:
    if not values:
        return "no"
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _weighted(values: list[tuple[float | None, int]]) -> float | None:
    known = [(value, weight) for value, weight in values if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None
