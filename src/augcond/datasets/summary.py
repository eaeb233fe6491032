"""What `augcond inspect` shows of a dataset."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from augcond.config import EvaluationConfig
from augcond.datasets.suspicions import suspicious_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.datasets.base import Dataset, RejectedFile, Skipped

ShotGroup = Literal["many", "medium", "few"]
SHOT_GROUPS: tuple[ShotGroup, ...] = ("many", "medium", "few")


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """One class.

    Attributes:
        class_id: its id, such as the folder's name.
        class_name: the words that prompts use.
        images: how many can be used.
        rejected: how many cannot.
        shot_group: many, medium or few, by `images`.
    """

    class_id: str
    class_name: str
    images: int
    rejected: int
    shot_group: ShotGroup


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """One shot group and how many classes and images it holds."""

    shot_group: ShotGroup
    classes: int
    images: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Files of the same bytes.

    Attributes:
        sha256: hex digest of the bytes.
        keys: their keys, two or more.
        class_ids: the distinct classes they are filed under; more than one means that a label is wrong.
    """

    sha256: str
    keys: tuple[str, ...]
    class_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """Lowest, median and highest of some numbers of pixels."""

    lowest: int
    median: float
    highest: int


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """What a dataset holds.

    Attributes:
        images: number of usable images.
        classes: one entry per class, in label order.
        shot_groups: one entry per group: many, medium, few.
        rejected: every file that cannot be used.
        rejected_by_reason: reasons and how many files each has, most frequent first.
        ignored: files that are no images by their name.
        skipped: folders that were not looked into, and why.
        warnings: what looks wrong, each with what to do.
        names: what is suspicious about the names of classes, each with what to do.
        duplicates: files of the same bytes, those under several classes first.
        width: spread of the widths; None without images.
        height: spread of the heights; None without images.
    """

    images: int
    classes: tuple[ClassSummary, ...]
    shot_groups: tuple[GroupSummary, ...]
    rejected: tuple[RejectedFile, ...]
    rejected_by_reason: tuple[tuple[str, int], ...]
    ignored: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    names: tuple[str, ...]
    duplicates: tuple[Duplicate, ...]
    width: Spread | None
    height: Spread | None


def shot_group(images: int, bounds: EvaluationConfig) -> ShotGroup:
    """Return `many` above `bounds.many` training images, `few` below `bounds.few`, else `medium`."""
    if images > bounds.many:
        return "many"
    return "few" if images < bounds.few else "medium"


def summarize(dataset: Dataset, bounds: EvaluationConfig | None = None) -> DatasetSummary:
    """Return counts, shot groups, unusable files, duplicates and sizes of `dataset`.

    Args:
        dataset: verified images.
        bounds: of the shot groups; the defaults where None.
    """
    classes = _classes(dataset, bounds or EvaluationConfig())
    reasons = Counter(file.reason for file in dataset.rejected)
    return DatasetSummary(
        images=len(dataset.images),
        classes=classes,
        shot_groups=tuple(_group(name, classes) for name in SHOT_GROUPS),
        rejected=dataset.rejected,
        rejected_by_reason=tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        ignored=dataset.ignored,
        skipped=dataset.skipped,
        warnings=dataset.warnings,
        names=suspicious_names(dataset.classes, dataset.class_names),
        duplicates=_duplicates(dataset),
        width=_spread([image.width for image in dataset.images]),
        height=_spread([image.height for image in dataset.images]),
    )


def _classes(dataset: Dataset, bounds: EvaluationConfig) -> tuple[ClassSummary, ...]:
    rejected = Counter(file.label for file in dataset.rejected)
    rows = zip(dataset.classes, dataset.class_names, dataset.counts(), strict=True)
    return tuple(
        ClassSummary(class_id, class_name, images, rejected[label], shot_group(images, bounds))
        for label, (class_id, class_name, images) in enumerate(rows)
    )


def _group(name: ShotGroup, classes: Sequence[ClassSummary]) -> GroupSummary:
    members = [entry.images for entry in classes if entry.shot_group == name]
    return GroupSummary(name, len(members), sum(members))


def _duplicates(dataset: Dataset) -> tuple[Duplicate, ...]:
    counts = Counter(image.sha256 for image in dataset.images)
    groups = defaultdict(list)
    for image in dataset.images:
        if counts[image.sha256] > 1:
            groups[image.sha256].append(image)
    found = [
        Duplicate(
            sha256,
            tuple(image.key for image in images),
            tuple(dataset.classes[label] for label in sorted({image.label for image in images})),
        )
        for sha256, images in groups.items()
    ]
    return tuple(sorted(found, key=lambda duplicate: (len(duplicate.class_ids) == 1, duplicate.keys)))


def _spread(values: Sequence[int]) -> Spread | None:
    return Spread(min(values), float(median(values)), max(values)) if values else None
