"""Fingerprints: what an image is defined by, and nothing of how it was computed.

Sources, recipe, generator, revision, sampling, prompts, seeds, size and format count. Engine, batch size, device,
dtype, compilation and shard size do not: they are recorded in each shard's marker.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from augcond.config import RunConfig
from augcond.datasets import DecodeSettings
from augcond.generators import GeneratorIdentity
from augcond.planning import Plan, PlanRow
from augcond.store.images import ImageFormat

IMAGES_VERSION = 1
"""Goes up whenever a change of this code makes other images of the same settings."""

_HOW_NOT_WHAT = {"model", "name", "revision", "dtype", "device", "compile"}


def image_settings(
    config: RunConfig, identity: GeneratorIdentity, decoding: DecodeSettings, image_format: ImageFormat
) -> dict[str, Any]:
    """Return, as nested plain values, every setting that all images of a run share."""
    conditioning = config.conditioning.model_dump(mode="json", exclude={"recipe"})
    sampling = config.generator.model_dump(mode="json", exclude=_HOW_NOT_WHAT)
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


def row_fingerprint(row: PlanRow, settings: str, source_hashes: Mapping[str, str]) -> str:
    """Return the hex digest of what defines the image of `row`.

    Args:
        row: the row; its place in the plan does not count.
        settings: digest of the run's settings, from `settings_fingerprint`.
        source_hashes: sha256 of every real image, by key.
    """
    sources = [source_hashes[key] for key in row.source_keys]
    # Which sources are the same image decides what is cropped, so keys count beside contents.
    parts = (settings, row.key, str(row.seed), row.prompt, *row.source_keys, *sources)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def settings_fingerprint(settings: Mapping[str, Any]) -> str:
    """Return the hex digest of nested plain values."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def shard_fingerprints(plan: Plan, settings: Mapping[str, Any], source_hashes: Mapping[str, str]) -> list[str]:
    """Return one hex digest per shard, over its rows and their labels in order."""
    digest = settings_fingerprint(settings)
    fingerprints: list[str] = []
    shards: Iterable[int] = plan.table["shard"].to_pylist()
    current, running = 0, hashlib.sha256()
    for shard, row in zip(shards, plan.rows(), strict=True):
        if shard != current:
            fingerprints.append(running.hexdigest())
            current, running = shard, hashlib.sha256()
        running.update(f"{row.label}\0{row.class_name}\0{row_fingerprint(row, digest, source_hashes)}\n".encode())
    if len(plan):
        fingerprints.append(running.hexdigest())
    return fingerprints


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield one line per setting that differs, such as `generator.steps: the run has 20, this config 50`."""
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}: the run has {before!r}, this config {after!r}"
