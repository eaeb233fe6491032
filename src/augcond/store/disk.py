"""What a run takes on the disk, by kind of file, and what of it can go at any time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from augcond.files import TEMPORARY
from augcond.store.claims import PLAN, TRAINING
from augcond.store.names import FILES
from augcond.store.verifying import kind_of

if TYPE_CHECKING:
    from augcond.store.folder import RunFolder

HALF_WRITTEN: Final = "half-written"
"""What a killed process left."""
FOREIGN: Final = "not augcond's"


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a run folder.

    Attributes:
        path: where it lies.
        kind: as in `FILES`, or one of the two above.
        bytes: its size; 0 where another name of the same file was counted.
    """

    path: Path
    kind: str
    bytes: int

    @property
    def spare(self) -> bool:
        """Whether it can go at any time when nobody is at work."""
        return self.kind == HALF_WRITTEN or (self.kind in FILES and FILES[self.kind].spare)


def files_of(folder: RunFolder) -> Iterator[Found]:
    """Yield every file in a run folder, those that must stay first; links are not followed."""
    seen: set[tuple[int, int]] = set()
    paths = (Path(parent, name) for parent, _, names in os.walk(folder.path) for name in names)
    named = [Found(path, _kind(path.relative_to(folder.path).as_posix()), 0) for path in paths]
    for file in sorted(named, key=lambda file: file.spare):
        try:
            state = file.path.lstat()
        except FileNotFoundError:
            continue  # somebody is at work
        same = (state.st_dev, state.st_ino)
        yield file if same in seen else replace(file, bytes=state.st_size)
        seen.add(same)


def _kind(name: str) -> str:
    return HALF_WRITTEN if name.endswith(TEMPORARY) else kind_of(name) or FOREIGN


def disk_by_kind(folder: RunFolder) -> dict[str, int]:
    """Return the bytes of a run folder by kind of file, the largest first."""
    found: Counter[str] = Counter()
    for file in files_of(folder):
        found[file.kind] += file.bytes
    return dict(found.most_common())


def spare_files(folder: RunFolder) -> list[Found]:
    """Return what `clean_run` would remove: caches, checkpoints, and what killed processes left half-written.

    Raises:
        RunError: there is no run, or a link in it leads out of it.
    """
    folder.read_config()
    return sorted((file for file in files_of(folder) if file.spare), key=lambda file: file.path)


def clean_run(folder: RunFolder) -> list[Found]:
    """Remove what `spare_files` finds, and return it; images, models, predictions and results stay.

    The next command makes anew what it needs of it; a training that was interrupted begins at its first step.

    Raises:
        RunError: see `spare_files`.
        RunLockedError: other processes work on the run.
    """
    spare_files(folder)  # before anything is written there
    complaint = f"other processes work on {folder.path}: stop them first"
    with folder.claims() as claims:
        claims.refuse_others(complaint)
        with claims.held(PLAN, complaint), claims.held(TRAINING, complaint):
            # Our own claims are half-written now and then.
            found = [file for file in spare_files(folder) if file.path.parent != folder.locks]
            for file in found:
                file.path.unlink(missing_ok=True)
    parents = {parent for file in found for parent in file.path.relative_to(folder.path).parents}
    for parent in sorted(parents, reverse=True):
        if parent.parts and folder.path / parent != folder.shards:
            with suppress(OSError):  # what somebody else put there stays
                (folder.path / parent).rmdir()
    return found
