"""The one interface behind which every generator stands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from augcond.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.generators.catalog import Input


@dataclass(frozen=True, slots=True)
class GeneratorIdentity:
    """Which weights made an image; part of every fingerprint.

    Attributes:
        name: the generator's name in the registry, such as `stable-unclip`.
        model: hub id, `builtin`, or the folder's own name (never its path).
        revision: commit hash on the hub; for a folder `sha256:` and a hash over its weights and configs.
    """

    name: str
    model: str
    revision: str


@dataclass(frozen=True, slots=True)
class Generated:
    """A batch of generated images.

    Attributes:
        images: uint8, (B, H, W, 3).
        errors: per image None, or why it must not be used (`non-finite latents`, `constant image`).
    """

    images: Tensor
    errors: tuple[str | None, ...]


class Generator(ABC):
    """A frozen, pretrained image generator conditioned on image embeddings and prompts.

    Implementations draw every random number from streams of the row's own seed (see
    `augcond.conditioning.streams`), so an image depends neither on its batch nor on the worker.

    Attributes:
        identity: which weights these are.
        encoder_size: edge length S in pixels of the image encoder's input; 0 where there is none.
        embedding_shape: shape of one image embedding, (D,) or (T, D); (0,) without an image encoder.
        image_size: height and width of the generated images in pixels.
        inputs: what recipes may condition it by; other recipes are refused before any work is done.
    """

    inputs: ClassVar[frozenset[Input]] = frozenset({"text", "image"})

    identity: GeneratorIdentity
    encoder_size: int
    embedding_shape: tuple[int, ...]
    image_size: tuple[int, int]

    @abstractmethod
    def view(self, image: Image) -> Tensor:
        """Return the whole `image` (RGB) as the encoder's own preprocessing shows it, (3, S, S) in [0, 1]."""

    @abstractmethod
    def encode_images(self, views: Tensor) -> Tensor:
        """Return image embeddings (B, *embedding_shape), float32 on the CPU, of views (B, 3, S, S) in [0, 1]."""

    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Return embeddings (B, D), float32 on the CPU, of prompts in the space of `encode_images`.

        Raises:
            ConfigError: the text encoder and the image encoder share no space, as in most checkpoints: the projection
                that CLIP was trained with is not part of a diffusion pipeline.
        """
        raise ConfigError(
            f"screening.by prompts: {self.identity.name} {self.identity.model} has no projection of its text encoder "
            "into the space of its image encoder; use by: encoder or by: classifier"
        )

    @abstractmethod
    def generate(self, conditioning: Conditioning, seeds: Sequence[int]) -> Generated:
        """Return one image per row of `conditioning`; row i draws from streams of `seeds[i]`.

        Raises:
            torch.OutOfMemoryError: the batch does not fit; the engine halves it and goes on.
        """
