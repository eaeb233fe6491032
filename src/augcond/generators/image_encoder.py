"""Images to embeddings: the CLIP vision models that generators are conditioned through."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from PIL.Image import Resampling

from augcond.conditioning.framing import Framing
from augcond.errors import GeneratorError
from augcond.generators.devices import out_of_memory_errors, place

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor


class ImageEncoder:
    """A CLIP vision model with its own preprocessing.

    Args:
        extractor: a CLIPImageProcessor; says how images are resized, cropped and normalised.
        model: a CLIPVisionModelWithProjection; moved to the device and dtype.
        device: where it runs.
        dtype: what it runs in.
        tokens: whether an embedding is all tokens of the last layer but one, (T, D), rather than the projected
            vector, (D,).

    Raises:
        GeneratorError: the extractor crops to another size than the model takes.

    Attributes:
        size: edge length S in pixels of the model's input.
        shape: of one embedding.
        framing: what the extractor does, where it resizes by its shorter edge or to a square, crops, and no more.
    """

    def __init__(
        self, extractor: Any, model: Any, device: torch.device, dtype: torch.dtype, *, tokens: bool = False
    ) -> None:
        config = model.config
        self.size: int = config.image_size
        crop = extractor.crop_size
        if (crop["height"], crop["width"]) != (self.size, self.size):
            raise GeneratorError(
                f"the feature extractor crops to {crop['height']} x {crop['width']} pixels, but the image encoder "
                f"takes {self.size} x {self.size}"
            )
        self.shape: tuple[int, ...] = (config.projection_dim,)
        if tokens:
            self.shape = (1 + (config.image_size // config.patch_size) ** 2, config.hidden_size)
        self._tokens = tokens
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
            output = self._model(pixels.to(self._device, self._dtype), output_hidden_states=self._tokens)
            embeddings: Tensor = output.hidden_states[-2] if self._tokens else output.image_embeds
        # Tensors made in inference mode refuse changes in place; what leaves the generator is an ordinary tensor.
        return embeddings.float().cpu().clone()


def framing_of(extractor: Any, size: int) -> Framing | None:
    """Return what a CLIPImageProcessor does to a picture to view it at `size` pixels; None where that is more."""
    resized = {key: edge for key, edge in dict(extractor.size).items() if edge is not None}
    scaled = extractor.do_rescale and math.isclose(extractor.rescale_factor, 1 / 255)
    plain = scaled and extractor.do_resize and extractor.do_center_crop and not getattr(extractor, "do_pad", False)
    if not plain or min(resized.values()) < size or extractor.resample not in _FILTERS:
        return None
    if resized.keys() == {"shortest_edge"}:
        return Framing(resized["shortest_edge"], size, Resampling(extractor.resample))
    if resized.keys() == {"height", "width"}:
        return Framing((resized["height"], resized["width"]), size, Resampling(extractor.resample))
    return None


_FILTERS = (Resampling.BILINEAR, Resampling.BICUBIC, Resampling.LANCZOS)
