"""What a shard holds: one row per attempted image, in plan order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa

from augcond.conditioning.base import Draws
from augcond.planning import PlanRow

if TYPE_CHECKING:
    import datasets

OK = "ok"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """What every row of a run was generated with, as columns of the shard.

    Attributes:
        guidance_scale: classifier-free guidance scale; 1 is no guidance.
        steps: denoising steps.
        generator: name and model, such as `stable-unclip:builtin`.
        revision: commit hash, or `sha256:...` of a local folder.
        extension: of the stored images, with its dot.
    """

    guidance_scale: float
    steps: int
    generator: str
    revision: str
    extension: str


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
def shard_features(classes: tuple[str, ...]) -> datasets.Features:
    """Return the columns of a shard as Hugging Face features: `image` is an Image, `label` a ClassLabel."""
    from datasets import ClassLabel, Features, Image, Sequence, Value

    return Features(
        {
            "key": Value("string"),
            "image": Image(),
            "label": ClassLabel(names=list(classes)),
            "class_name": Value("string"),
            "recipe": Value("string"),
            "source_keys": Sequence(Value("string")),
            "lam": Value("float64"),
            "share": Value("float64"),
            "weights": Sequence(Value("float64")),
            "seed": Value("int64"),
            "prompt": Value("string"),
            "guidance_scale": Value("float64"),
            "steps": Value("int32"),
            "generator": Value("string"),
            "revision": Value("string"),
            "status": Value("string"),
            "error": Value("string"),
        }
    )


def shard_table(rows: Sequence[ShardRow], classes: tuple[str, ...], settings: GenerationSettings) -> pa.Table:
    """Return the shard of `rows` as a table with the schema metadata that `datasets` reads."""
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
    return pa.Table.from_pydict(columns, schema=shard_features(classes).arrow_schema)


def _path(row: ShardRow, settings: GenerationSettings) -> str:
    """Return a file name for tools that want one; the bytes lie in the shard."""
    return row.row.key.replace("/", "-") + settings.extension
