from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from augcond.config import EvaluationConfig
from augcond.datasets import Dataset, DecodeSettings, ImageRecord, list_folder, shot_group, summarize, verify
from augcond.datasets.summary import Spread
from tests.datasets.photos import make_photo_folder


@pytest.mark.parametrize(
    ("images", "group"), [(0, "few"), (19, "few"), (20, "medium"), (100, "medium"), (101, "many"), (5000, "many")]
)
def test_bounds_are_those_of_the_field(images, group):
    assert shot_group(images, EvaluationConfig()) == group


def test_other_bounds():
    assert [shot_group(images, EvaluationConfig(many=5, few=2)) for images in (1, 2, 5, 6)] == [
        *("few", "medium", "medium", "many")
    ]


def test_nasty_folder(tmp_path):
    photos = make_photo_folder(tmp_path)
    dataset = verify(list_folder(tmp_path), DecodeSettings())
    summary = summarize(dataset, EvaluationConfig(many=17, few=15))
    assert summary.images == len(photos.sizes)
    assert [entry.class_id for entry in summary.classes] == list(photos.classes)
    assert [entry.images for entry in summary.classes] == photos.counts()
    assert sum(entry.rejected for entry in summary.classes) == len(photos.rejected)
    assert {group.shot_group: group.images for group in summary.shot_groups} == {
        name: sum(entry.images for entry in summary.classes if entry.shot_group == name)
        for name in ("many", "medium", "few")
    }
    assert sum(group.classes for group in summary.shot_groups) == 4
    assert dict(summary.rejected_by_reason)["empty file"] == 1
    assert [duplicate.keys for duplicate in summary.duplicates] == [tuple(sorted(photos.duplicates))]
    assert summary.duplicates[0].class_ids == ("golden_retriever", "tree frog")
    widths = sorted(width for width, _ in photos.sizes.values())
    assert (summary.width.lowest, summary.width.highest) == (widths[0], widths[-1])
    json.dumps(asdict(summary))


def test_duplicates_under_two_labels_come_first_and_reasons_by_frequency():
    images = tuple(
        ImageRecord(key, label, 2, 3, digest)
        for key, label, digest in [("a/1", 0, "x"), ("a/2", 0, "x"), ("b/1", 1, "y"), ("a/3", 0, "y"), ("b/2", 1, "z")]
    )
    dataset = Dataset(("a", "b"), ("a", "b"), images, (), reader=None)
    duplicates = summarize(dataset).duplicates
    assert [(entry.keys, entry.class_ids) for entry in duplicates] == [
        (("b/1", "a/3"), ("a", "b")),
        (("a/1", "a/2"), ("a",)),
    ]
    assert summarize(dataset).height == Spread(3, 3.0, 3)


def test_no_images():
    summary = summarize(Dataset(("a",), ("a",), (), (), reader=None))
    assert (summary.images, summary.width, summary.duplicates) == (0, None, ())
    assert summary.classes[0].shot_group == "few"
