"""A person's eye: generated images that are left out of all that follows, and stay in their shards.

RUN/rejected.json holds their keys, and nothing else of a run changes: taking a key out of it brings the image back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from augcond.errors import CorruptRunError, RunError
from augcond.sealed import read_json, write_json
from augcond.store.claims import TRAINING
from augcond.store.commit import read_marker, those_that_hold_good
from augcond.store.names import FILES
from augcond.store.plans import recorded_settings
from augcond.store.shards import OK, shard_columns

if TYPE_CHECKING:
    from augcond.store.folder import RunFolder
    from augcond.store.plans import RunPlan


def rejected_keys(folder: RunFolder) -> frozenset[str]:
    """Return the keys of the images that were rejected; whoever gives images of a run to others leaves them out.

    Raises:
        CorruptRunError: RUN/rejected.json is not what augcond wrote.
    """
    path, mend = folder.rejected_path, FILES["rejected"].mend
    try:
        about = read_json(path, mend).content
    except FileNotFoundError:
        return frozenset()
    keys, of = about.get("keys"), about.get("of")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CorruptRunError(f"{path} is not what augcond wrote: it holds no keys; {mend}")
    # Keys are alike in all runs. What is asked here is asked without a plan, too.
    if of is not None and folder.plan_path.exists() and of != _identity(folder):
        raise CorruptRunError(f"{path} is of another run than plan.parquet: {mend}")
    return frozenset(keys)


def _identity(folder: RunFolder) -> str:
    """Return a digest of the settings that all images of a run share, as it has them from its first plan on."""
    return hashlib.sha256(json.dumps(recorded_settings(folder.plan_path), sort_keys=True).encode()).hexdigest()


def reject_images(folder: RunFolder, keys: Collection[str]) -> int:
    """Leave images out of training, export, push and data sets of the run, and return how many were not left out yet.

    Args:
        folder: the run.
        keys: of its images, `class/index/recipe`.

    Raises:
        RunError: there is no run, or a key is none of an image that it has made.
        RunLockedError: another process trains the run, and has read which images were rejected.
    """
    with _no_training(folder) as plan:
        _check_made(folder, plan, keys)
        before = rejected_keys(folder)
        _write(folder, before.union(keys))
        return len(set(keys) - before)


def restore_images(folder: RunFolder, keys: Collection[str] | None = None) -> int:
    """Undo `reject_images` for `keys`, or for all where None, and return how many images are back.

    Raises:
        RunError: there is no run, or a key was not rejected.
        RunLockedError: see `reject_images`.
    """
    with _no_training(folder):
        before = rejected_keys(folder)
        for key in keys or ():
            if key not in before:
                raise RunError(f"{key!r} is not rejected in {folder.path}: augcond reject {folder.path} lists what is")
        back = before if keys is None else before.intersection(keys)
        _write(folder, before - back)
        return len(back)


@contextmanager
def _no_training(folder: RunFolder) -> Iterator[RunPlan]:
    """Keep trainings of the run from starting, and give its plan."""
    plan = folder.read_plan()
    folder.create()  # which refuses links out of it
    with folder.claims() as claims, claims.held(TRAINING, f"another process trains {folder.path}: wait for it"):
        yield plan


def _check_made(folder: RunFolder, plan: RunPlan, keys: Collection[str]) -> None:
    asked = pa.array(keys, pa.string())
    place = pc.index_in(asked, value_set=plan.plan.table["key"])
    if place.null_count:
        key = asked.filter(pc.is_null(place))[0].as_py()
        raise RunError(f"{key!r} is no image of {folder.path}: its keys read class/index/recipe, as in its report")
    made: set[str] = set()
    numbers = pc.unique(plan.plan.table["shard"].take(place)).to_pylist()
    markers = [read_marker(folder.marker_path(number)) for number in numbers]
    good = those_that_hold_good(markers, [plan.fingerprints[number] for number in numbers], folder.shards)
    for number, marker in zip(numbers, good, strict=True):
        if marker is not None:
            rows = shard_columns(folder.shard_path(number), ("key", "status"))
            made.update(rows.filter(pc.equal(rows["status"], OK))["key"].to_pylist())
    for key in keys:
        if key not in made:
            raise RunError(
                f"{key!r} has no image in {folder.path}: its row failed, or is not generated yet: "
                f"augcond status {folder.path} says how far it is"
            )


def _write(folder: RunFolder, keys: Collection[str]) -> None:
    write_json(folder.rejected_path, {"keys": sorted(keys), "of": _identity(folder)})
