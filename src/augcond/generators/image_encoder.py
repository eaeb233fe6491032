"""Images to embeddings: the CLIP and SigLIP vision models that generators are conditioned through."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL.Image import Resampling

from augcond.conditioning.framing import Framing
from augcond.errors import GeneratorError
from augcond.generators.devices import out_of_memory_errors, place
from augcond.generators.pipelines import load_network

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Readout:
    """Which of a vision model's outputs is the embedding of an image.

    Attributes:
        shape: of one embedding, told from the model's config.
        read: takes embeddings (B, *shape) out of what the model returns.
        hidden: whether the model must return its hidden states for that.
    """

    shape: Callable[[Any], tuple[int, ...]]
    read: Callable[[Any], Tensor]
    hidden: bool = False


def _grid(config: Any) -> int:
    """Return how many patches a vision model cuts an image into."""
    return int((config.image_size // config.patch_size) ** 2)


PROJECTED = Readout(lambda config: (config.projection_dim,), lambda output: output.image_embeds)
"""The projected vector of CLIP, (D,)."""

CLIP_TOKENS = Readout(
    lambda config: (1 + _grid(config), config.hidden_size), lambda output: output.hidden_states[-2], hidden=True
)
"""All tokens of CLIP's last layer but one, the class token first, (1 + g * g, D)."""

SIGLIP_TOKENS = Readout(
    lambda config: (_grid(config), config.hidden_size), lambda output: output.hidden_states[-2], hidden=True
)
"""All tokens of SigLIP's last layer but one, (g * g, D): it has no class token."""

SIGLIP_LAST = Readout(lambda config: (_grid(config), config.hidden_size), lambda output: output.last_hidden_state)
"""All tokens that SigLIP gives in the end, (g * g, D)."""


class ImageEncoder:
    """A CLIP or SigLIP vision model with its own preprocessing.

    Args:
        extractor: a CLIPImageProcessor or SiglipImageProcessor; says how images are resized, cropped and normalised.
        model: a CLIPVisionModelWithProjection or SiglipVisionModel; moved to the device and dtype.
        device: where it runs.
        dtype: what it runs in.
        readout: which of its outputs is the embedding.

    Raises:
        GeneratorError: the extractor gives images of another size than the model takes.

    Attributes:
        size: edge length S in pixels of the model's input.
        shape: of one embedding.
        framing: what the extractor does, where it resizes by its shorter edge or to a square, crops, and no more.
    """

    def __init__(
        self, extractor: Any, model: Any, device: torch.device, dtype: torch.dtype, readout: Readout = PROJECTED
    ) -> None:
        self.size: int = model.config.image_size
        found = shown_size(extractor)
        if found != (self.size, self.size):
            raise GeneratorError(
                f"the feature extractor gives images of {found[0]} x {found[1]} pixels, but the image encoder takes "
                f"{self.size} x {self.size}"
            )
        self.shape = readout.shape(model.config)
        self._readout = readout
        self._extractor = extractor
        self.framing = framing_of(extractor, self.size)
        self._model = model
        self._device, self._dtype = device, dtype
        place(model, device, dtype)

    def view(self, image: Image) -> Tensor:
        """Return the whole `image` resized and cropped by the checkpoint's own extractor, (3, S, S) in [0, 1]."""
        views = self._extractor(images=image.convert("RGB"), do_rescale=True, do_normalize=False, return_tensors="pt")
        view: Tensor = views.pixel_values[0]
        return view.float()

    def encode(self, views: Tensor) -> Tensor:
        """Return embeddings (B, *shape), float32 on the CPU, of views (B, 3, S, S) in [0, 1]."""
        import torch

        if views.shape[1:] != (3, self.size, self.size):
            raise ValueError(f"views must be (B, 3, {self.size}, {self.size}), not {tuple(views.shape)}")
        if len(views) == 0:
            return torch.zeros(0, *self.shape)
        if self._extractor.do_normalize:
            mean, std = (torch.tensor(stat) for stat in (self._extractor.image_mean, self._extractor.image_std))
            views = (views - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        return self._encode(views)

    def encode_zero_image(self) -> Tensor:
        """Return the embedding of an image of zeros, (*shape), float32 on the CPU.

        The zeros stand for normalised pixels, so the image has the mean colour; that is what models are trained with.
        """
        import torch

        return self._encode(torch.zeros(1, 3, self.size, self.size))[0]

    def _encode(self, pixels: Tensor) -> Tensor:
        import torch

        with torch.inference_mode(), out_of_memory_errors():
            output = self._model(pixels.to(self._device, self._dtype), output_hidden_states=self._readout.hidden)
            embeddings = self._readout.read(output)
        # Tensors made in inference mode refuse changes in place; what leaves the generator is an ordinary tensor.
        return embeddings.float().cpu().clone()


def shown_size(extractor: Any) -> tuple[int, int]:
    """Return the height and width in pixels of what an image processor gives; zeros where that depends on the image.

    SigLIP's crops nothing, and so has no size of a crop.
    """
    edges = dict(getattr(extractor, "crop_size", None) or extractor.size)
    return edges.get("height") or 0, edges.get("width") or 0


def framing_of(extractor: Any, size: int) -> Framing | None:
    """Return what an image processor does to a picture to view it at `size` pixels; None where that is more."""
    resized = {key: edge for key, edge in dict(extractor.size).items() if edge is not None}
    scaled = extractor.do_rescale and math.isclose(extractor.rescale_factor, 1 / 255)
    crops = getattr(extractor, "crop_size", None) is not None
    cropped = extractor.do_center_crop if crops else shown_size(extractor) == (size, size)
    plain = scaled and extractor.do_resize and cropped and not getattr(extractor, "do_pad", False)
    if not plain or min(resized.values()) < size or extractor.resample not in _FILTERS:
        return None
    if resized.keys() == {"shortest_edge"}:
        return Framing(resized["shortest_edge"], size, Resampling(extractor.resample))
    if resized.keys() == {"height", "width"}:
        return Framing((resized["height"], resized["width"]), size, Resampling(extractor.resample))
    return None


_FILTERS = (Resampling.BILINEAR, Resampling.BICUBIC, Resampling.LANCZOS)


def load_siglip(model: Path, extractor: Path, what: str) -> tuple[Any, Any]:
    """Return the SiglipImageProcessor in one folder and the SiglipVisionModel in another, or in the same.

    Args:
        model: folder of the vision model, or of a whole SiglipModel, of which no more than that is loaded.
        extractor: folder of its preprocessing.
        what: the key of the config that says where they are, for messages.

    Raises:
        GeneratorError: one of them is missing, or cannot be loaded.
    """
    from transformers import SiglipImageProcessor, SiglipVisionModel

    try:
        found = SiglipImageProcessor.from_pretrained(extractor, local_files_only=True)
    except Exception as error:  # from any library that reads a part of it
        raise GeneratorError(f"{what}: no preprocessing of SigLIP can be loaded from {extractor}: {error}") from error
    return found, load_network(SiglipVisionModel, model, f"{what}: {model}")
