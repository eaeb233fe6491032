"""The guards: training sees no validation or test image, and no synthetic one that was made from anything else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from augcond.datasets.look_alikes import find_look_alikes
from augcond.datasets.readers import FileReader
from augcond.errors import LeakError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from augcond.datasets import Dataset

logger = logging.getLogger(__name__)


def check_sources(
    rows: Iterable[tuple[str, Sequence[str]]], training: Dataset, source_hashes: Mapping[str, str] | None = None
) -> None:
    """Refuse synthetic images whose sources are not training images of the split.

    Args:
        rows: key and source keys of each synthetic image.
        training: the training images of the split.
        source_hashes: sha256 by key of the real images as they were when the run was planned; None skips the
            comparison with their contents now.

    Raises:
        LeakError: naming the synthetic image and its source.
    """
    now = {image.key: image.sha256 for image in training.images}
    for key, sources in rows:
        for source in sources:
            if source not in now:
                raise LeakError(
                    f"the synthetic image {key!r} was made from {source!r}, which is no training image of the split: "
                    "its generation saw images that the classifier must not see. Generate anew with this split"
                )
            if source_hashes is not None and source_hashes.get(source) != now[source]:
                raise LeakError(
                    f"the synthetic image {key!r} was made from {source!r}, whose contents have changed since: "
                    "generate anew"
                )


def check_apart(others: Dataset, held_out: Dataset, what: str, *, of: str = "training", official: bool = False) -> None:
    """Refuse held-out images that are among other images, by their key or by their bytes.

    An official benchmark may hold one picture twice, for training and for the test, and its published numbers include
    that: there, equal bytes under another key are a warning.

    Keys count only within one source: two folders may both have a `cat/1.jpg`. An image that was encoded anew is not
    recognised.

    Args:
        others: the training images; or the validation images, which are not to be test images.
        held_out: validation or test images.
        what: how the message calls these.
        of: how it calls the others.
        official: the images are those of a benchmark.

    Raises:
        LeakError: naming the first such image.
    """
    found = overlap(others, held_out)
    twins = [pair for pair in found if pair[0] != pair[1]]
    if official and twins:
        logger.warning(
            "%d %s images of the benchmark are byte for byte %s images too, such as %r (there %r): it holds them twice",
            len(twins),
            what,
            of,
            *twins[0],
        )
        found = [pair for pair in found if pair[0] == pair[1]]
    if found:
        key, other = found[0]
        raise LeakError(
            f"{len(found)} {what} images are {of} images too, such as {key!r} (there {other!r}): "
            "remove them from one of the two"
        )


def check_files_apart(others: Dataset, held_out: Dataset, what: str) -> None:
    """Refuse held-out images that are the same files as training images; nothing is read.

    Args:
        others: the training images, as listed.
        held_out: validation or test images, as listed.
        what: how the message calls these.

    Raises:
        LeakError: naming the first such image.
    """
    if others.reader == held_out.reader:
        known = {image.key for image in others.images}
        found = [image.key for image in held_out.images if image.key in known]
    elif isinstance(others.reader, FileReader) and isinstance(held_out.reader, FileReader):
        files = {others.reader.file(image.key) for image in others.images}
        found = [image.key for image in held_out.images if held_out.reader.file(image.key) in files]
    else:
        return
    if found:
        raise LeakError(
            f"{len(found)} of {len(held_out.images)} {what} images are training images too: the same files, such as "
            f"{found[0]!r}; name other images as data.{what}, or let data.split hold some out"
        )


def check_look_alikes(training: Dataset, test: Dataset, *, refuse: bool = True, official: bool = False) -> None:
    """Refuse test images that are training images re-encoded, resized, mirrored, or with other metadata.

    Args:
        training: the training images.
        test: the test images.
        refuse: whether they are an error; else a warning.
        official: the images are those of a benchmark, whose published numbers include such pairs: a warning.

    Raises:
        LeakError: naming the first pair.
    """
    found = [pair for pair in find_look_alikes(training, test) if pair.certain]
    if not found:
        return
    count = len({pair.second for pair in found})
    key, other = test.images[found[0].second].key, training.images[found[0].first].key
    text = (
        f"{count} test images are the same pictures as training images, stored otherwise, such as {key!r} (there "
        f"{other!r}{', mirrored' if found[0].mirrored else ''})"
    )
    if refuse and not official:
        raise LeakError(
            f"{text}: remove them from one of the two (augcond inspect CONFIG lists all), or, where they are not "
            "what they seem, set data.near_duplicates to warn"
        )
    logger.warning("%s", text)


def overlap(others: Dataset, held_out: Dataset) -> list[tuple[str, str]]:
    """Return (held-out key, other key) of every held-out image that is also among the others."""
    by_hash = {image.sha256: image.key for image in others.images}
    keys = {image.key for image in others.images} if others.reader == held_out.reader else set()
    found = []
    for image in held_out.images:
        other = image.key if image.key in keys else by_hash.get(image.sha256)
        if other is not None:
            found.append((image.key, other))
    return found
