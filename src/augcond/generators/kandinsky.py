"""Kandinsky 2.2: a decoder from CLIP image embeddings to images.

The decoder takes no prompt: in Kandinsky a prompt acts on the prior alone, which makes an image embedding of it, and
here the embedding comes from real images. So the prompts of a plan change nothing, and the recipes without an image
embedding, of which only the prompt says the class, are refused. The image encoder lies in the prior's repository.

Source: Kandinsky (arXiv 2310.03502); diffusers' `KandinskyV22Pipeline`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from augcond.config.base import Section, Setting
from augcond.errors import GeneratorError
from augcond.generators.base import (
    Family,
    GeneratorIdentity,
    NeededWeights,
    PipelineFormat,
    checkpoint_weights,
    own_settings,
)
from augcond.generators.denoising import GuidedConditions, rows_at_once
from augcond.generators.image_encoder import ImageEncoder
from augcond.generators.latent_diffusion import LatentDiffusion
from augcond.generators.loading import WeightsOrigin, locate_checkpoint, locate_pipeline, quiet_progress
from augcond.generators.pipelines import load_network, load_pipeline
from augcond.generators.unet import unet_conditions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig


class PriorConfig(Section, decides="images"):
    """Where Kandinsky's image encoder is: in the repository of its prior."""

    model: Annotated[str, Setting(by="contents", path="checkpoint")] = "kandinsky-community/kandinsky-2-2-prior"
    """A hub id or a local folder."""
    revision: Annotated[str | None, Setting(by="contents")] = None
    """Commit hash, tag or branch on the hub; recorded as the commit hash it stands for."""


class KandinskySettings(Section, decides="images"):
    """Settings of kandinsky-2.2 alone."""

    prior: PriorConfig = PriorConfig()


_MODEL = "kandinsky-community/kandinsky-2-2-decoder"
_KEY = "generator.own.prior"

LAYOUT = PipelineFormat(name="KandinskyV22Pipeline", models=("unet", "movq"), example=_MODEL)
PRIOR_LAYOUT = PipelineFormat(
    name="KandinskyV22PriorPipeline",
    models=("image_encoder",),
    example=PriorConfig().model,
    skipped=("prior", "scheduler", "text_encoder", "tokenizer"),
)


class Kandinsky(LatentDiffusion):
    """Kandinsky 2.2's decoder behind the common interface; `load_kandinsky` makes one from a config.

    Args:
        pipeline: a `KandinskyV22Pipeline`; its models are moved to the device and dtype of `config`.
        prior: folder that holds the `image_encoder` and its `image_processor`.
        identity: which weights these are.
        config: how to sample.

    Raises:
        ConfigError: the model cannot do what the config asks for.
        GeneratorError: the UNet does not belong to the image encoder.
    """

    inputs = frozenset({"image"})

    def __init__(self, pipeline: Any, prior: Path, identity: GeneratorIdentity, config: GeneratorConfig) -> None:
        super().__init__(pipeline, identity, config)
        encoder = _load_image_encoder(prior)
        _check_components(pipeline.unet, encoder[1])
        self._use_image_encoder(ImageEncoder(*encoder, self._device, self._dtype))
        self._no_image = self._encoder().encode_zero_image()

    @staticmethod
    def _vae_of(pipeline: Any) -> Any:
        return pipeline.movq

    @staticmethod
    def _size_step(vae_scale: int) -> int:
        # As the pipeline has it: the UNet halves the latents as often as MoVQ halves the image.
        return vae_scale**2

    def _conditions(self, conditioning: Conditioning, seeds: Sequence[int], *, cached: bool) -> GuidedConditions:
        image = self._image_input(conditioning).to(self._device, self._denoiser.network.dtype)
        away = conditioning.led_away()
        led_away = (self._no_image if away is None else self._image_input(away)).to(image).expand_as(image)
        return GuidedConditions(
            conditional=unet_conditions(added={"image_embeds": image}),
            unconditional=unet_conditions(added={"image_embeds": led_away}),
        )

    def _image_input(self, conditioning: Conditioning) -> Tensor:
        import torch

        return torch.where(conditioning.with_image[:, None], conditioning.embeddings, self._no_image)

    def _decode(self, latents: Tensor) -> Tensor:
        import torch

        rows = rows_at_once(latents[0, 0].numel() * self._vae_scale**2)
        parts = torch.split(latents.to(self._vae.dtype), rows)
        # Latents are not scaled, and are decoded as they are rather than snapped to the code book.
        return torch.cat([self._vae.decode(part, force_not_quantize=True).sample.float() for part in parts])


def load_kandinsky(config: GeneratorConfig) -> Kandinsky:
    """Return the Kandinsky 2.2 decoder that `config` stands for.

    Raises:
        ConfigError: a setting is wrong or does not go with this checkpoint.
        GeneratorError: the checkpoint or the image encoder is missing, incomplete, or of another kind.
    """
    checkpoint = locate_checkpoint(config, LAYOUT)
    where = own_settings(config, KandinskySettings).prior
    origin = WeightsOrigin(where.model, where.revision, config.name, _KEY)
    prior = locate_pipeline(origin, PRIOR_LAYOUT)
    identity = GeneratorIdentity(
        config.name,
        f"{checkpoint.identity.model} + {prior.identity.model}/image_encoder",
        f"{checkpoint.identity.revision} + {prior.identity.revision}",
    )
    return Kandinsky(load_pipeline(checkpoint, LAYOUT), prior.folder, identity, config)


def _load_image_encoder(folder: Path) -> tuple[Any, Any]:
    """Return the CLIPImageProcessor and the CLIPVisionModelWithProjection of a prior's folder."""
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    try:
        with quiet_progress():
            extractor = CLIPImageProcessor.from_pretrained(folder / "image_processor", local_files_only=True)
    except Exception as error:  # from any library that reads a part of it
        raise GeneratorError(f"{_KEY}: the image encoder's extractor cannot be loaded: {error}") from error
    encoder = folder / "image_encoder"
    return extractor, load_network(CLIPVisionModelWithProjection, encoder, f"{_KEY}: {encoder}")


def _check_components(unet: Any, image_encoder: Any) -> None:
    features = image_encoder.config.projection_dim
    if unet.config.encoder_hid_dim_type != "image_proj" or unet.config.encoder_hid_dim != features:
        raise GeneratorError(
            f"the UNet takes no image embedding of {features} features (encoder_hid_dim_type "
            f"{unet.config.encoder_hid_dim_type!r}, encoder_hid_dim {unet.config.encoder_hid_dim}), so it does not "
            "belong to this image encoder"
        )


def _weights(config: GeneratorConfig) -> tuple[NeededWeights, ...]:
    prior = own_settings(config, KandinskySettings).prior
    return *checkpoint_weights(config, LAYOUT), NeededWeights(
        f"{_KEY}.model", prior.model, prior.revision, layout=PRIOR_LAYOUT
    )


FAMILY = Family(
    load=load_kandinsky,
    settings=KandinskySettings,
    inputs=Kandinsky.inputs,
    options=frozenset({"cache", "memory", "away_from"}),
    model=_MODEL,
    licence="Apache-2.0",
    weights_gb=6.1,
    embedding="CLIP ViT-bigG/14, (1280,)",
    notes="the decoder takes no prompt: prompts change nothing; generator.own.prior says where the image encoder is",
    weights=_weights,
)
