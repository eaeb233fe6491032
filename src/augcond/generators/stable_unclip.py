"""Stable unCLIP: Stable Diffusion conditioned on a CLIP image embedding and a prompt.

Works on the components of diffusers' `StableUnCLIPImg2ImgPipeline` with a denoising loop of its own, so that one batch
holds many embeddings and many prompts, rows without an image get the true unconditional input, and guidance can be
limited to an interval. Given the same noise the result equals the pipeline's (tests/generators).

Source: hierarchical text-conditional image generation (arXiv 2204.06125); `StableUnCLIPImg2ImgPipeline` of diffusers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from augcond.conditioning.drop import dropout_mask
from augcond.conditioning.streams import EMBEDDING_NOISE, INITIAL_NOISE, torch_stream
from augcond.errors import ConfigError, GeneratorError
from augcond.generators.base import Generated, Generator
from augcond.generators.denoising import (
    Guidance,
    GuidedConditions,
    UNetConditions,
    decode,
    denoise,
    find_errors,
    initial_latents,
    to_uint8,
)
from augcond.generators.devices import out_of_memory_errors, place, resolve_device, resolve_dtype, upcast
from augcond.generators.loading import PipelineFormat, load_pipeline, locate_checkpoint
from augcond.generators.prompts import PromptEncoder
from augcond.generators.schedulers import SchedulerFactory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig
    from augcond.generators.base import GeneratorIdentity

LAYOUT = PipelineFormat(
    name="StableUnCLIPImg2ImgPipeline",
    models=("image_encoder", "image_normalizer", "text_encoder", "unet", "vae"),
)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is denoised together, row by row.

    Attributes:
        embeddings: image embeddings, (B, D), float32 on the CPU.
        with_image: (B,) bool; False for rows that get the unconditional image input.
        text: prompt embeddings, (B, L, C), on the device.
        kept: (B, 2D) bool, what published dropout leaves of the image input; None where it is off.
        seeds: of the B rows.
    """

    embeddings: Tensor
    with_image: Tensor
    text: Tensor
    kept: Tensor | None
    seeds: Sequence[int]

    def row(self, index: int, text: Tensor) -> _Batch:
        """Return a batch of one row, with another prompt embedding (1, L, C)."""
        one = slice(index, index + 1)
        kept = None if self.kept is None else self.kept[one]
        return _Batch(self.embeddings[one], self.with_image[one], text, kept, self.seeds[one])


class StableUnCLIP(Generator):
    """Stable unCLIP behind the common interface; `load_stable_unclip` makes one from a config.

    Args:
        pipeline: a `StableUnCLIPImg2ImgPipeline`; its models are moved to the device and dtype of `config`.
        identity: which weights these are.
        config: how to sample.

    Raises:
        ConfigError: the model cannot do what the config asks for.
        GeneratorError: the components do not fit together.
    """

    def __init__(self, pipeline: Any, identity: GeneratorIdentity, config: GeneratorConfig) -> None:
        self.identity = identity
        self.encoder_size = pipeline.image_encoder.config.image_size
        self.embedding_shape = (pipeline.image_encoder.config.projection_dim,)
        self._vae_scale = pipeline.vae_scale_factor
        self.image_size = _image_size(config.size, pipeline.unet.config.sample_size, self._vae_scale)
        _check_components(pipeline)
        _check_noise_level(config.noise_level, pipeline.image_noising_scheduler)
        self._config = config
        self._guidance = Guidance(config.guidance_scale, config.guidance_interval)
        self._schedulers = SchedulerFactory(config.scheduler, pipeline.scheduler, config.steps)
        self._device = resolve_device(config.device)
        self._dtype = resolve_dtype(config, self._device)
        for name in LAYOUT.models:
            # The normaliser works on float32 embeddings before anything is cast.
            dtype = torch.float32 if name == "image_normalizer" else self._dtype
            place(getattr(pipeline, name), self._device, dtype)
        self._extractor = pipeline.feature_extractor
        self._image_encoder = pipeline.image_encoder
        self._normalizer = pipeline.image_normalizer
        self._noising = pipeline.image_noising_scheduler
        self._prompts = PromptEncoder(pipeline.tokenizer, pipeline.text_encoder)
        self._text_encoder = pipeline.text_encoder
        self._unet = pipeline.unet
        self._vae = pipeline.vae
        if config.compile:
            self._unet.compile()

    def view(self, image: Image) -> Tensor:
        """Return the whole `image` resized and cropped by the checkpoint's own extractor, (3, S, S) in [0, 1]."""
        views = self._extractor(images=image.convert("RGB"), do_rescale=True, do_normalize=False, return_tensors="pt")
        view: Tensor = views.pixel_values[0]
        return view.float()

    def encode_images(self, views: Tensor) -> Tensor:
        """Return CLIP image embeddings (B, D), float32 on the CPU, of views (B, 3, S, S) in [0, 1]."""
        size = self.encoder_size
        if views.shape[1:] != (3, size, size):
            raise ValueError(f"views must be (B, 3, {size}, {size}), not {tuple(views.shape)}")
        if len(views) == 0:
            return torch.zeros(0, *self.embedding_shape)
        if self._extractor.do_normalize:
            mean, std = (torch.tensor(stat) for stat in (self._extractor.image_mean, self._extractor.image_std))
            views = (views - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        with torch.inference_mode(), out_of_memory_errors():
            embeddings: Tensor = self._image_encoder(views.to(self._device, self._dtype)).image_embeds
        # Tensors made in inference mode refuse changes in place; what leaves the generator is an ordinary tensor.
        return embeddings.float().cpu().clone()

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
        self._check_batch(conditioning, seeds)
        if len(seeds) == 0:
            return torch.zeros(0, 3, *self.image_size), []
        with torch.inference_mode(), out_of_memory_errors():
            text = self._prompts.encode(conditioning.prompts)
            negative = self._prompts.encode([self._config.negative_prompt])[0]
            kept = self._published_dropout(conditioning, seeds) if self._config.published_dropout else None
            batch = _Batch(conditioning.embeddings, conditioning.with_image, text, kept, seeds)
            latents = self._denoise(batch, negative)
            images = decode(self._vae, latents)
            errors = find_errors(latents, images)
            if self._dtype != torch.float32:
                for row, error in enumerate(errors):
                    if error is not None:
                        images[row], errors[row] = self._retry(
                            batch, row, conditioning.prompts[row], latents[row : row + 1]
                        )
        return images.clone(), errors

    def _denoise(self, batch: _Batch, negative: Tensor) -> Tensor:
        """Return denoised latents of a batch, given the embedding (L, C) of the negative prompt."""
        vectors = self._image_vectors(batch).to(self._device, batch.text.dtype)
        conditional = UNetConditions(batch.text, vectors)
        unconditional = UNetConditions(negative.expand_as(batch.text), torch.zeros_like(vectors))
        generators = [torch_stream(seed, INITIAL_NOISE) for seed in batch.seeds]
        height, width = (edge // self._vae_scale for edge in self.image_size)
        noise = initial_latents((self._unet.config.in_channels, height, width), generators).to(self._device)
        return denoise(
            self._unet,
            self._schedulers.new(self._device),
            noise,
            GuidedConditions(conditional, unconditional),
            self._guidance,
            generators,
        )

    def _image_vectors(self, batch: _Batch) -> Tensor:
        """Return the UNet's image input (B, 2D), float32: [noised embedding, embedded noise level], or zeros.

        Noise is added even at noise level 0, where the schedule is not quite free of it, so each row's is seeded.
        """
        from diffusers.models.embeddings import get_timestep_embedding

        noise = torch.stack(
            [torch.randn(self.embedding_shape, generator=torch_stream(seed, EMBEDDING_NOISE)) for seed in batch.seeds]
        )
        levels = torch.full((len(batch.seeds),), self._config.noise_level, device=self._device)
        embeddings = self._normalizer.scale(batch.embeddings.to(self._device, torch.float32))
        embeddings = self._noising.add_noise(embeddings, noise.to(self._device), levels)
        embeddings = self._normalizer.unscale(embeddings)
        level_embeddings = get_timestep_embedding(
            levels, self.embedding_shape[0], flip_sin_to_cos=True, downscale_freq_shift=0
        )
        vectors = torch.cat([embeddings, level_embeddings], dim=1)
        if batch.kept is not None:
            vectors = torch.where(batch.kept.to(self._device), vectors, 0.0)
        # Rows without an image get what the model was trained on for "no image": zeros in both halves.
        return torch.where(batch.with_image.to(self._device)[:, None], vectors, 0.0)

    def _published_dropout(self, conditioning: Conditioning, seeds: Sequence[int]) -> Tensor:
        """Return the published dropout's mask over [embedding, noise level], (B, 2D) bool.

        Its first half is the recipe's own mask, already applied: what is left of the embedding passes through the noise
        feature by feature, so masking again afterwards gives what the published scripts compute.
        """
        if len(conditioning.dropout) != len(seeds):
            raise ValueError("published_dropout needs the share dropped of each row, as conditioning.dropout")
        length = 2 * self.embedding_shape[0]
        return torch.stack([dropout_mask(seed, length, p) for seed, p in zip(seeds, conditioning.dropout, strict=True)])

    def _retry(self, batch: _Batch, row: int, prompt: str, latents: Tensor) -> tuple[Tensor, str | None]:
        """Return the image of one failed row made in float32, and what is wrong with it now.

        The VAE of Stable Diffusion overflows in float16 now and then: where the latents are fine, only it runs again.
        """
        try:
            with out_of_memory_errors(), upcast(self._text_encoder, self._unet, self._vae):
                images = decode(self._vae, latents)
                errors = find_errors(latents, images)
                if errors != [None]:
                    text = self._prompts.encode_uncached(prompt)[None]
                    negative = self._prompts.encode_uncached(self._config.negative_prompt)
                    latents = self._denoise(batch.row(row, text), negative)
                    images = decode(self._vae, latents)
                    errors = find_errors(latents, images)
        except torch.OutOfMemoryError:
            # Halving the batch cannot help a row that is alone already: it has failed, the others have not.
            return torch.zeros(3, *self.image_size), "out of memory in the float32 retry"
        return images[0], errors[0]

    def _check_batch(self, conditioning: Conditioning, seeds: Sequence[int]) -> None:
        rows = len(conditioning)
        if len(seeds) != rows:
            raise ValueError(f"{rows} rows of conditioning but {len(seeds)} seeds")
        if conditioning.embeddings.shape != (rows, *self.embedding_shape):
            expected = (rows, *self.embedding_shape)
            raise ValueError(f"embeddings must be {expected}, not {tuple(conditioning.embeddings.shape)}")


def load_stable_unclip(config: GeneratorConfig) -> StableUnCLIP:
    """Return the Stable unCLIP generator that `config` stands for.

    Raises:
        ConfigError: a setting is wrong or does not go with this checkpoint.
        GeneratorError: the checkpoint is missing, incomplete, or of another kind.
    """
    checkpoint = locate_checkpoint(config, LAYOUT)
    pipeline = load_pipeline(checkpoint, LAYOUT)
    return StableUnCLIP(pipeline, checkpoint.identity, config)


def _image_size(size: int | None, sample_size: int | Sequence[int], vae_scale: int) -> tuple[int, int]:
    if size is None:
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        return height * vae_scale, width * vae_scale
    if size % vae_scale:
        near = max(vae_scale, round(size / vae_scale) * vae_scale)
        raise ConfigError(
            f"generator.size: this model makes images whose edges are multiples of {vae_scale} pixels; "
            f"{size} is not one, {near} is"
        )
    return size, size


def _check_noise_level(noise_level: int, noising: Any) -> None:
    levels = noising.config.num_train_timesteps
    if noise_level >= levels:
        raise ConfigError(f"generator.noise_level: this model knows levels 0 to {levels - 1}, not {noise_level}")


def _check_components(pipeline: Any) -> None:
    features = pipeline.image_encoder.config.projection_dim
    unet = pipeline.unet.config
    if unet.class_embed_type != "projection" or unet.projection_class_embeddings_input_dim != 2 * features:
        raise GeneratorError(
            f"the UNet takes no image input of 2 x {features} numbers (class_embed_type {unet.class_embed_type!r}, "
            f"projection_class_embeddings_input_dim {unet.projection_class_embeddings_input_dim}), so it does not "
            "belong to this image encoder"
        )
    size = pipeline.image_encoder.config.image_size
    crop = pipeline.feature_extractor.crop_size
    if (crop["height"], crop["width"]) != (size, size):
        raise GeneratorError(
            f"the feature extractor crops to {crop['height']} x {crop['width']} pixels, but the image encoder takes "
            f"{size} x {size}"
        )
