"""A generator of your own: own_generator.py, which a config names as `generator: {name: own_generator:patches}`."""

from collections.abc import Sequence
from typing import Annotated

import torch
from PIL.Image import Image
from pydantic import Field
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate
from torchvision.datasets import FakeData
from torchvision.transforms.v2.functional import pil_to_tensor

import augcond
from augcond.conditioning import Conditioning
from augcond.conditioning.streams import INITIAL_NOISE, torch_stream
from augcond.config import GeneratorConfig, Section
from augcond.generators import Family, Generated, Generator, GeneratorIdentity, own_settings


class PatchSettings(Section, decides="images"):
    """Settings of this family alone, as `generator.own`."""

    noise: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of the noise, of colours in [0, 1]."""


class Patches(Generator):
    """An image is the average colours of its conditioning, in noise: no weights, and the whole interface."""

    inputs = frozenset({"image"})  # no recipe without an image
    identity = GeneratorIdentity(name="patches", model="none", revision="1")  # other weights: another revision
    encoder_size = 64
    embedding_shape = (3 * 8 * 8,)
    image_size = (64, 64)

    def __init__(self, noise: float) -> None:
        self._noise = noise

    def view(self, image: Image) -> Tensor:
        """Return what the encoder sees, (3, 64, 64) in [0, 1]; called by several threads."""
        pixels: Tensor = pil_to_tensor(image.resize((64, 64)))
        return pixels / 255

    def encode_images(self, views: Tensor) -> Tensor:
        """Return embeddings (B, 192) of views (B, 3, 64, 64): the average colours of 8 x 8 patches."""
        return adaptive_avg_pool2d(views, 8).flatten(1)

    def generate(self, conditioning: Conditioning, seeds: Sequence[int]) -> Generated:
        """Return an image per row; all that is random comes from streams of the row's own seed."""
        colours = interpolate(conditioning.embeddings.view(-1, 3, 8, 8), size=64, mode="bilinear")
        noise = [torch.randn(3, 64, 64, generator=torch_stream(seed, INITIAL_NOISE)) for seed in seeds]
        pixels = (colours + self._noise * torch.stack(noise)).clamp(0, 1) * 255
        return Generated(pixels.round().to(torch.uint8).permute(0, 2, 3, 1), errors=(None,) * len(seeds))


def load(config: GeneratorConfig) -> Generator:
    """Return the generator that a config stands for, with its weights on their device."""
    return Patches(own_settings(config, PatchSettings).noise)


patches = Family(load=load, settings=PatchSettings, inputs=Patches.inputs, licence="CC0")


if __name__ == "__main__":
    images, labels = zip(*FakeData(12, (3, 64, 64), 2), strict=True)  # your own images, and what they show
    augmenter = augcond.Augmenter({"name": "own_generator:patches", "own": {"noise": 0.05}}, "cutmix")
    for made in augmenter(images, labels, classes=["cat", "dog"], per_class=2):
        print(made.provenance.generator, made.provenance.key, made.image.size)
