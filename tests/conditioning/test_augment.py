import random

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.transforms import v2

from augcond.conditioning.augment import build_augment
from augcond.conditioning.streams import stream_seed
from augcond.config import ConditioningConfig
from augcond.errors import ConfigError


def picture(width=40, height=30, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def build(*entries):
    return build_augment(ConditioningConfig(augment=entries))


def test_no_transforms_build_nothing():
    assert build() is None


def test_built_once_for_equal_settings():
    assert build({"name": "RandomHorizontalFlip"}) is build({"name": "RandomHorizontalFlip"})
    assert build({"name": "RandomHorizontalFlip"}) is not build({"name": "RandomHorizontalFlip", "p": 1})


def test_a_flip_flips():
    flipped = build({"name": "RandomHorizontalFlip", "p": 1.0})(picture(), seed=1, position=1)
    assert (np.asarray(flipped) == np.asarray(picture())[:, ::-1]).all()


def test_draws_come_from_the_stream_of_the_position_and_leave_no_trace():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    augment = build({"name": "ColorJitter", "brightness": 0.5, "hue": 0.2}, {"name": "RandomRotation", "degrees": 30})
    first, again, second = (augment(picture(), seed=9, position=position).tobytes() for position in (1, 1, 2))
    assert first == again
    assert first != second
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(9, "augment-1"))
        by_hand = v2.Compose([v2.ColorJitter(brightness=0.5, hue=0.2), v2.RandomRotation(30)])
        expected = by_hand(v2.functional.pil_to_tensor(picture()))
    assert (np.asarray(v2.functional.to_pil_image(expected)) == np.frombuffer(first, np.uint8).reshape(30, 40, 3)).all()


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "Grayscale"},
        {"name": "RandAugment"},
        {"name": "AutoAugment", "policy": "cifar10", "interpolation": "bilinear"},
        {"name": "RandomErasing", "p": 1.0},
        {"name": "Resize", "size": [20, 20], "interpolation": "bicubic"},
        {"name": "RandomApply", "transforms": [{"name": "GaussianBlur", "kernel_size": 3}], "p": 0.5},
        {"name": "ToPILImage"},
        {"name": "ToDtype", "dtype": "float32", "scale": True},
    ],
    ids=lambda entry: entry["name"],
)
def test_results_of_any_kind_become_rgb(entry):
    result = build(entry)(picture(), seed=0, position=1)
    assert result.mode == "RGB"


def test_floats_survive_the_way_back():
    chain = build({"name": "ToDtype", "dtype": "float32", "scale": True})
    assert chain(picture(), seed=0, position=1).tobytes() == picture().tobytes()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "RandomHorizontlFlip"}, ["augment[0]", "'RandomHorizontlFlip'", "'RandomHorizontalFlip'"]),
        ({"name": "functional"}, ["no v2 transform 'functional'"]),
        ({"name": "Transform"}, ["no v2 transform"]),
        ({"p": 0.5}, ["expected a mapping with a name"]),
        ({"name": "ColorJitter", "brightnes": 0.4}, ["no argument 'brightnes'", "'brightness'", "contrast"]),
        ({"name": "ToImage", "p": 1}, ["no argument 'p'", "takes no arguments"]),
        ({"name": "ColorJitter", "brightness": -1}, ["ColorJitter", "brightness"]),
        ({"name": "RandomCrop"}, ["RandomCrop", "size"]),
        ({"name": "Resize", "size": 8, "interpolation": "biqubic"}, ["Resize", "biqubic"]),
        ({"name": "ToDtype", "dtype": "float33"}, ["float33"]),
        ({"name": "TenCrop", "size": 8}, ["TenCrop", "no single RGB image but a tuple"]),
        ({"name": "MixUp"}, ["MixUp"]),
        ({"name": "Normalize", "mean": [0.5], "std": [0.5]}, ["Normalize"]),
        ({"name": "ToDtype", "dtype": "int32"}, ["torch.int32", "uint8"]),
        ({"name": "RandomApply", "transforms": [{"name": "Blur"}]}, ["augment[0].transforms[0]", "'Blur'"]),
        ({"name": "Lambda", "lambd": {1, 2}}, ["only numbers, texts"]),
    ],
    ids=lambda value: value.get("name", "unnamed") if isinstance(value, dict) else "",
)
def test_wrong_transforms_are_named_before_any_work(entry, words):
    with pytest.raises(ConfigError) as caught:
        build(entry)
    for word in words:
        assert word in str(caught.value)


def test_a_crop_larger_than_a_source_names_the_size():
    augment = build({"name": "RandomCrop", "size": 300})
    with pytest.raises(ConfigError, match=r"RandomCrop cannot be applied to a source of 40x30 pixels"):
        augment(picture(), seed=0, position=1)
