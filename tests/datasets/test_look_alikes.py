"""What is the same picture is certain, what is not is never: against pictures made here and the built-in world."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest
from PIL import Image, ImageOps

from augcond.datasets import DecodeSettings, summarize, verify
from augcond.datasets.base import Listing
from augcond.datasets.builtin import list_builtin
from augcond.datasets.decoding import decode, examine
from augcond.datasets.look_alikes import VIEW_ERROR, compare, find_look_alikes, look_of, view_errors, view_of
from augcond.errors import LeakError
from augcond.training.guards import check_look_alikes
from tests.datasets.photos import encode, exif, picture
from tests.toy import MemoryReader


def scene(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    """Return a picture with shapes in it; grain alone would be other pixels after every encoding."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def data_set(*files: bytes, labels=None) -> object:
    names = [f"{number}.img" for number in range(len(files))]
    reader = MemoryReader(dict(zip(names, files, strict=True)))
    listing = Listing(("a", "b"), ("a", "b"), tuple(names), tuple(labels or [0] * len(files)), reader)
    return verify(listing, DecodeSettings())


def resized(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)


COPIES = {
    "the same bytes": lambda image: encode(image, "PNG"),
    "other metadata": lambda image: encode(image, "PNG", exif=exif(1)),
    "another lossless format": lambda image: encode(image, "BMP"),
    "jpeg": lambda image: encode(image, "JPEG", quality=75),
    "a coarse jpeg": lambda image: encode(image, "JPEG", quality=40),
    "webp": lambda image: encode(image, "WEBP", quality=60),
    "half as large": lambda image: encode(resized(image, 0.5), "PNG"),
    "larger": lambda image: encode(resized(image, 1.7), "JPEG", quality=80),
    "squashed to a square": lambda image: encode(image.resize((80, 80), Image.Resampling.BICUBIC), "PNG"),
    "turned by its metadata": lambda image: encode(
        image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif(6)
    ),
}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("case", COPIES)
def test_copies_are_certain(case, mirrored):
    images = [scene(seed) for seed in range(3)]
    first = data_set(*(encode(image, "PNG") for image in images))
    second = data_set(COPIES[case](ImageOps.mirror(images[1]) if mirrored else images[1]))
    (pair,) = find_look_alikes(first, second)
    assert (pair.first, pair.second, pair.mirrored, pair.certain) == (1, 0, mirrored, True)
    if case in ("the same bytes", "other metadata", "another lossless format"):
        assert pair.error == 0


OTHERS = {
    "another scene": lambda image: scene(99),
    "other colours": lambda image: Image.merge("RGB", image.split()[::-1]),
    "upside down": ImageOps.flip,
    "a part of it": lambda image: image.crop((0, 0, 70, 50)),
    "moved": lambda image: image.crop((12, 9, 120, 90)),
    "with something in it": lambda image: (image.paste((255, 255, 255), (30, 20, 75, 65)), image)[1],
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_pictures_are_not(case):
    for seed in range(4):
        first = data_set(encode(scene(seed), "PNG"))
        second = data_set(encode(OTHERS[case](scene(seed)), "PNG"))
        assert not [pair for pair in find_look_alikes(first, second) if pair.certain]


def test_of_tiny_pictures_only_equal_pixels_are_certain():
    tiny = scene(1, 24, 18)
    assert compare(tiny, tiny) == (0.0, True)
    error, certain = compare(tiny, decode(encode(tiny, "JPEG", quality=95), DecodeSettings()))
    assert 0 < error < 0.1
    assert not certain


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_the_built_in_world_has_no_picture_twice(every):
    """Its garments are drawn in one narrow style: a tenth of the test images are within 4 bits of a training image."""
    sets = {}
    for name in ("pool", "validation", "test"):
        listing = list_builtin(name)
        taken = replace(listing, keys=listing.keys[::every], labels=listing.labels[::every])
        sets[name] = verify(taken, DecodeSettings())
    for first, second in combinations_with_replacement(sets, 2):
        assert find_look_alikes(sets[first], None if first == second else sets[second]) == []
    near = [
        np.bitwise_count(
            np.frombuffer(b"".join(image.look[:8] for image in sets["pool"].images), np.uint64)
            ^ np.frombuffer(image.look[:8], np.uint64)
        ).min()
        <= 4
        for image in sets["test"].images
    ]
    assert sum(near) > (100 if every == 1 else 0)


def test_within_a_set_pairs_of_one_file_are_left_to_their_hash():
    photo = encode(scene(1), "PNG")
    images = data_set(photo, photo, encode(scene(1), "JPEG", quality=80), encode(scene(2), "PNG"), labels=[0, 0, 1, 1])
    found = {(pair.first, pair.second) for pair in find_look_alikes(images)}
    assert found == {(0, 2), (1, 2)}
    summary = summarize(images, held_out={"test": data_set(encode(scene(2), "BMP"), photo)})
    said = [(pair.keys, pair.roles, pair.class_ids) for pair in summary.near_duplicates if pair.certain]
    assert {pair[0] for pair in said if pair[1] == ("train", "test")} == {
        *(("3.img", "0.img"), ("0.img", "1.img"), ("1.img", "1.img"), ("2.img", "1.img")),
    }
    assert said[-1] == (("1.img", "2.img"), ("train", "train"), ("a", "b"))


def test_pictures_of_one_colour_are_listed():
    images = data_set(*(encode(Image.new("RGB", (40, 40), colour), "PNG") for colour in ("white", "#fefefe", "red")))
    assert summarize(images).blank == ("0.img", "1.img", "2.img")
    assert not [pair for pair in find_look_alikes(images) if pair.error == 0]


def test_test_images_that_are_training_images_are_refused_unless_said_otherwise(caplog):
    training = data_set(*(encode(scene(seed), "PNG") for seed in range(3)))
    test = data_set(encode(scene(7), "PNG"), encode(ImageOps.mirror(scene(2)), "JPEG", quality=70))
    with pytest.raises(LeakError, match=r"1 test images are .* such as '1\.img' \(there '2\.img', mirrored\)"):
        check_look_alikes(training, test)
    for settings in ({"refuse": False}, {"official": True}):
        caplog.clear()
        check_look_alikes(training, test, **settings)
        assert "1 test images are the same pictures as training images" in caplog.text
    check_look_alikes(training, data_set(encode(scene(7), "PNG")))


@pytest.mark.parametrize("size", [(40, 30), (150, 100), (900, 700)])
def test_a_jpeg_decoded_in_part_looks_as_it_does_in_full(size):
    data = encode(picture(np.random.default_rng(1), *size), "JPEG", quality=90)
    seen = examine(data, DecodeSettings())
    found, small = (seen.width, seen.height), seen.small
    whole = decode(data, DecodeSettings())
    assert found == whole.size
    assert small.size <= whole.size
    assert view_errors(*(view_of(look_of(image))[None] for image in (small, whole)))[0] < VIEW_ERROR / 3


def test_searches_in_blocks_find_what_all_pairs_find(monkeypatch):
    monkeypatch.setattr("augcond.datasets.look_alikes._COLUMNS", 8)
    monkeypatch.setattr("augcond.datasets.look_alikes._ROWS", 2)
    files = [encode(scene(seed % 9), "JPEG", quality=60 + seed) for seed in range(27)]
    found = {(pair.first, pair.second) for pair in find_look_alikes(data_set(*files)) if pair.certain}
    assert found == {(a, b) for b in range(27) for a in range(b) if a % 9 == b % 9}
