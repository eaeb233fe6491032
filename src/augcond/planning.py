"""Counts per class -> Plan: one row per image to make, complete before any is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from augcond.amounts import checked_amounts, chosen_sources, of_every_class, read_rounds
from augcond.conditioning import recipes_of
from augcond.conditioning.streams import CLASS_NAME, PROMPT, SOURCES, numpy_stream, row_seed, row_seeds, stream_seed
from augcond.config import ConditioningConfig, PlanConfig
from augcond.datasets import Dataset
from augcond.errors import RunMismatchError
from augcond.nearness import Pairing, SourceFeatures

_WORDS = pa.dictionary(pa.int32(), pa.string())

PLAN_SCHEMA = pa.schema(
    {
        "shard": pa.int32(),
        "key": pa.string(),
        "label": pa.int32(),
        "class_id": _WORDS,
        "class_name": _WORDS,
        "index": pa.int32(),
        "recipe": _WORDS,
        "source_keys": pa.list_(pa.string()),
        "seed": pa.int64(),
        "prompt": _WORDS,
    }
)

OTHER_CLASS = pa.field("other_class", _WORDS)
"""A further column of plans with recipes that mix two classes: the id of the second; empty in rows of one class."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One image to make.

    Attributes:
        key: `class/index/recipe`, unique in the run; the class id is percent-encoded.
        label: index into the dataset's classes.
        class_id: folder name of the class.
        class_name: the words that prompts use; all of them, parted by `|`, where a class has several names.
        index: counts the images of one class and recipe from 0.
        recipe: name of the recipe.
        source_keys: the real training images that this one is conditioned on; the first may repeat where a
            class has fewer images than the recipe takes.
        seed: 63 bits; the same for every recipe of one (class, index), so that recipes compare in pairs.
        prompt: the text, filled in.
        other_class: id of the class of the second source, where a recipe mixes two classes; else empty.
    """

    key: str
    label: int
    class_id: str
    class_name: str
    index: int
    recipe: str
    source_keys: tuple[str, ...]
    seed: int
    prompt: str
    other_class: str = ""


class Plan:
    """All images to make, in the order in which they are made.

    Rows are ordered by index, then class, then recipe: a run that is stopped early holds some images of every
    class, not all images of some.

    Args:
        table: `PLAN_SCHEMA`, and `OTHER_CLASS` where recipes mix two classes; the rows of one shard are consecutive.
    """

    __slots__ = ("_table",)

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def table(self) -> pa.Table:
        """All rows, `PLAN_SCHEMA`; those of one shard are consecutive."""
        return self._table

    @property
    def column_names(self) -> list[str]:
        """Those of `table`."""
        return list(self._table.column_names)

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.table.num_rows)

    @property
    def mixes_classes(self) -> bool:
        """Whether recipes may mix two classes."""
        return OTHER_CLASS.name in self.column_names

    @property
    def shard_count(self) -> int:
        """Number of shards."""
        return int(self.table["shard"][-1].as_py()) + 1 if len(self) else 0

    def shard(self, number: int) -> list[PlanRow]:
        """Return the rows of shard `number`, in plan order."""
        start, stop = self.bounds()[number]
        return list(rows_of(self.table.slice(start, stop - start)))

    def bounds(self) -> list[tuple[int, int]]:
        """Return, for each shard, its first row and the row after its last."""
        return bounds_of(self.table["shard"].to_numpy())

    def columns(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of all rows, in parts that need not be in memory together."""
        yield self.table.select(names)

    def rows(self) -> Iterator[PlanRow]:
        """Yield every row, in plan order."""
        for part in self.columns(self.column_names):
            for start in range(0, len(part), 4096):
                yield from rows_of(part.slice(start, 4096))


def bounds_of(shards: np.ndarray) -> list[tuple[int, int]]:
    """Return, for each shard, its first row and the row after its last, of the shards of all rows."""
    starts = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(shards)] if len(shards) else []
    return list(pairwise(starts))


def index_of(key: str) -> int:
    """Return the index in a row's key, `class/index/recipe`; the class id in it holds no `/`."""
    return int(key.split("/")[1])


def rows_of(table: pa.Table) -> Iterator[PlanRow]:
    """Yield the rows of a table of `PLAN_SCHEMA`."""
    columns = {name: table[name].to_pylist() for name in table.column_names if name != "shard"}
    columns["source_keys"] = [tuple(keys) for keys in columns["source_keys"]]
    # The schema's columns stand in the order of the fields: a million rows by keyword take seconds longer.
    yield from map(PlanRow, *columns.values())


def make_plan(
    dataset: Dataset,
    config: PlanConfig,
    conditioning: ConditioningConfig,
    *,
    prompts: Sequence[str],
    shard_size: int = 256,
    features: SourceFeatures | None = None,
) -> Plan:
    """Return the plan: which image is made from which sources, with which seed and prompt.

    A larger plan holds the rows of a smaller one, class by class, unchanged.

    Args:
        dataset: the real training images; nothing else is ever a source.
        config: how many images per class.
        conditioning: the recipes (every class gets its number of images of each) and how many sources they take.
        prompts: templates in which {class_name} is filled in; one is drawn per (class, index), and so is one of the
            class's names, where it has several.
        shard_size: rows per shard.
        features: of the training images, where `conditioning.neighbours` chooses by them; where it does and they are
            None, any images are taken: the plan tells how many rows there are, not of what.

    Raises:
        PlanError: a class that is to get images has no real image to be conditioned on, or two classes are to be mixed
            and there is one.
    """
    amounts = np.array(checked_amounts(dataset, config, conditioning), dtype=np.int64)
    recipes = conditioning.recipe_names
    takes = [recipe.source_count(conditioning) for recipe in recipes_of(conditioning)]
    across = np.array([recipe.across for recipe in recipes_of(conditioning)])
    members = _members(dataset)

    # One entry per (class, index), then one row per recipe of it.
    labels = np.repeat(np.arange(len(amounts), dtype=np.int32), amounts)
    index = np.concatenate([np.arange(n, dtype=np.int32) for n in amounts]) if labels.size else labels
    order = np.lexsort((labels, index))
    seeds = _per_class(amounts, lambda label, n: row_seeds(config.seed, dataset.classes[label], n), (), np.int64)
    first = of_every_class(config, dataset.classes, dataset.counts())
    further = read_rounds(config)

    def sources_of(label: int, count: int) -> np.ndarray:
        class_id = dataset.classes[label]
        # Without further rounds, all that is oversampled too.
        drawn = [(members[label], first[label] if further else count, SOURCES)]
        for number, one in enumerate(further, start=1):
            if class_id in one:
                own = chosen_sources(one[class_id], dataset, label)
                drawn.append((own, one[class_id].count, f"{SOURCES}-{number}"))
        return np.concatenate(
            [draw_sources(config.seed, class_id, own, n, max(takes), purpose) for own, n, purpose in drawn]
        )

    chosen = _per_class(amounts, sources_of, (max(takes),), np.int64)
    template = np.zeros(labels.size, np.int32)
    if len(prompts) > 1:
        template[:] = [stream_seed(int(seed), PROMPT) % len(prompts) for seed in seeds]
    name = np.zeros(labels.size, np.int32)
    if dataset.several_names:
        several = [len(names) for names in dataset.drawn_names]
        pairs = zip(seeds, labels, strict=True)
        name[:] = [stream_seed(int(seed), CLASS_NAME) % several[label] for seed, label in pairs]

    pairing = Pairing.of(dataset, conditioning.neighbours, features)
    if not across.all():
        chosen = pairing.within(chosen, seeds)
    repeated = np.repeat(order, len(recipes))
    recipe = np.tile(np.arange(len(recipes), dtype=np.int32), labels.size)
    sources = chosen[repeated]
    if across.any():
        mixed = across[recipe]
        sources[mixed] = pairing.across(chosen, seeds)[repeated[mixed]]
    return Plan(
        _table(
            dataset,
            recipes,
            prompts,
            columns=_Columns(
                labels[repeated],
                index[repeated],
                recipe,
                seeds[repeated],
                sources,
                np.array(takes, np.int64)[recipe],
                template[repeated],
                name[repeated],
                across[recipe] if across.any() else None,
            ),
            shards=np.arange(repeated.size, dtype=np.int32) // shard_size,
        )
    )


def _members(dataset: Dataset) -> list[np.ndarray]:
    """Return the positions in `dataset.images` per class, sorted by key: the listing's order plays no part."""
    labels = np.array([image.label for image in dataset.images], dtype=np.int64)
    keys = [image.key for image in dataset.images]
    by_key = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    return [by_key[labels[by_key] == label] for label in range(len(dataset.classes))]


def draw_sources(
    plan_seed: int, class_id: str, members: np.ndarray, count: int, takes: int, purpose: str = SOURCES
) -> np.ndarray:
    """Return the sources of images 0 .. count - 1 of one class, (count, takes).

    Sources are drawn in shuffled rounds: every image of the class is first source once a round, second source
    once a round, and so on; within a row they differ as long as the class has that many images, and repeat
    after that. Image i has the same sources whatever `count` is.

    Args:
        plan_seed: seed of the plan.
        class_id: the class; together with `plan_seed` it seeds the rounds.
        members: (n,) positions of the images of this class.
        count: number of images to make.
        takes: number of sources of one image.
        purpose: of the stream; those of each chosen round have one of their own.
    """
    if not takes or not count or not len(members):
        return np.zeros((count, takes), dtype=np.int64)
    n = len(members)
    rounds = []
    for number in range(-(-count // n)):
        generator = numpy_stream(row_seed(plan_seed, class_id, number), purpose)
        shuffled = generator.permutation(members)
        # Shifting one permutation keeps the sources of a row distinct and every image equally often in each place.
        shifts = np.concatenate(([0], 1 + generator.permutation(n - 1)))
        rounds.append(np.stack([np.roll(shuffled, -shifts[place % n]) for place in range(takes)], axis=1))
    return np.concatenate(rounds)[:count]


def _per_class(amounts: np.ndarray, draw: object, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    parts = [draw(label, int(n)) for label, n in enumerate(amounts) if n]  # type: ignore[operator]
    return np.concatenate(parts) if parts else np.zeros((0, *shape), dtype)


@dataclass(frozen=True, slots=True)
class _Columns:
    label: np.ndarray
    index: np.ndarray
    recipe: np.ndarray
    seed: np.ndarray
    sources: np.ndarray
    takes: np.ndarray
    template: np.ndarray
    name: np.ndarray
    across: np.ndarray | None


def _table(
    dataset: Dataset, recipes: Sequence[str], prompts: Sequence[str], *, columns: _Columns, shards: np.ndarray
) -> pa.Table:
    size = columns.label.size
    escaped = pa.array([quote(name, safe=" ") for name in dataset.classes], pa.string())
    key = pc.binary_join_element_wise(
        escaped.take(pa.array(columns.label)),
        pa.array(columns.index).cast(pa.string()),
        pa.array(recipes, pa.string()).take(pa.array(columns.recipe)),
        "/",
    )
    used = np.arange(columns.sources.shape[1])[None, :] < columns.takes[:, None]
    offsets = np.concatenate(([0], np.cumsum(columns.takes))).astype(np.int32)
    names = np.array([name for several in dataset.drawn_names for name in several], dtype=object)
    first = np.cumsum([0, *map(len, dataset.drawn_names)], dtype=np.int32)[:-1]
    filled = [prompt.format(class_name=name) for prompt in prompts for name in names]
    image_keys = pa.array([image.key for image in dataset.images], pa.string())
    arrays = {
        "shard": pa.array(shards),
        "key": key,
        "label": pa.array(columns.label),
        "class_id": pa.DictionaryArray.from_arrays(pa.array(columns.label), pa.array(dataset.classes, pa.string())),
        "class_name": _words(columns.label, dataset.class_names),
        "index": pa.array(columns.index),
        "recipe": pa.DictionaryArray.from_arrays(pa.array(columns.recipe), pa.array(recipes, pa.string())),
        "source_keys": pa.ListArray.from_arrays(pa.array(offsets), image_keys.take(pa.array(columns.sources[used]))),
        "seed": pa.array(columns.seed),
        "prompt": _words(columns.template * names.size + first[columns.label] + columns.name, filled),
    }
    table = pa.Table.from_pydict(arrays, schema=PLAN_SCHEMA)
    if columns.across is not None:
        of_image = np.array([image.label for image in dataset.images], dtype=np.int32)
        # Number 0 is no class.
        other = np.where(columns.across, of_image[columns.sources[:, 1]] + 1, 0) if size else columns.label
        words = pa.array(["", *dataset.classes], pa.string())
        table = table.append_column(OTHER_CLASS, pa.DictionaryArray.from_arrays(pa.array(other, pa.int32()), words))
    if table.num_rows != size:
        raise AssertionError(f"{table.num_rows} rows for {size} entries")
    return table


def _words(positions: np.ndarray, words: Sequence[str]) -> pa.DictionaryArray:
    """Dictionary-encode `words[positions]`, whose words may repeat (two classes may share a name)."""
    distinct = list(dict.fromkeys(words))
    where = {word: i for i, word in enumerate(distinct)}
    lookup = np.array([where[word] for word in words], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(lookup[positions]), pa.array(distinct, pa.string()))


def grow_plan(existing: Plan, wanted: Plan, shard_size: int) -> Plan:
    """Return `existing` with the rows of `wanted` that it lacks behind it, in shards of their own.

    Shards that are done stay as they are.

    Raises:
        RunMismatchError: `existing` holds a row that `wanted` lacks or defines otherwise.
    """
    place = pc.index_in(existing.table["key"], value_set=wanted.table["key"])
    if place.null_count:
        missing = existing.table["key"].filter(pc.is_null(place))
        raise RunMismatchError(
            f"the run plans {len(missing)} images that this config does not, the first is {missing[0].as_py()!r}: "
            "a run can grow, not shrink"
        )
    # A run that is resumed, not grown, has the same rows in the same order: spare the copy.
    same = existing.table["key"].equals(wanted.table["key"])
    counterpart = wanted.table if same else wanted.table.take(place)
    further = {OTHER_CLASS.name} & {*existing.table.column_names} & {*wanted.table.column_names}
    for name in ("label", "class_id", "class_name", "seed", "prompt", "source_keys", *further):
        old, new = existing.table[name], counterpart[name]
        if pa.types.is_dictionary(old.type):
            old, new = old.cast(old.type.value_type), new.cast(old.type.value_type)
        if not old.equals(new):
            row = next(row for row in range(len(old)) if old[row] != new[row])
            raise RunMismatchError(
                f"{name} of {existing.table['key'][row].as_py()!r} differs: the run has {old[row].as_py()!r}, "
                f"this config gives {new[row].as_py()!r}"
            )
    extra = wanted.table.filter(pc.invert(pc.is_in(wanted.table["key"], value_set=existing.table["key"])))
    if not extra.num_rows:
        return existing
    shards = existing.shard_count + np.arange(extra.num_rows, dtype=np.int32) // shard_size
    extra = extra.set_column(0, PLAN_SCHEMA.field("shard"), pa.array(shards))
    both = [existing.table, extra]
    if any(OTHER_CLASS.name in table.column_names for table in both):
        both = [_with_other_class(table) for table in both]
    return Plan(pa.concat_tables(both).unify_dictionaries())


def _with_other_class(table: pa.Table) -> pa.Table:
    if OTHER_CLASS.name in table.column_names:
        return table
    none = pa.DictionaryArray.from_arrays(pa.array(np.zeros(table.num_rows, np.int32)), pa.array([""]))
    return table.append_column(OTHER_CLASS, none)
