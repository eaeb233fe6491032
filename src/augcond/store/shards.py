"""What a shard holds, one row per attempted image in plan order, and the one way to read it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from augcond.conditioning.base import Draws
from augcond.errors import CorruptRunError
from augcond.files import read_groups
from augcond.planning import PlanRow

if TYPE_CHECKING:
    import datasets

OK = "ok"
FAILED = "failed"

COLUMNS: Final[Mapping[str, str]] = {
    "key": "string",
    "image": "Image",
    "label": "ClassLabel",
    "class_name": "string",
    "recipe": "string",
    "source_keys": "strings",
    "lam": "float64",
    "share": "float64",
    "weights": "float64s",
    "seed": "int64",
    "prompt": "string",
    "guidance_scale": "float64",
    "steps": "int32",
    "generator": "string",
    "revision": "string",
    "status": "string",
    "error": "string",
}
"""The columns of a shard and what each holds; an `s` at the end means several."""

FURTHER_COLUMNS: Final[Mapping[str, str]] = {
    "other_label": "ClassLabel",
    "label_share": "float64",
    "away_from": "string",
}
"""Those that only some runs have: of recipes that mix two classes the second one and the share of `label`, both null in
other rows; and the class that guidance led away from, null in rows without an image."""

PROVENANCE: Final = tuple(name for name in COLUMNS if name not in ("image", "label", "status", "error"))
"""The columns that say where an image comes from."""

_GROUP_BYTES = 256 * 2**20
"""Of encoded images in a row group; Arrow counts those of a column with 32 bits."""

_GROUP_ROWS = 2**20
"""As many as pyarrow writes into one."""

_AT_ONCE = 64
"""Rows that are Python objects in memory at once."""


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """What every row of a run was generated with, as columns of the shard.

    Attributes:
        guidance_scale: classifier-free guidance scale; 1 is no guidance.
        steps: denoising steps.
        generator: name and model, such as `stable-unclip:builtin`.
        revision: commit hash, or `sha256:...` of a local folder.
        extension: of the stored images, with its dot.
        away_from: id of the class whose images guidance leads away from, by that of each row's class; empty where it
            leads away from no image.
    """

    guidance_scale: float
    steps: int
    generator: str
    revision: str
    extension: str
    away_from: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a generated image comes from, as it stands in its shard.

    Attributes:
        key: `class/index/recipe`, unique in its run.
        label: number of its class.
        class_name: the words that its prompt uses.
        recipe: by its short name.
        source_keys: the real training images that it is conditioned on.
        lam: see `augcond.conditioning.Draws`.
        share: see there.
        weights: see there.
        seed: of the row; everything random about it follows from it.
        prompt: filled in.
        guidance_scale: see `GenerationSettings`; None where its generator was not loaded from a config.
        steps: the same.
        generator: see `GenerationSettings`.
        revision: see there.
        error: why there is no image; None where there is.
        other_label: number of the class of the second source, where a recipe mixed two classes; else None.
        label_share: share of `label` in what the image shows then, in [0.5, 1]; None elsewhere.
        away_from: id of the class whose images guidance led away from; None where it led away from no image.
    """

    key: str
    label: int
    class_name: str
    recipe: str
    source_keys: tuple[str, ...]
    lam: float | None
    share: float | None
    weights: tuple[float, ...]
    seed: int
    prompt: str
    guidance_scale: float | None
    steps: int | None
    generator: str
    revision: str
    error: str | None = None
    other_label: int | None = None
    label_share: float | None = None
    away_from: str | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Provenance:
        """Return what the columns of a shard's row say, the further ones if it has them."""
        said = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        return cls(**said | {"source_keys": tuple(said["source_keys"]), "weights": tuple(said["weights"])})


@dataclass(frozen=True, slots=True)
class ShardRow:
    """One attempted image: made, or failed with the reason."""

    row: PlanRow
    image: bytes | None
    draws: Draws = field(default_factory=Draws)
    error: str | None = None

    @property
    def status(self) -> str:
        """`ok` or `failed`."""
        return OK if self.image is not None else FAILED


@lru_cache(maxsize=8)
def shard_features(classes: tuple[str, ...], further: tuple[str, ...] = ()) -> datasets.Features:
    """Return the columns of a shard as Hugging Face features: `image` is an Image, `label` a ClassLabel.

    Args:
        classes: ids.
        further: the columns out of `FURTHER_COLUMNS` that it has.
    """
    from datasets import ClassLabel, Features, Image, Sequence, Value

    def feature(kind: str) -> Any:
        if kind == "Image":
            return Image()
        if kind == "ClassLabel":
            return ClassLabel(names=list(classes))
        return Sequence(Value(kind[:-1])) if kind.endswith("s") else Value(kind)

    kinds = {**COLUMNS, **{name: FURTHER_COLUMNS[name] for name in further}}
    return Features({name: feature(kind) for name, kind in kinds.items()})


def shard_tables(
    rows: Sequence[ShardRow], classes: tuple[str, ...], settings: GenerationSettings, further: tuple[str, ...] = ()
) -> Iterator[pa.Table]:
    """Yield the shard of `rows` in tables, each of which is to be a row group; a small shard is one.

    They have the schema metadata that `datasets` reads.

    Args:
        rows: of the shard.
        classes: ids.
        settings: of all of them.
        further: the columns out of `FURTHER_COLUMNS` that shards of the run have.
    """
    start = size = 0
    for place, row in enumerate(rows):
        more = len(row.image or b"")
        if place > start and (size + more > _GROUP_BYTES or place - start == _GROUP_ROWS):
            yield _table(rows[start:place], classes, settings, further)
            start, size = place, 0
        size += more
    yield _table(rows[start:], classes, settings, further)


def _table(
    rows: Sequence[ShardRow], classes: tuple[str, ...], settings: GenerationSettings, further: tuple[str, ...]
) -> pa.Table:
    columns = {
        "key": [r.row.key for r in rows],
        "image": [{"bytes": r.image, "path": _path(r, settings)} if r.image is not None else None for r in rows],
        "label": [r.row.label for r in rows],
        "class_name": [r.row.class_name for r in rows],
        "recipe": [r.row.recipe for r in rows],
        "source_keys": [list(r.row.source_keys) for r in rows],
        "lam": [r.draws.lam for r in rows],
        "share": [r.draws.share for r in rows],
        "weights": [list(r.draws.weights) for r in rows],
        "seed": [r.row.seed for r in rows],
        "prompt": [r.row.prompt for r in rows],
        "guidance_scale": [settings.guidance_scale] * len(rows),
        "steps": [settings.steps] * len(rows),
        "generator": [settings.generator] * len(rows),
        "revision": [settings.revision] * len(rows),
        "status": [r.status for r in rows],
        "error": [r.error for r in rows],
    }
    if "other_label" in further:
        labels = {class_id: label for label, class_id in enumerate(classes)}
        columns["other_label"] = [labels[r.row.other_class] if r.row.other_class else None for r in rows]
        columns["label_share"] = [r.draws.share if r.row.other_class else None for r in rows]
    if "away_from" in further:
        columns["away_from"] = [settings.away_from.get(r.row.class_id) if r.row.source_keys else None for r in rows]
    return pa.Table.from_pydict(columns, schema=shard_features(classes, further).arrow_schema)


def _path(row: ShardRow, settings: GenerationSettings) -> str:
    """Return a file name for tools that want one; the bytes lie in the shard."""
    return row.row.key.replace("/", "-") + settings.extension


def shard_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Return whole columns of the shard at `path`, in chunks of a row group.

    Args:
        path: the shard.
        columns: names out of `COLUMNS`, and the further ones that it has; of a large shard, the images may not fit into
            memory.

    Raises:
        CorruptRunError: the file is missing or damaged, or no shard.
    """
    return pa.concat_tables(shard_groups(path, columns))


def shard_rows(
    path: Path, columns: Sequence[str], places: Sequence[int] | np.ndarray | None = None
) -> Iterator[dict[str, Any]]:
    """Yield rows of the shard at `path` as plain values by column; what is in memory at once is one row group.

    Args:
        path: the shard.
        columns: names out of `COLUMNS`.
        places: which rows of the shard, ascending; all where None.

    Raises:
        CorruptRunError: the file is missing or damaged, or no shard, or has fewer rows.
    """
    wanted = None if places is None else np.asarray(places, dtype=np.int64)
    if wanted is not None and (np.diff(wanted) < 0).any():
        raise ValueError("the places of rows must ascend")
    start = 0
    for group in shard_groups(path, columns):
        stop = start + group.num_rows
        if wanted is not None:
            group = group.take(pa.array(wanted[(wanted >= start) & (wanted < stop)] - start))
        for first in range(0, group.num_rows, _AT_ONCE):
            yield from group.slice(first, _AT_ONCE).to_pylist()
        start = stop
    if wanted is not None and len(wanted) and wanted[-1] >= start:
        raise CorruptRunError(f"{path} has {start} rows, not {wanted[-1] + 1} at least")


def shard_groups(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield columns of the shard at `path`, row group by row group; see `shard_columns`."""
    unknown = [name for name in columns if name not in COLUMNS and name not in FURTHER_COLUMNS]
    if unknown:
        raise ValueError(f"a shard has no column {', '.join(unknown)}: expected some of {', '.join(COLUMNS)}")
    try:
        yield from read_groups(path, columns)
    except MemoryError:
        raise  # Arrow's is an error of its own, too: the file may be whole
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            # Permissions, a failing disk: it may be whole.
            raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error
        reason = " ".join(str(error).split())
        raise CorruptRunError(
            f"the shard {path} cannot be read: {reason}. Delete it and run augcond generate again, which makes it anew"
        ) from error
