"""Counts per class -> Plan: one row per image to make, complete before any is made."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from augcond.conditioning import recipes_of
from augcond.conditioning.streams import CLASS_NAME, PROMPT, SOURCES, numpy_stream, row_seed, row_seeds, stream_seed
from augcond.config import ConditioningConfig, PlanConfig
from augcond.datasets import Dataset
from augcond.errors import PlanError, RunMismatchError

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


class Plan:
    """All images to make, in the order in which they are made.

    Rows are ordered by index, then class, then recipe: a run that is stopped early holds some images of every
    class, not all images of some.

    Args:
        table: `PLAN_SCHEMA`; the rows of one shard are consecutive.
    """

    __slots__ = ("_table",)

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def table(self) -> pa.Table:
        """All rows, `PLAN_SCHEMA`; those of one shard are consecutive."""
        return self._table

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.table.num_rows)

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
        for part in self.columns(PLAN_SCHEMA.names):
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
    columns = {name: table[name].to_pylist() for name in PLAN_SCHEMA.names if name != "shard"}
    columns["source_keys"] = [tuple(keys) for keys in columns["source_keys"]]
    # The schema's columns stand in the order of the fields: a million rows by keyword take seconds longer.
    yield from map(PlanRow, *columns.values())


def images_to_make(config: PlanConfig, classes: Sequence[str], counts: Sequence[int]) -> list[int]:
    """Return how many images each class gets of each recipe, in label order.

    Args:
        config: how many are asked for.
        classes: class ids.
        counts: real training images of each class.

    Raises:
        PlanError: `per_class` names a class that there is not.
    """
    if config.fill_to is not None:
        return [max(0, config.fill_to - count) for count in counts]
    if isinstance(config.per_class, dict):
        for name in config.per_class:
            if name not in classes:
                near = difflib.get_close_matches(name, classes, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise PlanError(f"plan.per_class names the class {name!r}, which the data does not have{hint}")
        return [config.per_class.get(name, 0) for name in classes]
    return [config.per_class or 0] * len(classes)


def checked_amounts(dataset: Dataset, config: PlanConfig, conditioning: ConditioningConfig) -> list[int]:
    """Return `images_to_make` of a dataset, each class of which has what its images are conditioned on.

    Raises:
        PlanError: a class that is to get images has no real image to be conditioned on.
    """
    counts = dataset.counts()
    amounts = images_to_make(config, dataset.classes, counts)
    if any(recipe.source_count(conditioning) for recipe in recipes_of(conditioning)):
        for class_id, amount, count in zip(dataset.classes, amounts, counts, strict=True):
            if amount and not count:
                raise PlanError(
                    f"class {class_id!r} has no readable image to be conditioned on: add one, leave the class out with "
                    "plan.per_class, or use the recipe 'text' alone"
                )
    return amounts


def make_plan(
    dataset: Dataset,
    config: PlanConfig,
    conditioning: ConditioningConfig,
    *,
    prompts: Sequence[str],
    shard_size: int = 256,
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

    Raises:
        PlanError: a class that is to get images has no real image to be conditioned on.
    """
    amounts = np.array(checked_amounts(dataset, config, conditioning), dtype=np.int64)
    recipes = conditioning.recipe_names
    takes = [recipe.source_count(conditioning) for recipe in recipes_of(conditioning)]
    members = _members(dataset)

    # One entry per (class, index), then one row per recipe of it.
    labels = np.repeat(np.arange(len(amounts), dtype=np.int32), amounts)
    index = np.concatenate([np.arange(n, dtype=np.int32) for n in amounts]) if labels.size else labels
    order = np.lexsort((labels, index))
    seeds = _per_class(amounts, lambda label, n: row_seeds(config.seed, dataset.classes[label], n), (), np.int64)
    chosen = _per_class(
        amounts,
        lambda label, n: draw_sources(config.seed, dataset.classes[label], members[label], n, max(takes)),
        (max(takes),),
        np.int64,
    )
    template = np.zeros(labels.size, np.int32)
    if len(prompts) > 1:
        template[:] = [stream_seed(int(seed), PROMPT) % len(prompts) for seed in seeds]
    name = np.zeros(labels.size, np.int32)
    if dataset.several_names:
        several = [len(names) for names in dataset.drawn_names]
        pairs = zip(seeds, labels, strict=True)
        name[:] = [stream_seed(int(seed), CLASS_NAME) % several[label] for seed, label in pairs]

    repeated = np.repeat(order, len(recipes))
    recipe = np.tile(np.arange(len(recipes), dtype=np.int32), labels.size)
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
                chosen[repeated],
                np.array(takes, np.int64)[recipe],
                template[repeated],
                name[repeated],
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


def draw_sources(plan_seed: int, class_id: str, members: np.ndarray, count: int, takes: int) -> np.ndarray:
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
    """
    if not takes or not count or not len(members):
        return np.zeros((count, takes), dtype=np.int64)
    n = len(members)
    rounds = []
    for number in range(-(-count // n)):
        generator = numpy_stream(row_seed(plan_seed, class_id, number), SOURCES)
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
    for name in ("label", "class_id", "class_name", "seed", "prompt", "source_keys"):
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
    return Plan(pa.concat_tables([existing.table, extra]).unify_dictionaries())
