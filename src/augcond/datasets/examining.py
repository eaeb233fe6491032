"""What there is to know of an encoded image, found here or in processes of their own.

Threads alone do not use all cores: half of the work on a photograph of 500 pixels is Python's own. A process is given
images over its standard input, and tells what came of each (`examiner.py`). It ends with its input, so with its parent.
An image that ends it, by a fault in a library or for want of memory, is one that cannot be used.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from augcond.datasets.decoding import examine
from augcond.datasets.look_alikes import look_of
from augcond.errors import ImageError, LargeImageError
from augcond.processes import HelperEndedError, Helpers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from augcond.datasets.base import DecodeSettings

_TRIES = 2
"""Of one image, before the end of a process is held to be its doing: something else may have killed it."""


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
        self._helpers = Helpers("augcond.datasets.examiner", settings, most)

    def examine(self, block: Sequence[bytes]) -> Iterator[Outcome]:
        """Yield what came of each of some images.

        Raises:
            AugcondError: what is wrong is about more than one image.
        """
        try:
            found: Sequence[Outcome | None] = self._helpers.ask(tuple(block))
        except HelperEndedError:  # one of them ended it
            yield from map(self._examine_alone, block)
            return
        for outcome, data in zip(found, block, strict=True):
            yield outcome or outcome_of(data, self._settings)

    def _examine_alone(self, data: bytes) -> Outcome:
        how = ""
        for _ in range(_TRIES):
            try:
                found: Sequence[Outcome | None] = self._helpers.ask((data,))
            except HelperEndedError as ended:
                how = ended.how
            else:
                return found[0] or outcome_of(data, self._settings)
        return Outcome(hashlib.sha256(data).hexdigest(), 0, 0, f"ends the process that decodes it ({how})")

    def close(self) -> None:
        """End all processes; none is being asked."""
        self._helpers.close()
