"""Synthetic images in memory are those of a run."""

from __future__ import annotations

import logging
import runpy
import warnings
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2.functional import pil_to_tensor

from augcond import Augmenter, guest
from augcond.datasets import DecodeSettings, decode, list_memory
from augcond.datasets.memory import encoded
from augcond.errors import ConfigError, DatasetError, GeneratorError
from augcond.pipeline import generate
from augcond.testing import FakeGenerator
from augcond.torch import RunDataset
from tests.toy import config_with
from tests.training.toys import write_colours

RECIPES = ["text", "mixup", "embed-cutmix-dropout"]
COUNTS = {"a": 5, "b": 2, "c": 1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("memory")
    write_colours(root / "photos", [*COUNTS.values()])
    return root / "photos"


@pytest.fixture(scope="module")
def made_by_a_run(photos):
    """The pixels and the provenance of a run of the built-in checkpoint; its last batches are not full."""
    values = {
        "data": {"path": photos},
        "run": photos.parent / "run",
        "plan": {"per_class": 2, "seed": 5},
        "conditioning": {"recipe": RECIPES, "alpha": 0.7},
        "generator": {"steps": 2},
        "engine": {"batch_size": 4, "shard_size": 7},
        "output": {"format": "png"},
    }
    generate(config_with(values, {}))
    return RunDataset(photos.parent / "run")


@pytest.fixture(scope="module")
def augmenter():
    return Augmenter({"steps": 2}, RECIPES, conditioning={"alpha": 0.7}, engine={"batch_size": 4, "shard_size": 7})


def files(photos):
    return [(path, path.parent.name) for path in sorted(photos.glob("*/*.png"))]


def opened(path):
    image = Image.open(path)
    image.load()  # which closes the file
    return image


def test_pixels_are_those_of_a_run(photos, made_by_a_run, augmenter):
    images, labels = zip(*[(opened(path), name) for path, name in files(photos)], strict=True)
    made = augmenter(images, labels, per_class=2, seed=5)
    assert [each.provenance.key for each in made] == list(made_by_a_run.keys)
    for index, each in enumerate(made):
        origin = made_by_a_run.provenance(index)
        assert np.array_equal(each.image, made_by_a_run[index][0])
        assert (each.label, each.provenance.seed, each.provenance.prompt) == (origin.label, origin.seed, origin.prompt)
        assert (each.provenance.lam, each.provenance.weights) == (origin.lam, origin.weights)
        assert (each.provenance.steps, each.provenance.revision) == (2, origin.revision)
        sources = [files(photos)[int(key)][0] for key in each.provenance.source_keys]
        assert [f"{path.parent.name}/{path.name}" for path in sources] == list(origin.source_keys)


@pytest.mark.parametrize("kind", ["tensors", "torchvision", "hugging face", "paths"])
def test_sources_may_be_what_a_program_has(photos, made_by_a_run, augmenter, kind):
    names = [name for _, name in files(photos)]
    numbers = ["abc".index(name) for name in names]
    pictures = [opened(path) for path, _ in files(photos)]
    if kind == "tensors":
        given = ([pil_to_tensor(picture).float() / 255 for picture in pictures], torch.tensor(numbers))
    elif kind == "torchvision":
        given = (ImageFolder(photos),)
    elif kind == "paths":
        given = ([path for path, _ in files(photos)], np.array(names))
    else:
        features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b", "c"]))
        given = (datasets.Dataset.from_dict({"image": pictures, "label": numbers}, features=features),)
    made = augmenter(*given, classes=["a", "b", "c"], per_class={"a": 1}, seed=5)
    assert [each.provenance.key for each in made] == [f"a/0/{recipe}" for recipe in RECIPES]
    places = [made_by_a_run.keys.index(each.provenance.key) for each in made]
    assert all(np.array_equal(each.image, made_by_a_run[at][0]) for each, at in zip(made, places, strict=True))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "F", "I"])
def test_what_is_given_is_what_is_decoded(mode):
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8))
    image = rgb.convert("I").convert(mode) if mode == "I;16" else rgb.convert(mode)
    found = decode(encoded(image, "0"), DecodeSettings())
    if mode in ("1", "L", "P", "RGB", "YCbCr"):
        assert np.array_equal(found, image.convert("RGB"))
    assert found.size == (5, 6)


def test_pictures_that_are_turned_by_exif_are_upright():
    image = Image.new("RGB", (6, 4))
    image.getexif()[0x0112] = 6
    assert decode(encoded(image, "0"), DecodeSettings()).size == (4, 6)


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        ([np.zeros((4, 4, 3), np.uint8)], ["a", "b"], None, "2 labels for 1 images"),
        ([], [], None, "there are no images"),
        ([np.zeros((4, 4, 3), np.uint8)], [0], None, "labels are numbers: name the classes"),
        ([np.zeros((4, 4, 3), np.uint8)], [3], ["a", "b"], "the label 3, which is none of the 2 classes"),
        ([np.zeros((4, 4, 3), np.uint8)], ["c"], ["a", "b"], "the label 'c', which is none of the 2 classes"),
        ([np.zeros((4, 4, 3), np.uint8)], ["a"], ["a", "a"], "two have one name"),
        ([np.zeros((4, 4, 3), np.uint8)], None, ["a"], "labels: give one for each image"),
    ],
)
def test_labels_that_do_not_fit_are_refused(images, labels, classes, message):
    with pytest.raises(DatasetError, match=message):
        list_memory(images, labels, classes)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(4, 4, 4), r"is a Tensor of shape \(4, 4, 4\)"),
        (torch.full((3, 4, 4), -1.0), "before it is normalised"),
        (torch.full((3, 4, 4), torch.nan), "before it is normalised"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "values of type int64"),
        ("x.png", "is a str"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(DatasetError, match=message):
        Augmenter({"name": "fake"}, "mixup")([image], ["a"])


def test_wrong_settings_are_refused_before_anything_is_made():
    with pytest.raises(ConfigError, match=r"generator\.stepz: .*did you mean 'steps'"):
        Augmenter({"stepz": 3})
    with pytest.raises(ConfigError, match="no recipe 'mixupp'"):
        Augmenter(recipe="mixupp")
    with pytest.raises(ConfigError, match="per_class: "):
        Augmenter({"name": "fake"})([np.zeros((4, 4, 3), np.uint8)], ["a"], per_class=-1)


def test_rows_that_fail_are_left_out_with_a_word(caplog):
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    with caplog.at_level(logging.WARNING):
        made = Augmenter(FakeGenerator(fails=lambda seed: seed % 4 == 0), "text")([picture], ["a"], per_class=20)
    assert 0 < len(made) < 20
    assert {each.provenance.seed % 4 for each in made} == {1, 2, 3}
    assert made[0].provenance.steps is None
    assert "of 20 images some cannot be made, and are left out: " in caplog.text
    with pytest.raises(GeneratorError, match="most images cannot be made: 20 x "):
        Augmenter(FakeGenerator(fails=lambda seed: True), "text")([picture], ["a"], per_class=20)


def test_warnings_of_libraries_are_no_errors(monkeypatch, augmenter):
    monkeypatch.setattr(guest, "warnings_stay_errors", False)
    picture = np.zeros((8, 8, 3), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # diffusers' schedulers hand tensors to NumPy, which warns.
        assert len(augmenter([picture], ["a"], per_class=1)) == 3
        with pytest.raises(UserWarning):
            warnings.warn("the caller's own", stacklevel=1)


EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.mark.parametrize("name", ["own_recipe", "own_generator"])
def test_examples_of_one_s_own_make_images(name, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    expected = {
        "own_recipe": ["cat/0/image (1.0,)", "cat/0/middle ("],
        "own_generator": ["patches:none cat/0/cutmix (64, 64)", "patches:none dog/0/cutmix (64, 64)"],
    }
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(start) for line, start in zip(lines, expected[name], strict=False))
    assert len(lines) == {"own_recipe": 8, "own_generator": 4}[name]


def test_a_training_loop_of_one_s_own_takes_real_and_synthetic_images():
    # In fewer steps; all else is the documentation's.
    text = (EXAMPLES / "in_memory.py").read_text(encoding="utf-8").replace('"steps": 10', '"steps": 1')
    names = {}
    exec(compile(text.replace("steps=50", "steps=3"), "in_memory", "exec"), names)  # noqa: S102 - our own example
    assert len(names["made"]) == 32
    assert {len(each.provenance.source_keys) for each in names["made"]} == {2}
    assert names["pictures"].shape == (62, 3, 32, 32)
    assert names["loss"].isfinite()
