"""Text-to-image Stable Diffusion: the class-label baseline, and Real Guidance.

Takes no image embedding: its rows are conditioned on a prompt, and may start from an image noised to a strength, as in
diffusers' `StableDiffusionImg2ImgPipeline`.

Source: latent diffusion (arXiv 2112.10752); SDEdit (arXiv 2108.01073); Real Guidance (arXiv 2210.07574).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from augcond.errors import GeneratorError
from augcond.generators.catalog import CATALOG
from augcond.generators.denoising import GuidedConditions, UNetConditions
from augcond.generators.latent_diffusion import LatentDiffusion
from augcond.generators.loading import PipelineFormat, load_pipeline, locate_checkpoint
from augcond.generators.prompts import PromptEncoder
from augcond.generators.settings import refuse_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig
    from augcond.generators.base import GeneratorIdentity

LAYOUT = PipelineFormat(
    name="StableDiffusionPipeline",
    models=("text_encoder", "unet", "vae"),
    example=CATALOG["stable-diffusion"].model,
    skipped=("safety_checker",),
)


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

    inputs = CATALOG["stable-diffusion"].inputs

    def __init__(self, pipeline: Any, identity: GeneratorIdentity, config: GeneratorConfig) -> None:
        check_text_to_image(pipeline)
        super().__init__(pipeline, identity, config)
        self._use_text_encoders(pipeline.text_encoder)
        self._prompts = PromptEncoder(pipeline.tokenizer, pipeline.text_encoder)

    def _conditions(self, conditioning: Conditioning, seeds: Sequence[int], *, cached: bool) -> GuidedConditions:
        if conditioning.with_image.any():
            raise ValueError("text-to-image Stable Diffusion takes no image embedding")
        text = self._prompts.encode(conditioning.prompts, cached=cached)
        negative = self._prompts.encode([self._config.negative_prompt], cached=cached)
        return GuidedConditions(UNetConditions(text), UNetConditions(negative.expand_as(text)))


def load_stable_diffusion(config: GeneratorConfig) -> StableDiffusion:
    """Return the text-to-image Stable Diffusion generator that `config` stands for.

    Raises:
        ConfigError: a setting is wrong or does not go with this checkpoint.
        GeneratorError: the checkpoint is missing, incomplete, or of another kind.
    """
    refuse_settings(config, "adapter", "prior", "noise_level", "published_dropout")
    checkpoint = locate_checkpoint(config, LAYOUT)
    pipeline = load_pipeline(checkpoint, LAYOUT)
    return StableDiffusion(pipeline, checkpoint.identity, config)


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
