"""What there is to know of an encoded image, found here or in processes of their own.

Threads alone do not use all cores: half of the work on a photograph of 500 pixels is Python's own. A process is given
images over its standard input, and tells what came of each (`examiner.py`). It ends with its input, so with its parent.
An image that ends it, by a fault in a library or for want of memory, is one that cannot be used.
"""

from __future__ import annotations

import hashlib
import pickle
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from queue import LifoQueue
from typing import IO, TYPE_CHECKING, Any, cast

from augcond.datasets.decoding import examine
from augcond.datasets.look_alikes import look_of
from augcond.errors import ImageError, LargeImageError
from augcond.processes import start_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from augcond.datasets.base import DecodeSettings

_TRIES = 2
"""Of one image, before the end of a process is held to be its doing: something else may have killed it."""


_PIPE_BYTES = 1 << 20
"""A block of small images fits: writing it waits for nobody."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of decoding one file.

    Attributes:
        sha256: hex digest of its bytes; empty where they could not be read.
        width: in pixels, upright; 0 where it cannot be used.
        height: in pixels, upright; 0 where it cannot be used.
        reason: why it cannot be used; None where it can.
        paths: see `ImageRecord.paths`.
        look: see `ImageRecord.look`.
    """

    sha256: str
    width: int
    height: int
    reason: str | None = None
    paths: tuple[str, ...] = ()
    look: bytes = b""


def outcome_of(data: bytes, settings: DecodeSettings) -> Outcome:
    """Return what came of an encoded image.

    Raises:
        ConfigError: `settings` are wrong.
        LargeImageError: see `leave_large_ones`.
    """
    digest = hashlib.sha256(data).hexdigest()
    try:
        found = examine(data, settings)
    except LargeImageError:
        raise
    except ImageError as error:
        return Outcome(digest, 0, 0, str(error))
    return Outcome(digest, found.width, found.height, paths=found.paths, look=look_of(found.small))


class Examiners:
    """Processes that examine images. Close them.

    Args:
        settings: how images are decoded.
        most: so many processes; of more threads than these some wait.
    """

    def __init__(self, settings: DecodeSettings, most: int) -> None:
        self._settings = settings
        self._started: list[subprocess.Popen[bytes]] = []
        self._places: LifoQueue[subprocess.Popen[bytes] | None] = LifoQueue()
        for _ in range(most):
            self._places.put(None)

    def examine(self, block: Sequence[bytes]) -> Iterator[Outcome]:
        """Yield what came of each of some images.

        Raises:
            AugcondError: what is wrong is about more than one image.
        """
        found = self._ask(block)
        if isinstance(found, int):  # one of them ended the process
            yield from map(self._examine_alone, block)
            return
        for outcome, data in zip(found, block, strict=True):
            yield outcome or outcome_of(data, self._settings)

    def _examine_alone(self, data: bytes) -> Outcome:
        code = 0
        for _ in range(_TRIES):
            found = self._ask([data])
            if not isinstance(found, int):
                return found[0] or outcome_of(data, self._settings)
            code = found
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        return Outcome(hashlib.sha256(data).hexdigest(), 0, 0, f"ends the process that decodes it ({how})")

    def _ask(self, block: Sequence[bytes]) -> Sequence[Outcome | None] | int:
        """Return what a process says, None of an image that is to be examined here; or with what it ended."""
        process = self._places.get()
        try:
            process = process or self._start()
            tell(process.stdin, tuple(block))
            found = pickle.load(cast("IO[bytes]", process.stdout))  # noqa: S301 - of ourselves
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            code, process = cast("subprocess.Popen[bytes]", process).wait(), None
            return code
        finally:
            self._places.put(process)
        if isinstance(found, Exception):
            raise found
        return cast("Sequence[Outcome | None]", found)

    def _start(self) -> subprocess.Popen[bytes]:
        process = start_process(
            "augcond.datasets.examiner", stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=_PIPE_BYTES
        )
        self._started.append(process)
        tell(process.stdin, self._settings)
        return process

    def close(self) -> None:
        """End all processes; none is being asked."""
        for process in self._started:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):  # of what one that had ended never read
                    cast("IO[bytes]", pipe).close()


def tell(pipe: IO[bytes] | None, what: Any) -> None:
    """Write something to a pipe that is there, for `pickle` to read."""
    file = cast("IO[bytes]", pipe)
    pickle.dump(what, file, protocol=pickle.HIGHEST_PROTOCOL)
    file.flush()
