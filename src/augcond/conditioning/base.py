"""The types that conditioning hands to the generator and to the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the generator receives for a batch of B images.

    Attributes:
        embeddings: image embeddings, float32, (B, D) or (B, T, D); rows without an image hold zeros.
        with_image: (B,) bool; False asks for the generator's own unconditional image input, which is
            *not* an embedding of zeros (design, section 3, recipe `text`).
        prompts: B prompts.
    """

    embeddings: Tensor
    with_image: Tensor
    prompts: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of images, B."""
        return len(self.prompts)


@dataclass(frozen=True, slots=True)
class Draws:
    """What was drawn for one row; goes into the shard beside the image.

    Attributes:
        lam: lambda as drawn from Beta(alpha, alpha), in [0, 1]; None where the recipe does not mix.
        share: share of the first source that is really in the conditioning (a CutMix box is clipped at
            the border, a run of features is rounded), in [0, 1]; None where the recipe does not mix.
        weights: weight of each source, sums to 1; empty where the recipe takes no image.
    """

    lam: float | None = None
    share: float | None = None
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """One row, ready for the image encoder.

    Attributes:
        views: what to encode, float32, (n, 3, S, S) in [0, 1]; n is 0 for recipes without an image.
        draws: what was drawn so far.
    """

    views: Tensor
    draws: Draws
