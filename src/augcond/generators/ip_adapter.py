"""Stable Diffusion 1.5 with an IP-Adapter: conditioned on an image embedding beside a prompt.

The base adapter takes the projected CLIP embedding (D,), the plus adapter all hidden states (T, D) of the last layer
but one. Every row is told of one image, so embeddings pair with prompts row by row; diffusers' pipelines pair them
rightly only for one image per prompt.

Source: IP-Adapter (arXiv 2308.06721); diffusers' `StableDiffusionPipeline` with `load_ip_adapter`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from augcond.config.base import Section
from augcond.generators.adapters import AdapterConfig, adapted_weights, attach_adapter, locate_adapter
from augcond.generators.base import ALL_INPUTS, ALL_OPTIONS, Family, PipelineFormat, own_settings
from augcond.generators.denoising import GuidedConditions
from augcond.generators.image_encoder import CLIP_TOKENS, PROJECTED, ImageEncoder
from augcond.generators.latent_diffusion import LatentDiffusion
from augcond.generators.parts import load_parts, locate_parts
from augcond.generators.prompts import PromptEncoder
from augcond.generators.stable_diffusion import SD_RATES, check_text_to_image
from augcond.generators.unet import unet_conditions

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig
    from augcond.generators.adapters import Adapter
    from augcond.generators.base import NeededWeights

_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_ADAPTER = "models/ip-adapter_sd15.safetensors"

LAYOUT = PipelineFormat(
    name="StableDiffusionPipeline",
    models=("text_encoder", "unet", "vae"),
    example=_MODEL,
    skipped=("safety_checker",),
)


class AdaptedSettings(Section, decides="images"):
    """Settings of ip-adapter and ip-adapter-xl."""

    negative_prompt: str = ""
    """What guidance leads away from."""
    adapter: AdapterConfig = AdapterConfig()


class AdaptedDiffusion(LatentDiffusion):
    """Stable Diffusion of any version with an IP-Adapter; subclasses add the prompts.

    Args:
        pipeline: a text-to-image pipeline that `adapter` is attached to; its models are moved to the device and
            dtype of `config`.
        adapter: the adapter.
        config: how to sample.

    Raises:
        ConfigError: the model cannot do what the config asks for.
    """

    def __init__(self, pipeline: Any, adapter: Adapter, config: GeneratorConfig) -> None:
        import torch

        super().__init__(pipeline, adapter.identity, config)
        self._own = own_settings(config, AdaptedSettings)
        encoder = ImageEncoder(
            pipeline.feature_extractor,
            pipeline.image_encoder,
            self._device,
            self._dtype,
            CLIP_TOKENS if adapter.tokens else PROJECTED,
        )
        self._use_image_encoder(encoder)
        # What "no image" was in the adapter's training.
        self._no_image = encoder.encode_zero_image() if adapter.tokens else torch.zeros(encoder.shape)

    def _image_inputs(self, conditioning: Conditioning, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the UNet's image inputs of each row, and those that guidance leads away from.

        Both are (B, 1, *embedding_shape): one image per row, or that of no image.
        """
        conditional = self._image_input(conditioning)[:, None].to(self._device, dtype)
        away = conditioning.led_away()
        led_away = self._no_image if away is None else self._image_input(away)[:, None]
        return conditional, led_away.to(conditional).expand_as(conditional)

    def _image_input(self, conditioning: Conditioning) -> Tensor:
        import torch

        with_image = conditioning.with_image.view(-1, *[1] * len(self.embedding_shape))
        return torch.where(with_image, conditioning.embeddings, self._no_image)


class IPAdapter(AdaptedDiffusion):
    """Stable Diffusion 1.5 with an IP-Adapter; `load_ip_adapter` makes one from a config.

    Args:
        pipeline: a `StableDiffusionPipeline` that `adapter` is attached to.
        adapter: the adapter.
        config: how to sample.
    """

    inputs = ALL_INPUTS

    def __init__(self, pipeline: Any, adapter: Adapter, config: GeneratorConfig) -> None:
        super().__init__(pipeline, adapter, config)
        self._use_networks(pipeline.text_encoder)
        self._prompts = PromptEncoder(pipeline.tokenizer, pipeline.text_encoder)

    def _conditions(self, conditioning: Conditioning, seeds: Sequence[int], *, cached: bool) -> GuidedConditions:
        text = self._prompts.encode(conditioning.prompts, cached=cached)
        negative = self._prompts.encode([self._own.negative_prompt], cached=cached)
        image, no_image = self._image_inputs(conditioning, text.dtype)
        return GuidedConditions(
            conditional=unet_conditions(text, added={"image_embeds": [image]}),
            unconditional=unet_conditions(negative.expand_as(text), added={"image_embeds": [no_image]}),
        )


def load_ip_adapter(config: GeneratorConfig) -> IPAdapter:
    """Return the Stable Diffusion 1.5 with an IP-Adapter that `config` stands for.

    Raises:
        ConfigError: a setting is wrong or does not go with this checkpoint.
        GeneratorError: the checkpoint or the adapter is missing, incomplete, or of another kind.
    """
    parts = locate_parts(config, LAYOUT)
    adapter = locate_adapter(config.name, own_settings(config, AdaptedSettings).adapter, parts.identity, _ADAPTER)
    pipeline = load_parts(parts, LAYOUT)
    check_text_to_image(pipeline)
    attach_adapter(pipeline, adapter)
    return IPAdapter(pipeline, adapter, config)


def _weights(config: GeneratorConfig) -> tuple[NeededWeights, ...]:
    return adapted_weights(config, LAYOUT, own_settings(config, AdaptedSettings).adapter, _ADAPTER)


FAMILY = Family(
    load=load_ip_adapter,
    settings=AdaptedSettings,
    inputs=IPAdapter.inputs,
    options=ALL_OPTIONS | {"away_from"},
    model=_MODEL,
    licence="CreativeML OpenRAIL-M; adapter h94/IP-Adapter: Apache-2.0",
    weights_gb=3.4,
    embedding="CLIP ViT-H/14: base (1024,), plus (257, 1280)",
    notes="Stable Diffusion 1.5 with an IP-Adapter; generator.own.adapter says which and how strong",
    native_pixels=512,
    rates=SD_RATES,
    weights=_weights,
)
