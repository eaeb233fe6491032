"""A deterministic generator without weights, for tests of everything around a generator."""

from __future__ import annotations

import hashlib
import math
import time
from typing import TYPE_CHECKING

from augcond.errors import ConfigError
from augcond.generators.base import ALL_INPUTS, Family, Generated, Generator, GeneratorIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image
    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig

_POOL = 4  # the fake encoder sees 4 x 4 average colours


class FakeGenerator(Generator):
    """A deterministic generator without weights: an image is a pattern made from a hash of what it is asked for.

    Each row is computed alone, so images and embeddings are bit-equal in every batch. The hash takes the row's
    embedding rounded to 1e-4, whether it has an image at all, its initial image and strength, its prompt and its seed.

    Args:
        image_size: height and width of the images, multiples of 4.
        encoder_size: edge length of the views.
        embedding_shape: (D,), or (T, D) for a generator that is conditioned on tokens.
        delay: seconds that every batch takes.
        fails: rows whose seed satisfies this come back black, with an error.
        raises: a batch with a row whose seed satisfies this raises `ValueError`.
        max_batch: larger batches raise `torch.OutOfMemoryError`.
    """

    inputs = ALL_INPUTS

    def __init__(
        self,
        *,
        image_size: tuple[int, int] = (16, 16),
        encoder_size: int = 16,
        embedding_shape: tuple[int, ...] = (12,),
        delay: float = 0.0,
        fails: Callable[[int], bool] | None = None,
        raises: Callable[[int], bool] | None = None,
        max_batch: int | None = None,
    ) -> None:
        import torch

        self.identity = GeneratorIdentity(name="fake", model="fake", revision="1")
        self.image_size = image_size
        self.encoder_size = encoder_size
        self.embedding_shape = embedding_shape
        self._delay = delay
        self._fails = fails
        self._raises = raises
        self._max_batch = max_batch
        # A fixed full-rank projection of the colours; float64 and row by row, so that a batch cannot change a bit.
        features, colours = math.prod(embedding_shape), 3 * _POOL * _POOL
        angles = torch.outer(torch.arange(1, colours + 1), torch.arange(1, features + 1)).double()
        self._projection = torch.sin(angles * 0.7)

    def view(self, image: Image) -> Tensor:
        """Return `image` resized to a square, (3, S, S) in [0, 1]."""
        import torch

        resized = image.convert("RGB").resize((self.encoder_size, self.encoder_size))
        pixels = torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8)
        return pixels.view(self.encoder_size, self.encoder_size, 3).permute(2, 0, 1).float() / 255

    def encode_images(self, views: Tensor) -> Tensor:
        """Return a fixed linear function of the average colours of each view, (B, *embedding_shape)."""
        import torch
        from torch.nn import functional

        rows = [functional.adaptive_avg_pool2d(view.double(), _POOL).flatten() @ self._projection for view in views]
        if not rows:
            return torch.zeros(0, *self.embedding_shape)
        return torch.stack(rows).float().view(-1, *self.embedding_shape)

    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Return the embeddings, (B, *embedding_shape), of images of one colour, drawn by a hash of each prompt."""
        import torch

        views = []
        for prompt in prompts:
            digest = hashlib.sha256(prompt.encode()).digest()
            colour = torch.tensor(list(digest[:3]), dtype=torch.float32) / 255
            views.append(colour[:, None, None].expand(3, self.encoder_size, self.encoder_size))
        return self.encode_images(torch.stack(views))

    def generate(self, conditioning: Conditioning, seeds: Sequence[int]) -> Generated:
        """Return a pattern of 4 x 4 random colours for each row.

        Raises:
            torch.OutOfMemoryError: the batch is larger than `max_batch`.
            ValueError: a row's seed satisfies `raises`.
        """
        import torch

        if len(seeds) != len(conditioning):
            raise ValueError(f"{len(conditioning)} rows of conditioning but {len(seeds)} seeds")
        if self._max_batch is not None and len(conditioning) > self._max_batch:
            raise torch.OutOfMemoryError(f"fake generator: a batch of {len(conditioning)} exceeds {self._max_batch}")
        if self._raises is not None and any(map(self._raises, seeds)):
            raise ValueError("made to raise")
        time.sleep(self._delay)
        images = torch.zeros(len(seeds), *self.image_size, 3, dtype=torch.uint8)
        errors: list[str | None] = []
        for row, seed in enumerate(seeds):
            failed = self._fails is not None and self._fails(seed)
            errors.append("made to fail" if failed else None)
            if not failed:
                images[row] = self._pattern(conditioning, row, seed)
        return Generated(images=images, errors=tuple(errors))

    def _digest(self, conditioning: Conditioning, row: int, seed: int) -> bytes:
        """Return a hash of what a row asks for."""
        import torch

        content = hashlib.sha256(f"{seed}\0{conditioning.prompts[row]}\0".encode())
        if conditioning.with_image[row]:
            rounded = (conditioning.embeddings[row].double() * 1e4).round().to(torch.int64)
            content.update(rounded.numpy().tobytes())
            if conditioning.away is not None:
                away = (conditioning.away[row].double() * 1e4).round().to(torch.int64)
                content.update(b"away" + away.numpy().tobytes())
        initial = conditioning.initial[row] if conditioning.initial else None
        if initial is not None:
            content.update(f"{initial.strength}\0".encode() + initial.pixels.numpy().tobytes())
        return content.digest()

    def _pattern(self, conditioning: Conditioning, row: int, seed: int) -> Tensor:
        import torch

        digest = self._digest(conditioning, row, seed)
        digest += hashlib.sha256(digest).digest()
        colours = torch.frombuffer(bytearray(digest[:48]), dtype=torch.uint8).view(4, 4, 3)
        height, width = self.image_size
        return colours.repeat_interleave(height // 4, 0).repeat_interleave(width // 4, 1)


def load_fake_generator(config: GeneratorConfig) -> FakeGenerator:
    """Return the `FakeGenerator` that a config with `generator.name=fake` stands for.

    `generator.size` sets the image size. `generator.model` holds the knobs as `knob=number`, joined by commas:
    `delay` (seconds per batch), `max_batch`, `fail_every=n` and `raise_every=n` (rows whose seed is a multiple of n
    come back with an error, or raise), such as `--set generator.model=delay=0.1,fail_every=7`; `builtin` and `fake`
    stand for none. The knobs are not part of the identity.

    Raises:
        ConfigError: a knob is unknown or not a number, or the size is not a multiple of 4.
    """
    knobs = {"delay": 0.0, "max_batch": 0.0, "fail_every": 0.0, "raise_every": 0.0}
    for part in () if config.model in ("builtin", "fake") else config.model.split(","):
        name, _, value = part.partition("=")
        try:
            if name not in knobs:
                raise ValueError
            knobs[name] = float(value)
        except ValueError:
            raise ConfigError(
                f"generator.model: the fake generator takes {', '.join(knobs)} as knob=number, not {part!r}"
            ) from None
    size = config.size or 16
    if size % 4:
        raise ConfigError(f"generator.size: the fake generator makes multiples of 4, not {size}")
    return FakeGenerator(
        image_size=(size, size),
        delay=knobs["delay"],
        fails=_every(int(knobs["fail_every"])),
        raises=_every(int(knobs["raise_every"])),
        max_batch=int(knobs["max_batch"]) or None,
    )


def _every(count: int) -> Callable[[int], bool] | None:
    return (lambda seed: seed % count == 0) if count else None


FAMILY = Family(
    load=load_fake_generator,
    inputs=FakeGenerator.inputs,
    options=frozenset({"away_from"}),
    licence="Apache-2.0 (no weights)",
    embedding="average colours, any shape",
    notes="a pattern made from a hash of what it is asked for, for tests",
)
