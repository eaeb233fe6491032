"""FLUX.1 with Redux: conditioned on all tokens of an image, which stand behind those of a prompt.

SigLIP's tokens (T, D) of each row's image pass through Redux's embedder, row by row, and are told to the transformer
behind what T5 makes of the prompt; `text` leaves them out. dev is told the scale of guidance, schnell does without any.
diffusers' `FluxPriorReduxPipeline` adds the images of a batch up to one.

Source: FLUX.1 and its Redux (Black Forest Labs, 2024); diffusers' `FluxPipeline`, `FluxImg2ImgPipeline` and
`FluxPriorReduxPipeline`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from augcond.config.base import Section, Setting
from augcond.errors import ConfigError, GeneratorError
from augcond.generators.autoencoders import TINY_FLUX
from augcond.generators.base import (
    ALL_INPUTS,
    Family,
    GeneratorIdentity,
    NeededWeights,
    PipelineFormat,
    own_settings,
)
from augcond.generators.denoising import Conditions, GuidedConditions
from augcond.generators.devices import resolve_device, resolve_dtype
from augcond.generators.image_encoder import SIGLIP_LAST, ImageEncoder, load_siglip
from augcond.generators.latent_diffusion import LatentDiffusion, Settled
from augcond.generators.loading import WeightsOrigin, locate_pipeline
from augcond.generators.parts import load_parts, locate_parts, needed_parts
from augcond.generators.pipelines import load_network, outline
from augcond.generators.prompts import PromptEncoder
from augcond.generators.transformer import TransformerDenoiser, even_sigmas, latents_of, shift_for, tokens_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig

_MODEL = "black-forest-labs/FLUX.1-dev"
_KEY = "generator.own.redux"

LAYOUT = PipelineFormat(
    name="FluxPipeline",
    models=("text_encoder", "text_encoder_2", "transformer", "vae"),
    example=_MODEL,
    prompts="tokenizer_2",
)

_NATIVE = (128, 128)
"""Height and width of the latents at which FLUX's pipelines make images by themselves; no config says it."""


class ReduxConfig(Section, decides="images"):
    """Where Redux is, its image encoder and its embedder, and how strongly it counts."""

    model: Annotated[str, Setting(by="contents", path="checkpoint")] = "black-forest-labs/FLUX.1-Redux-dev"
    """A hub id or a local folder."""
    revision: Annotated[str | None, Setting(by="contents")] = None
    """Commit hash, tag or branch on the hub; recorded as the commit hash it stands for."""
    scale: Annotated[float, Field(ge=0)] = 1.0
    """Factor on the image's tokens beside the prompt's; 1 is as trained, lower leaves more to the prompt."""


REDUX_LAYOUT = PipelineFormat(
    name="FluxPriorReduxPipeline",
    models=("image_embedder", "image_encoder"),
    example=ReduxConfig().model,
    skipped=("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"),
)


class FluxReduxSettings(Section, decides="images"):
    """Settings of flux-redux alone."""

    redux: ReduxConfig = ReduxConfig()
    prompt_tokens: Annotated[int, Field(ge=1, le=512)] = 512
    """How many tokens a prompt is padded or cut to for T5; schnell was trained with 256."""


class FluxDenoiser(TransformerDenoiser):
    """A FluxTransformer2DModel behind the denoising loop; packs 2 x 2 latents into a token, and out of it."""

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of one row's latents, (C, height, width)."""
        return self.network.config.in_channels // 4, height, width

    def timing(self, scheduler: Any, steps: int, height: int, width: int) -> Mapping[str, Any]:
        """Return even noise levels, and their shift by the number of tokens, of which dev's scheduler takes account."""
        return {"sigmas": even_sigmas(steps), "mu": shift_for(scheduler, height * width // 4)}

    def call(self, network: Any, sample: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """Return what `network` predicts of noisy latents (B, C, h, w), float32, of the same shape."""
        import torch
        from torch.nn.functional import pixel_shuffle, pixel_unshuffle

        packed = pixel_unshuffle(sample, 2)
        height, width = packed.shape[-2:]
        text = conditions.arguments["encoder_hidden_states"]
        # Places on the canvas: a token's row and column; those of a prompt and of its images have none.
        places = torch.cartesian_prod(torch.zeros(1), torch.arange(height).float(), torch.arange(width).float())
        made = network(
            hidden_states=tokens_of(packed).to(network.dtype),
            timestep=timestep.expand(len(sample)) / 1000,
            img_ids=places.to(sample.device),
            txt_ids=torch.zeros(text.shape[1], 3, device=sample.device),
            **conditions.arguments,
            return_dict=False,
        )[0]
        return pixel_shuffle(latents_of(made.float(), height, width), 2)


class FluxRedux(LatentDiffusion):
    """FLUX.1 with Redux behind the common interface; `load_flux_redux` makes one from a config.

    Args:
        pipeline: a `FluxPipeline`; its models are moved to the device and dtype of `config`.
        redux: folder of a `FluxPriorReduxPipeline`, of which `image_encoder`, `feature_extractor` and
            `image_embedder` are loaded.
        identity: which weights these are.
        config: how to sample.

    Raises:
        ConfigError: the model cannot do what the config asks for.
        GeneratorError: Redux cannot be loaded.
    """

    inputs = ALL_INPUTS
    half = "bfloat16"

    def __init__(self, pipeline: Any, redux: Path, identity: GeneratorIdentity, config: GeneratorConfig) -> None:
        from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder

        super().__init__(pipeline, identity, config)
        own = own_settings(config, FluxReduxSettings)
        encoder = load_siglip(redux / "image_encoder", redux / "feature_extractor", f"{_KEY}.model")
        self._use_image_encoder(ImageEncoder(*encoder, self._device, self._dtype, SIGLIP_LAST))
        embedder = redux / "image_embedder"
        self._embedder = load_network(ReduxImageEncoder, embedder, f"{_KEY}.model: {embedder}")
        self._use_networks(pipeline.text_encoder, pipeline.text_encoder_2, self._embedder)
        self._prompts = PromptEncoder(pipeline.tokenizer_2, pipeline.text_encoder_2, length=own.prompt_tokens)
        self._pooled = PromptEncoder(pipeline.tokenizer, pipeline.text_encoder, lambda output: output.pooler_output)
        self._scale = own.redux.scale
        # None of schnell, which is not told a scale.
        self._told = config.guidance_scale if self._denoiser.network.config.guidance_embeds else None

    @classmethod
    def settle(cls, pipeline: Any, config: GeneratorConfig) -> Settled:
        """Return what a config settles of a pipeline, or of its outline.

        Raises:
            ConfigError: the model cannot do what the config asks for.
        """
        if config.guidance_scale > 1 and not pipeline.transformer.config.guidance_embeds:
            raise ConfigError(
                f"generator.guidance_scale: this model (schnell) was distilled to do without guidance, so "
                f"{config.guidance_scale:g} would change nothing; set it to 1"
            )
        if config.guidance_interval != (0.0, 1.0):
            raise ConfigError(
                "generator.guidance_interval: FLUX.1 is told the scale of guidance in one call, so no step takes less "
                "time without it; leave it out"
            )
        return super().settle(pipeline, config)

    @staticmethod
    def _denoiser_of(pipeline: Any, config: GeneratorConfig) -> FluxDenoiser:
        return FluxDenoiser(pipeline.transformer, _NATIVE, config.cache)

    @staticmethod
    def _size_step(vae_scale: int) -> int:
        return 2 * vae_scale

    def _kind(self, conditioning: Conditioning, row: int) -> Hashable:
        return super()._kind(conditioning, row), bool(conditioning.with_image[row])

    def _conditions(self, conditioning: Conditioning, seeds: Sequence[int], *, cached: bool) -> GuidedConditions:
        import torch

        tokens = self._prompts.encode(conditioning.prompts, cached=cached)
        if conditioning.with_image[0]:  # or of none: rows are of one kind
            images = conditioning.embeddings.to(self._device, self._embedder.dtype)
            tokens = torch.cat([tokens, self._scale * self._embedder(images).image_embeds], dim=1)
        arguments = {
            "encoder_hidden_states": tokens,
            "pooled_projections": self._pooled.encode(conditioning.prompts, cached=cached),
            "guidance": None if self._told is None else torch.full((len(seeds),), self._told, device=self._device),
        }
        return GuidedConditions(Conditions(arguments), None)


def load_flux_redux(config: GeneratorConfig) -> FluxRedux:
    """Return the FLUX.1 with Redux that `config` stands for.

    Raises:
        ConfigError: a setting is wrong or does not go with this checkpoint.
        GeneratorError: the checkpoint or Redux is missing, incomplete, or of another kind.
    """
    origin = _redux(config)
    base = outline(WeightsOrigin(config.model, config.revision, config.name), LAYOUT)
    _check_components(base, outline(origin, REDUX_LAYOUT))
    FluxRedux.settle(base, config)
    parts = locate_parts(config, LAYOUT, TINY_FLUX)
    redux = locate_pipeline(origin, REDUX_LAYOUT)
    identity = GeneratorIdentity(
        config.name,
        f"{parts.identity.model} + {redux.identity.model}",
        f"{parts.identity.revision} + {redux.identity.revision}",
    )
    dtype = resolve_dtype(config, resolve_device(config.device), FluxRedux.half)
    return FluxRedux(load_parts(parts, LAYOUT, dtype), redux.folder, identity, config)


def _redux(config: GeneratorConfig) -> WeightsOrigin:
    where = own_settings(config, FluxReduxSettings).redux
    return WeightsOrigin(where.model, where.revision, config.name, _KEY)


def _check_components(base: Any, redux: Any) -> None:
    """Check by their configs that a transformer, its other networks and Redux go together.

    Raises:
        GeneratorError: they do not.
    """
    transformer, embedder = base.transformer.config, redux.image_embedder.config
    widths = {
        "FLUX's transformer takes latents of": (transformer.in_channels, 4 * base.vae.config.latent_channels),
        "FLUX's transformer takes prompts of": (transformer.joint_attention_dim, base.text_encoder_2.config.d_model),
        "FLUX's transformer takes pooled prompts of": (
            transformer.pooled_projection_dim,
            base.text_encoder.config.hidden_size,
        ),
        "FLUX's transformer takes tokens of": (transformer.joint_attention_dim, embedder.txt_in_features),
        "Redux's embedder takes tokens of": (embedder.redux_dim, redux.image_encoder.config.hidden_size),
    }
    for what, (taken, given) in widths.items():
        if taken != given:
            raise GeneratorError(f"{_KEY}.model: {what} {taken} features, but is given {given}: it is of another model")


def _weights(config: GeneratorConfig) -> tuple[NeededWeights, ...]:
    redux = _redux(config)
    return *needed_parts(config, LAYOUT, TINY_FLUX), NeededWeights(
        f"{_KEY}.model", redux.model, redux.revision, layout=REDUX_LAYOUT
    )


FAMILY = Family(
    load=load_flux_redux,
    settings=FluxReduxSettings,
    inputs=FluxRedux.inputs,
    options=frozenset({"cache", "memory", "vae"}),
    model=_MODEL,
    licence="FLUX.1 [dev] Non-Commercial License, of Redux too; schnell's own weights: Apache-2.0",
    commercial=False,
    weights_gb=34.7,
    embedding="SigLIP so400m/14 at 384 pixels: (729, 1152), a grid of 27 x 27",
    notes="FLUX.1 dev, or schnell as black-forest-labs/FLUX.1-schnell in 4 steps without guidance; generator.own.redux "
    "says where Redux is",
    native_pixels=1024,
    weights=_weights,
)
