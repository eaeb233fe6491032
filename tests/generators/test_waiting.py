from __future__ import annotations

import torch
from PIL import Image

from augcond.conditioning import Conditioning
from augcond.testing import WaitingGenerator


def conditioning(count):
    return Conditioning(torch.ones(count, 8), torch.ones(count, dtype=torch.bool), ("a cat",) * count)


def test_it_waits_and_tells_how_long():
    generator = WaitingGenerator(0.01, image_size=(32, 48), encoder_size=16, embedding_shape=(8,))
    first = generator.generate(conditioning(3), [1, 2, 3])
    again = generator.generate(conditioning(1), [2])
    assert first.images.shape == (3, 32, 48, 3)
    assert first.errors == (None, None, None)
    assert torch.equal(first.images[1], again.images[0])
    assert not torch.equal(first.images[0], first.images[1])
    assert generator.images == 4
    assert generator.wall >= 4 * 0.01


def test_its_views_are_those_of_clips_processor():
    from transformers import CLIPImageProcessor

    photo = Image.effect_noise((61, 35), 80).convert("RGB")
    extractor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    expected = extractor(images=photo, do_normalize=False, return_tensors="pt").pixel_values[0]
    view = WaitingGenerator(0.0, image_size=(8, 8), encoder_size=16).view(photo)
    assert torch.equal(view, expected)
    assert 0 <= view.min() <= view.max() <= 1
