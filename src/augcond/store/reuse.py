"""Take rows that another run has made already: those whose own fingerprint is equal."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from augcond.conditioning.base import Draws
from augcond.planning import PlanRow
from augcond.store.commit import read_marker
from augcond.store.fingerprint import SourceFacts, differences, row_fingerprints, spelled_out
from augcond.store.folder import RunFolder
from augcond.store.plans import RunPlan
from augcond.store.shards import OK, ShardRow, shard_rows

_COLUMNS = ("image", "lam", "share", "weights", "status")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    folder: RunFolder
    shard: int
    position: int


class ReusableRows:
    """Finished rows of other runs that a plan can take, because they are defined by the same.

    Args:
        plan: the plan that is to be filled.
        sources: the real images of this run.
        folders: the runs to take rows from.
    """

    def __init__(self, plan: RunPlan, sources: SourceFacts, folders: Sequence[RunFolder]) -> None:
        self._settings = plan.settings
        fingerprints = row_fingerprints(plan.plan.table, plan.settings, sources)
        self._wanted = dict(zip(fingerprints, plan.plan.table["key"].to_pylist(), strict=True))
        self._places: dict[str, _Place] = {}
        for folder in folders:
            other = folder.read_plan()
            native = plan.native_size
            unequal = list(differences(spelled_out(other.settings, native), spelled_out(plan.settings, native)))
            if unequal:
                logger.warning("nothing to reuse from %s: %s", folder.path, "; ".join(unequal))
            else:
                self._find(folder, other)

    def _find(self, folder: RunFolder, plan: RunPlan) -> None:
        # Settings that are equal may be written otherwise by an older version.
        facts = folder.read_source_facts(plan.versions)
        fingerprints = list(row_fingerprints(plan.plan.table, self._settings, facts))
        for shard, (marker, (start, stop)) in enumerate(zip(folder.markers(plan), plan.plan.bounds(), strict=True)):
            if marker is None:
                continue
            for position, fingerprint in enumerate(fingerprints[start:stop]):
                key = self._wanted.get(fingerprint)
                if key is not None:
                    self._places.setdefault(key, _Place(folder, shard, position))

    def __call__(self, rows: Sequence[PlanRow]) -> dict[str, ShardRow]:
        """Return finished rows by key, for those of `rows` that another run committed, as they were committed."""
        by_shard: dict[tuple[RunFolder, int], list[tuple[PlanRow, int]]] = {}
        for row in rows:
            place = self._places.get(row.key)
            if place is not None:
                by_shard.setdefault((place.folder, place.shard), []).append((row, place.position))
        found: dict[str, ShardRow] = {}
        for (folder, shard), entries in by_shard.items():
            marker = read_marker(folder.marker_path(shard))
            if marker is None or not folder.is_intact(shard, marker):
                logger.warning("%s: not what was committed; none of its rows is taken", folder.shard_path(shard))
                continue
            entries.sort(key=itemgetter(1))
            taken = shard_rows(folder.shard_path(shard), _COLUMNS, [position for _, position in entries])
            for (row, _), values in zip(entries, taken, strict=True):
                if values["status"] == OK:
                    draws = Draws(values["lam"], values["share"], tuple(values["weights"]))
                    found[row.key] = ShardRow(row, values["image"]["bytes"], draws)
        return found
