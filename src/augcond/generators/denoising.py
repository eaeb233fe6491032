"""From noise to images: classifier-free guidance, the denoising loop, decoding, and what is wrong with an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from augcond.generators.schedulers import step_arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

# How many pixels the VAE decodes at once: one image of 768 px, four of 512, a thousand of 32. Decoding is the peak
# of memory at large sizes.
_DECODED_PIXELS = 2**20


@dataclass(frozen=True, slots=True)
class Guidance:
    """Classifier-free guidance (arXiv 2207.12598) in a limited interval of the steps (arXiv 2404.07724).

    Attributes:
        scale: w in `unconditional + w * (conditional - unconditional)`; up to 1 there is no guidance.
        interval: shares of the steps, in [0, 1], between which guidance applies.
    """

    scale: float
    interval: tuple[float, float] = (0.0, 1.0)

    def applies(self, step: int, steps: int) -> bool:
        """Return whether `step` (from 0) of `steps` is guided: whether its middle lies inside the interval."""
        start, end = self.interval
        return self.scale > 1 and start <= (step + 0.5) / steps <= end


@dataclass(frozen=True, slots=True)
class UNetConditions:
    """What the UNet is told about each of B rows, on its device and in its dtype.

    Attributes:
        text: prompt embeddings, (B, L, C).
        image: class labels of the UNet's own embedding, (B, E), or None where it has none.
    """

    text: Tensor
    image: Tensor | None

    def followed_by(self, other: UNetConditions) -> UNetConditions:
        """Return these rows, then the rows of `other`."""
        image = None if self.image is None or other.image is None else torch.cat([self.image, other.image])
        return UNetConditions(torch.cat([self.text, other.text]), image)


@dataclass(frozen=True, slots=True)
class GuidedConditions:
    """What guidance leads towards and away from, B rows each."""

    conditional: UNetConditions
    unconditional: UNetConditions


def initial_latents(shape: tuple[int, ...], generators: Sequence[Generator]) -> Tensor:
    """Return standard normal noise (B, *shape), float32 on the CPU; row i is drawn from `generators[i]` alone."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def denoise(
    unet: Any,
    scheduler: Any,
    latents: Tensor,
    conditions: GuidedConditions,
    guidance: Guidance,
    generators: Sequence[Generator],
) -> Tensor:
    """Return denoised latents, (B, C, h, w), float32.

    Args:
        unet: a UNet2DConditionModel.
        scheduler: a fresh scheduler with its time steps set.
        latents: standard normal noise, (B, C, h, w), float32, on the UNet's device.
        conditions: what the UNet is told about each row.
        guidance: how strong, and when; steps without it take half the time.
        generators: one per row, on the CPU; draw what the scheduler adds, if it does.
    """
    # Latents and the scheduler's arithmetic stay in float32, whatever the UNet runs in.
    latents = latents * scheduler.init_noise_sigma
    both = conditions.unconditional.followed_by(conditions.conditional)
    arguments = step_arguments(scheduler, generators)
    for step, timestep in enumerate(scheduler.timesteps):
        sample = scheduler.scale_model_input(latents, timestep)
        if guidance.applies(step, len(scheduler.timesteps)):
            unconditional, conditional = _predict(unet, torch.cat([sample, sample]), timestep, both).chunk(2)
            prediction = unconditional + guidance.scale * (conditional - unconditional)
        else:
            prediction = _predict(unet, sample, timestep, conditions.conditional)
        latents = scheduler.step(prediction, timestep, latents, **arguments, return_dict=False)[0]
    return latents


def _predict(unet: Any, sample: Tensor, timestep: Tensor, conditions: UNetConditions) -> Tensor:
    prediction: Tensor = unet(
        sample.to(conditions.text.dtype),
        timestep,
        encoder_hidden_states=conditions.text,
        class_labels=conditions.image,
        return_dict=False,
    )[0]
    return prediction.float()


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Return decoded images (B, 3, H, W), float32, about [-1, 1], in slices that bound the memory taken.

    Args:
        vae: an AutoencoderKL or AutoencoderTiny.
        latents: (B, C, h, w), as the UNet knows them.
    """
    pixels_each = latents[0, 0].numel() * 4 ** (len(vae.config.block_out_channels) - 1)
    rows = max(1, _DECODED_PIXELS // pixels_each)
    slices = (latents / vae.config.scaling_factor).to(vae.dtype).split(rows)
    return torch.cat([vae.decode(part, return_dict=False)[0].float() for part in slices])


def to_uint8(images: Tensor) -> Tensor:
    """Return decoded images (B, 3, H, W) in [-1, 1] as uint8 (B, H, W, 3) on the CPU; what is not finite is black."""
    return _levels(images).to(torch.uint8).permute(0, 2, 3, 1).cpu().contiguous()


def _levels(images: Tensor) -> Tensor:
    """Return decoded images as whole numbers 0 to 255, still floating point."""
    unit = torch.nan_to_num(images / 2 + 0.5, nan=0.0, posinf=0.0, neginf=0.0).clamp(0, 1)
    return (unit * 255).round()


def find_errors(latents: Tensor, images: Tensor) -> list[str | None]:
    """Return for each row why its image must not be used, or None.

    Args:
        latents: denoised latents, (B, C, h, w).
        images: what was decoded from them, (B, 3, H, W) in [-1, 1].
    """
    finite_latents = latents.isfinite().flatten(1).all(1)
    finite_images = images.isfinite().flatten(1).all(1)
    pixels = _levels(images).flatten(2)
    constant = (pixels == pixels[:, :, :1]).flatten(1).all(1)
    errors: list[str | None] = []
    for latents_fine, image_fine, flat in zip(
        finite_latents.tolist(), finite_images.tolist(), constant.tolist(), strict=True
    ):
        if not latents_fine:
            errors.append("non-finite latents")
        elif not image_fine:
            errors.append("non-finite image")
        else:
            errors.append("constant image" if flat else None)
    return errors
