"""What all generators share that denoise latents: batches, starts, decoding, and the second try.

A generator says what its network is told about each row; this module makes the images of it. Rows that start from noise
and rows that start from an image may stand in one batch: those with an equal start are denoised together.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from augcond.conditioning.streams import INITIAL_NOISE, torch_stream
from augcond.errors import ConfigError
from augcond.generators.base import Generated, Generator
from augcond.generators.compiling import Compiled, Eager
from augcond.generators.denoising import (
    Guidance,
    Start,
    decode_latents,
    denoise,
    encode_pixels,
    find_errors,
    initial_latents,
    start_from_latents,
    start_from_noise,
    to_uint8,
    vae_scale_factor,
)
from augcond.generators.devices import Offloading, out_of_memory_errors, place, resolve_device, resolve_dtype, upcast
from augcond.generators.schedulers import SchedulerFactory
from augcond.generators.unet import UNetDenoiser

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from PIL.Image import Image
    from torch import Tensor, nn

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig
    from augcond.generators.base import GeneratorIdentity
    from augcond.generators.denoising import Denoiser, GuidedConditions
    from augcond.generators.image_encoder import ImageEncoder


@dataclass(frozen=True, slots=True)
class Settled:
    """What a generator's config and the configs of its networks settle, before their weights matter.

    Attributes:
        denoiser: the network behind the loop.
        vae: the autoencoder.
        native_size: height and width in pixels at which the checkpoint makes images by itself.
        image_size: at which it is to make them.
        schedulers: make the schedulers of its loops.
    """

    denoiser: Denoiser
    vae: Any
    native_size: tuple[int, int]
    image_size: tuple[int, int]
    schedulers: SchedulerFactory


class LatentDiffusion(Generator):
    """A latent diffusion model behind the common interface; subclasses say what its network is told.

    Args:
        pipeline: a diffusers pipeline with a denoiser, a `vae` and a `scheduler`; the two models are moved to the
            device and dtype of `config`.
        identity: which weights these are.
        config: how to sample.

    Raises:
        ConfigError: the model cannot do what the config asks for.

    Attributes:
        half: what `dtype: auto` is on a GPU: the half precision that its networks were made for.
    """

    half: ClassVar[Literal["float16", "bfloat16"]] = "float16"

    def __init__(self, pipeline: Any, identity: GeneratorIdentity, config: GeneratorConfig) -> None:
        self.identity = identity
        self.encoder_size = 0
        self.embedding_shape = (0,)
        settled = self.settle(pipeline, config)
        self._denoiser, self._vae, self._schedulers = settled.denoiser, settled.vae, settled.schedulers
        self._vae_scale = vae_scale_factor(self._vae)
        self._native_size, self.image_size = settled.native_size, settled.image_size
        self._guidance = Guidance(config.guidance_scale, config.guidance_interval)
        self._device = resolve_device(config.device)
        self.on_cpu = self._device.type == "cpu"
        self._dtype = resolve_dtype(config, self._device, self.half)
        self._image_encoder: ImageEncoder | None = None
        self._others: tuple[nn.Module, ...] = ()
        self._offloading = Offloading(self._device) if config.memory == "offload" else None
        self._place(self._denoiser.network, self._vae)
        self._compiled = Compiled(self._denoiser.network, self._vae) if config.compile is True else Eager()

    @classmethod
    def settle(cls, pipeline: Any, config: GeneratorConfig) -> Settled:
        """Return what a config settles of a pipeline, or of its outline (`pipelines.py`), which has no weights.

        Raises:
            ConfigError: the model cannot do what the config asks for.
        """
        denoiser, vae = cls._denoiser_of(pipeline, config), cls._vae_of(pipeline)
        scale = vae_scale_factor(vae)
        native, made = (
            _image_size(size, denoiser.native, scale, cls._size_step(scale)) for size in (None, config.size)
        )
        timing = denoiser.timing(pipeline.scheduler, config.steps, made[0] // scale, made[1] // scale)
        schedulers = SchedulerFactory(config.scheduler, pipeline.scheduler, config.steps, timing)
        return Settled(denoiser, vae, native, made, schedulers)

    @property
    def native_size(self) -> tuple[int, int]:
        """Height and width in pixels at which the checkpoint makes images where `generator.size` is null."""
        return self._native_size

    @staticmethod
    def _denoiser_of(pipeline: Any, config: GeneratorConfig) -> Denoiser:
        return UNetDenoiser(pipeline.unet, config.cache)

    @property
    def denoiser(self) -> nn.Module:
        """The network that predicts noise, in the dtype in which it runs."""
        network: nn.Module = self._denoiser.network
        return network

    @staticmethod
    def _vae_of(pipeline: Any) -> Any:
        return pipeline.vae

    def _latent_size(self) -> tuple[int, int]:
        height, width = self.image_size
        return height // self._vae_scale, width // self._vae_scale

    @staticmethod
    def _size_step(vae_scale: int) -> int:
        """Return of how many pixels image edges are multiples, `vae_scale` of which are one latent."""
        return vae_scale

    def _use_image_encoder(self, encoder: ImageEncoder) -> None:
        self._image_encoder = encoder
        self.encoder_size, self.embedding_shape, self.framing = encoder.size, encoder.shape, encoder.framing

    def _use_networks(self, *networks: nn.Module) -> None:
        """Place the networks that make conditions, such as text encoders; they are upcast with the denoiser."""
        self._others = networks
        self._place(*networks)

    def _place(self, *networks: nn.Module) -> None:
        for network in networks:
            if self._offloading is None:
                place(network, self._device, self._dtype)
            else:
                self._offloading.add(network, self._dtype)

    def view(self, image: Image) -> Tensor:
        """Return the whole `image` resized and cropped by the checkpoint's own extractor, (3, S, S) in [0, 1]."""
        return self._encoder().view(image)

    def encode_images(self, views: Tensor) -> Tensor:
        """Return image embeddings (B, *embedding_shape), float32 on the CPU, of views (B, 3, S, S) in [0, 1]."""
        return self._encoder().encode(views)

    def _encoder(self) -> ImageEncoder:
        if self._image_encoder is None:
            raise ConfigError(
                f"generator.name: {self.identity.name} has no image encoder, so it takes no image embedding"
            )
        return self._image_encoder

    @abstractmethod
    def _conditions(self, conditioning: Conditioning, seeds: Sequence[int], *, cached: bool) -> GuidedConditions:
        """Return what the network is told about each row, on its device and in its dtype.

        Args:
            conditioning: what was asked for.
            seeds: of its rows.
            cached: whether embeddings of prompts may come from, and go to, the cache; not while models are upcast.
        """

    def generate(self, conditioning: Conditioning, seeds: Sequence[int]) -> Generated:
        """Return one image per row of `conditioning`; row i draws from streams of `seeds[i]`.

        A row that comes out non-finite or constant in float16 or bfloat16 is made once more in float32, alone; where
        that fails too, `errors` says why.

        Raises:
            torch.OutOfMemoryError: the batch does not fit; the engine halves it and goes on.
        """
        images, errors = self.sample(conditioning, seeds)
        return Generated(images=to_uint8(images), errors=tuple(errors))

    def sample(self, conditioning: Conditioning, seeds: Sequence[int]) -> tuple[Tensor, list[str | None]]:
        """Return what `generate` does before rounding: images (B, 3, H, W), float32, about [-1, 1], and errors."""
        import torch

        self._check_batch(conditioning, seeds)
        if len(seeds) == 0:
            return torch.zeros(0, 3, *self.image_size), []
        with torch.inference_mode(), self._compiled.running(), out_of_memory_errors():
            latents = self._denoise(conditioning, seeds)
            images = self._decode(latents)
            errors = find_errors(latents, images)
            if self._dtype != torch.float32:
                for row, error in enumerate(errors):
                    if error is not None:
                        one = conditioning.take([row]), [seeds[row]]
                        images[row], errors[row] = self._retry(*one, latents[row : row + 1])
        return images.clone(), errors

    def _denoise(self, conditioning: Conditioning, seeds: Sequence[int], *, cached: bool = True) -> Tensor:
        """Return denoised latents (B, C, h, w), float32; rows of a kind are denoised together."""
        import torch

        groups: dict[Hashable, list[int]] = {}
        for row in range(len(seeds)):
            groups.setdefault(self._kind(conditioning, row), []).append(row)
        rows = [row for group in groups.values() for row in group]
        denoised = []
        for group in groups.values():
            filled = self._compiled.filled(group)
            own = conditioning.take(filled), [seeds[row] for row in filled]
            denoised.append(self._denoise_group(*own, cached=cached)[: len(group)])
        return torch.cat(denoised)[torch.tensor(rows).argsort()]

    def _kind(self, conditioning: Conditioning, row: int) -> Hashable:
        """Return what a row must have in common with those that it is denoised with: where they start.

        Networks whose conditions differ in shape from row to row add what decides it: padding would be attended to.
        """
        initial = conditioning.initial[row] if conditioning.initial else None
        return None if initial is None else initial.strength

    def _denoise_group(self, conditioning: Conditioning, seeds: Sequence[int], *, cached: bool) -> Tensor:
        generators = [torch_stream(seed, INITIAL_NOISE) for seed in seeds]
        noise = initial_latents(self._denoiser.latent_shape(*self._latent_size()), generators).to(self._device)
        scheduler = self._schedulers.new(self._device)
        return denoise(
            self._denoiser.begin(),
            scheduler,
            self._start(scheduler, conditioning, noise),
            self._conditions(conditioning, seeds, cached=cached),
            self._guidance,
            generators,
        )

    def _start(self, scheduler: Any, conditioning: Conditioning, noise: Tensor) -> Start:
        import torch

        initial = [start for start in conditioning.initial if start is not None]
        if not initial:
            return start_from_noise(scheduler, noise)
        pixels = torch.stack([start.pixels for start in initial])
        latents = self._encode_pixels(pixels.to(self._device) * 2 - 1)
        return start_from_latents(scheduler, latents, noise, initial[0].strength)

    def _encode_pixels(self, images: Tensor) -> Tensor:
        """Return the latents of images (B, 3, H, W) in [-1, 1], as the denoiser knows them, float32."""
        return encode_pixels(self._vae, images)

    def _decode(self, latents: Tensor) -> Tensor:
        """Return decoded images (B, 3, H, W), float32, about [-1, 1]."""
        return decode_latents(self._vae, latents)

    def _retry(self, conditioning: Conditioning, seeds: Sequence[int], latents: Tensor) -> tuple[Tensor, str | None]:
        """Return the image of one failed row made in float32, and what is wrong with it now.

        The VAE of Stable Diffusion overflows in float16 now and then: where the latents are fine, only it runs again.
        """
        import torch

        try:
            models = (*self._others, self._denoiser.network, self._vae)
            with out_of_memory_errors(), self._compiled.paused(), upcast(*models):
                images = self._decode(latents)
                errors = find_errors(latents, images)
                if errors != [None]:
                    latents = self._denoise(conditioning, seeds, cached=False)
                    images = self._decode(latents)
                    errors = find_errors(latents, images)
        except torch.OutOfMemoryError:
            # Halving the batch cannot help a row that is alone already: it has failed, the others have not.
            return torch.zeros(3, *self.image_size), "out of memory in the float32 retry"
        return images[0], errors[0]

    def _takes(self, shape: tuple[int, ...]) -> bool:
        """Return whether a row's embedding may be of that shape."""
        return shape == self.embedding_shape

    def _check_batch(self, conditioning: Conditioning, seeds: Sequence[int]) -> None:
        rows = len(conditioning)
        if len(seeds) != rows:
            raise ValueError(f"{rows} rows of conditioning but {len(seeds)} seeds")
        if len(conditioning.embeddings) != rows or not self._takes(tuple(conditioning.embeddings.shape[1:])):
            expected = (rows, *self.embedding_shape)
            raise ValueError(f"embeddings must be {expected}, not {tuple(conditioning.embeddings.shape)}")
        for initial in conditioning.initial:
            if initial is not None and initial.pixels.shape != (3, *self.image_size):
                expected = (3, *self.image_size)
                raise ValueError(f"initial images must be {expected}, not {tuple(initial.pixels.shape)}")


def _image_size(size: int | None, native: tuple[int, int], vae_scale: int, step: int) -> tuple[int, int]:
    if size is None:
        height, width = native
        return height * vae_scale, width * vae_scale
    if size % step:
        near = max(step, round(size / step) * step)
        raise ConfigError(
            f"generator.size: this model makes images whose edges are multiples of {step} pixels; "
            f"{size} is not one, {near} is"
        )
    return size, size
