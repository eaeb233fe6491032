"""FLUX.2 klein: a transformer of flow matching that is shown reference images beside a prompt.

Reference images enter as tokens of its autoencoder, behind the tokens of the image that is made; a coordinate tells one
reference from the next, and all of them from the image. Each row has its own references here, none or as many as its
recipe says; diffusers' pipeline shows every row of a batch all of them. What a recipe dropped is left out of every
attention.

Source: diffusers' `Flux2KleinPipeline`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from PIL.Image import Resampling
from pydantic import Field

from augcond.conditioning.framing import Framing
from augcond.config.base import Section
from augcond.datasets.reduced import whole
from augcond.errors import ConfigError, GeneratorError
from augcond.generators.base import Family, PipelineFormat, checkpoint_weights, own_settings
from augcond.generators.denoising import (
    Conditions,
    GuidedConditions,
    decode_slices,
    encode_slices,
    vae_scale_factor,
)
from augcond.generators.devices import execution_device, out_of_memory_errors, resolve_device, resolve_dtype
from augcond.generators.latent_diffusion import LatentDiffusion
from augcond.generators.loading import WeightsOrigin, locate_checkpoint, locate_configs, read_index
from augcond.generators.pipelines import load_pipeline, outline
from augcond.generators.prompts import PromptEncoder
from augcond.generators.transformer import TransformerDenoiser, even_sigmas, latents_of, tokens_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from PIL.Image import Image
    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig
    from augcond.config.generation import CacheConfig
    from augcond.generators.base import GeneratorIdentity
    from augcond.generators.denoising import Denoiser
    from augcond.generators.latent_diffusion import Settled

_MODEL = "black-forest-labs/FLUX.2-klein-4B"

LAYOUT = PipelineFormat(name="Flux2KleinPipeline", models=("text_encoder", "transformer", "vae"), example=_MODEL)

TOKENS = 512
"""Of a prompt, in the template of a chat."""

LAYERS = (9, 18, 27)
"""Of the text model, whose hidden states side by side are a prompt's embedding."""

_NATIVE = (128, 128)
_PATCH = 2
"""Latents of each edge that one token stands for."""

_LARGEST_REFERENCE = 512
_APART = 10
"""Of a reference image's coordinate, from the last one's; the first one's from that of the image, which is 0."""


class KleinSettings(Section, decides="images"):
    """Settings of flux2-klein alone."""

    negative_prompt: str = ""
    """What guidance leads away from; of klein's base models, the others are not guided."""
    reference_size: Annotated[int, Field(ge=16)] | None = None
    """Edge length in pixels at which a reference image is shown, cropped to a square; where null that of the images, up
    to 512. Every 16 x 16 pixels are a token."""


class Flux2Denoiser(TransformerDenoiser):
    """FLUX.2's transformer behind the denoising loop; latents are those of the autoencoder, (32, h, w).

    It is told `text` (B, L, C), `references` (B, R, T, 128), the T tokens of each of R square images, and `present`
    (B, R, T), which of these there are.

    Args:
        transformer: a Flux2Transformer2DModel.
        cache: how long deep features are kept; None computes everything at every step.
    """

    def __init__(self, transformer: Any, cache: CacheConfig | None = None) -> None:
        super().__init__(transformer, _NATIVE, cache)

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of one row's latents, (C, height, width)."""
        return self.network.config.in_channels // _PATCH**2, height, width

    def timing(self, scheduler: Any, steps: int, height: int, width: int) -> Mapping[str, Any]:
        """Return the noise levels before they are shifted, and the shift for as many tokens."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        shift = {"mu": compute_empirical_mu(height * width // _PATCH**2, steps)}
        return shift if scheduler.config.get("use_flow_sigmas") else {"sigmas": even_sigmas(steps), **shift}

    def call(self, network: Any, sample: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """Return what `network` predicts of noisy latents (B, C, h, w), float32."""
        import torch
        from torch.nn import functional

        text, references, present = (conditions.arguments[name] for name in ("text", "references", "present"))
        patches = functional.pixel_unshuffle(sample, _PATCH)
        height, width = patches.shape[-2:]
        tokens = tokens_of(patches)
        edge = math.isqrt(references.shape[2])
        beside = [_places(_APART * number, edge, edge) for number in range(1, references.shape[1] + 1)]
        predicted = network(
            torch.cat([tokens, references.flatten(1, 2).to(tokens)], dim=1).to(network.dtype),
            encoder_hidden_states=text,
            timestep=timestep.expand(len(sample)) / 1000,
            img_ids=torch.cat([_places(0, height, width), *beside]).to(tokens.device),
            txt_ids=_places(0, 1, 1, text.shape[1]).to(tokens.device),
            joint_attention_kwargs=_hidden(present.flatten(1), text.shape[1] + tokens.shape[1]),
            return_dict=False,
        )[0]
        latents = latents_of(predicted[:, : tokens.shape[1]], height, width)
        return functional.pixel_shuffle(latents, _PATCH).float()


def _places(time: int, height: int, width: int, length: int = 1) -> Tensor:
    """Return the coordinates of tokens, (height * width * length, 4)."""
    import torch

    return torch.cartesian_prod(torch.tensor([time]), torch.arange(height), torch.arange(width), torch.arange(length))


def _hidden(present: Tensor, others: int) -> dict[str, Tensor] | None:
    """Return what hides from every attention the reference tokens that are not there; None where all are.

    Args:
        present: (B, N) bool.
        others: number of tokens before them.
    """
    from torch.nn import functional

    if present.all():
        return None
    return {"attention_mask": functional.pad(present, (others, 0), value=True)[:, None, None]}


class ChatPrompts(PromptEncoder):
    """Encodes prompts as messages of a chat, with a Qwen3 model: hidden states of three layers, side by side.

    Args:
        tokenizer: a Qwen2Tokenizer with the template of a chat.
        text_encoder: a Qwen3Model.
    """

    def __init__(self, tokenizer: Any, text_encoder: Any) -> None:
        super().__init__(tokenizer, text_encoder, length=TOKENS)

    def text(self, prompt: str) -> str:
        """Return a prompt in the template of a chat."""
        said: str = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return said

    def encode_uncached(self, prompt: str) -> Tensor:
        """Return the embedding of one prompt, (512, C), leaving the cache alone."""
        tokens = self._tokenizer(
            self.text(prompt), padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
        ).to(execution_device(self._text_encoder))
        return read_layers(self._text_encoder, tokens.input_ids, tokens.attention_mask)[0]


def read_layers(text_encoder: Any, codes: Tensor, mask: Tensor) -> Tensor:
    """Return the hidden states of three layers of a Qwen3 model side by side, (B, L, 3 C)."""
    import torch

    output = text_encoder(codes, attention_mask=mask, output_hidden_states=True, use_cache=False)
    return torch.cat([output.hidden_states[layer] for layer in LAYERS], dim=-1)


class Klein(LatentDiffusion):
    """FLUX.2 klein behind the common interface; `load_klein` makes one from a config.

    The embedding of an image is its tokens as a reference image, (g * g, 128) row by row; those of further images may
    follow, and a token of zeros is none.

    Args:
        pipeline: a `Flux2KleinPipeline`; its models are moved to the device and dtype of `config`.
        identity: which weights these are.
        config: how to sample.

    Raises:
        ConfigError: the model cannot do what the config asks for.
    """

    inputs = frozenset({"text", "reference-image", "initial-image"})
    half = "bfloat16"

    def __init__(self, pipeline: Any, identity: GeneratorIdentity, config: GeneratorConfig) -> None:
        normal, epsilon = pipeline.vae.bn, pipeline.vae.config.batch_norm_eps
        super().__init__(pipeline, identity, config)
        # In float32, as all latents are.
        self._mean = normal.running_mean.float().view(-1, 1, 1).to(self._device)
        self._deviation = (normal.running_var.float() + epsilon).sqrt().view(-1, 1, 1).to(self._device)
        self._own = own_settings(config, KleinSettings)
        self._use_networks(pipeline.text_encoder.model)  # its head says the next word, which nobody asks
        self._prompts = ChatPrompts(pipeline.tokenizer, pipeline.text_encoder.model)
        token = self._size_step(self._vae_scale)
        edge = self._own.reference_size or min(*self.image_size, _LARGEST_REFERENCE)
        self.encoder_size = edge
        self.embedding_shape = ((edge // token) ** 2, pipeline.transformer.config.in_channels)
        self.framing = Framing(edge, edge, Resampling.LANCZOS)

    @classmethod
    def settle(cls, pipeline: Any, config: GeneratorConfig) -> Settled:
        """Return what a config settles of a pipeline, or of its outline, which has no weights.

        Raises:
            ConfigError: the model cannot do what the config asks for.
        """
        settled = super().settle(pipeline, config)
        token, size = cls._size_step(vae_scale_factor(settled.vae)), own_settings(config, KleinSettings).reference_size
        if size is not None and size % token:
            raise ConfigError(
                f"generator.own.reference_size: {token} x {token} pixels are a token; {size} is no multiple, "
                f"{max(token, round(size / token) * token)} is"
            )
        return settled

    @staticmethod
    def _denoiser_of(pipeline: Any, config: GeneratorConfig) -> Denoiser:
        return Flux2Denoiser(pipeline.transformer, config.cache)

    @staticmethod
    def _size_step(vae_scale: int) -> int:
        return _PATCH * vae_scale

    def view(self, image: Image) -> Tensor:
        """Return the whole `image` resized to cover a square and cropped to it, (3, S, S) in [0, 1]."""
        from augcond.conditioning.views import as_view

        return as_view(Framing(self.encoder_size, self.encoder_size, Resampling.LANCZOS).show(whole(image)))

    def encode_images(self, views: Tensor) -> Tensor:
        """Return the tokens of reference images (B, T, 128), float32 on the CPU, of views (B, 3, S, S) in [0, 1]."""
        import torch
        from torch.nn import functional

        if not len(views):
            return torch.zeros(0, *self.embedding_shape)
        with torch.inference_mode(), out_of_memory_errors():
            latents = self._encode_pixels(views.to(self._device) * 2 - 1)
            return tokens_of(functional.pixel_unshuffle(latents, _PATCH)).cpu().clone()

    def _encode_pixels(self, images: Tensor) -> Tensor:
        from torch.nn import functional

        patches = functional.pixel_unshuffle(encode_slices(self._vae, images), _PATCH)
        return functional.pixel_shuffle((patches - self._mean) / self._deviation, _PATCH)

    def _decode(self, latents: Tensor) -> Tensor:
        from torch.nn import functional

        patches = functional.pixel_unshuffle(latents, _PATCH) * self._deviation + self._mean
        return decode_slices(self._vae, functional.pixel_shuffle(patches, _PATCH))

    def _takes(self, shape: tuple[int, ...]) -> bool:
        tokens, features = self.embedding_shape
        return len(shape) == 2 and shape[0] % tokens == 0 and shape[1] == features

    def _kind(self, conditioning: Conditioning, row: int) -> Hashable:
        """Return where a row starts, how many references it has, and whether they are whole.

        So no row is shown places where only others have references, and a mask goes with those alone that need one.
        """
        _, present = self._references(conditioning.take([row]))
        return super()._kind(conditioning, row), present.shape[1], bool(present.all())

    def _references(self, conditioning: Conditioning) -> tuple[Tensor, Tensor]:
        """Return the tokens of as many references as the rows have at most, (B, R, T, 128), and which there are."""
        tokens = conditioning.embeddings.reshape(len(conditioning), -1, *self.embedding_shape)
        present = tokens.any(dim=-1) & conditioning.with_image[:, None, None]
        numbers = present.any(dim=-1).any(dim=0).nonzero()
        count = int(numbers[-1]) + 1 if len(numbers) else 0
        return tokens[:, :count], present[:, :count]

    def _conditions(self, conditioning: Conditioning, seeds: Sequence[int], *, cached: bool) -> GuidedConditions:
        references, present = (part.to(self._device) for part in self._references(conditioning))

        def told(prompts: Sequence[str]) -> Conditions:
            text = self._prompts.encode(prompts, cached=cached)
            return Conditions({"text": text, "references": references, "present": present})

        negative = told([self._own.negative_prompt] * len(seeds)) if self._guidance.scale > 1 else None
        return GuidedConditions(told(conditioning.prompts), negative)


def load_klein(config: GeneratorConfig) -> Klein:
    """Return the FLUX.2 klein that `config` stands for.

    Raises:
        ConfigError: a setting is wrong or does not go with this checkpoint.
        GeneratorError: the checkpoint is missing, incomplete, or of another kind.
    """
    origin = WeightsOrigin(config.model, config.revision, config.name)
    parts = outline(origin, LAYOUT)
    _check_parts(parts)
    if read_index(locate_configs(origin, LAYOUT), origin).get("is_distilled"):
        _check_distilled(config)
    Klein.settle(parts, config)
    checkpoint = locate_checkpoint(config, LAYOUT)
    dtype = resolve_dtype(config, resolve_device(config.device), Klein.half)
    return Klein(load_pipeline(checkpoint, LAYOUT, dtype), checkpoint.identity, config)


def _check_parts(parts: Any) -> None:
    """Check that the networks belong together, by their configs."""
    transformer, text = parts.transformer.config, parts.text_encoder.config
    found = transformer.in_channels, transformer.joint_attention_dim
    expected = _PATCH**2 * parts.vae.config.latent_channels, len(LAYERS) * text.hidden_size
    if found != expected:
        raise GeneratorError(
            f"the transformer takes tokens of {found[0]} and prompts of {found[1]} features; this autoencoder and this "
            f"text model give {expected[0]} and {expected[1]}"
        )
    if text.num_hidden_layers < LAYERS[-1]:
        raise GeneratorError(f"the text model has {text.num_hidden_layers} layers; klein reads its layer {LAYERS[-1]}")


def _check_distilled(config: GeneratorConfig) -> None:
    """Refuse what a distilled klein would ignore."""
    if config.guidance_scale > 1:
        raise ConfigError(
            f"generator.guidance_scale: this klein is distilled, and not guided: set it to 1, not "
            f"{config.guidance_scale:g} (its base models are guided)"
        )
    if config.guidance_interval != (0.0, 1.0):
        raise ConfigError("generator.guidance_interval: this klein is distilled, and not guided: leave it out")
    if own_settings(config, KleinSettings).negative_prompt:
        raise ConfigError("generator.own.negative_prompt: this klein is distilled, and not guided: leave it out")


FAMILY = Family(
    load=load_klein,
    settings=KleinSettings,
    inputs=Klein.inputs,
    options=frozenset({"cache", "memory"}),
    model=_MODEL,
    licence="Apache-2.0",
    weights_gb=16.0,
    embedding="tokens of its autoencoder, (1024, 128) of a reference image of 512 pixels",
    notes="steps: 4, scheduler: default, guidance_scale: 1; generator.own.reference_size says how large a reference is",
    native_pixels=1024,
    weights=lambda config: checkpoint_weights(config, LAYOUT),
)
