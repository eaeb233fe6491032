import pytest
import torch

from augcond.conditioning.base import Conditioning
from augcond.config import GeneratorConfig
from augcond.generators import load_generator
from augcond.testing import save_tiny_stable_unclip


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return save_tiny_stable_unclip(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def tiny_config(tiny_folder):
    def make(**settings):
        return GeneratorConfig(**{"model": str(tiny_folder), "steps": 4, "device": "cpu", **settings})

    return make


@pytest.fixture(scope="session")
def tiny_generator(tiny_config):
    """Loads the tiny checkpoint, each combination of settings once."""
    loaded = {}

    def load(**settings):
        key = repr(sorted(settings.items()))
        if key not in loaded:
            loaded[key] = load_generator(tiny_config(**settings))
        return loaded[key]

    return load


@pytest.fixture(scope="session")
def conditioning():
    """Rows that differ in everything; the last has no image."""
    embeddings = torch.randn(4, 16, generator=torch.Generator().manual_seed(5))
    embeddings[3] = 0
    return Conditioning(
        embeddings=embeddings,
        with_image=torch.tensor([True, True, True, False]),
        prompts=("a boot", "a red shirt", "a bag on grass", "a boot"),
    )


@pytest.fixture(scope="session")
def rows():
    """Takes single rows out of a conditioning."""

    def take(conditioning, *indices):
        chosen = list(indices)
        return Conditioning(
            embeddings=conditioning.embeddings[chosen],
            with_image=conditioning.with_image[chosen],
            prompts=tuple(conditioning.prompts[index] for index in chosen),
        )

    return take
