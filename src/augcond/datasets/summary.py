"""What `augcond inspect` shows of a dataset."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations_with_replacement
from statistics import median
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from augcond.config import EvaluationConfig
from augcond.datasets.look_alikes import contrast_of, find_look_alikes
from augcond.datasets.suspicions import suspicious_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from augcond.datasets.base import Dataset, RejectedFile, Role, Skipped

_MOST_COMPARED = 20_000
"""Pairs of two sets that are decoded to be compared."""
_BLANK = 2.0
"""Levels of grey, of 255."""

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
class NearDuplicate:
    """Two images that look the same, but differ in their bytes; or in what they are for.

    Attributes:
        keys: their keys.
        roles: what each is for: `train`, `validation` or `test`.
        class_ids: the class of each.
        mirrored: whether one is the other's mirror image.
        error: see `LookAlike`.
        certain: whether they are one picture; else a matter of looking.
    """

    keys: tuple[str, str]
    roles: tuple[Role, Role]
    class_ids: tuple[str, str]
    mirrored: bool
    error: float
    certain: bool


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
        near_duplicates: images that look the same: those between what is trained on and what is judged on first, then
            those under two classes; certain ones first.
        blank: images of nearly one colour.
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
    near_duplicates: tuple[NearDuplicate, ...]
    blank: tuple[str, ...]
    width: Spread | None
    height: Spread | None


def shot_group(images: int, bounds: EvaluationConfig) -> ShotGroup:
    """Return `many` above `bounds.many` training images, `few` below `bounds.few`, else `medium`."""
    if images > bounds.many:
        return "many"
    return "few" if images < bounds.few else "medium"


def summarize(
    dataset: Dataset,
    bounds: EvaluationConfig | None = None,
    held_out: Mapping[Role, Dataset] = MappingProxyType({}),
) -> DatasetSummary:
    """Return counts, shot groups, unusable files, duplicates and sizes of `dataset`.

    Args:
        dataset: verified images to train on.
        bounds: of the shot groups; the defaults where None.
        held_out: images to judge on, which are compared with those.
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
        near_duplicates=_near_duplicates([("train", dataset), *held_out.items()]),
        blank=tuple(image.key for image in dataset.images if image.look and contrast_of(image.look) < _BLANK),
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


def _near_duplicates(sets: Sequence[tuple[Role, Dataset]]) -> tuple[NearDuplicate, ...]:
    found = []
    for (first, one), (second, other) in combinations_with_replacement(sets, 2):
        for pair in find_look_alikes(one, None if first == second else other, most=_MOST_COMPARED):
            images = one.images[pair.first], other.images[pair.second]
            found.append(
                NearDuplicate(
                    keys=(images[0].key, images[1].key),
                    roles=(first, second),
                    class_ids=(one.classes[images[0].label], other.classes[images[1].label]),
                    mirrored=pair.mirrored,
                    error=round(pair.error, 4),
                    certain=pair.certain,
                )
            )
    return tuple(sorted(found, key=_urgency))


def _urgency(pair: NearDuplicate) -> tuple[Any, ...]:
    apart = pair.roles[0] != pair.roles[1], pair.class_ids[0] != pair.class_ids[1]
    return (not pair.certain, not apart[0], not apart[1], pair.error, pair.keys)


def _spread(values: Sequence[int]) -> Spread | None:
    return Spread(min(values), float(median(values)), max(values)) if values else None
