"""Tiny IP-Adapters with random weights, under the names of the published files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

_IMAGE_TOKENS = 4
_HEAD = 64  # diffusers takes the number of heads to be a 64th of the width
_LAYERS = 4
_HIDDEN = 16


def tiny_adapter_weights(unet: Any, kind: Literal["base", "plus"], features: int) -> dict[str, Tensor]:
    """Return the state dict of an IP-Adapter for `unet`.

    Args:
        unet: a UNet2DConditionModel without an adapter.
        kind: `base` projects one embedding, `plus` resamples tokens.
        features: of the embedding, or of each token.
    """
    width = unet.config.cross_attention_dim
    shapes = _attention_shapes(unet)
    image = _base_shapes(width, features) if kind == "base" else _plus_shapes(width, features)
    shapes |= {f"image_proj.{name}": shape for name, shape in image.items()}
    return {name: _weight(name, shape) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> Tensor:
    import torch

    if name.endswith("bias"):
        return 0.1 * torch.randn(shape)
    if len(shape) == 1:  # the factors of a layer norm
        return 1 + 0.1 * torch.randn(shape)
    # Strong enough for images to matter beside prompts, in spite of the random weights around.
    return torch.randn(shape) / math.sqrt(shape[-1])


def _attention_shapes(unet: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the keys and values for the image, numbered 1, 3, 5, ... as in the published files."""
    channels = unet.config.block_out_channels
    shapes: dict[str, tuple[int, ...]] = {}
    number = 1
    for name in unet.attn_processors:
        if name.endswith("attn1.processor"):
            continue
        block = name.split(".")
        hidden = channels[-1]
        if block[0] == "up_blocks":
            hidden = channels[::-1][int(block[1])]
        elif block[0] == "down_blocks":
            hidden = channels[int(block[1])]
        for part in ("to_k_ip", "to_v_ip"):
            shapes[f"ip_adapter.{number}.{part}.weight"] = (hidden, unet.config.cross_attention_dim)
        number += 2
    return shapes


def _base_shapes(width: int, features: int) -> dict[str, tuple[int, ...]]:
    return {
        "proj.weight": (_IMAGE_TOKENS * width, features),
        "proj.bias": (_IMAGE_TOKENS * width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }


def _plus_shapes(width: int, features: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, _IMAGE_TOKENS, _HIDDEN),
        "proj_in.weight": (_HIDDEN, features),
        "proj_in.bias": (_HIDDEN,),
        "proj_out.weight": (width, _HIDDEN),
        "proj_out.bias": (width,),
        "norm_out.weight": (width,),
        "norm_out.bias": (width,),
    }
    for layer in range(_LAYERS):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes[f"layers.{layer}.{norm}.weight"] = (_HIDDEN,)
            shapes[f"layers.{layer}.{norm}.bias"] = (_HIDDEN,)
        shapes[f"layers.{layer}.0.to_q.weight"] = (_HEAD, _HIDDEN)
        shapes[f"layers.{layer}.0.to_kv.weight"] = (2 * _HEAD, _HIDDEN)
        shapes[f"layers.{layer}.0.to_out.weight"] = (_HIDDEN, _HEAD)
        shapes[f"layers.{layer}.1.1.weight"] = (4 * _HIDDEN, _HIDDEN)
        shapes[f"layers.{layer}.1.3.weight"] = (_HIDDEN, 4 * _HIDDEN)
    return shapes
