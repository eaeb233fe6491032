"""A generator that only waits, as a GPU lets its process wait: it measures what feeds it and stores what it makes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from augcond.testing.fake import FakeGenerator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.generators.base import Generated

_COARSEST = 6
"""Edge length in pixels of the coarsest noise in an image."""

_GRAIN = 6.0
"""Standard deviation of the finest noise, of 255."""


class WaitingGenerator(FakeGenerator):
    """A `FakeGenerator` whose images take as long as on a fast GPU, while the processor has nothing to do.

    Views are those of CLIP's own image processor. Images are as large, and as dear to encode, as photographs: one noisy
    picture, shifted by the hash of what a row asks for.

    Args:
        seconds: that each image takes; a batch takes them all at once.
        image_size: height and width of the images.
        encoder_size: edge length of the views.
        embedding_shape: (D,), or (T, D) for a generator that is conditioned on tokens.

    Attributes:
        images: number of images made.
        wall: seconds from the start of the first batch to the end of the last one.
        processor: seconds of all processors that this process had meanwhile.
    """

    def __init__(
        self,
        seconds: float,
        *,
        image_size: tuple[int, int] = (768, 768),
        encoder_size: int = 224,
        embedding_shape: tuple[int, ...] = (1024,),
    ) -> None:
        import numpy as np
        import torch
        from PIL import Image
        from transformers import CLIPImageProcessor

        from augcond.generators.image_encoder import framing_of

        super().__init__(image_size=image_size, encoder_size=encoder_size, embedding_shape=embedding_shape)
        self.images = 0
        self.wall = self.processor = 0.0
        self._seconds = seconds
        self._first: tuple[float, float] | None = None
        edges = {"height": encoder_size, "width": encoder_size}
        self._extractor = CLIPImageProcessor(size={"shortest_edge": encoder_size}, crop_size=edges)
        self.framing = framing_of(self._extractor, encoder_size)
        height, width = image_size
        rng = np.random.default_rng(0)
        picture = rng.normal(0.0, _GRAIN, (height, width, 3))
        for edge, weight in ((_COARSEST, 0.6), (_COARSEST**2, 0.3), (_COARSEST**3, 0.1)):
            noise = Image.fromarray(rng.integers(0, 256, (edge, edge, 3), dtype=np.uint8))
            picture += weight * np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
        self._picture = torch.from_numpy(picture.clip(0, 255).astype(np.uint8))

    def view(self, image: Image) -> Tensor:
        """Return the whole `image` as CLIP's own image processor shows it, (3, S, S) in [0, 1]."""
        shown = self._extractor(images=image, do_rescale=True, do_normalize=False, return_tensors="pt")
        view: Tensor = shown.pixel_values[0]
        return view.float()

    def generate(self, conditioning: Conditioning, seeds: Sequence[int]) -> Generated:
        """Return one image for each row, after as long as they take."""
        started, processor = time.perf_counter(), time.process_time()
        if self._first is None:
            self._first = (started, processor)
        made = super().generate(conditioning, seeds)
        self.images += len(seeds)
        # What making them took is part of the time.
        time.sleep(max(0.0, started + self._seconds * len(seeds) - time.perf_counter()))
        self.wall = time.perf_counter() - self._first[0]
        self.processor = time.process_time() - self._first[1]
        return made

    def _pattern(self, conditioning: Conditioning, row: int, seed: int) -> Tensor:
        digest = self._digest(conditioning, row, seed)
        shifts = tuple(int.from_bytes(digest[at : at + 4], "little") % self.image_size[at // 4] for at in (0, 4))
        return self._picture.roll(shifts, (0, 1))
