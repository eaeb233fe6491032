import time

import pytest
import torch
from PIL import Image

from augcond.conditioning.base import Conditioning
from augcond.config import GeneratorConfig
from augcond.errors import ConfigError
from augcond.generators import load_generator
from augcond.testing import FakeGenerator

SEEDS = [3, 2**63 - 1, 8]


def batch(embeddings, *, with_image=(True, True, True), prompts=("a", "b", "a")):
    return Conditioning(embeddings, torch.tensor(with_image), prompts)


@pytest.fixture
def embeddings():
    return torch.randn(3, 12, generator=torch.Generator().manual_seed(1))


def test_images_are_a_function_of_each_row_alone(embeddings):
    generator = FakeGenerator()
    together = generator.generate(batch(embeddings), SEEDS)
    assert together.images.shape == (3, 16, 16, 3)
    assert together.images.dtype == torch.uint8
    assert together.errors == (None,) * 3
    for row, seed in enumerate(SEEDS):
        alone = Conditioning(embeddings[[row]], torch.tensor([True]), (("a", "b", "a")[row],))
        assert torch.equal(generator.generate(alone, [seed]).images[0], together.images[row])


def test_everything_asked_for_shows(embeddings):
    generator = FakeGenerator()
    first = generator.generate(batch(embeddings), SEEDS).images
    nudged = embeddings + torch.tensor([[0.0], [0.0], [0.1]])
    for other, seeds, changed in [
        (batch(nudged), SEEDS, [False, False, True]),
        (batch(embeddings, prompts=("a", "c", "a")), SEEDS, [False, True, False]),
        (batch(embeddings, with_image=(False, True, True)), SEEDS, [True, False, False]),
        (batch(embeddings), [3, 4, 8], [False, True, False]),
        (batch(embeddings + 1e-9), SEEDS, [False, False, False]),
    ]:
        images = generator.generate(other, seeds).images
        assert [bool((images[row] != first[row]).any()) for row in range(3)] == changed
    text = batch(nudged, with_image=(False,) * 3)
    without = batch(embeddings, with_image=(False,) * 3)
    assert torch.equal(generator.generate(text, SEEDS).images, generator.generate(without, SEEDS).images)


def test_views_and_embeddings():
    generator = FakeGenerator(embedding_shape=(5, 12), encoder_size=20)
    view = generator.view(Image.new("RGB", (31, 7), (255, 0, 51)))
    assert view.shape == (3, 20, 20)
    torch.testing.assert_close(view[:, 3, 3], torch.tensor([1.0, 0.0, 0.2]))
    views = torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(2))
    embeddings = generator.encode_images(views)
    assert embeddings.shape == (3, 5, 12)
    assert embeddings.dtype == torch.float32
    assert torch.equal(embeddings[1], generator.encode_images(views[[1]])[0])
    assert (embeddings[0] - embeddings[1]).abs().max() > 0.01
    assert generator.encode_images(views[:0]).shape == (0, 5, 12)


def test_knobs(embeddings):
    generator = FakeGenerator(fails=lambda seed: seed % 2 == 0, max_batch=3, delay=0.05)
    start = time.perf_counter()
    generated = generator.generate(batch(embeddings), SEEDS)
    assert time.perf_counter() - start >= 0.05
    assert generated.errors == (None, None, "made to fail")
    assert not generated.images[2].any()
    with pytest.raises(torch.OutOfMemoryError, match="a batch of 4 exceeds 3"):
        generator.generate(Conditioning(torch.zeros(4, 12), torch.tensor([True] * 4), ("a",) * 4), [1, 2, 3, 4])
    with pytest.raises(ValueError, match="3 rows of conditioning but 1 seeds"):
        generator.generate(batch(embeddings), [1])


def test_from_a_config(embeddings):
    generator = load_generator(GeneratorConfig(name="fake", model="delay=0.001,max_batch=2,fail_every=4", size=32))
    assert generator.image_size == (32, 32)
    assert generator.identity == FakeGenerator().identity
    with pytest.raises(torch.OutOfMemoryError):
        generator.generate(batch(embeddings), SEEDS)
    one = Conditioning(embeddings[:1], torch.tensor([True]), ("a",))
    assert generator.generate(one, [8]).errors == ("made to fail",)
    for model in ("speed=3", "delay=fast", "delay"):
        with pytest.raises(
            ConfigError, match=r"the fake generator takes delay, max_batch, fail_every, raise_every as knob=number"
        ):
            load_generator(GeneratorConfig(name="fake", model=model))
    with pytest.raises(ConfigError, match="multiples of 4, not 30"):
        load_generator(GeneratorConfig(name="fake", size=30))
