"""Augmentation: right sizes and ranges, drawn by the seed, and different for each image."""

import platform

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from augcond.config.training import AugmentConfig
from augcond.errors import ConfigError
from augcond.training.augmentation import BatchAugmentation, mix_inputs, read_crops
from augcond.training.pixels import DecodedPixels

IMAGES = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_no_augmentation_is_the_image_itself():
    plain = BatchAugmentation(AugmentConfig(crop="none", flip=0), 16)
    assert torch.equal(plain(IMAGES, 0, "x"), IMAGES / 255)


def test_flips_are_whole_images():
    flipped = BatchAugmentation(AugmentConfig(crop="none", flip=0.5), 16)(IMAGES, 0, "x")
    same = [torch.equal(one, other) for one, other in zip(flipped, IMAGES / 255, strict=True)]
    mirrored = [torch.equal(one, other.flip(-1)) for one, other in zip(flipped, IMAGES / 255, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


def test_shifts_move_each_image_by_its_own_offset():
    shifted = BatchAugmentation(AugmentConfig(crop="pad", flip=0), 16)(IMAGES, 3, "x")
    assert shifted.shape == (6, 3, 16, 16)
    offsets = set()
    for image, origin in zip(shifted, IMAGES / 255, strict=True):
        found = [
            (y, x)
            for y in range(-2, 3)
            for x in range(-2, 3)
            if torch.equal(image[:, 4:12, 4:12], origin[:, 4 + y : 12 + y, 4 + x : 12 + x])
        ]
        assert len(found) == 1
        offsets.add(found[0])
    assert len(offsets) > 1


def test_resized_crops_of_flat_images_stay_flat():
    crop = BatchAugmentation(AugmentConfig(crop="resized", flip=0), 14)
    assert crop.stored_size == 16
    flat = torch.full((4, 3, 16, 16), 90, dtype=torch.uint8)
    assert torch.allclose(crop(flat, 0, "x"), torch.full((4, 3, 14, 14), 90 / 255), atol=1e-5)
    assert crop(IMAGES, 0, "x").shape == (6, 3, 14, 14)


def test_the_whole_image_is_one_of_the_crops():
    whole = BatchAugmentation(AugmentConfig(crop="resized", flip=0, scale=(1, 1)), 14)
    ramp = torch.arange(16, dtype=torch.uint8).mul(15).expand(1, 3, 16, 16)
    crop = whole(ramp, 1, "x")
    assert crop.min() >= 0
    assert crop[0, 0, 0, -1] > crop[0, 0, 0, 0]


@pytest.mark.parametrize("config", [{"crop": "resized"}, {"crop": "pad", "transforms": [{"name": "RandAugment"}]}])
def test_draws_are_those_of_seed_and_purpose(config):
    augment = BatchAugmentation(AugmentConfig.model_validate(config), 14 if config["crop"] == "resized" else 16)
    first = augment(IMAGES, 0, "augment-1")
    torch.rand(3)
    assert torch.equal(first, augment(IMAGES, 0, "augment-1"))
    assert not torch.equal(first, augment(IMAGES, 0, "augment-2"))
    assert not torch.equal(first, augment(IMAGES, 1, "augment-1"))
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize(
    "config",
    [
        {"crop": "resized", "scale": (0.08, 1.0)},
        {"crop": "resized", "scale": (1.0, 1.0), "flip": 1.0},
        {"crop": "pad"},
        {"crop": "none"},
    ],
)
def test_a_cpu_gives_in_any_pieces_what_a_device_gives_at_once(config):
    augment = BatchAugmentation(AugmentConfig.model_validate(config), 56)
    edge = augment.stored_size
    images = torch.randint(0, 256, (7, 3, edge, edge), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    drawn = augment.draw(7, edge, 3, "augment-1")
    at_once = augment.apply_at_once(images, drawn)
    pieces = torch.zeros_like(at_once)
    for piece in (slice(0, 1), slice(1, 6), slice(6, 7)):
        augment.apply(images[piece].numpy(), drawn, piece, pieces[piece].numpy())
    assert torch.equal(augment(images, 3, "augment-1"), pieces)
    torch.testing.assert_close(pieces, at_once, rtol=0, atol=1e-6)
    if platform.machine() == "x86_64":
        # Elsewhere compilers fuse the multiplications and additions of torchvision's kernel.
        assert torch.equal(pieces, at_once)


def a_map(width, height):
    """Return a photograph whose red says how far right, and whose green how far down a pixel lies."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([across, down, 0 * across], axis=-1).astype(np.uint8))


def crop_of(photo, crop, size=16):
    pixels = DecodedPixels(1, lambda position: photo, size)
    out = np.empty((1, 3, size, size), np.uint8)
    read_crops(pixels, np.array([0]), np.array([crop], float), out)
    return torch.from_numpy(out[0])


def test_a_crop_of_a_photograph_is_that_of_torchvision():
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    for photo in (a_map(60, 40), Image.fromarray(noise)):
        ours = crop_of(photo, (0.25, 1.5, 0.5, 0.5))  # 30 x 20 pixels from the middle
        theirs = v2.functional.resized_crop(photo, 10, 15, 20, 30, [16, 16], antialias=True)
        # Theirs does not see what lies beyond the box, which half a pixel of the rim is blended with.
        inner = (v2.functional.pil_to_tensor(theirs).int() - ours.int())[:, 1:-1, 1:-1]
        assert inner.abs().max() <= 1


@given(
    shape=st.tuples(st.integers(1, 250), st.integers(1, 250)),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_crops_of_photographs_lie_within_and_have_the_area_that_was_drawn(shape, scale, seed):
    augment = BatchAugmentation(AugmentConfig(crop="photo", scale=tuple(scale)), 16)
    (share, ratio, across, down), *_ = augment.draw(1, 16, seed, "x").crops
    assert scale[0] <= share <= scale[1]
    assert 3 / 4 <= ratio <= 4 / 3
    photo = a_map(*shape)
    width = min((share * shape[0] * shape[1] * ratio) ** 0.5, shape[0])
    height = min((share * shape[0] * shape[1] / ratio) ** 0.5, shape[1])
    middle = (across * (shape[0] - width) + width / 2, down * (shape[1] - height) + height / 2)
    seen = crop_of(photo, (share, ratio, across, down))[:2].float().mean((1, 2))
    # The value of a pixel is where its left edge lies; values are rounded.
    assert seen.tolist() == pytest.approx([place - 0.5 for place in middle], abs=1.1)


def test_wrong_transforms_name_their_key():
    with pytest.raises(ConfigError, match=r"training\.augment\.transforms\[0\]: torchvision has no v2 transform"):
        BatchAugmentation(AugmentConfig(transforms=({"name": "RandAugmentt"},)), 16)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixed_inputs_have_label_distributions(name):
    labels = torch.arange(6) % 3
    images, targets = mix_inputs(IMAGES / 255, labels, 3, AugmentConfig(mix=name), 0, "mix")
    assert images.shape == (6, 3, 16, 16)
    assert torch.allclose(targets.sum(1), torch.ones(6))
    again, _ = mix_inputs(IMAGES / 255, labels, 3, AugmentConfig(mix=name), 0, "mix")
    assert torch.equal(images, again)
