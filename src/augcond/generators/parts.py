"""A checkpoint as a config wants it: with LoRAs merged into its weights, or with another autoencoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from augcond.generators.autoencoders import TINY_SD, locate_vae, replace_vae, vae_weights
from augcond.generators.base import checkpoint_weights
from augcond.generators.loading import Checkpoint, locate_checkpoint
from augcond.generators.lora import Lora, locate_loras, lora_weights, merge_loras
from augcond.generators.pipelines import load_pipeline

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from augcond.config import GeneratorConfig
    from augcond.generators.base import GeneratorIdentity, NeededWeights, PipelineFormat


@dataclass(frozen=True, slots=True)
class Parts:
    """What a pipeline is made of, on this machine.

    Attributes:
        checkpoint: the base.
        loras: to be merged into its weights.
        vae: in the place of its own; None leaves it.
    """

    checkpoint: Checkpoint
    loras: tuple[Lora, ...] = ()
    vae: Checkpoint | None = None

    @property
    def folder(self) -> Path:
        """Where the base lies."""
        return self.checkpoint.folder

    @property
    def identity(self) -> GeneratorIdentity:
        """Which weights these are, all together."""
        base = self.checkpoint.identity
        added: list[Lora | GeneratorIdentity] = [*self.loras, *([self.vae.identity] if self.vae else [])]
        return replace(
            base,
            model=" + ".join([base.model, *(part.model for part in added)]),
            revision=" + ".join([base.revision, *(part.revision for part in added)]),
        )


def needed_parts(config: GeneratorConfig, layout: PipelineFormat, tiny_vae: str = TINY_SD) -> tuple[NeededWeights, ...]:
    """Return the files that `locate_parts` finds."""
    return *checkpoint_weights(config, layout), *lora_weights(config), *vae_weights(config, tiny_vae)


def locate_parts(config: GeneratorConfig, layout: PipelineFormat, tiny_vae: str = TINY_SD) -> Parts:
    """Return the parts that a config names, fetched from the hub where they are hub ids; nothing large is read.

    Args:
        config: of the generator.
        layout: what the base must hold.
        tiny_vae: hub id of the family's tiny autoencoder.

    Raises:
        ConfigError: a part is named wrongly.
        GeneratorError: a part is missing, cannot be fetched, or is of another kind.
    """
    return Parts(locate_checkpoint(config, layout), locate_loras(config), locate_vae(config, tiny_vae))


def load_parts(parts: Parts, layout: PipelineFormat, dtype: torch.dtype | None = None) -> Any:
    """Return the diffusers pipeline that is made of `parts`; `dtype` as for `load_pipeline`.

    Raises:
        ConfigError: the autoencoder is of other latents.
        GeneratorError: a part cannot be loaded, or does not belong to the base.
    """
    pipeline = load_pipeline(parts.checkpoint, layout, dtype)
    merge_loras(pipeline, parts.loras)
    replace_vae(pipeline, parts.vae)
    return pipeline
