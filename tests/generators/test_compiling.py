"""What is compiled, and that nothing is compiled again."""

import os

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from augcond.conditioning.base import Conditioning, InitialImage
from augcond.config import GeneratorConfig
from augcond.generators import compiling, load_generator

SEEDS = [11, 2**62 + 5, 7, 11_000]


@pytest.fixture
def compiled(tiny_config, monkeypatch):
    """Loads the tiny checkpoint compiled by a backend that takes no time."""
    monkeypatch.setattr(compiling, "_BACKEND", "eager")

    def load(**settings):
        torch._dynamo.reset()
        counters.clear()
        return load_generator(tiny_config(**settings, compile=True))

    yield load
    torch._dynamo.reset()


def graphs():
    return counters["stats"]["unique_graphs"]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_nothing_is_compiled_after_the_first_batches(compiled, tiny_generator, conditioning, monkeypatch):
    sampling = {"guidance_interval": (0.3, 0.8), "steps": 3, "dtype": "bfloat16", "cache": {"interval": 2}}
    generator = compiled(**sampling)
    for _ in range(2):
        generator.generate(conditioning, SEEDS)
    first = graphs()
    assert first > 4  # regions, with guidance and without
    assert counters["stats"]["calls_captured"] > 0

    # Smaller batches are filled up, and cut to their own rows.
    plain, _ = tiny_generator(**sampling).sample(conditioning, SEEDS)
    alone, _ = generator.sample(conditioning.take([2]), SEEDS[2:3])
    assert alone.shape == (1, 3, 16, 16)
    assert (alone[0] - plain[2]).abs().mean() < 0.02 * plain[2].abs().mean()
    generator.generate(conditioning.take([3, 0, 1]), SEEDS[:3])
    pixels = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(3))
    initial = (None, InitialImage(pixels, 0.7), None, InitialImage(pixels, 0.7))
    mixed = Conditioning(conditioning.embeddings, conditioning.with_image, conditioning.prompts, (), initial)
    generator.generate(mixed, SEEDS)

    # A row that overflows in bfloat16, and is made once more in float32.
    network, batches = generator._denoiser.network, []
    convolve = network.conv_out.forward

    def overflow(sample):
        batches.append((sample.dtype, len(sample)))
        made = convolve(sample)
        if sample.dtype != torch.float32:
            made = made.clone()
            made[0] = float("nan")
        return made

    monkeypatch.setattr(network.conv_out, "forward", overflow)
    assert generator.generate(conditioning, SEEDS).errors == (None,) * 4
    monkeypatch.undo()
    assert {rows for dtype, rows in batches if dtype == torch.float32} == {1, 2}
    generator.generate(conditioning, SEEDS)
    assert graphs() == first
    assert not counters["frames"]["total"] - counters["frames"]["ok"]

    # A batch that did not fit: what comes next is smaller, and is not filled up to what did not.
    with monkeypatch.context() as patch:
        patch.setattr(generator._vae, "decode", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(torch.OutOfMemoryError):
            generator.generate(conditioning, SEEDS)
    assert generator._compiled.filled([0, 1]) == [0, 1]
    assert generator._compiled.filled([0]) == [0, 0]


def test_auto_compiles_where_it_pays(monkeypatch, tiny_config):
    config = tiny_config(compile="auto")
    cuda = torch.device("cuda")
    monkeypatch.setattr("augcond.generators.devices.resolve_device", lambda name: cuda)
    least = compiling.PAYS_FROM
    assert [compiling.compilation_pays(config, images) for images in (None, least - 1, least)] == [False, False, True]
    monkeypatch.undo()
    assert not compiling.compilation_pays(config, 10**6)
    seen = []
    pays = "augcond.generators.families.compilation_pays"
    monkeypatch.setattr(pays, lambda config, images: bool(seen.append(images)))
    load_generator(config, images=7)
    assert seen == [7]
    assert GeneratorConfig(compile="auto").compile == "auto"


def test_what_is_compiled_is_kept_in_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AUGCOND_CACHE", str(tmp_path))
    # As the import of torch._dynamo leaves it behind, and as a user says it.
    for said, kept in ((default_cache_dir(), f"{tmp_path}/compiled"), ("/elsewhere", "/elsewhere")):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", said)
        with compiling.Compiled(torch.nn.Identity()).running():
            assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == kept
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == said


@pytest.mark.slow
def test_inductor_gives_the_same_images_and_keeps_what_it_made(tiny_generator, conditioning, tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("AUGCOND_CACHE", str(tmp_path))
    plain, _ = tiny_generator(steps=2).sample(conditioning, SEEDS)
    for found in (False, True):
        torch._dynamo.reset()
        counters.clear()
        images, _ = tiny_generator(steps=2, compile=True, size=16 if found else None).sample(conditioning, SEEDS)
        torch.testing.assert_close(images, plain, rtol=0, atol=1e-3)
        assert bool(counters["inductor"]["fxgraph_cache_miss"]) is not found
    assert list((tmp_path / "compiled").iterdir())
