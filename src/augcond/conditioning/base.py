"""The types that conditioning hands to the generator and to the store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from PIL.Image import Image
    from torch import Tensor

    from augcond.conditioning.framing import Picture


class Viewer(Protocol):
    """What conditioning needs of a generator; every `augcond.generators.base.Generator` is one."""

    encoder_size: int
    """Edge length S in pixels of the image encoder's input."""

    image_size: tuple[int, int]
    """Height and width of the generated images in pixels."""

    @property
    def inputs(self) -> Collection[str]:
        """What recipes may condition it by (`augcond.generators.base.Input`)."""
        ...

    def view(self, image: Image) -> Tensor:
        """Return the whole `image` (RGB) as the encoder's own preprocessing shows it, (3, S, S) in [0, 1]."""
        ...


class Shown(Protocol):
    """Views of a row's sources as they are, which need not be decoded whole for them."""

    def whole_view(self, index: int) -> Tensor | None:
        """Return the generator's whole view of the source at that place, (3, S, S); None: its embedding is known."""
        ...

    def picture(self, index: int) -> Picture:
        """Return the source at that place, of which any part can be shown."""
        ...


@dataclass(frozen=True, slots=True)
class InitialImage:
    """The image that a row starts from, instead of from noise alone (recipe `real-guidance`).

    Attributes:
        pixels: float32, (3, H, W) in [0, 1], at the generator's image size.
        strength: share of the denoising that is done, in (0, 1]; the image is noised to where that share begins.
    """

    pixels: Tensor
    strength: float


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the generator receives for a batch of B images.

    Attributes:
        embeddings: image embeddings, float32, (B, D) or (B, T, D); rows without an image hold zeros. Of reference
            images the tokens, one image's behind the other's: a token of zeros is none, so that rows may have other
            numbers of images than their neighbours, and lack what was dropped.
        with_image: (B,) bool; False asks for the generator's own unconditional image input, which is
            *not* an embedding of zeros (docs/conditioning.md, recipe `text`).
        prompts: B prompts.
        dropout: the share p of features that each row's recipe drops, 0 where it drops none. The embeddings come
            with it already applied; only `published_dropout` needs it, to mask more than the embedding.
        initial: what each row starts from, None for noise; empty where all start from noise.
        away: what guidance leads away from in the place of no image, embeddings like those of each row; zeros in rows
            without an image, which are led away from none; None where all rows are.
    """

    embeddings: Tensor
    with_image: Tensor
    prompts: tuple[str, ...]
    dropout: tuple[float, ...] = ()
    initial: tuple[InitialImage | None, ...] = ()
    away: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of images, B."""
        return len(self.prompts)

    def take(self, rows: Sequence[int]) -> Conditioning:
        """Return the conditioning of some `rows`, in the order in which they are named."""
        chosen = list(rows)
        return Conditioning(
            embeddings=self.embeddings[chosen],
            with_image=self.with_image[chosen],
            prompts=tuple(self.prompts[row] for row in chosen),
            dropout=tuple(self.dropout[row] for row in chosen) if self.dropout else (),
            initial=tuple(self.initial[row] for row in chosen) if self.initial else (),
            away=None if self.away is None else self.away[chosen],
        )

    def led_away(self) -> Conditioning | None:
        """Return the same rows with what guidance leads away from as their images; None where that is no image."""
        if self.away is None:
            return None
        return replace(self, embeddings=self.away, dropout=(0.0,) * len(self.dropout), away=None)


@dataclass(frozen=True, slots=True)
class Draws:
    """What was drawn for one row; goes into the shard beside the image.

    Attributes:
        lam: lambda as drawn from Beta(alpha, alpha), in [0, 1]; 1 where `mix_probability` left the row unmixed;
            None where the recipe does not mix. Of more than two sources, the first two share in the ratio
            lambda : 1 - lambda.
        share: share of the first source that is really in the conditioning (a CutMix box is clipped at
            the border, a run of features is rounded), in [0, 1]; None where the recipe does not mix.
        weights: weight of each source, in [0, 1], sum to 1; of a cut the effective shares; empty where the recipe
            takes no image.
    """

    lam: float | None = None
    share: float | None = None
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """One row, ready for the image encoder.

    Attributes:
        views: what to encode, float32, (n, 3, S, S) in [0, 1]; n is 0 for recipes without an image.
        draws: what was drawn so far; a share that is decided among embeddings is still None.
        initial: what the generator starts from; None for noise.
        known: for each embedding that the row takes, the place of the source whose whole view it is of, where it is
            known; None where it is that of the next of `views`. Empty where it is so for all.
        whole_tokens: whether dropout drops tokens of a reference image as a whole, rather than features.
    """

    views: Tensor
    draws: Draws
    initial: InitialImage | None = None
    known: tuple[int | None, ...] = ()
    whole_tokens: bool = False

    @property
    def embeddings(self) -> int:
        """Number of embeddings that the row takes."""
        return len(self.known) or len(self.views)
