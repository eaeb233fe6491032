"""What a view takes of a large picture: the same embedding, within what is said."""

import numpy as np
import pytest
import torch
from PIL import ImageOps
from PIL.Image import Resampling
from transformers import CLIPImageProcessor, SiglipImageProcessor

from augcond.conditioning.framing import ENOUGH, Framing, covering, is_large, scale_for
from augcond.conditioning.views import as_view, random_crop
from augcond.config import ConditioningConfig, GeneratorConfig
from augcond.datasets import DecodeSettings, decode
from augcond.datasets.reduced import Reduced, decode_reduced
from augcond.generators import load_generator
from augcond.generators.image_encoder import framing_of
from tests.datasets.photos import encode, picture

SETTINGS = DecodeSettings()
RNG = np.random.default_rng(0)
SIZES = [(640, 480), (481, 641), (263, 251), (999, 333), (255, 1023), (131, 127)]


@pytest.fixture(scope="module")
def builtin():
    return load_generator(GeneratorConfig(model="builtin", device="cpu"))


def moved(generator, ours, theirs):
    """Return how far apart the embeddings of two views are, as a share of their length."""
    first, second = generator.encode_images(torch.stack([ours, theirs]))
    return float((first - second).norm() / second.norm())


@pytest.mark.parametrize("size", SIZES)
def test_an_embedding_of_a_whole_view_moves_little(builtin, size):
    data = encode(picture(RNG, *size), "JPEG", quality=95)
    image = decode(data, SETTINGS)
    theirs, framing = builtin.view(image), builtin.framing
    scale = scale_for(framing.box(size), (32, 32))
    assert is_large(size, 32) and scale == max(s for s in (1, 2, 4, 8) if min(size) >= 32 * ENOUGH * s)
    again = decode(encode(image, "JPEG", quality=90), SETTINGS)  # what is held against it: one more JPEG
    assert moved(builtin, as_view(framing.show(decode_reduced(data, SETTINGS, scale))), theirs) < 0.03
    assert moved(builtin, as_view(framing.show(Reduced(image, size))), theirs) < 0.01
    assert moved(builtin, builtin.view(again), theirs) < 0.03


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "resized", [{"shortest_edge": 64}, {"shortest_edge": 73}, {"height": 64, "width": 64}, {"height": 80, "width": 70}]
)
def test_a_framing_is_what_the_processor_does(size, resized):
    assert_shown_alike(CLIPImageProcessor(size=resized, crop_size={"height": 64, "width": 64}), size)


@pytest.mark.parametrize("size", SIZES[:3])
def test_siglips_crops_nothing(size):
    assert_shown_alike(SiglipImageProcessor(size={"height": 64, "width": 64}), size)
    assert framing_of(SiglipImageProcessor(size={"height": 80, "width": 64}), 64) is None


def assert_shown_alike(processor, size):
    framing = framing_of(processor, 64)
    image = picture(RNG, *size)
    theirs = processor(image, do_normalize=False, return_tensors="pt").pixel_values[0]
    ours = as_view(framing.show(Reduced(image, image.size)))
    assert (255 * (ours - theirs)).abs().max() < 2.5  # levels: both filters round to eight bits twice


@pytest.mark.parametrize(
    "settings",
    [
        {"do_resize": False},
        {"do_center_crop": False},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"resample": Resampling.NEAREST},
        {"size": {"shortest_edge": 48}},
        {"size": {"shortest_edge": 64, "longest_edge": 128}},
    ],
)
def test_what_a_processor_does_besides_is_left_to_it(settings):
    kept = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    assert framing_of(CLIPImageProcessor(**kept), 64) == Framing(64, 64, Resampling.BICUBIC)
    assert framing_of(CLIPImageProcessor(**{**kept, **settings}), 64) is None


def test_a_random_crop_is_the_same_part_and_torchvisions_own_where_it_is_not_reduced(builtin):
    from torchvision.transforms import v2

    from augcond.conditioning.streams import crop_purpose, seeded

    config = ConditioningConfig()
    data = encode(picture(RNG, 901, 1203), "JPEG", quality=95)
    image = decode(data, SETTINGS)
    scales = set()
    for seed in range(12):

        class Seen(Reduced):
            def show(self, box, size, resample, *, alone):
                scale = scale_for(box, size)
                scales.add(scale)
                part = self if scale == 1 else decode_reduced(data, SETTINGS, scale)
                return Reduced.show(part, box, size, resample, alone=alone)

        with seeded(seed, crop_purpose(1)):
            cropped = v2.RandomResizedCrop(32, antialias=True)(image)
        whole = random_crop(Reduced(image, image.size), 32, config, seed, 1)
        assert torch.equal(whole, as_view(cropped))
        assert moved(builtin, random_crop(Seen(image, image.size), 32, config, seed, 1), whole) < 0.03
    assert scales == {4, 8}


@pytest.mark.parametrize("size", [(40, 30), (31, 77), (64, 64), (1000, 3)])
@pytest.mark.parametrize("shown", [(16, 16), (24, 16), (16, 24)])
def test_covering_is_pillows_fit(size, shown):
    image = picture(RNG, *size)
    ours = Reduced(image, size).show(covering(size, shown), shown, Resampling.LANCZOS, alone=False)
    assert np.array_equal(np.asarray(ours), np.asarray(ImageOps.fit(image, shown, Resampling.LANCZOS)))
