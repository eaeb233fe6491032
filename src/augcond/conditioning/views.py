"""Views: a source image as the image encoder sees it, or as the generator starts from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from PIL import ImageOps
from PIL.Image import Resampling
from torchvision.transforms import v2

from augcond.conditioning.streams import crop_purpose, seeded

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from augcond.config import ConditioningConfig


def random_crop(image: Image, size: int, settings: ConditioningConfig, seed: int, position: int) -> Tensor:
    """Return a random resized crop of `image`, float32, (3, size, size) in [0, 1].

    torchvision's own RandomResizedCrop (bilinear, antialiased) with the settings' crop_scale and crop_ratio.

    Args:
        image: RGB.
        size: edge length in pixels, the encoder's.
        settings: gives the crop's scale and ratio.
        seed: the row's seed.
        position: of the source, counted from 1; each has a stream of its own.
    """
    crop = v2.RandomResizedCrop(size, scale=settings.crop_scale, ratio=settings.crop_ratio, antialias=True)
    # In two steps, because threads take turns at the first.
    with seeded(seed, crop_purpose(position)):
        box = crop.make_params([image])
    cropped = crop.transform(image, box)
    view: Tensor = v2.functional.to_dtype(v2.functional.pil_to_tensor(cropped), torch.float32, scale=True)
    return view


def initial_view(image: Image, size: tuple[int, int]) -> Tensor:
    """Return `image` as a generator starts from it, resized to cover and cropped at the centre: float32, (3, H, W).

    Args:
        image: RGB.
        size: height and width in pixels, the generated images'.

    Returns:
        Pixels in [0, 1].
    """
    height, width = size
    fitted = ImageOps.fit(image, (width, height), method=Resampling.LANCZOS)
    view: Tensor = v2.functional.to_dtype(v2.functional.pil_to_tensor(fitted), torch.float32, scale=True)
    return view
