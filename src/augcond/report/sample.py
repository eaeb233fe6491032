"""Which images the page shows and measures: the first of every class in turn, not the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from augcond.report.facts import RunFacts
from augcond.store.shards import shard_rows

_COLUMNS = ("key", "image", "label", "class_name", "recipe", "source_keys", "lam", "share", "weights", "seed", "error")


@dataclass(frozen=True, slots=True)
class SampledRow:
    """One row of a shard, with its image.

    Attributes:
        position: its row in the plan.
        key: `class/index/recipe`.
        label: index into the classes.
        class_name: the words that prompts use.
        index: counts the images of one class and recipe.
        recipe: name of the recipe.
        source_keys: the real images it was conditioned on.
        lam: lambda as drawn; None where the recipe does not mix.
        share: share of the first source as it took effect; None where the recipe does not mix.
        weights: weight of each source.
        seed: 63 bits.
        prompt: the text.
        image: encoded bytes; None where the row failed.
        error: why it failed; None where it did not.
    """

    position: int
    key: str
    label: int
    class_name: str
    index: int
    recipe: str
    source_keys: tuple[str, ...]
    lam: float | None
    share: float | None
    weights: tuple[float, ...]
    seed: int
    prompt: str
    image: bytes | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """The images of one (class, index) under every recipe: the same sources, lambda and initial noise."""

    label: int
    class_name: str
    index: int
    seed: int
    rows: tuple[SampledRow, ...]

    @property
    def source_keys(self) -> tuple[str, ...]:
        """The sources that any recipe of the group was conditioned on."""
        return max((row.source_keys for row in self.rows), key=len)


def attempted_positions(facts: RunFacts) -> np.ndarray:
    """Return the plan rows whose shard is done, by index, then class, then place in the plan.

    A prefix of these is a sample stratified by class. Sources and seeds are drawn anew for every index, so the first
    images of a class are no better than its others.
    """
    table = facts.plan.plan.table
    if not len(table):
        return np.zeros(0, dtype=np.int64)
    done = np.array([marker is not None for marker in facts.markers], dtype=bool)[table["shard"].to_numpy()]
    positions = np.flatnonzero(done)
    index, label = table["index"].to_numpy()[positions], table["label"].to_numpy()[positions]
    return np.asarray(positions[np.lexsort((positions, label, index))], dtype=np.int64)


def gallery_positions(facts: RunFacts, pictures: int, *, failed_groups: int = 24) -> list[list[int]]:
    """Return the plan rows of each group to show, about `pictures` images with their sources.

    Args:
        facts: the run.
        pictures: how many images may be shown, sources included; at least one group is shown.
        failed_groups: so many groups with a failed row are shown beside, that failures can be looked at.
    """
    table = facts.plan.plan.table
    positions = attempted_positions(facts)
    if not len(positions):
        return []
    index, label = table["index"].to_numpy()[positions], table["label"].to_numpy()[positions]
    starts = np.flatnonzero(np.r_[True, (np.diff(index) != 0) | (np.diff(label) != 0)])
    groups = np.split(positions, starts[1:])
    chosen: list[list[int]] = []
    seen: set[str] = set()
    cost = extra = 0
    for group in groups:
        if cost < pictures:
            keys = set(table["source_keys"].take(pa.array(group)).combine_chunks().flatten().to_pylist())
            cost += len(group) + len(keys - seen)
            seen |= keys
        elif extra < failed_groups and not facts.made[group].all():
            extra += 1
        else:
            if extra >= failed_groups or not facts.failures:
                break
            continue
        chosen.append([int(position) for position in group])
    return chosen


def recipe_positions(facts: RunFacts, recipe: str, count: int) -> list[int]:
    """Return the plan rows of the first `count` images that `recipe` made, stratified by class."""
    positions = attempted_positions(facts)
    names = facts.plan.plan.table["recipe"].combine_chunks()
    code = names.dictionary.to_pylist().index(recipe)
    codes = names.indices.to_numpy()[positions]
    return [int(p) for p in positions[(codes == code) & facts.made[positions]][:count]]


def read_rows(facts: RunFacts, positions: Sequence[int]) -> Iterator[SampledRow]:
    """Yield the shard rows of these plan rows, in plan order; each shard is opened once."""
    wanted = np.unique(np.asarray(positions, dtype=np.int64))
    table = facts.plan.plan.table
    shards = table["shard"].to_numpy()
    bounds = facts.plan.plan.bounds()
    details = table.select(["index", "prompt"]).take(pa.array(wanted)).to_pylist()
    place = 0
    while place < len(wanted):
        number = int(shards[wanted[place]])
        start, stop = bounds[number]
        until = int(np.searchsorted(wanted, stop))
        rows = shard_rows(facts.folder.shard_path(number), _COLUMNS, wanted[place:until] - start)
        for offset, values in enumerate(rows, start=place):
            yield _sampled(int(wanted[offset]), values, details[offset])
        place = until


def _sampled(position: int, values: dict[str, Any], detail: dict[str, Any]) -> SampledRow:
    image = values.pop("image")
    return SampledRow(
        position=position,
        image=image["bytes"] if image is not None else None,
        **{**values, **detail, "source_keys": tuple(values["source_keys"]), "weights": tuple(values["weights"])},
    )


def read_groups(facts: RunFacts, chosen: Sequence[Sequence[int]]) -> Iterator[Group]:
    """Yield each group of plan rows with its images, the recipes in the run's order."""
    order = {recipe: place for place, recipe in enumerate(facts.recipes)}
    where = {position: number for number, group in enumerate(chosen) for position in group}
    missing = [len(group) for group in chosen]
    waiting: dict[int, list[SampledRow]] = {}
    for row in read_rows(facts, list(where)):
        number = where[row.position]
        waiting.setdefault(number, []).append(row)
        missing[number] -= 1
        if not missing[number]:
            rows = sorted(waiting.pop(number), key=lambda row: order[row.recipe])
            first = rows[0]
            yield Group(first.label, first.class_name, first.index, first.seed, tuple(rows))


def real_positions(labels: Sequence[int], count: int) -> list[int]:
    """Return the places of up to `count` real images: the first of each class, then the second, and so on."""
    array = np.asarray(labels, dtype=np.int64)
    by_label = np.argsort(array, kind="stable")
    ordered = array[by_label]
    rank = np.arange(len(array)) - np.searchsorted(ordered, ordered)
    return [int(place) for place in by_label[np.lexsort((ordered, rank))][:count]]
