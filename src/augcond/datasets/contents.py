"""The bytes of real images, found to be those that were recorded."""

from __future__ import annotations

import errno
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from augcond.datasets.base import Reader
from augcond.datasets.decoding import available_cores, decode
from augcond.datasets.reduced import Reduced, decode_reduced, whole
from augcond.errors import ChangedImageError, DatasetError, ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from PIL import Image

    from augcond.datasets.base import Dataset

NOT_FOUND = "file not found"
"""Why a listed file that is not there cannot be used."""

_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class RecordedReader:
    """Reads through another reader, and gives no bytes but those that were recorded.

    Size and time of change say too little: tools that synchronise or restore files set both. A file is hashed whenever
    it is read, which takes some 2 to 4 % of the time to decode it.

    Attributes:
        reader: gives the bytes behind a key.
        sha256: hex digest by key; another key is read as it is.
    """

    reader: Reader
    sha256: Mapping[str, str] = field(compare=False, repr=False)

    def read(self, key: str) -> bytes:
        """Return the bytes behind `key`.

        Raises:
            OSError: they cannot be read.
            ChangedImageError: they are not those that were recorded.
        """
        data = self.reader.read(key)
        recorded = self.sha256.get(key)
        if recorded is not None and hashlib.sha256(data).hexdigest() != recorded:
            raise ChangedImageError("its contents are not those that were recorded (the sha256 is another)")
        return data


def open_image(dataset: Dataset, key: str) -> Image.Image:
    """Return a real image of `dataset`, decoded, for work that cannot do without it.

    Raises:
        DatasetError: as `open_reduced`.
    """
    return open_reduced(dataset, key, 1).image


def open_reduced(dataset: Dataset, key: str, scale: int) -> Reduced:
    """Return a real image of `dataset`, decoded at 1 / `scale` of its size, for work that cannot do without it.

    Args:
        dataset: verified images.
        key: of the image; of a JPEG, unless `scale` is 1.
        scale: 1, or one of `SCALES`.

    Raises:
        DatasetError: it can no longer be read, or is another image now; naming the file and the way out.
    """
    try:
        data = dataset.reader.read(key)
        return decode_reduced(data, dataset.decoding, scale) if scale > 1 else whole(decode(data, dataset.decoding))
    except ChangedImageError as error:
        raise DatasetError(
            f"real image {key}: {error}, though size and time of change are. Bring it back as it was; or, if it is "
            "meant to be another, give the file a new time of change (touch), and it is taken for a new one"
        ) from error
    except (ImageError, OSError) as error:
        raise DatasetError(
            f"real image {key} was found whole, and now cannot be read: {reason_of(error)}. Bring it back, or start "
            "again without it"
        ) from error


def changed_images(reader: Reader, recorded: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield key and reason of every image whose bytes cannot be read or are not those that were recorded.

    Args:
        reader: gives the bytes behind a key.
        recorded: hex digest of the sha256 by key.
    """
    keys, recording = list(recorded), RecordedReader(reader, recorded)

    def problem(key: str) -> str | None:
        try:
            recording.read(key)
        except (ImageError, OSError) as error:
            return reason_of(error)
        return None

    with ThreadPoolExecutor(available_cores(), thread_name_prefix="verify") as pool:
        for start in range(0, len(keys), _AT_ONCE):
            chunk = keys[start : start + _AT_ONCE]
            yield from ((key, found) for key, found in zip(chunk, pool.map(problem, chunk), strict=True) if found)


def reason_of(error: ImageError | OSError) -> str:
    """Return a reason that is alike for alike failures: no file name in it."""
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return NOT_FOUND
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    if error.errno == errno.EFBIG:
        return "larger than 1 GiB"
    return (error.strerror or "not a regular file").lower()
