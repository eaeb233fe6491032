"""Stable unCLIP: Stable Diffusion conditioned on a CLIP image embedding and a prompt.

Works on the components of diffusers' `StableUnCLIPImg2ImgPipeline` with a denoising loop of its own, so that one batch
holds many embeddings and many prompts, rows without an image get the true unconditional input, and guidance can be
limited to an interval. Given the same noise the result equals the pipeline's (tests/generators).

Source: hierarchical text-conditional image generation (arXiv 2204.06125); `StableUnCLIPImg2ImgPipeline` of diffusers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from augcond.conditioning.streams import EMBEDDING_NOISE, torch_stream
from augcond.config.base import Section
from augcond.errors import ConfigError, GeneratorError
from augcond.generators.base import ALL_INPUTS, ALL_OPTIONS, Family, PipelineFormat, own_settings
from augcond.generators.denoising import GuidedConditions
from augcond.generators.devices import place
from augcond.generators.image_encoder import ImageEncoder
from augcond.generators.latent_diffusion import LatentDiffusion
from augcond.generators.parts import load_parts, locate_parts, needed_parts
from augcond.generators.prompts import PromptEncoder
from augcond.generators.stable_diffusion import SD_RATES
from augcond.generators.unet import unet_conditions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig
    from augcond.generators.base import GeneratorIdentity

_MODEL = "sd2-community/stable-diffusion-2-1-unclip"

LAYOUT = PipelineFormat(
    name="StableUnCLIPImg2ImgPipeline",
    models=("image_encoder", "image_normalizer", "text_encoder", "unet", "vae"),
    example=_MODEL,
)


class StableUnCLIPSettings(Section, decides="images"):
    """Settings of stable-unclip alone."""

    negative_prompt: str = ""
    """What guidance leads away from."""
    noise_level: Annotated[int, Field(ge=0, le=999)] = 0
    """Noise added to the image embedding, as a step of its own noise schedule."""
    published_dropout: bool = False
    """Let dropout mask the noise-level half of unCLIP's vector too, as the published scripts do."""


class StableUnCLIP(LatentDiffusion):
    """Stable unCLIP behind the common interface; `load_stable_unclip` makes one from a config.

    Args:
        pipeline: a `StableUnCLIPImg2ImgPipeline`; its models are moved to the device and dtype of `config`.
        identity: which weights these are.
        config: how to sample.
        text_projection: maps the text encoder's pooled output to the space of image embeddings, (D, C); None where the
            checkpoint has none, as is usual.

    Raises:
        ConfigError: the model cannot do what the config asks for.
        GeneratorError: the components do not fit together.
    """

    inputs = ALL_INPUTS

    def __init__(
        self,
        pipeline: Any,
        identity: GeneratorIdentity,
        config: GeneratorConfig,
        text_projection: Tensor | None = None,
    ) -> None:
        _check_components(pipeline)
        import torch

        self._own = own_settings(config, StableUnCLIPSettings)
        _check_noise_level(self._own.noise_level, pipeline.image_noising_scheduler)
        super().__init__(pipeline, identity, config)
        self._use_image_encoder(
            ImageEncoder(pipeline.feature_extractor, pipeline.image_encoder, self._device, self._dtype)
        )
        self._use_networks(pipeline.text_encoder)
        self._prompts = PromptEncoder(pipeline.tokenizer, pipeline.text_encoder)
        self._pooled = PromptEncoder(pipeline.tokenizer, pipeline.text_encoder, lambda output: output.pooler_output)
        self._text_projection = text_projection
        self._noising = pipeline.image_noising_scheduler
        self._normalizer = pipeline.image_normalizer
        # It works on float32 embeddings before anything is cast.
        place(self._normalizer, self._device, torch.float32)

    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Return embeddings (B, D), float32 on the CPU, of prompts in the space of `encode_images`.

        Raises:
            ConfigError: the checkpoint has no text projection.
        """
        import torch

        if self._text_projection is None:
            return super().embed_prompts(prompts)
        with torch.inference_mode():
            pooled = self._pooled.encode(prompts).float().cpu()
        return pooled.clone() @ self._text_projection.T

    def _conditions(self, conditioning: Conditioning, seeds: Sequence[int], *, cached: bool) -> GuidedConditions:

        text = self._prompts.encode(conditioning.prompts, cached=cached)
        negative = self._prompts.encode([self._own.negative_prompt], cached=cached)
        vectors = self._image_vectors(conditioning, seeds).to(self._device, text.dtype)
        return GuidedConditions(
            conditional=unet_conditions(text, vectors),
            unconditional=unet_conditions(negative.expand_as(text), self._away(conditioning, seeds, vectors)),
        )

    def _away(self, conditioning: Conditioning, seeds: Sequence[int], vectors: Tensor) -> Tensor:
        """Return the image inputs that guidance leads away from, like `vectors`, with the very noise of theirs."""
        import torch

        away = conditioning.led_away()
        return torch.zeros_like(vectors) if away is None else self._image_vectors(away, seeds).to(vectors)

    def _image_vectors(self, conditioning: Conditioning, seeds: Sequence[int]) -> Tensor:
        """Return the UNet's image input (B, 2D), float32: [noised embedding, embedded noise level], or zeros.

        Noise is added even at noise level 0, where the schedule is not quite free of it, so each row's is seeded.
        """
        import torch
        from diffusers.models.embeddings import get_timestep_embedding

        noise = torch.stack(
            [torch.randn(self.embedding_shape, generator=torch_stream(seed, EMBEDDING_NOISE)) for seed in seeds]
        )
        levels = torch.full((len(seeds),), self._own.noise_level, device=self._device)
        embeddings = self._normalizer.scale(conditioning.embeddings.to(self._device, torch.float32))
        embeddings = self._noising.add_noise(embeddings, noise.to(self._device), levels)
        embeddings = self._normalizer.unscale(embeddings)
        level_embeddings = get_timestep_embedding(
            levels, self.embedding_shape[0], flip_sin_to_cos=True, downscale_freq_shift=0
        )
        vectors = torch.cat([embeddings, level_embeddings], dim=1)
        if self._own.published_dropout:
            kept = self._published_dropout(conditioning, seeds)
            vectors = torch.where(kept.to(self._device), vectors, 0.0)
        # Rows without an image get what the model was trained on for "no image": zeros in both halves.
        return torch.where(conditioning.with_image.to(self._device)[:, None], vectors, 0.0)

    def _published_dropout(self, conditioning: Conditioning, seeds: Sequence[int]) -> Tensor:
        """Return the published dropout's mask over [embedding, noise level], (B, 2D) bool.

        Its first half is the recipe's own mask, already applied: what is left of the embedding passes through the noise
        feature by feature, so masking again afterwards gives what the published scripts compute.
        """
        import torch

        from augcond.conditioning.drop import dropout_mask

        if len(conditioning.dropout) != len(seeds):
            raise ValueError("published_dropout needs the share dropped of each row, as conditioning.dropout")
        length = 2 * self.embedding_shape[0]
        return torch.stack([dropout_mask(seed, length, p) for seed, p in zip(seeds, conditioning.dropout, strict=True)])


def load_stable_unclip(config: GeneratorConfig) -> StableUnCLIP:
    """Return the Stable unCLIP generator that `config` stands for.

    Raises:
        ConfigError: a setting is wrong or does not go with this checkpoint.
        GeneratorError: the checkpoint is missing, incomplete, or of another kind.
    """
    parts = locate_parts(config, LAYOUT)
    pipeline = load_parts(parts, LAYOUT)
    return StableUnCLIP(pipeline, parts.identity, config, _text_projection(parts.folder))


def _text_projection(folder: Path) -> Tensor | None:
    """Return the matrix (D, C) that a checkpoint has beside diffusers' own components; None where it has none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "text_projection" / "model.safetensors"
    if not path.is_file():
        return None
    try:
        return load_file(path)["weight"].float()
    except (SafetensorError, KeyError) as error:
        raise GeneratorError(f"{path} holds no text projection: {error}") from error


def _check_noise_level(noise_level: int, noising: Any) -> None:
    levels = noising.config.num_train_timesteps
    if noise_level >= levels:
        raise ConfigError(f"generator.own.noise_level: this model knows levels 0 to {levels - 1}, not {noise_level}")


def _check_components(pipeline: Any) -> None:
    features = pipeline.image_encoder.config.projection_dim
    unet = pipeline.unet.config
    if unet.class_embed_type != "projection" or unet.projection_class_embeddings_input_dim != 2 * features:
        raise GeneratorError(
            f"the UNet takes no image input of 2 x {features} numbers (class_embed_type {unet.class_embed_type!r}, "
            f"projection_class_embeddings_input_dim {unet.projection_class_embeddings_input_dim}), so it does not "
            "belong to this image encoder"
        )


FAMILY = Family(
    load=load_stable_unclip,
    settings=StableUnCLIPSettings,
    inputs=StableUnCLIP.inputs,
    options=ALL_OPTIONS | {"away_from"},
    model=_MODEL,
    licence="CreativeML Open RAIL++-M; the built-in checkpoint: Apache-2.0",
    weights_gb=3.9,
    embedding="CLIP ViT-H/14, (1024,)",
    notes="the published method's generator; generator.model: builtin is a tiny checkpoint of the same format",
    native_pixels=768,
    rates=SD_RATES,
    weights=lambda config: needed_parts(config, LAYOUT),
)
