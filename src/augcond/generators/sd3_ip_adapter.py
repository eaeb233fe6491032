"""Stable Diffusion 3.5 with its IP-Adapter: conditioned on all tokens of an image beside a prompt.

The adapter takes SigLIP's hidden states (T, D), which a projection that depends on the time step makes into queries of
every block, at every step; no image is zeros, as in its training.

Source: IP-Adapter (arXiv 2308.06721) for Stable Diffusion 3 (arXiv 2403.03206), by InstantX; diffusers'
`StableDiffusion3Pipeline` with `load_ip_adapter`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from safetensors import SafetensorError

from augcond.config.base import Section, Setting
from augcond.errors import ConfigError, GeneratorError
from augcond.generators.autoencoders import TINY_SD3
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
from augcond.generators.image_encoder import SIGLIP_TOKENS, ImageEncoder, load_siglip
from augcond.generators.latent_diffusion import LatentDiffusion, Settled
from augcond.generators.loading import WeightsOrigin, errors_only, identify, locate_files, quiet_progress
from augcond.generators.parts import load_parts, locate_parts, needed_parts
from augcond.generators.pipelines import outline
from augcond.generators.prompts import PromptEncoder
from augcond.generators.transformer import TransformerDenoiser, shift_for
from augcond.generators.weights import find_weights, weight_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig

_MODEL = "stabilityai/stable-diffusion-3.5-large"
_ADAPTER, _ENCODER = "generator.own.adapter", "generator.own.image_encoder"
_T5_TOKENS = 256

LAYOUT = PipelineFormat(
    name="StableDiffusion3Pipeline",
    models=("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "vae"),
    example=_MODEL,
    skipped=("feature_extractor", "image_encoder"),
    prompts="tokenizer_3",
)


class AdapterConfig(Section, decides="images"):
    """Which IP-Adapter conditions Stable Diffusion 3.5 on images, and how strongly."""

    model: Annotated[str, Setting(by="contents", path="checkpoint")] = (
        "guiyrt/InstantX-SD3.5-Large-IP-Adapter-diffusers"
    )
    """A hub id or a local folder."""
    revision: Annotated[str | None, Setting(by="contents")] = None
    """Commit hash, tag or branch on the hub; recorded as the commit hash it stands for."""
    weights: str = "ip-adapter.safetensors"
    """The adapter's safetensors file in there."""
    scale: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the image beside the prompt; 0 leaves the prompt alone, 0.5 is diffusers' own value."""


class ImageEncoderConfig(Section, decides="images"):
    """Where the adapter's SigLIP is."""

    model: Annotated[str, Setting(by="contents", path="checkpoint")] = "google/siglip-so400m-patch14-384"
    """A hub id or a local folder."""
    revision: Annotated[str | None, Setting(by="contents")] = None
    """Commit hash, tag or branch on the hub; recorded as the commit hash it stands for."""


class SD3AdapterSettings(Section, decides="images"):
    """Settings of sd3-ip-adapter alone."""

    negative_prompt: str = ""
    """What guidance leads away from."""
    adapter: AdapterConfig = AdapterConfig()
    image_encoder: ImageEncoderConfig = ImageEncoderConfig()


class SD3Denoiser(TransformerDenoiser):
    """An SD3Transformer2DModel behind the denoising loop."""

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of one row's latents, (C, height, width)."""
        return self.network.config.in_channels, height, width

    def timing(self, scheduler: Any, steps: int, height: int, width: int) -> Mapping[str, Any]:
        """Return the shift by the number of tokens, where the scheduler takes account of it; 3.5's does not."""
        if not scheduler.config.get("use_dynamic_shifting"):
            return {}
        return {"mu": shift_for(scheduler, height * width // self.network.config.patch_size**2)}

    def call(self, network: Any, sample: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """Return what `network` predicts of noisy latents (B, C, h, w), float32, of the same shape."""
        prediction: Tensor = network(
            sample.to(network.dtype), timestep=timestep.expand(len(sample)), **conditions.arguments, return_dict=False
        )[0]
        return prediction.float()


class SD3IPAdapter(LatentDiffusion):
    """Stable Diffusion 3.5 with its IP-Adapter; `load_sd3_ip_adapter` makes one from a config.

    Args:
        pipeline: a `StableDiffusion3Pipeline` that the adapter is attached to; its models are moved to the device and
            dtype of `config`.
        siglip: folder of the adapter's image encoder.
        identity: which weights these are.
        config: how to sample.

    Raises:
        ConfigError: the model cannot do what the config asks for.
        GeneratorError: the image encoder cannot be loaded.
    """

    inputs = ALL_INPUTS
    half = "bfloat16"

    def __init__(self, pipeline: Any, siglip: Path, identity: GeneratorIdentity, config: GeneratorConfig) -> None:
        super().__init__(pipeline, identity, config)
        self._own = own_settings(config, SD3AdapterSettings)
        encoder = load_siglip(siglip, siglip, f"{_ENCODER}.model")
        self._use_image_encoder(ImageEncoder(*encoder, self._device, self._dtype, SIGLIP_TOKENS))
        self._use_networks(pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3)
        # Both of CLIP's are as long as the first: the pipeline asks no other.
        length = pipeline.tokenizer.model_max_length
        clips = [(pipeline.tokenizer, pipeline.text_encoder), (pipeline.tokenizer_2, pipeline.text_encoder_2)]
        self._hidden = [PromptEncoder(*clip, lambda output: output.hidden_states[-2], length) for clip in clips]
        self._pooled = [PromptEncoder(*clip, lambda output: output.text_embeds, length) for clip in clips]
        self._t5 = PromptEncoder(pipeline.tokenizer_3, pipeline.text_encoder_3, length=_T5_TOKENS)

    @classmethod
    def settle(cls, pipeline: Any, config: GeneratorConfig) -> Settled:
        """Return what a config settles of a pipeline, or of its outline.

        Raises:
            ConfigError: the model cannot do what the config asks for.
        """
        settled = super().settle(pipeline, config)
        transformer = pipeline.transformer.config
        most = transformer.pos_embed_max_size * transformer.patch_size
        scale = settled.native_size[0] // settled.denoiser.native[0]
        if max(settled.image_size) > most * scale:
            raise ConfigError(
                f"generator.size: this model knows places up to {most * scale} pixels from the corner, so "
                f"{max(settled.image_size)} is too large"
            )
        return settled

    @staticmethod
    def _denoiser_of(pipeline: Any, config: GeneratorConfig) -> SD3Denoiser:
        size = pipeline.transformer.config.sample_size
        return SD3Denoiser(pipeline.transformer, (size, size), config.cache)

    @staticmethod
    def _size_step(vae_scale: int) -> int:
        return 2 * vae_scale

    def _conditions(self, conditioning: Conditioning, seeds: Sequence[int], *, cached: bool) -> GuidedConditions:
        import torch

        with_image = conditioning.with_image[:, None, None]
        image = torch.where(with_image, conditioning.embeddings, 0.0).to(self._device, self._denoiser.network.dtype)
        return GuidedConditions(
            self._told(conditioning.prompts, image, cached=cached),
            self._told([self._own.negative_prompt] * len(seeds), torch.zeros_like(image), cached=cached),
        )

    def _told(self, prompts: Sequence[str], image: Tensor, *, cached: bool) -> Conditions:
        """Return what the transformer is told of prompts and of the tokens of images (B, T, D)."""
        import torch

        t5 = self._t5.encode(prompts, cached=cached)
        clip = torch.cat([encoder.encode(prompts, cached=cached) for encoder in self._hidden], dim=-1)
        clip = torch.nn.functional.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
        pooled = torch.cat([encoder.encode(prompts, cached=cached) for encoder in self._pooled], dim=-1)
        return Conditions(
            {
                "encoder_hidden_states": torch.cat([clip, t5], dim=1),
                "pooled_projections": pooled,
                "joint_attention_kwargs": {"ip_adapter_image_embeds": image},
            }
        )


def load_sd3_ip_adapter(config: GeneratorConfig) -> SD3IPAdapter:
    """Return the Stable Diffusion 3.5 with its IP-Adapter that `config` stands for.

    Raises:
        ConfigError: a setting is wrong or does not go with this checkpoint.
        GeneratorError: the checkpoint, the adapter or its image encoder is missing, incomplete, or of another kind.
    """
    own = own_settings(config, SD3AdapterSettings)
    base = outline(WeightsOrigin(config.model, config.revision, config.name), LAYOUT)
    SD3IPAdapter.settle(base, config)
    encoder = WeightsOrigin(own.image_encoder.model, own.image_encoder.revision, config.name, _ENCODER)
    adapter = WeightsOrigin(own.adapter.model, own.adapter.revision, config.name, _ADAPTER)
    siglip_config = _siglip_config(encoder)
    weights, commit = _find_adapter(adapter, own.adapter.weights)
    _check_adapter(weights, base.transformer, siglip_config)
    siglip, siglip_identity = _locate_siglip(encoder)
    parts = locate_parts(config, LAYOUT, TINY_SD3)
    found = identify(adapter, weights.parent, commit, [weights])
    identity = GeneratorIdentity(
        config.name,
        f"{parts.identity.model} + {found.model}/{weights.name} + {siglip_identity.model}",
        f"{parts.identity.revision} + {found.revision} + {siglip_identity.revision}",
    )
    dtype = resolve_dtype(config, resolve_device(config.device), SD3IPAdapter.half)
    pipeline = load_parts(parts, LAYOUT, dtype)
    _attach_adapter(pipeline, weights, own.adapter.scale)
    return SD3IPAdapter(pipeline, siglip, identity, config)


def _find_adapter(origin: WeightsOrigin, weights: str) -> tuple[Path, str]:
    """Return the adapter's file, fetched where it is a hub id, and the commit hash of that."""
    if not weights.endswith(".safetensors"):
        raise ConfigError(f"{_ADAPTER}.weights: {weights!r} is not a safetensors file; pickled weights are not loaded")
    folder, commit = locate_files(origin, AdapterConfig().model, [weights])
    if not (folder / weights).is_file():
        raise GeneratorError(f"{_ADAPTER}.weights: {origin.model} has no file {weights}; name one that it has")
    return folder / weights, commit


_SIGLIP = ("config.json", "preprocessor_config.json")


def _siglip_config(origin: WeightsOrigin) -> Any:
    """Return the config of a SigLIP's vision model; of a hub id no more than configs is fetched."""
    from transformers import SiglipVisionConfig

    folder, commit = locate_files(origin, ImageEncoderConfig().model, _SIGLIP)
    if not commit:
        find_weights(folder, f"{_ENCODER}.model: {origin.model}")
    missing = [name for name in _SIGLIP if not (folder / name).is_file()]
    if missing:
        raise GeneratorError(f"{_ENCODER}.model: {origin.model} has no {missing[0]}; name the folder of a SigLIP")
    try:
        with errors_only():
            return SiglipVisionConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # from any library that reads a part of it
        raise GeneratorError(f"{_ENCODER}.model: {origin.model} is no SigLIP: {error}") from error


def _locate_siglip(origin: WeightsOrigin) -> tuple[Path, GeneratorIdentity]:
    """Return where the image encoder is, fetched where it is a hub id, and which weights these are."""
    patterns = [*_SIGLIP, "*.safetensors", "*.safetensors.index.json"]
    folder, commit = locate_files(origin, ImageEncoderConfig().model, patterns)
    weights = find_weights(folder, f"{_ENCODER}.model: {origin.model}")
    return folder, identify(origin, folder, commit, [*(folder / name for name in _SIGLIP), *weights.files])


def _check_adapter(path: Path, transformer: Any, siglip: Any) -> None:
    """Check by its header that an adapter is one, and was trained for this transformer and image encoder.

    Raises:
        ConfigError: it is of another kind.
        GeneratorError: it cannot be read, or was trained for others.
    """
    try:
        shapes = weight_shapes(path)
    except (OSError, SafetensorError) as error:
        raise GeneratorError(f"{_ADAPTER}.weights: {path.name} cannot be read: {error}") from error
    names = "image_proj.proj_in.weight", "image_proj.proj_out.weight", "ip_adapter.0.to_k_ip.weight"
    if not set(names) < set(shapes):
        raise ConfigError(f"{_ADAPTER}.weights: {path.name} is no IP-Adapter of Stable Diffusion 3")
    blocks = len({name.split(".")[1] for name in shapes if name.startswith("ip_adapter.")})
    found = (shapes[names[0]][1], shapes[names[1]][0], shapes[names[2]][0], blocks)
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    expected = (siglip.hidden_size, width, width, len(transformer.attn_processors))
    for what, one, other in zip(
        ("images of {} features", "tokens of {} features", "attention of {} features", "{} attentions"),
        found,
        expected,
        strict=True,
    ):
        if one != other:
            raise GeneratorError(
                f"{_ADAPTER}.weights: {path.name} is for {what.format(one)}; here it is {other}: it was trained for "
                "another model or image encoder"
            )


def _attach_adapter(pipeline: Any, weights: Path, scale: float) -> None:
    """Load an adapter's weights into the transformer of a pipeline."""
    try:
        with quiet_progress(), errors_only():
            pipeline.load_ip_adapter(
                str(weights.parent),
                weight_name=weights.name,
                image_encoder_folder=None,  # that is loaded by itself
                local_files_only=True,
            )
            pipeline.set_ip_adapter_scale(scale)
    except Exception as error:  # from any library that reads a part of it
        raise GeneratorError(
            f"{_ADAPTER}.weights: {weights.name} cannot be loaded as an IP-Adapter: {error}"
        ) from error


def _weights(config: GeneratorConfig) -> tuple[NeededWeights, ...]:
    own = own_settings(config, SD3AdapterSettings)
    where = (
        (f"{_ADAPTER}.model", own.adapter, own.adapter.weights),
        (f"{_ENCODER}.model", own.image_encoder, _SIGLIP[0]),
    )
    return *needed_parts(config, LAYOUT, TINY_SD3), *(
        NeededWeights(key, it.model, it.revision, file, example=type(it)().model) for key, it, file in where
    )


FAMILY = Family(
    load=load_sd3_ip_adapter,
    settings=SD3AdapterSettings,
    inputs=SD3IPAdapter.inputs,
    options=frozenset({"cache", "memory", "vae"}),
    model=_MODEL,
    licence="Stability AI Community License, of the adapter too; SigLIP: Apache-2.0",
    weights_gb=29.9,
    embedding="SigLIP so400m/14 at 384 pixels: (729, 1152), a grid of 27 x 27",
    notes="Stable Diffusion 3.5 large with InstantX's IP-Adapter; generator.own.adapter says how strong it is",
    native_pixels=1024,
    weights=_weights,
)
