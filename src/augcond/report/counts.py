"""Images per class that each arm is trained on: real ones, and those of one recipe or of a ceiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from augcond.evaluation.results import Results
    from augcond.report.facts import RunFacts


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """Arms that are trained on equally many images of every class.

    Attributes:
        names: of the arms; before training, of the recipes that they would train on.
        added: images per class beside the real ones, in label order.
        measured: whether models were trained on these; else it is what each recipe has made.
    """

    names: tuple[str, ...]
    added: tuple[int, ...]
    measured: bool

    def together(self, real: tuple[int, ...]) -> tuple[int, ...]:
        """Return real and other images per class."""
        return tuple(own + more for own, more in zip(real, self.added, strict=True))


def arm_counts(facts: RunFacts, results: Results | None) -> tuple[ArmCounts, ...]:
    """Return what arms with generated images are trained on, those that are alike together.

    No arm is trained on the images of several recipes, so that these are never added up.
    """
    trained = {
        arm.name: arm.seeds[0].added_counts
        for arm in (results.arms if results is not None and results.classes == facts.plan.classes else ())
        if arm.kind == "synthetic" and arm.seeds[0].added_counts
    }
    counts = trained or made_by_recipe(facts)
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, added in counts.items():
        alike.setdefault(added, []).append(name)
    return tuple(ArmCounts(tuple(names), added, bool(trained)) for added, names in alike.items())


def made_by_recipe(facts: RunFacts) -> dict[str, tuple[int, ...]]:
    """Return the images per class that each recipe has made, in label order."""
    table, size = facts.plan.plan.table, len(facts.classes)
    if not len(table):
        return {}
    names = table["recipe"].combine_chunks()
    codes, labels = names.indices.to_numpy(), table["label"].to_numpy()
    known = names.dictionary.to_pylist()
    found = {}
    for recipe in facts.recipes:
        made = labels[(codes == known.index(recipe)) & facts.made]
        found[recipe] = tuple(int(count) for count in np.bincount(made, minlength=size))
    return found


def span(values: tuple[int, ...] | list[int]) -> str:
    """Return the lowest and the highest of some counts, such as `2 to 120`."""
    if not values:
        return "no"
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
