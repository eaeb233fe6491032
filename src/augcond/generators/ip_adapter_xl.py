"""Stable Diffusion XL with an IP-Adapter: as `ip_adapter`, with two text encoders and the sizes as inputs.

Source: SDXL (arXiv 2307.01952); diffusers' `StableDiffusionXLPipeline` with `load_ip_adapter`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from augcond.errors import GeneratorError
from augcond.generators.adapters import adapted_weights, attach_adapter, locate_adapter
from augcond.generators.autoencoders import TINY_SDXL
from augcond.generators.base import ALL_INPUTS, ALL_OPTIONS, Family, PipelineFormat, own_settings
from augcond.generators.denoising import GuidedConditions
from augcond.generators.devices import place
from augcond.generators.ip_adapter import AdaptedDiffusion, AdaptedSettings
from augcond.generators.parts import load_parts, locate_parts
from augcond.generators.prompts import PromptEncoder
from augcond.generators.stable_diffusion import check_text_to_image
from augcond.generators.unet import unet_conditions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig
    from augcond.generators.adapters import Adapter
    from augcond.generators.base import NeededWeights

_MODEL = "stabilityai/stable-diffusion-xl-base-1.0"
_ADAPTER = "sdxl_models/ip-adapter_sdxl.safetensors"

LAYOUT = PipelineFormat(
    name="StableDiffusionXLPipeline",
    models=("text_encoder", "text_encoder_2", "unet", "vae"),
    example=_MODEL,
)


class IPAdapterXL(AdaptedDiffusion):
    """Stable Diffusion XL with an IP-Adapter; `load_ip_adapter_xl` makes one from a config.

    Args:
        pipeline: a `StableDiffusionXLPipeline` that `adapter` is attached to.
        adapter: the adapter.
        config: how to sample.

    Raises:
        GeneratorError: the UNet is not of SDXL's base model.
    """

    inputs = ALL_INPUTS

    def __init__(self, pipeline: Any, adapter: Adapter, config: GeneratorConfig) -> None:
        import torch

        _check_components(pipeline)
        super().__init__(pipeline, adapter, config)
        self._use_networks(pipeline.text_encoder, pipeline.text_encoder_2)
        second = pipeline.tokenizer_2, pipeline.text_encoder_2
        self._prompts = (
            PromptEncoder(pipeline.tokenizer, pipeline.text_encoder, _last_but_one),
            PromptEncoder(*second, _last_but_one),
        )
        self._pooled = PromptEncoder(*second, lambda output: output.text_embeds)
        # Without a negative prompt, SDXL was trained with zeros rather than with the embedding of no words.
        self._zeros = pipeline.config.force_zeros_for_empty_prompt and not self._own.negative_prompt
        if self._dtype == torch.float16 and self._vae.config.force_upcast:
            # SDXL's VAE overflows in float16 on every image, and its config says so.
            place(self._vae, self._device, torch.float32)

    def _conditions(self, conditioning: Conditioning, seeds: Sequence[int], *, cached: bool) -> GuidedConditions:
        import torch

        rows = len(conditioning)
        image, no_image = self._image_inputs(conditioning, self._dtype)
        text, pooled = self._encode(conditioning.prompts, cached=cached)
        if self._zeros:
            negative, negative_pooled = torch.zeros_like(text), torch.zeros_like(pooled)
        else:
            negative, negative_pooled = self._encode([self._own.negative_prompt] * rows, cached=cached)
        sizes = self._sizes(rows)
        return GuidedConditions(
            conditional=unet_conditions(
                text, added={"image_embeds": [image], "text_embeds": pooled, "time_ids": sizes}
            ),
            unconditional=unet_conditions(
                negative, added={"image_embeds": [no_image], "text_embeds": negative_pooled, "time_ids": sizes}
            ),
        )

    def _encode(self, prompts: Sequence[str], *, cached: bool) -> tuple[Tensor, Tensor]:
        """Return prompt embeddings (B, L, C1 + C2) of both text models, and the pooled ones (B, C2) of the second."""
        import torch

        hidden = [encoder.encode(prompts, cached=cached) for encoder in self._prompts]
        return torch.cat(hidden, dim=-1), self._pooled.encode(prompts, cached=cached)

    def _sizes(self, rows: int) -> Tensor:
        """Return SDXL's size inputs (B, 6): an original of the target's own size, not cropped, as the pipeline does."""
        import torch

        height, width = self.image_size
        sizes = [height, width, 0, 0, height, width]
        return torch.tensor([sizes], device=self._device, dtype=self._denoiser.network.dtype).repeat(rows, 1)


def load_ip_adapter_xl(config: GeneratorConfig) -> IPAdapterXL:
    """Return the Stable Diffusion XL with an IP-Adapter that `config` stands for.

    Raises:
        ConfigError: a setting is wrong or does not go with this checkpoint.
        GeneratorError: the checkpoint or the adapter is missing, incomplete, or of another kind.
    """
    parts = locate_parts(config, LAYOUT, TINY_SDXL)
    adapter = locate_adapter(config.name, own_settings(config, AdaptedSettings).adapter, parts.identity, _ADAPTER)
    pipeline = load_parts(parts, LAYOUT)
    check_text_to_image(pipeline)
    attach_adapter(pipeline, adapter)
    return IPAdapterXL(pipeline, adapter, config)


def _last_but_one(output: Any) -> Tensor:
    hidden: Tensor = output.hidden_states[-2]
    return hidden


def _check_components(pipeline: Any) -> None:
    unet = pipeline.unet.config
    # Six numbers, the sizes, are embedded beside the pooled prompt; the refiner takes five.
    expected = 6 * (unet.addition_time_embed_dim or 0) + pipeline.text_encoder_2.config.projection_dim
    if unet.addition_embed_type != "text_time" or unet.projection_class_embeddings_input_dim != expected:
        raise GeneratorError(
            "the UNet is not of SDXL's base model: it takes additional inputs of "
            f"{unet.projection_class_embeddings_input_dim} numbers ({unet.addition_embed_type}), not {expected}"
        )
    if getattr(pipeline.vae.config, "latents_mean", None) is not None:
        raise GeneratorError("the VAE shifts its latents by a mean; models of that kind are not supported")


def _weights(config: GeneratorConfig) -> tuple[NeededWeights, ...]:
    return adapted_weights(config, LAYOUT, own_settings(config, AdaptedSettings).adapter, _ADAPTER, TINY_SDXL)


FAMILY = Family(
    load=load_ip_adapter_xl,
    settings=AdaptedSettings,
    inputs=IPAdapterXL.inputs,
    options=ALL_OPTIONS | {"away_from"},
    model=_MODEL,
    licence="CreativeML Open RAIL++-M; adapter h94/IP-Adapter: Apache-2.0",
    weights_gb=11.3,
    embedding="CLIP ViT-bigG/14: base (1280,); ViT-H/14: plus (257, 1280)",
    notes="Stable Diffusion XL with an IP-Adapter; generator.own.adapter says which and how strong",
    weights=_weights,
)
