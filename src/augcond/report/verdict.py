"""The six questions that the page answers first, each in a sentence or two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from augcond.evaluation.results import Results
from augcond.evaluation.verdicts import how_judged
from augcond.generators import toy_warning
from augcond.progress import format_bytes, format_seconds
from augcond.report.copies import Copies
from augcond.report.costs import training_cost
from augcond.report.counts import ArmCounts, arm_counts, span
from augcond.report.facts import RunFacts
from augcond.report.findings import Tone, find
from augcond.report.quality import Quality

_TOLD = 4
"""Up to so many recipes are told one by one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One question and its answer.

    Attributes:
        question: as a reader would ask it.
        answer: sentences.
        tone: whether all is well, something wants a look, or nothing is known.
        anchor: id of the section that tells more.
        points: what the answer rests on, a sentence each.
    """

    question: str
    answer: str
    tone: Tone
    anchor: str
    points: tuple[str, ...] = ()


def answers(
    facts: RunFacts, quality: Quality | None, results: Results | None, disk: int, copies: Copies | None = None
) -> tuple[Answer, ...]:
    """Return the six answers of a run, the one that it was made for first.

    Args:
        facts: the run.
        quality: None where it was not measured.
        results: None where no classifier was evaluated.
        disk: bytes of the run folder.
        copies: None where they were not looked for.
    """
    return (
        _helped(results),
        _had(facts),
        _made(facts, arm_counts(facts, results)),
        _looks(facts, quality),
        _cost(facts, results, disk),
        _trust(facts, results, copies),
    )


def _had(facts: RunFacts) -> Answer:
    groups = ", ".join(f"{g.classes:,} {g.shot_group}" for g in facts.shot_groups if g.classes)
    text = f"{_count(facts.real, 'real image')} in {_count(len(facts.classes), 'class', 'classes')} ({groups})."
    if facts.rejected:
        text += f" {_count(len(facts.rejected), 'file')} could not be used."
    return Answer("What did I have?", text, "look" if facts.rejected else "good", "data")


def _made(facts: RunFacts, counts: tuple[ArmCounts, ...]) -> Answer:
    status = facts.status
    if not facts.recipes:
        return Answer("What was made?", "Nothing was planned.", "unknown", "data")
    recipes = facts.recipes[0] if len(facts.recipes) == 1 else f"{len(facts.recipes)} recipes"
    text = f"{status.ok:,} of {_count(status.planned, 'planned image')} by {recipes}."
    if counts:
        text += f" {_trained_on(facts, counts)}"
    if status.failed:
        text += f" {status.failed:,} failed."
    if status.rejected:
        text += f" {status.rejected:,} are left out: a person rejected them."
    if status.left:
        text += f" {status.left:,} are not made yet."
    return Answer("What was made?", text, "look" if status.failed or status.left else "good", "data")


def _trained_on(facts: RunFacts, counts: tuple[ArmCounts, ...]) -> str:
    """Return how many images of a class an arm is trained on: those of one recipe, never of several together."""
    real = facts.plan.real_counts
    together = [count for entry in counts for count in entry.together(tuple(real))]
    arms = sum(len(entry.names) for entry in counts)
    who = "The arm" if arms == 1 else f"Each of {arms} arms"
    verb = "was" if counts[0].measured else "would be"
    return f"{who} {verb} trained on {span(together)} images a class, where {span(list(real))} are real."


def _looks(facts: RunFacts, quality: Quality | None) -> Answer:
    question = "Does it look right?"
    if not facts.status.ok:
        return Answer(question, "There are no images yet.", "unknown", "gallery")
    if quality is None:
        return Answer(question, "Not measured. The gallery shows a sample for your own eyes.", "unknown", "gallery")
    kinds = (("semantic_error", "look more like another class"), ("domain_shift", "lie outside their class's style"))
    parts, worse = [], False
    for name, words in kinds:
        real = getattr(quality.reference, name)
        rates = [(entry.name, rate) for entry in quality.recipes if (rate := getattr(entry, name)) is not None]
        if real is None or not rates:
            continue
        said = ", ".join(f"{percent(rate.share)} by {recipe}" for recipe, rate in rates[:_TOLD])
        more = f" (and {len(rates) - _TOLD} more recipes)" if len(rates) > _TOLD else ""
        parts.append(f"{said}{more} {words} (of real images, the same judge says so of {percent(real.share)})")
        worse = worse or any(rate.interval[0] > real.share for _, rate in rates)
    if not parts:
        return Answer(question, "Too few real images to judge by. The gallery shows a sample.", "unknown", "gallery")
    text = f"{'; '.join(parts)}. Judged by {quality.judge.name}"
    text += ": circular, since it conditioned these images." if quality.judge.circular else "."
    return Answer(question, text[0].upper() + text[1:], "look" if worse or quality.judge.circular else "good", "misses")


def percent(share: float, digits: int = 0) -> str:
    """Return a share as a percentage, with a space that does not break."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def _helped(results: Results | None) -> Answer:
    question = "Did it help?"
    if results is None:
        text = "Not known yet: no classifier was trained and evaluated on this run."
        return Answer(question, text, "unknown", "accuracy")
    found = find(results)
    notes: tuple[str, ...] = (how_judged(results),) if found.against else ()
    if results.leaky:
        notes += ("The protocol is leaky: these numbers are for comparison with published ones only.",)
    return Answer(question, found.headline, found.tone, "accuracy", (*found.sentences, *filter(None, notes)))


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
