"""Views: a source image as the image encoder sees it, or as the generator starts from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from PIL.Image import Resampling

from augcond.conditioning.framing import covering
from augcond.conditioning.streams import crop_purpose, seeded

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from augcond.conditioning.framing import Picture
    from augcond.config import ConditioningConfig


def random_crop(picture: Picture, size: int, settings: ConditioningConfig, seed: int, position: int) -> Tensor:
    """Return a random resized crop of `picture`, float32, (3, size, size) in [0, 1].

    torchvision's own RandomResizedCrop (bilinear, antialiased) with the settings' crop_scale and crop_ratio.

    Args:
        picture: to crop.
        size: edge length in pixels, the encoder's.
        settings: gives the crop's scale and ratio.
        seed: the row's seed.
        position: of the source, counted from 1; each has a stream of its own.
    """
    from torchvision.transforms import v2  # takes 2 seconds to import, which who joins a run has better use for

    crop = v2.RandomResizedCrop(size, scale=settings.crop_scale, ratio=settings.crop_ratio, antialias=True)
    width, height = picture.size
    shape = torch.empty((3, height, width), device="meta")  # the crop is drawn from the size alone
    # In two steps, because threads take turns at the first.
    with seeded(seed, crop_purpose(position)):
        place = crop.make_params([shape])
    left, top = place["left"], place["top"]
    box = (left, top, left + place["width"], top + place["height"])
    return as_view(picture.show(box, (size, size), Resampling.BILINEAR, alone=True))


def initial_view(picture: Picture, size: tuple[int, int]) -> Tensor:
    """Return `picture` as a generator starts from it, resized to cover and cropped at the centre: float32, (3, H, W).

    Args:
        picture: to start from.
        size: height and width in pixels, the generated images'.

    Returns:
        Pixels in [0, 1].
    """
    edges = (size[1], size[0])
    return as_view(picture.show(covering(picture.size, edges), edges, Resampling.LANCZOS, alone=False))


def as_view(image: Image) -> Tensor:
    """Return an RGB image as float32, (3, H, W) in [0, 1]."""
    from torchvision.transforms import v2

    view: Tensor = v2.functional.to_dtype(v2.functional.pil_to_tensor(image), torch.float32, scale=True)
    return view
