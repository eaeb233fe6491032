"""Which shards of a run are still to be made, and what killed workers left of others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from augcond.files import TEMPORARY
from augcond.store.claims import TRAINING, Claim, Claims
from augcond.store.commit import ShardFiles, ShardMarker, named_file
from augcond.store.folder import RunFolder
from augcond.store.operations import REAL, FileOperations
from augcond.store.plans import RunPlan


@dataclass(frozen=True, slots=True)
class ClaimedShard:
    """A shard that this worker may make.

    Attributes:
        number: which.
        claim: on it.
        replaces: the marker that it has, and which does not count as done here.
    """

    number: int
    claim: Claim
    replaces: ShardMarker | None


class PendingShards:
    """The shards of a plan that are not done, as far as this worker knows; it claims them one by one.

    Args:
        folder: the run.
        plan: its plan.
        claims: of this worker.
        only: the numbers that are asked for; all where None.
        retry_failed: shards with failed rows count as not done, as long as nobody has made them anew.
        on_done: told of each marker that another worker has committed.
    """

    def __init__(
        self,
        folder: RunFolder,
        plan: RunPlan,
        claims: Claims,
        *,
        only: Collection[int] | None = None,
        retry_failed: bool = False,
        on_done: Callable[[ShardMarker], None] = lambda marker: None,
    ) -> None:
        self._folder, self._plan, self._claims, self._on_done = folder, plan, claims, on_done
        markers = folder.markers(plan)
        numbers = range(len(markers)) if only is None else sorted(only)
        self._replaced = {number: marker for number in numbers if (marker := markers[number]) and marker.failed}
        if not retry_failed:
            self._replaced = {}
        # A dictionary, because shards go from its midst.
        self._left = dict.fromkeys(number for number in numbers if markers[number] is None or number in self._replaced)

    def __len__(self) -> int:
        """Return how many are not done, as far as is known; those in hand do not count."""
        return len(self._left)

    @property
    def numbers(self) -> list[int]:
        """Those that are not done, as far as is known."""
        return list(self._left)

    def take(self) -> ClaimedShard | None:
        """Claim the first that can be claimed; None where all that are left are in other hands, or none is.

        The number of file operations depends on how many workers there are, not on how many shards.
        """
        self._claims.bury_dead()
        claimed = self._claims.names()
        for number in list(self._left):
            name = f"{number:05d}"
            if name in claimed or self._is_done(number):
                continue
            claim = self._claims.take(name)
            if claim is None:
                continue
            # It may have been committed, and its claim given back, between the two looks.
            if self._is_done(number):
                self._claims.give_back(claim)
                continue
            del self._left[number]
            return ClaimedShard(number, claim, self._replaced.get(number))
        return None

    def put_back(self, number: int) -> None:
        """Take note that this worker has not committed `number`, which it had taken."""
        if self._folder.done(number, self._plan.fingerprints[number]) is None:
            self._left[number] = None

    def _is_done(self, number: int) -> bool:
        marker = self._folder.done(number, self._plan.fingerprints[number])
        if marker is None or marker == self._replaced.get(number):
            return False
        del self._left[number]
        self._on_done(marker)
        return True


def tidy(folder: RunFolder, claims: Claims, *, finished: bool) -> None:
    """Delete what nobody is at any more, beside workers and readers.

    Args:
        folder: the run.
        claims: of this worker.
        finished: whether all shards are done, so that no marker will be published any more: then the files that no
            marker names go, too.
    """
    tidy_shards(folder.shards, lambda number: folder.shard_files(number, ""), claims, REAL, finished=finished)
    if finished:
        # Who still writes embeddings does without.
        for path in folder.embeddings_path(0).parent.glob(f"*{TEMPORARY}"):
            REAL.remove(path)


def tidy_shards(
    shards: Path,
    files_of: Callable[[int], ShardFiles],
    claims: Claims,
    operations: FileOperations,
    *,
    finished: bool,
) -> None:
    """Do what `tidy` does.

    A file of an attempt that is still at work has a claim, which was there before it and goes after it. So the files
    are listed first.
    """
    claims.bury_dead(at_once=True)
    names = operations.names(shards)
    claimed = claims.claimed()
    attempts = {claim.attempt for claim in claimed.values()}
    unclear: dict[int, list[str]] = {}
    for name in names:
        number, *middle = name.split(".")[:-1] or [""]
        if not number.isdecimal() or number in claimed:
            continue
        if name.endswith(TEMPORARY):
            if middle and middle[-1] not in attempts:
                operations.remove(shards / name)
        elif name.endswith(".parquet") or name == files_of(int(number)).unfit.name:
            unclear.setdefault(int(number), []).append(name)
    if not finished or TRAINING in claimed:
        return
    for place, found in unclear.items():
        files = files_of(place)
        # Most shards have their plain file alone, and no marker need be read for it.
        if found != [files.shard.name] and (data := operations.read(files.marker)) is not None:
            named = named_file(data, files)
            for name in found if named in found else ():
                if name != named:
                    operations.remove(shards / name)
