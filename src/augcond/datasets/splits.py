"""Which labelled images are trained on: all, a long tail, or a few per class; drawn by a seed, saved with the run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from augcond.datasets.protocol import protocol_of
from augcond.errors import RunError, RunMismatchError, SplitError
from augcond.sealed import read_json, typed, unfit, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import RunConfig, SplitConfig
    from augcond.datasets.base import Dataset


@dataclass(frozen=True, slots=True)
class Split:
    """Which images are trained on and which are held out.

    Attributes:
        kind: `all`, `long-tail` or `few-shot`.
        seed: which draw it is.
        parameters: name and value of what the split was asked for, such as (("k", 4),).
        train: keys of the training images, sorted by class and then by draw.
        validation: keys of images held out for validation; none of them in `train`.
    """

    kind: str
    seed: int
    parameters: tuple[tuple[str, Any], ...]
    train: tuple[str, ...]
    validation: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        overlap = set(self.train) & set(self.validation)
        if overlap:
            raise SplitError(f"{len(overlap)} images are for training and for validation, such as {min(overlap)!r}")


def long_tail(
    dataset: Dataset,
    imbalance: float,
    head: int,
    seed: int,
    *,
    shuffle_classes: bool = False,
    validation_per_class: int = 0,
) -> Split:
    """Return a split whose class counts fall exponentially from `head` to about `head / imbalance`.

    A class's images at a smaller count are among those at a larger one with the same seed.

    Args:
        dataset: the images to draw from.
        imbalance: images of the largest class over those of the smallest, >= 1.
        head: images of the largest class.
        seed: draws the images.
        shuffle_classes: let the seed draw which class is head and which tail too; label order otherwise.
        validation_per_class: images of each class to hold out.

    Raises:
        SplitError: a class has too few images.

    Source: the exponential profile of CIFAR-LT (Cui et al. 2019), with counts rounded to the nearest, at least 1.
    """
    counts = tail_counts(len(dataset.classes), imbalance, head)
    if shuffle_classes:
        order = _permutation(seed, "", len(counts))
        counts = [counts[place] for place in order]
    parameters = (("imbalance", imbalance), ("head", head), ("shuffle_classes", shuffle_classes))
    return _draw(dataset, counts, validation_per_class, Split("long-tail", seed, parameters, ()))


def tail_counts(classes: int, imbalance: float, head: int) -> list[int]:
    """Return `classes` counts from `head` down to `head / imbalance` in equal ratios, at least 1 each."""
    steps = max(classes - 1, 1)
    return [max(1, round(head * imbalance ** (-place / steps))) for place in range(classes)]


def few_shot(dataset: Dataset, k: int, seed: int, *, validation_per_class: int = 0) -> Split:
    """Return a split of `k` images per class.

    With the same seed, the images of a smaller k are among those of a larger one.

    Raises:
        SplitError: a class has too few images.
    """
    counts = [k] * len(dataset.classes)
    return _draw(dataset, counts, validation_per_class, Split("few-shot", seed, (("k", k),), ()))


def whole(dataset: Dataset, seed: int = 0, *, validation_per_class: int = 0) -> Split:
    """Return a split that trains on every image but those held out for validation.

    Raises:
        SplitError: a class has no image left to train on.
    """
    counts = [count - validation_per_class for count in dataset.counts()]
    if validation_per_class:
        for name, count in zip(dataset.classes, counts, strict=True):
            if count < 1:
                raise SplitError(f"class {name!r} has no image left after {validation_per_class} for validation")
    return _draw(dataset, counts, validation_per_class, Split("all", seed, (), ()))


def make_split(dataset: Dataset, config: SplitConfig | None) -> Split:
    """Return the split that `config` asks for; of all images where it is None.

    Raises:
        SplitError: a class has too few images.
    """
    if config is None:
        return whole(dataset)
    held_out = config.validation_per_class
    if config.name == "few-shot":
        if config.k is None:
            raise SplitError("split few-shot needs k")
        return few_shot(dataset, config.k, config.seed, validation_per_class=held_out)
    if config.name == "long-tail":
        return long_tail(
            dataset,
            100 if config.imbalance is None else config.imbalance,
            min(dataset.counts()) - held_out if config.head is None else config.head,
            config.seed,
            shuffle_classes=config.order == "shuffled",
            validation_per_class=held_out,
        )
    return whole(dataset, config.seed, validation_per_class=held_out)


def _draw(dataset: Dataset, counts: Sequence[int], held_out: int, empty: Split) -> Split:
    """Draw `counts` training images and then `held_out` validation images of each class."""
    members: list[list[str]] = [[] for _ in dataset.classes]
    for image in dataset.images:
        members[image.label].append(image.key)
    train: list[str] = []
    validation: list[str] = []
    for class_id, keys, count in zip(dataset.classes, members, counts, strict=True):
        if len(keys) < count + held_out:
            raise SplitError(
                f"class {class_id!r} has {len(keys)} readable images; the split {empty.kind!r} takes {count} for "
                f"training and {held_out} for validation"
            )
        # By sorted keys, so that the listing's order plays no part; by class, so that other classes play none.
        keys.sort()
        drawn = _permutation(empty.seed, class_id, len(keys))
        # Validation comes from the end: it stays the same whatever the number of training images.
        train += (keys[place] for place in drawn[:count])
        validation += (keys[place] for place in drawn[len(keys) - held_out :])
    return replace(empty, train=tuple(train), validation=tuple(validation))


def _permutation(seed: int, class_id: str, count: int) -> np.ndarray:
    """Return an order of `count` things; of the classes themselves where `class_id` is empty."""
    # A folder's name need not be valid Unicode; surrogateescape gives back its very bytes.
    text = f"{seed}/{class_id}".encode("utf-8", "surrogateescape")
    digest = blake2b(text, digest_size=8, person=b"augcond-split").digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little"))).permutation(count)


def subset(dataset: Dataset, keys: Collection[str]) -> Dataset:
    """Return `dataset` with the images of these keys alone; classes and rejected files stay.

    Raises:
        SplitError: a key is not among the dataset's images.
    """
    wanted = set(keys)
    images = tuple(image for image in dataset.images if image.key in wanted)
    if len(images) != len(wanted):
        missing = sorted(wanted - {image.key for image in images})
        raise SplitError(f"{len(missing)} images of the split are gone or unreadable, such as {missing[0]!r}")
    return replace(dataset, images=images)


MEND_SPLIT = "delete it: the next command draws it anew"


def read_split(path: Path) -> Split:
    """Return the split that a run saved at `path`.

    Raises:
        RunError: there is none.
        CorruptRunError: the file is not what augcond wrote.
    """
    try:
        return typed(Split, read_json(path, MEND_SPLIT).content)
    except FileNotFoundError:
        raise RunError(f"{path} is missing: run augcond generate first") from None
    except (ValueError, SplitError) as error:
        raise unfit(path, error, MEND_SPLIT) from error


def draw_split(config: RunConfig, pool: Dataset) -> Split:
    """Return the run's split of `pool`.

    Raises:
        SplitError: a class has too few images.
    """
    return make_split(pool, protocol_of(config).split())


def source_images(config: RunConfig, pool: Dataset, split: Split) -> Dataset:
    """Return the images that generation may be conditioned on: by an honest protocol, the split's training images."""
    return protocol_of(config).sources(pool, subset(pool, split.train))


def settle_split(path: Path, wanted: Split) -> Split:
    """Return the split that a run keeps at `path`, the one that it was generated with, and save it where it is new.

    Raises:
        RunMismatchError: the run has another split than `wanted`.
    """
    if path.exists():
        existing = read_split(path)
        if existing != wanted:
            raise RunMismatchError(
                f"{path.parent} was made with another split ({path.name}: {existing.kind}, seed {existing.seed}, "
                f"{len(existing.train)} training images) than this config asks for ({wanted.kind}, seed {wanted.seed}, "
                f"{len(wanted.train)}){_first_difference(existing, wanted)}: name another folder as `run`"
            )
        return existing
    write_json(path, asdict(wanted))
    return wanted


def _first_difference(existing: Split, wanted: Split) -> str:
    """Return which training image is gone or new, where the split is drawn alike and the images changed."""
    before, now = set(existing.train), set(wanted.train)
    if gone := sorted(before - now):
        return f"; training image {gone[0]!r} is gone or unreadable"
    if new := sorted(now - before):
        return f"; training image {new[0]!r} is new"
    return ""
