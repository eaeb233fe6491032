"""What claims and commits do to files, one operation at a time: each is whole or has not happened, wherever it is seen.

All that two processes may do at once to one run goes through here, so that tests can let them take turns at it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from augcond.files import file_sha256, naming, sync_folder

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV)
"""What file systems without hard links answer: vfat, FUSE mounts of object stores."""


class FileOperations:
    """The operations on real files."""

    def publish(self, temporary: Path, path: Path) -> bool:
        """Give a small finished file its name, unless that is taken: of several that publish at `path`, one succeeds.

        Where there are hard links, `path` is there whole or not at all. Elsewhere it is written in place, and a process
        that is killed leaves a part of it; who finds it may move it away, and then nothing was published.

        Raises:
            FileNotFoundError: `temporary` is gone.
        """
        linked = _linked(temporary, path)
        return self._write_in_place(temporary.read_bytes(), path) if linked is None else linked

    def _write_in_place(self, data: bytes, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with naming(path), os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            try:
                return os.path.samestat(os.fstat(descriptor), path.stat())
            except FileNotFoundError:
                return False

    def link(self, temporary: Path, path: Path) -> bool:
        """Give a large finished file a second name, unless that is taken or there are no links here.

        Raises:
            FileNotFoundError: `temporary` is gone.
        """
        return bool(_linked(temporary, path))

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Write a file of a name that nobody else writes to; `durable`: so that it outlives a power cut."""
        with naming(path), path.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())

    def read(self, path: Path) -> bytes | None:
        """Return the bytes of a file, None where there is none; nothing of a folder, or of a pipe, which has no end."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return b""
        with naming(path), os.fdopen(descriptor, "rb") as file:
            return file.read()

    def sha256(self, path: Path) -> str | None:
        """Return the hex digest of a file's bytes, None where there is none."""
        try:
            return file_sha256(path)
        except FileNotFoundError:
            return None

    def size(self, path: Path) -> int | None:
        """Return the size of a file in bytes, None where there is none."""
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None

    def move(self, path: Path, to: Path) -> bool:
        """Rename a file to a name that nobody else writes to; return whether it was there.

        Raises:
            IsADirectoryError: it is a folder, which is somebody's.
        """
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "A folder is in its place: remove it", str(path))
        try:
            path.replace(to)
        except FileNotFoundError:
            return False
        return True

    def take_away(self, path: Path, judged: bytes, aside: Path) -> bytes | None:
        """Rename a file of these contents, and no other, to `aside`, where nobody else writes.

        Returns:
            What lies there now; None where the file had gone or become another, which stays.
        """
        if not self.move(path, aside):
            return None
        taken = self.read(aside)
        # It became another between the two looks: it goes back, unless there is a third one by now.
        if taken is not None and taken != judged and self.publish(aside, path):
            self.remove(aside)
            return None
        return judged if taken is None else taken

    def rename(self, path: Path, to: Path) -> None:
        """Do what `move` does with a file that has to be there.

        Raises:
            FileNotFoundError: it is not.
        """
        path.replace(to)

    def sync(self, folder: Path) -> None:
        """Make the names in `folder` survive a power cut."""
        sync_folder(folder)

    def remove(self, path: Path) -> None:
        """Delete a file, if it is there."""
        path.unlink(missing_ok=True)

    def is_there(self, folder: Path) -> bool:
        """Return whether a folder is there."""
        return folder.is_dir()

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder, sorted."""
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _linked(temporary: Path, path: Path) -> bool | None:
    """Return whether `path` is a second name of `temporary` now; None where there are no hard links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # On NFS a link may be made and its answer lost; the second try finds the first one's.
        try:
            return temporary.samefile(path)
        except FileNotFoundError:
            return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return None
    return True


REAL = FileOperations()
