"""Sample from an exported checkpoint with diffusers' own parts, also without an image, which the pipeline cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableUnCLIPImg2ImgPipeline
from tools.world.captions import tokenize
from tools.world.styles import to_pictures, to_unit
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Settings:
    """How to sample."""

    guidance: float = 3.0
    steps: int = 20
    batch_size: int = 50


def open_pipeline(folder: Path) -> StableUnCLIPImg2ImgPipeline:
    """The pipeline of an exported folder, opened as anyone would."""
    pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def embed(pipeline: StableUnCLIPImg2ImgPipeline, pictures: Tensor) -> Tensor:
    """(N, 3, 32, 32) uint8 pictures as (N, D) embeddings."""
    return torch.cat([pipeline.image_encoder(to_unit(part)).image_embeds for part in pictures.split(250)])


@torch.no_grad()
def sample(
    pipeline: StableUnCLIPImg2ImgPipeline,
    prompts: list[str],
    embeddings: Tensor | None,
    settings: Settings,
    seed: int = 0,
) -> Tensor:
    """Draw one picture for each prompt.

    Args:
        pipeline: an opened checkpoint.
        prompts: N texts.
        embeddings: (N, D), or None for the unconditional image input: zeros after the noise level is appended.
        settings: guidance, steps, batch size.
        seed: of all noise.

    Returns:
        (N, 3, 32, 32) uint8.
    """
    generator = torch.Generator().manual_seed(seed)
    pictures = []
    for start in range(0, len(prompts), settings.batch_size):
        rows = slice(start, start + settings.batch_size)
        texts = prompts[rows]
        blank = torch.zeros(len(texts), 2 * pipeline.image_normalizer.mean.shape[1])
        vectors = blank
        if embeddings is not None:
            vectors = pipeline.noise_image_embeddings(embeddings[rows], noise_level=0, generator=generator)
        tokens = tokenize(pipeline.tokenizer, [*texts, *[""] * len(texts)])
        states = pipeline.text_encoder(tokens).last_hidden_state
        latents = torch.randn(len(texts), pipeline.unet.config.in_channels, 8, 8, generator=generator)
        latents = _denoise(pipeline, latents, states, torch.cat([vectors, blank]), settings)
        pictures.append(to_pictures(pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample))
    return torch.cat(pictures)


def _denoise(
    pipeline: StableUnCLIPImg2ImgPipeline, latents: Tensor, states: Tensor, vectors: Tensor, settings: Settings
) -> Tensor:
    count, scheduler, guided = len(latents), pipeline.scheduler, settings.guidance != 1
    scheduler.set_timesteps(settings.steps)
    latents = latents * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, timestep)
        if guided:
            both = torch.cat([scaled, scaled])
            predicted = pipeline.unet(both, timestep, encoder_hidden_states=states, class_labels=vectors).sample
            told, blank = predicted.chunk(2)
            predicted = blank + settings.guidance * (told - blank)
        else:
            predicted = pipeline.unet(
                scaled, timestep, encoder_hidden_states=states[:count], class_labels=vectors[:count]
            ).sample
        latents = scheduler.step(predicted, timestep, latents).prev_sample
    return latents
