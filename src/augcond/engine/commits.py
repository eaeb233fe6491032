"""From the rows of a shard that was made to its marker."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import torch

from augcond.store.commit import ShardFacts, ShardMarker, commit_shard, parse_marker
from augcond.store.folder import RunFolder
from augcond.store.pending import ClaimedShard
from augcond.store.plans import RunPlan
from augcond.store.shards import ShardRow, shard_tables

logger = logging.getLogger(__name__)

_LIBRARIES = ("augcond", "torch", "torchvision", "diffusers", "transformers", "pillow", "numpy", "pyarrow")


@dataclass(frozen=True, slots=True)
class MadeRows:
    """The rows of a shard; beside them see `ShardMarker`."""

    rows: Sequence[ShardRow]
    batch_size: int
    notes: tuple[str, ...]
    seconds: float


def commit_rows(made: MadeRows, claimed: ClaimedShard, folder: RunFolder, plan: RunPlan) -> ShardMarker | None:
    """Commit the rows of a claimed shard; see `commit_shard`."""
    number, fingerprint = claimed.number, plan.fingerprints[claimed.number]

    def holds_good(data: bytes) -> bool:
        if claimed.replaces is not None and parse_marker(data, folder.marker_path(number)) == claimed.replaces:
            return False
        return folder.holds_good(number, data, fingerprint)

    marker = commit_shard(
        shard_tables(made.rows, plan.classes, plan.columns, plan.further_columns),
        folder.shard_files(number, claimed.claim.attempt),
        ShardFacts(
            fingerprint=fingerprint,
            batch_size=made.batch_size,
            threads=torch.get_num_threads(),
            notes=made.notes,
            seconds=made.seconds,
            versions=library_versions(),
        ),
        holds_good,
        lambda: not folder.is_being_trained,
    )
    if marker is None:
        logger.info("shard %05d: another worker was quicker", number)
    return marker


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide an image's bytes."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}
