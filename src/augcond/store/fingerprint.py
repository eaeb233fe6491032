"""Fingerprints: what an image is defined by, and nothing of how it was computed.

Sources, recipe, generator, revision, sampling, prompts, seeds, size and format count. Engine, batch size, device,
dtype, compilation and shard size do not: they are recorded in each shard's marker.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from augcond.config import RunConfig
from augcond.config.base import counted
from augcond.datasets import DecodeSettings
from augcond.generators import GeneratorIdentity
from augcond.planning import Plan
from augcond.store.images import ImageFormat

IMAGES_VERSION = 1
"""Goes up whenever a change of this code makes other images of the same settings."""

_CHUNK = 65_536
"""Rows whose definitions are text in memory at once."""


def image_settings(
    config: RunConfig, identity: GeneratorIdentity, decoding: DecodeSettings, image_format: ImageFormat
) -> dict[str, Any]:
    """Return, as nested plain values, every setting that all images of a run share."""
    conditioning = config.conditioning.model_dump(mode="json", exclude={"recipe"})
    sampling = counted(config.generator, "images")
    return {
        "images_version": IMAGES_VERSION,
        "generator": {
            "name": identity.name,
            "model": identity.model,
            "revision": identity.revision,
            **sampling,
        },
        "conditioning": conditioning,
        "data": {"background": decoding.background},
        "plan": {"seed": config.plan.seed},
        "output": {"format": image_format.name, "quality": image_format.quality, "size": image_format.size},
    }


def row_fingerprints(rows: pa.Table, settings: Mapping[str, Any], source_hashes: Mapping[str, str]) -> Iterator[str]:
    """Yield the hex digest of what defines the image of each row.

    Args:
        rows: rows of a plan; their places in it do not count.
        settings: what all rows share, from `image_settings`.
        source_hashes: sha256 of every real image, by key.
    """
    shared = _digest(settings)
    keys = pa.array(source_hashes.keys(), pa.string())
    hashes = pa.array(source_hashes.values(), pa.string())
    for start in range(0, rows.num_rows, _CHUNK):
        chunk = rows.slice(start, _CHUNK).combine_chunks()
        sources = chunk["source_keys"].combine_chunks()
        contents = hashes.take(pc.index_in(sources.flatten(), value_set=keys))
        # Which sources are the same image decides what is cropped, so their keys count beside their contents.
        lines = pc.binary_join_element_wise(
            shared,
            chunk["key"],
            chunk["class_id"].cast(pa.string()),
            chunk["seed"].cast(pa.string()),
            chunk["prompt"].cast(pa.string()),
            pc.binary_join(sources, "\0"),
            pc.binary_join(pa.ListArray.from_arrays(_offsets(sources), contents), "\0"),
            "\0",
        )
        yield from (hashlib.sha256(line.encode()).hexdigest() for line in lines.to_pylist())


def shard_fingerprints(plan: Plan, settings: Mapping[str, Any], source_hashes: Mapping[str, str]) -> list[str]:
    """Return one hex digest per shard, over its rows, their labels and their class names, in order."""
    rows = row_fingerprints(plan.table, settings, source_hashes)
    fingerprints = []
    for start, stop in plan.bounds():
        shard = plan.table.slice(start, stop - start)
        # `rows` stands last: zip takes nothing of it once the labels are used up.
        named = zip(shard["label"].to_pylist(), shard["class_name"].to_pylist(), rows, strict=False)
        text = "".join(f"{label}\0{name}\0{row}\n" for label, name, row in named)
        fingerprints.append(hashlib.sha256(text.encode()).hexdigest())
    return fingerprints


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _offsets(lists: pa.ListArray) -> pa.Array:
    """Return offsets that start at 0, which those of a slice do not."""
    return pc.subtract(lists.offsets, lists.offsets[0])


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield one line per setting that differs, such as `generator.steps: the run has 20, this config 50`."""
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}: the run has {before!r}, this config {after!r}"
