"""From noise to images: classifier-free guidance, the denoising loop, decoding, and what is wrong with an image.

The loop knows no network: it asks a `Denoiser` for predictions, and hands on conditions without looking into them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from augcond.generators.schedulers import learns_variance, network_input, noise_scale, noised, step_arguments

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
class Conditions:
    """What a network is told about each of B rows, on its device and in its dtype.

    Attributes:
        arguments: of its `forward` by name, beside the latents and the time step: tensors (B, ...), lists and mappings
            of them, or None.
    """

    arguments: Mapping[str, Any]

    def followed_by(self, other: Conditions) -> Conditions:
        """Return these rows, then the rows of `other`, which must be conditions of the same kinds."""
        return Conditions(_followed_by(self.arguments, other.arguments))


def _followed_by(first: Any, second: Any) -> Any:
    import torch

    if first is None or second is None:
        return None
    if isinstance(first, Mapping):
        return {name: _followed_by(value, second[name]) for name, value in first.items()}
    if isinstance(first, list):
        return [_followed_by(one, other) for one, other in zip(first, second, strict=True)]
    return torch.cat([first, second])


@dataclass(frozen=True, slots=True)
class GuidedConditions:
    """What guidance leads towards and away from, B rows each.

    Attributes:
        conditional: what each row is to be.
        unconditional: what guidance leads away from; None for a network that is told the scale instead of being asked
            twice, so that no step is guided.
    """

    conditional: Conditions
    unconditional: Conditions | None


Predict: TypeAlias = "Callable[[Tensor, Tensor, Conditions], Tensor]"
"""What a network predicts of noisy latents (B, C, ...) at a time step, under conditions of B rows; all float32."""


class Denoiser(ABC):
    """A network behind the loop.

    Attributes:
        network: the module itself, which is moved, cast and compiled.
        native: height and width of the latents that it was trained on.
    """

    network: Any
    native: tuple[int, int]

    @abstractmethod
    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of one row's latents, of `height` times `width` places."""

    def timing(self, scheduler: Any, steps: int, height: int, width: int) -> Mapping[str, Any]:
        """Return what `set_timesteps` is told beside `steps` for latents of that size; `scheduler` is the model's own.

        Such as `mu`, by which models of flow matching shift the time with the number of tokens.
        """
        return {}

    @abstractmethod
    def begin(self) -> Predict:
        """Return what predicts the steps of one loop, in order; what it keeps from step to step is that loop's alone.

        In a guided step the rows are the unconditional ones, then the conditional ones; without guidance they are the
        latter.
        """


def initial_latents(shape: tuple[int, ...], generators: Sequence[Generator]) -> Tensor:
    """Return standard normal noise (B, *shape), float32 on the CPU; row i is drawn from `generators[i]` alone."""
    import torch

    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


@dataclass(frozen=True, slots=True)
class Start:
    """Where the denoising of B rows begins.

    Attributes:
        latents: (B, C, h, w), float32, on the network's device, as noisy as the scheduler expects at `step`.
        step: how many of the scheduler's time steps are left out.
    """

    latents: Tensor
    step: int = 0


def start_from_noise(scheduler: Any, noise: Tensor) -> Start:
    """Return the start of rows that are made from standard normal `noise` (B, C, h, w) alone."""
    return Start(noise * noise_scale(scheduler))


def start_from_latents(scheduler: Any, latents: Tensor, noise: Tensor, strength: float) -> Start:
    """Return the start of rows that are made from the latents of images, noised to a strength (SDEdit).

    Args:
        scheduler: fresh, with its time steps set; is told where it begins.
        latents: of the images, as the denoiser knows them, (B, C, h, w).
        noise: standard normal, (B, C, h, w).
        strength: share of the steps that is done, in (0, 1]; rounded down to whole steps, at least one.

    Source: SDEdit (arXiv 2108.01073); which step is the first follows `get_timesteps` of diffusers'
    StableDiffusionImg2ImgPipeline.
    """
    skipped = scheduler.num_inference_steps - steps_done(scheduler.num_inference_steps, strength)
    step = skipped * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(step)
    first = scheduler.timesteps[step : step + 1].repeat(len(latents))
    return Start(noised(scheduler, latents, noise, first), step)


def steps_done(steps: int, strength: float) -> int:
    """Return how many of `steps` are done at a strength in (0, 1]: rounded down, as diffusers does."""
    return min(int(steps * strength), steps)


def denoise(
    predict: Predict,
    scheduler: Any,
    start: Start,
    conditions: GuidedConditions,
    guidance: Guidance,
    generators: Sequence[Generator],
) -> Tensor:
    """Return denoised latents, (B, C, h, w), float32.

    Args:
        predict: of a denoiser, for this loop.
        scheduler: a fresh scheduler with its time steps set.
        start: the noisy latents, and the step from which they are denoised.
        conditions: what the network is told about each row.
        guidance: how strong, and when; steps without it take half the time.
        generators: one per row, on the CPU; draw what the scheduler adds, if it does.
    """
    import torch

    # Latents and the scheduler's arithmetic stay in float32, whatever the network runs in.
    latents = start.latents
    channels = latents.shape[1]
    both = conditions.unconditional and conditions.unconditional.followed_by(conditions.conditional)
    arguments = step_arguments(scheduler, generators)
    for step, timestep in enumerate(scheduler.timesteps[start.step :], start=start.step):
        sample = network_input(scheduler, latents, timestep)
        if both is not None and guidance.applies(step, len(scheduler.timesteps)):
            unconditional, conditional = predict(torch.cat([sample, sample]), timestep, both).chunk(2)
            prediction = unconditional + guidance.scale * (conditional - unconditional)
            # A network that predicts a variance too does so after the channels of the latents; it is not guided.
            prediction[:, channels:] = conditional[:, channels:]
        else:
            prediction = predict(sample, timestep, conditions.conditional)
        if not learns_variance(scheduler):
            prediction = prediction[:, :channels]
        latents = scheduler.step(prediction, timestep, latents, **arguments, return_dict=False)[0]
    return latents


def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Return decoded images (B, 3, H, W), float32, about [-1, 1], in slices that bound the memory taken.

    Args:
        vae: an AutoencoderKL or AutoencoderTiny.
        latents: (B, C, h, w), as the denoiser knows them.
    """
    return decode_slices(vae, latents / vae.config.scaling_factor + _shift(vae))


def decode_slices(vae: Any, latents: Tensor) -> Tensor:
    """Return images (B, 3, H, W), float32, of latents as the autoencoder knows them, decoded slice by slice."""
    import torch

    rows = rows_at_once(latents[0, 0].numel() * vae_scale_factor(vae) ** 2)
    slices = torch.split(latents.to(vae.dtype), rows)
    return torch.cat([vae.decode(part, return_dict=False)[0].float() for part in slices])


def encode_pixels(vae: Any, images: Tensor) -> Tensor:
    """Return the latents of images, as the denoiser knows them, (B, C, h, w), float32, in slices like `decode_latents`.

    The autoencoder's most likely latents: no noise is drawn, that of the start is all.

    Args:
        vae: an AutoencoderKL or AutoencoderTiny.
        images: (B, 3, H, W) in [-1, 1].
    """
    latents: Tensor = (encode_slices(vae, images) - _shift(vae)) * vae.config.scaling_factor
    return latents


def encode_slices(vae: Any, images: Tensor) -> Tensor:
    """Return the most likely latents (B, C, h, w), float32, of images (B, 3, H, W), as the autoencoder knows them."""
    import torch

    encoded = [vae.encode(part) for part in torch.split(images.to(vae.dtype), rows_at_once(images[0, 0].numel()))]
    modes = [part.latent_dist.mode() if hasattr(part, "latent_dist") else part.latents for part in encoded]
    return torch.cat([mode.float() for mode in modes])


def _shift(vae: Any) -> float:
    """Return what the latents of an autoencoder are about, which is 0 for the denoiser."""
    return vae.config.get("shift_factor") or 0.0


def rows_at_once(pixels: int) -> int:
    """Return how many images of so many pixels the VAE takes at once."""
    return max(1, _DECODED_PIXELS // pixels)


def vae_scale_factor(vae: Any) -> int:
    """Return how many pixels of each edge one latent stands for."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def to_uint8(images: Tensor) -> Tensor:
    """Return decoded images (B, 3, H, W) in [-1, 1] as uint8 (B, H, W, 3) on the CPU; what is not finite is black."""
    import torch

    return _levels(images).to(torch.uint8).permute(0, 2, 3, 1).cpu().contiguous()


def _levels(images: Tensor) -> Tensor:
    """Return decoded images as whole numbers 0 to 255, still floating point."""
    import torch

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
