"""Which generated images a run holds, without their pixels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from augcond.errors import RunError
from augcond.planning import index_of
from augcond.store.folder import RunFolder
from augcond.store.rejection import rejected_keys
from augcond.store.shards import OK, shard_columns


@dataclass(frozen=True, slots=True)
class SyntheticRows:
    """Which generated images a run holds, without their pixels.

    Attributes:
        folder: the run.
        keys: one per image.
        labels: int64, (N,).
        recipes: recipe of each, texts, (N,).
        index: number of each within its class and recipe, int64, (N,).
        sources: source keys of each.
        shards: shard of each, int64, (N,), ascending.
        places: row of each within its shard, int64, (N,).
        others: label of the second class of each, int64, (N,); its own label where it is of one class.
        shares: share of its own label, in [0.5, 1], float64, (N,).
        rejected: keys of those that a person rejected.
    """

    folder: RunFolder
    keys: tuple[str, ...]
    labels: np.ndarray
    recipes: np.ndarray
    index: np.ndarray
    sources: tuple[tuple[str, ...], ...]
    shards: np.ndarray
    places: np.ndarray
    others: np.ndarray
    shares: np.ndarray

    @property
    def mix_classes(self) -> bool:
        """Whether any is of two classes."""
        return bool((self.shares < 1).any())

    def shown(self, positions: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return how many images of each class those at `positions` are, one of two classes in parts, (C,).

        Args:
            positions: of images.
            weights: how often one of each class is drawn, (C,).
        """
        shares, labels, others = self.shares[positions], self.labels[positions], self.others[positions]
        drawn, classes = weights[labels], len(weights)
        own = np.bincount(labels, weights=drawn * shares, minlength=classes)
        return own + np.bincount(others, weights=drawn * (1.0 - shares), minlength=classes)

    rejected: frozenset[str] = frozenset()

    def select(
        self, recipe: str | tuple[str, ...], per_class: int | None = None, dropped: Collection[str] = ()
    ) -> np.ndarray:
        """Return the positions of the images of `recipe`, but for those that were rejected.

        Args:
            recipe: its name; or those of several, which take turns: image i of each class is one of the (i mod R)-th
                of R recipes, so that an arm of several has the sources and the number of images of an arm of one.
            per_class: the first so many of each class, as planned; all where None.
            dropped: keys that screening dropped.
        """
        names = (recipe,) if isinstance(recipe, str) else recipe
        chosen = np.zeros(len(self.keys), dtype=bool)
        for turn, name in enumerate(names):
            chosen |= (self.recipes == name) & (self.index % len(names) == turn)
        if per_class is not None:
            chosen &= self.index < per_class
        positions = np.flatnonzero(chosen)
        if out := self.rejected.union(dropped):
            positions = np.array([place for place in positions if self.keys[place] not in out], dtype=np.int64)
        return positions


def read_synthetic(folder: RunFolder) -> SyntheticRows:
    """Return every image that the run has made.

    Raises:
        RunError: the run is not generated to the end.
    """
    plan = folder.read_plan()
    markers = folder.verified_markers(plan)
    left = sum(marker is None for marker in markers)
    if left:
        raise RunError(
            f"{left} of {len(markers)} shards of {folder.path} are not generated yet: run augcond generate first"
        )
    parts: list[pa.Table] = []
    for number in range(len(markers)):
        mixed = ("other_label", "label_share") if plan.plan.mixes_classes else ()
        columns = ("key", "label", "recipe", "source_keys", "status", *mixed)
        table = shard_columns(folder.shard_path(number), columns)
        places = pa.array(np.arange(table.num_rows))
        table = table.append_column("place", places).append_column("shard", pa.array([number] * table.num_rows))
        parts.append(table.filter(pc.equal(table["status"], OK)).replace_schema_metadata(None))
    if not parts:
        empty = np.zeros(0, np.int64)
        return SyntheticRows(folder, (), empty, empty.astype(str), empty, (), empty, empty, empty, empty.astype(float))
    table = pa.concat_tables(parts)
    keys = tuple(table["key"].to_pylist())
    labels = table["label"].to_numpy().astype(np.int64)
    others, shares = labels, np.ones(len(labels))
    if plan.plan.mixes_classes:
        others = pc.coalesce(table["other_label"], table["label"]).to_numpy().astype(np.int64)
        shares = pc.fill_null(table["label_share"], 1.0).to_numpy()
    return SyntheticRows(
        folder=folder,
        keys=keys,
        labels=labels,
        recipes=np.array(table["recipe"].to_pylist(), dtype=str),
        index=np.array([index_of(key) for key in keys], dtype=np.int64),
        sources=tuple(tuple(sources) for sources in table["source_keys"].to_pylist()),
        shards=table["shard"].to_numpy().astype(np.int64),
        places=table["place"].to_numpy().astype(np.int64),
        others=others,
        shares=shares,
        rejected=rejected_keys(folder),
    )
