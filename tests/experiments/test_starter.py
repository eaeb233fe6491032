"""A config to begin with, for what lies in a folder."""

from __future__ import annotations

import re

import pytest
import yaml

from augcond.checks import check_run
from augcond.checks.look import EVERYTHING, Look
from augcond.config import load_config
from augcond.errors import ConfigError, DatasetError
from augcond.experiments.starter import starter_config
from tests.toy import write_photos


def written(photos, to):
    to.parent.mkdir(exist_ok=True)
    starter = starter_config(photos, to)
    to.write_text(starter.text, encoding="utf-8")
    return starter, load_config(to)


def test_a_folder_of_train_and_test_photos(tmp_path):
    for part, count in (("train", 30), ("test", 4), ("val", 3)):
        write_photos(tmp_path / "my photos" / part, {"tabby cat": count, "yes": count // 2 + 1})
    starter, config = written(tmp_path / "my photos", tmp_path / "configs" / "my.yaml")
    assert starter.found == "46 photos in 2 classes, 16 to 30 in each, 24 pixels at their shorter edge"
    data = config.data
    found = [path.resolve().relative_to(tmp_path).as_posix() for path in (data.path, data.test, data.validation)]
    assert found == ["my photos/train", "my photos/test", "my photos/val"]
    assert (config.data.split, config.plan.per_class, config.run) == (None, 16, tmp_path / "configs/runs/my photos")
    stops = [problem for problem in check_run(Look(config, EVERYTHING)) if problem.error is not None]
    assert {problem.what for problem in stops} <= {"weights", "classifier weights"}


def test_a_folder_of_classes_alone(tmp_path):
    write_photos(tmp_path / "photos", {"n01440764": 20, "n01443537": 100})
    starter, config = written(tmp_path / "photos", tmp_path / "photos.yaml")
    assert (config.data.path, config.data.test) == (tmp_path / "photos", None)
    assert config.data.split.validation_per_class == 4
    assert (config.plan.fill_to, config.plan.per_class) == (100, None)
    assert "classes differ by 5 times" in starter.text
    assert "# test: ..." in starter.text
    assert "# class_names: names.tsv  # prompts need words: a line `n01440764<TAB>name`" in starter.text


def test_every_line_of_it_is_commented_or_a_key(tmp_path):
    write_photos(tmp_path / "photos", {"cat": 2, "dog": 2})
    text = starter_config(tmp_path / "photos", tmp_path / "photos.yaml").text
    assert text.count("augcond run photos.yaml") == 2
    assert len(re.findall("#", text)) > 15
    assert yaml.safe_load(text)["data"] == {"source": "folder", "path": "photos"}


def test_where_there_is_nothing(tmp_path):
    with pytest.raises(ConfigError, match="no folder or file there"):
        starter_config(tmp_path / "none", tmp_path / "x.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no images found"):
        starter_config(tmp_path / "empty", tmp_path / "x.yaml")
