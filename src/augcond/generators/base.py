"""The one interface behind which every generator stands, and what a family of them says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from augcond.config.base import Section
from augcond.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.conditioning.framing import Framing
    from augcond.config import GeneratorConfig

Input = Literal["text", "image", "reference-image", "initial-image"]
"""What a recipe conditions a generator by: a prompt alone, an image embedding, reference images (whose tokens are
then the image embedding), or an initial image and a prompt."""

ALL_INPUTS: frozenset[Input] = frozenset({"text", "image", "initial-image"})
"""Of a generator that has an image encoder; what is shown pictures as they are takes `reference-image` instead."""

Option = Literal["cache", "lora", "memory", "vae", "away_from"]
"""A key of `generator:` that only some families know."""

ALL_OPTIONS: frozenset[Option] = frozenset({"cache", "lora", "memory", "vae"})


Own = TypeVar("Own", bound=Section)


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


@dataclass(frozen=True, slots=True)
class Traits:
    """What a plan depends on of a generator; see there for what each is.

    A process that makes no images has these of one that does, and none of the weights.
    """

    identity: GeneratorIdentity
    inputs: frozenset[Input]
    encoder_size: int
    image_size: tuple[int, int]
    native_size: tuple[int, int] | None


class Generator(ABC):
    """A frozen, pretrained image generator conditioned on image embeddings and prompts.

    Implementations draw every random number from streams of the row's own seed (see
    `augcond.conditioning.streams`), so an image depends neither on its batch nor on the worker; never from PyTorch's
    global generator, which threads that ready the next rows use meanwhile.

    Attributes:
        identity: which weights these are.
        encoder_size: edge length S in pixels of the image encoder's input; 0 where there is none.
        embedding_shape: shape of one image embedding, (D,) or (T, D); (0,) without an image encoder.
        image_size: height and width of the generated images in pixels.
        inputs: what recipes may condition it by; other recipes are refused before any work is done.
        framing: what `view` does, where that is to resize and to crop: pictures more than 3.8 times as large as the
            view are then shown by it, and JPEGs decoded no further than that takes; None: `view` is given whole ones.
        on_cpu: whether it computes on the cores that ready its rows; they are then readied before it works, not
            meanwhile, where they would be in its way.
    """

    inputs: ClassVar[frozenset[Input]] = frozenset({"text", "image"})

    identity: GeneratorIdentity
    encoder_size: int
    embedding_shape: tuple[int, ...]
    image_size: tuple[int, int]
    framing: Framing | None = None
    on_cpu: bool = False

    @property
    def native_size(self) -> tuple[int, int] | None:
        """Height and width in pixels at which the checkpoint makes images where `size` is null; None: not known."""
        return None

    @property
    def traits(self) -> Traits:
        """What a plan depends on of it."""
        return Traits(self.identity, self.inputs, self.encoder_size, self.image_size, self.native_size)

    @abstractmethod
    def view(self, image: Image) -> Tensor:
        """Return the whole `image` (RGB) as the encoder's own preprocessing shows it, (3, S, S) in [0, 1].

        A function of the image alone; called by several threads, also while the generator works.
        """

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
            f"{self.identity.name} {self.identity.model} has no projection of its text encoder into the space of its "
            "image encoder"
        )

    @abstractmethod
    def generate(self, conditioning: Conditioning, seeds: Sequence[int]) -> Generated:
        """Return one image per row of `conditioning`; row i draws from streams of `seeds[i]`.

        Raises:
            torch.OutOfMemoryError: the batch does not fit; the engine halves it and goes on.
        """


@dataclass(frozen=True, slots=True)
class PipelineFormat:
    """What a checkpoint folder must hold.

    Attributes:
        name: diffusers' class name of the pipeline.
        models: components with weights, each a sub-folder with a safetensors file.
        example: a hub id that is one, for messages.
        skipped: components that are neither fetched nor loaded.
        prompts: the component that makes tokens of prompts, of which the longest is read.
    """

    name: str
    models: tuple[str, ...]
    example: str
    skipped: tuple[str, ...] = ()
    prompts: str = "tokenizer"


@dataclass(frozen=True, slots=True)
class NeededWeights:
    """A file that a generator cannot do without.

    Attributes:
        key: of the config, which says where it is.
        model: the local folder or hub id that it says.
        revision: of the hub id.
        file: which file there tells that the weights are there.
        layout: what else a folder must hold that is a checkpoint in diffusers' pipeline layout; None where it is none.
        example: a hub id of that kind, for messages.
    """

    key: str
    model: str
    revision: str | None
    file: str = "model_index.json"
    layout: PipelineFormat | None = None
    example: str = "h94/IP-Adapter"


def checkpoint_weights(config: GeneratorConfig, layout: PipelineFormat) -> tuple[NeededWeights, ...]:
    """Return what a generator needs that is one checkpoint in diffusers' pipeline layout."""
    return (NeededWeights("generator.model", config.model, config.revision, layout=layout),)


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast a generator was measured to be.

    Attributes:
        steps_per_second: denoising steps of single images per second, with guidance, by GPU.
        pixels: edge length of those images.
        source: who published it, and how it was measured.
    """

    steps_per_second: Mapping[str, float]
    pixels: int
    source: str


@dataclass(frozen=True, slots=True)
class Family:
    """A family of generators: what loads one, its own settings, and what one should know before using it.

    Attributes:
        load: makes the generator that a config stands for; imported libraries, weights and devices are its business.
        settings: of its own, as `generator.own`; a section without keys where it has none.
        inputs: what recipes may condition it by; None where only a loaded generator tells.
        options: the keys that it knows of those that only some families do; others are refused where they are set.
        model: the usual hub id, as `generator.model`; empty where there are no weights.
        licence: of those weights.
        commercial: whether it allows commercial use.
        weights_gb: gigabytes of all its networks at two bytes a number, as computed by benchmarks/full_size.py or as
            published; at four on a CPU. None where there are none, or nobody has said.
        embedding: what an image embedding is, with its shape.
        notes: what is particular about it.
        native_pixels: edge length of the images of the usual model; None where only loading it tells.
        rates: published rates of the usual model, if there are.
        weights: tells which files a config needs, so that they can be looked for without loading anything.
    """

    load: Callable[[GeneratorConfig], Generator]
    settings: type[Section] = Section
    inputs: frozenset[Input] | None = None
    options: frozenset[Option] = frozenset()
    model: str = ""
    licence: str = ""
    commercial: bool = True
    weights_gb: float | None = None
    embedding: str = ""
    notes: str = ""
    native_pixels: int | None = None
    rates: Rates | None = None
    weights: Callable[[GeneratorConfig], tuple[NeededWeights, ...]] = field(default=lambda config: ())


def own_settings(config: GeneratorConfig, kind: type[Own]) -> Own:
    """Return the family's own settings, which are of class `kind` in every config that was validated."""
    if not isinstance(config.own, kind):
        raise TypeError(f"generator.own holds {type(config.own).__name__}, not the settings of {config.name}")
    return config.own
