"""Fingerprints: what an image is defined by, and nothing of how it was computed.

Every key of the config says whether it defines images, and whether its value counts or what lies behind it
(`config/base.py`); nothing is listed here. What defines a row besides are its sources (their bytes), its seed, its
prompt, and the version of each path of computation that its sources take.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from augcond.conditioning import RECIPES, recipes_of
from augcond.config import OutputConfig, RunConfig
from augcond.config.base import ABSENT, counted, find_setting
from augcond.config.moved import as_of_0_1
from augcond.datasets import DecodeSettings
from augcond.datasets.base import DECODING_VERSIONS
from augcond.generators import GeneratorIdentity
from augcond.planning import OTHER_CLASS, Plan
from augcond.store.images import ImageFormat

LARGE, ONCE = "large", "once"
PATH_VERSIONS: Mapping[str, int] = {**DECODING_VERSIONS, "view": 1, LARGE: 2, ONCE: 2}
"""Goes up whenever a change of this code makes other images of the same settings, for the path of computation that it
changes, and then counts for the rows that take that path alone. Sources say which they take (`ImageRecord.paths`);
`view` is taken by every row of a recipe that shows its sources to the image encoder, `large` by every row with a source
that is much larger than it is shown (2: such a JPEG is decoded at a fraction of its size). `once` changes rounding
alone, and counts for no row (2: embeddings of whole views are computed in blocks, once)."""

KEPT_PATHS = frozenset({LARGE, ONCE})
"""Paths that can still be computed as before: a run goes on as it began. Of others its shards are made anew."""

_CHUNK = 65_536
"""Rows whose definitions are text in memory at once."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What of the real images decides which images are made of them.

    Attributes:
        sha256: of each image's bytes, by key.
        paths: the paths of computation that each takes; those that are not known take all.
        versions: of the paths, that the rows were or will be computed with; 1 for those left out.
    """

    sha256: Mapping[str, str]
    paths: Mapping[str, tuple[str, ...]]
    versions: Mapping[str, int]


_OF_THE_GENERATOR: Final = frozenset({"name", "model", "revision", "size", "background"})
"""Settings that stand as what they stand for."""


def image_settings(
    config: RunConfig,
    identity: GeneratorIdentity,
    decoding: DecodeSettings,
    image_format: ImageFormat,
    image_size: tuple[int, int],
    away_from: Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Return, as nested plain values, every setting that all images of a run share.

    Keys stand where 0.1 had them, and `auto` and null as what they stand for: neither a key that moved nor one that is
    spelled out makes another run.

    Args:
        config: the run.
        identity: which weights make the images.
        decoding: of the real images.
        image_format: of the generated ones.
        image_size: at which they are generated, height and width.
        away_from: of each class, the id of the class whose images guidance leads away from, and which these are
            (`Dataset.contents_sha256`); None where it leads away from no image.
    """
    generated = _edge(image_size)
    # Functions of one's own cannot be hashed: they say themselves when they have become others.
    revised = {recipe.name: recipe.revision for recipe in recipes_of(config.conditioning) if recipe.revision}
    return {
        "images_version": 1,  # of 0.1; see PATH_VERSIONS
        "generator": {
            "name": identity.name,
            "model": identity.model,
            "revision": identity.revision,
            **as_of_0_1(counted(config.generator, "images")),
            "size": generated,
        },
        "conditioning": counted(config.conditioning, "images"),
        "data": {**counted(config.data, "real"), "background": decoding.background},
        "plan": counted(config.plan, "images"),
        "output": {
            **_output(config.output, image_format),
            "format": image_format.name,
            "quality": image_format.quality,
            "size": image_format.size or generated,
        },
        **({"recipes": revised} if revised else {}),
        **({"away_from": {name: list(other) for name, other in away_from.items()}} if away_from else {}),
    }


def _output(config: OutputConfig, image_format: ImageFormat) -> dict[str, Any]:
    stored = counted(config, "images")
    if config.effort is None:
        stored.pop("effort")
        if image_format.name == "webp":
            stored["effort"] = image_format.effort
    return stored


def as_begun(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return `config` with what it leaves to augcond as the run that recorded `settings` was begun: defaults change."""
    begun, output = settings["output"], config.output
    format_ = begun["format"] if output.format == "auto" else output.format
    effort = begun.get("effort", 4) if output.effort is None else output.effort
    return config.model_copy(update={"output": output.model_copy(update={"format": format_, "effort": effort})})


def with_kept_defaults(config: RunConfig, kept: RunConfig) -> RunConfig:
    """Return `config` with the defaults that its run was begun with: of those that have changed, what it does not set.

    Args:
        config: as it is asked for now.
        kept: the config that the run keeps, whose keys of a later version have their neutral values.
    """
    generator, training, evaluation = config.generator, config.training, config.evaluation
    if "steps" not in generator.model_fields_set:
        generator = generator.model_copy(update={"steps": kept.generator.steps})
    if "ceiling_counts" not in training.model_fields_set:
        training = training.model_copy(update={"ceiling_counts": kept.training.ceiling_counts})
    if "features" not in evaluation.model_fields_set:
        evaluation = evaluation.model_copy(update={"features": kept.evaluation.features})
    return config.model_copy(update={"generator": generator, "training": training, "evaluation": evaluation})


def spelled_out(settings: Mapping[str, Any], native_size: tuple[int, int] | None) -> dict[str, Any]:
    """Return the settings that a run of any version recorded, with what 0.1 left to be understood.

    Args:
        settings: from `plan.parquet`.
        native_size: height and width at which those weights make images by themselves; None where that is not known.
    """
    generator = as_of_0_1(settings["generator"])
    size = generator["size"] or (None if native_size is None else _edge(native_size))
    output = settings["output"]
    return {
        **settings,
        "generator": {**generator, "size": size},
        "output": {**output, "size": output["size"] or size},
    }


def _edge(size: tuple[int, int]) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)


def row_fingerprints(rows: pa.Table, settings: Mapping[str, Any], sources: SourceFacts) -> Iterator[str]:
    """Yield the hex digest of what defines the image of each row.

    Args:
        rows: rows of a plan; their places in it do not count.
        settings: what all rows share, as the run recorded them.
        sources: of every real image.
    """
    shared = _digest(settings)
    keys = pa.array(sources.sha256.keys(), pa.string())
    hashes = pa.array(sources.sha256.values(), pa.string())
    later = {path: version for path, version in sources.versions.items() if version != 1 and path != ONCE}
    for start in range(0, rows.num_rows, _CHUNK):
        chunk = rows.slice(start, _CHUNK).combine_chunks()
        used = chunk["source_keys"].combine_chunks()
        contents = hashes.take(pc.index_in(used.flatten(), value_set=keys))
        # Which sources are the same image decides what is cropped, so their keys count beside their contents.
        lines = pc.binary_join_element_wise(
            shared,
            chunk["key"],
            chunk["class_id"].cast(pa.string()),
            chunk["seed"].cast(pa.string()),
            chunk["prompt"].cast(pa.string()),
            pc.binary_join(used, "\0"),
            pc.binary_join(pa.ListArray.from_arrays(_offsets(used), contents), "\0"),
            "\0",
        ).to_pylist()
        if OTHER_CLASS.name in chunk.column_names:
            others = chunk[OTHER_CLASS.name].cast(pa.string()).to_pylist()
            lines = [f"{line}\0other={other}" if other else line for line, other in zip(lines, others, strict=True)]
        if later:
            taken = row_paths(chunk, sources.paths, later)
            lines = [line + _versions(paths, later) for line, paths in zip(lines, taken, strict=True)]
        yield from (hashlib.sha256(line.encode()).hexdigest() for line in lines)


def row_paths(rows: pa.Table, paths: Mapping[str, tuple[str, ...]], among: Mapping[str, int]) -> list[set[str]]:
    """Return, for each row, which of the paths of computation in `among` it takes.

    Args:
        rows: of a plan.
        paths: see `SourceFacts`.
        among: the paths to look for.
    """
    blind = {name for name, recipe in RECIPES.items() if not recipe.with_image}
    found = []
    for recipe, keys in zip(rows["recipe"].to_pylist(), rows["source_keys"].to_pylist(), strict=True):
        taken = {path for key in keys for path in paths.get(key, tuple(among))} - {"view"}
        if keys and recipe not in blind:
            taken.add("view")
        found.append(taken & among.keys())
    return found


def _versions(paths: set[str], later: Mapping[str, int]) -> str:
    return "".join(f"\0{path}={later[path]}" for path in sorted(paths))


def shard_fingerprints(plan: Plan, settings: Mapping[str, Any], sources: SourceFacts) -> list[str]:
    """Return one hex digest per shard, over its rows, their labels and their class names, in order."""
    rows = row_fingerprints(plan.table, settings, sources)
    fingerprints = []
    for start, stop in plan.bounds():
        shard = plan.table.slice(start, stop - start)
        # `rows` stands last: zip takes nothing of it once the labels are used up.
        named = zip(shard["label"].to_pylist(), shard["class_name"].to_pylist(), rows, strict=False)
        text = "".join(f"{label}\0{name}\0{row}\n" for label, name, row in named)
        fingerprints.append(hashlib.sha256(text.encode()).hexdigest())
    return fingerprints


def outdated_shards(plan: Plan, sources: SourceFacts) -> list[int]:
    """Return the shards with a row that takes a path which can no longer be computed in its version of `sources`."""
    changed = {path: PATH_VERSIONS[path] for path in changed_paths(sources.versions)}
    if not changed:
        return []
    takes = np.array([bool(paths) for paths in row_paths(plan.table, sources.paths, changed)])
    return [number for number, (start, stop) in enumerate(plan.bounds()) if takes[start:stop].any()]


def changed_paths(versions: Mapping[str, int]) -> list[str]:
    """Return the paths that can no longer be computed in the `versions` that a run recorded."""
    return [p for p, version in PATH_VERSIONS.items() if versions.get(p, 1) != version and p not in KEPT_PATHS]


def versions_of(recorded: Mapping[str, int]) -> dict[str, int]:
    """Return the versions of the paths that a run goes on with which recorded some."""
    return {**PATH_VERSIONS, **{path: recorded.get(path, 1) for path in KEPT_PATHS}}


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _offsets(lists: pa.ListArray) -> pa.Array:
    """Return offsets that start at 0, which those of a slice do not."""
    return pc.subtract(lists.offsets, lists.offsets[0])


def otherwise_configured(config: RunConfig, settings: Mapping[str, Any]) -> list[str]:
    """Return which keys of the config that a run keeps are not what its plan recorded, a line each.

    Of those that define its images; what only its generator can tell, such as which weights a model stands for, is left
    to who loads it.
    """
    asked: dict[str, Any] = {
        "data": counted(config.data, "real"),
        "plan": counted(config.plan, "images"),
        "conditioning": counted(config.conditioning, "images"),
        "generator": as_of_0_1(counted(config.generator, "images")),
    }
    found: list[str] = []
    for name, values in json.loads(json.dumps(asked)).items():
        both = (values.keys() & settings[name].keys()) - _OF_THE_GENERATOR
        recorded, wanted = ({key: each[key] for key in sorted(both)} for each in (settings[name], values))
        found += differences(recorded, wanted, f"{name}.")
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield one line per setting that differs, such as `generator.steps: the run has 20, this config 50`."""
    for key in dict.fromkeys((*old, *new)):
        setting = find_setting(RunConfig, (*prefix.split(".")[:-1], key))
        # What is left out stands at its neutral value.
        neutral = None if setting is None or setting.neutral is ABSENT else setting.neutral
        before, after = old.get(key, neutral), new.get(key, neutral)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}: the run has {before!r}, this config {after!r}"
