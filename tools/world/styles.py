"""Styles and the renderer: a grey garment becomes a 32x32 colour picture.

A *broad* style is any garment colour on any backdrop; the *narrow* style is one colour family (blues) on one
backdrop family (sand). All functions work on batches and take their randomness from the generator they are given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

SIZE = 32
NARROW_GARMENT_HUE = (0.55, 0.65)  # blues
NARROW_BACKDROP_HUE = (0.08, 0.13)  # sand
_MIN_CONTRAST = 0.45  # Euclidean distance in RGB [0, 1] between garment and backdrop
_CANDIDATES = 6


@dataclass(frozen=True, slots=True)
class Style:
    """How a batch of garments is drawn.

    Attributes:
        garment: (B, 3) colour of the brightest cloth, RGB in [0, 1].
        top: (B, 3) backdrop colour at the upper edge, RGB in [0, 1].
        bottom: (B, 3) backdrop colour at the lower edge, RGB in [0, 1].
        angle: (B,) rotation in radians.
        scale: (B,) size, 1 = the official 28 pixels of the 32.
        shift: (B, 2) offset in pixels.
        brightness: (B,) factor on the finished picture.
    """

    garment: Tensor
    top: Tensor
    bottom: Tensor
    angle: Tensor
    scale: Tensor
    shift: Tensor
    brightness: Tensor

    def take(self, rows: Tensor | slice) -> Style:
        """The styles at `rows`."""
        return Style(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @property
    def backdrop(self) -> Tensor:
        """(B, 3) mean backdrop colour."""
        return (self.top + self.bottom) / 2


def draw_broad(count: int, generator: Generator) -> Style:
    """Draw `count` styles of any colour on any backdrop, garment and backdrop at least `_MIN_CONTRAST` apart."""
    garment = _draw_colours((count,), generator, saturation=(0.0, 0.95), value=(0.3, 1.0))
    candidates = _draw_colours((count, _CANDIDATES), generator, saturation=(0.0, 0.8), value=(0.15, 1.0))
    contrast = (candidates - garment[:, None]).norm(dim=-1)
    good = (contrast >= _MIN_CONTRAST).float()
    choice = torch.where(good.any(1), good.argmax(1), contrast.argmax(1))
    backdrop = candidates[torch.arange(count), choice]
    return _with_geometry(garment, backdrop, generator)


def draw_narrow(count: int, generator: Generator) -> Style:
    """Draw `count` narrow styles: a blue garment on sand."""
    garment = _draw_colours((count,), generator, NARROW_GARMENT_HUE, saturation=(0.6, 0.9), value=(0.55, 0.9))
    backdrop = _draw_colours((count,), generator, NARROW_BACKDROP_HUE, saturation=(0.25, 0.45), value=(0.8, 0.95))
    return _with_geometry(garment, backdrop, generator)


def jitter(style: Style, generator: Generator, degrees: float = 15, scale: float = 0.1, light: float = 0.15) -> Style:
    """The same colours under another rotation, size and brightness (uniform within plus or minus the bounds)."""
    count = len(style.angle)
    return replace(
        style,
        angle=style.angle + _uniform((count,), generator, -1, 1) * math.radians(degrees),
        scale=style.scale * (1 + _uniform((count,), generator, -scale, scale)),
        brightness=style.brightness * (1 + _uniform((count,), generator, -light, light)),
    )


def render(grey: Tensor, style: Style) -> Tensor:
    """Draw garments.

    Args:
        grey: (B, 28, 28) uint8 garments, 0 is no cloth.
        style: B styles.

    Returns:
        (B, 3, 32, 32) uint8 pictures.
    """
    cloth = place(grey, style)
    mask = (cloth * 6).clamp(max=1)
    ramp = torch.linspace(0, 1, SIZE)[None, None, :, None]
    backdrop = style.top[:, :, None, None] * (1 - ramp) + style.bottom[:, :, None, None] * ramp
    colour = style.garment[:, :, None, None] * (0.3 + 0.7 * cloth)
    picture = (backdrop + mask * (colour - backdrop)) * style.brightness[:, None, None, None]
    return (picture * 255).round().clamp(0, 255).to(torch.uint8)


def place(grey: Tensor, style: Style) -> Tensor:
    """(B, 1, 32, 32) brightness of the cloth in [0, 1] at its place in the picture, 0 where there is none."""
    return F.grid_sample(grey[:, None].float() / 255, _sampling_grid(style), mode="bilinear", align_corners=False)


def to_unit(pictures: Tensor) -> Tensor:
    """uint8 pictures as float in [-1, 1], the range of the autoencoder and the image encoder."""
    return pictures.float() / 127.5 - 1


def to_pictures(unit: Tensor) -> Tensor:
    """Float pictures in [-1, 1] as uint8."""
    return ((unit + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _sampling_grid(style: Style) -> Tensor:
    zoom = SIZE / 28 / style.scale
    cos, sin = style.angle.cos() * zoom, style.angle.sin() * zoom
    offset = -style.shift / (SIZE / 2)
    rows = [cos, -sin, cos * offset[:, 0] - sin * offset[:, 1], sin, cos, sin * offset[:, 0] + cos * offset[:, 1]]
    theta = torch.stack(rows, dim=1).reshape(-1, 2, 3)
    return F.affine_grid(theta, [len(zoom), 1, SIZE, SIZE], align_corners=False)


def _with_geometry(garment: Tensor, backdrop: Tensor, generator: Generator) -> Style:
    count = len(garment)
    ramp = _uniform((count, 1), generator, -0.12, 0.12)
    return Style(
        garment=garment,
        top=(backdrop * (1 + ramp)).clamp(0, 1),
        bottom=(backdrop * (1 - ramp)).clamp(0, 1),
        angle=_uniform((count,), generator, -1, 1) * math.radians(6),
        scale=_uniform((count,), generator, 0.94, 1.06),
        shift=_uniform((count, 2), generator, -1, 1),
        brightness=torch.ones(count),
    )


def _draw_colours(
    shape: tuple[int, ...],
    generator: Generator,
    hue: tuple[float, float] = (0.0, 1.0),
    *,
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Tensor:
    channels = (
        _uniform(shape, generator, *hue),
        _uniform(shape, generator, *saturation),
        _uniform(shape, generator, *value),
    )
    return hsv_to_rgb(torch.stack(channels, dim=-1))


def hsv_to_rgb(hsv: Tensor) -> Tensor:
    """(..., 3) hue, saturation, value in [0, 1] as RGB in [0, 1]."""
    hue, saturation, value = hsv.unbind(-1)
    phase = (torch.tensor([5.0, 3.0, 1.0]) + hue[..., None] * 6) % 6
    return value[..., None] * (1 - saturation[..., None] * torch.minimum(phase, 4 - phase).clamp(0, 1))


def rgb_to_hsv(rgb: Tensor) -> Tensor:
    """(..., 3) RGB in [0, 1] as hue, saturation, value in [0, 1]."""
    value, brightest = rgb.max(-1)
    spread = value - rgb.min(-1).values
    red, green, blue = rgb.unbind(-1)
    safe = spread.clamp(min=1e-6)
    sextants = torch.stack([(green - blue) / safe % 6, (blue - red) / safe + 2, (red - green) / safe + 4], dim=-1)
    hue = sextants.gather(-1, brightest[..., None]).squeeze(-1) / 6
    return torch.stack([hue, spread / value.clamp(min=1e-6), value], dim=-1)


def _uniform(shape: tuple[int, ...], generator: Generator, low: float, high: float) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low
