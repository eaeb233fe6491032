"""Linear probes: features of a frozen encoder, computed once per view, and a linear layer on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as images_v2

from augcond.conditioning.streams import seeded
from augcond.generators.checked import embed_images, require_finite
from augcond.progress import NoProgress
from augcond.training.ahead import workers
from augcond.training.augmentation import BatchAugmentation, read_crops

if TYPE_CHECKING:
    from PIL.Image import Image

    from augcond.config.training import AugmentConfig
    from augcond.generators import Generator
    from augcond.progress import Progress
    from augcond.training.image_sets import ImageSet
    from augcond.training.networks import Classifier

_BATCH = 128
_WORTH_TELLING = 100
"""Fewer features are computed before anybody would look for a bar."""


Encode = Callable[[Tensor], Tensor]
"""Gives features (B, D), float32 on the CPU, of images (B, 3, S, S) in [0, 1], by a frozen encoder."""


class BackboneEncoder:
    """A pretrained network without its classifying layer, frozen: also the statistics of its BatchNorm layers.

    Args:
        classifier: the network.
        device: where it runs.
    """

    def __init__(self, classifier: Classifier, device: torch.device) -> None:
        # In eval mode: in training mode a forward pass alone would move the running statistics.
        self._classifier = classifier.eval().requires_grad_(False).to(device)
        self._device = device

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (B, D)."""
        with torch.inference_mode():
            return self._classifier.features(images.to(self._device)).float().cpu().clone()


class GeneratorEncoder:
    """The generator's own image encoder; see `generator_features`.

    Args:
        generator: whose encoder it is.
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (B, D)."""
        return generator_features(self._generator, [images_v2.to_pil_image(image) for image in images])


def generator_features(generator: Generator, images: Sequence[Image]) -> Tensor:
    """Return the features of RGB images, float32 (B, D): their embeddings, averaged over tokens.

    Args:
        generator: whose image encoder computes them.
        images: at least one.
    """
    views = torch.stack([generator.view(image) for image in images])
    embeddings = require_finite(embed_images(generator, views), "encode_images")
    return embeddings.mean(dim=1) if embeddings.ndim == 3 else embeddings


def plain_features(encode: Encode, images: ImageSet, progress: Progress | None = None) -> Tensor:
    """Return the features of the images as they are, (N, D); `progress` is told how many are computed."""
    told = _told(progress, len(images))
    parts = []
    for _, batch in images.batches(_BATCH):
        parts.append(encode(batch.float() / 255))
        told.advance(len(batch), 0)
    return torch.cat(parts)


def _told(progress: Progress | None, count: int) -> Progress:
    told = progress if progress is not None and count >= _WORTH_TELLING else NoProgress()
    told.start(count, "features computed")
    return told


@dataclass(frozen=True, slots=True)
class Views:
    """How augmented views differ.

    Attributes:
        augment: how each is made.
        size: edge length of the encoder's input.
        count: number of views, V.
        seed: draws the augmentation.
    """

    augment: AugmentConfig
    size: int
    count: int
    seed: int


def view_features(encode: Encode, images: ImageSet, views: Views, progress: Progress | None = None) -> Tensor:
    """Return the features of augmented views of each image, (V, N, D).

    Args:
        encode: a frozen encoder.
        images: of the size that the augmentation takes.
        views: how many, and how they differ.
        progress: is told how many features are computed.
    """
    augmentation = BatchAugmentation(views.augment, views.size)
    told = _told(progress, views.count * len(images))
    found = []
    for view in range(views.count):
        parts = []
        for batch in _augmented(images, augmentation, views.seed, view):
            parts.append(encode(batch))
            told.advance(len(batch), 0)
        found.append(torch.cat(parts))
    return torch.stack(found)


def _augmented(images: ImageSet, augmentation: BatchAugmentation, seed: int, view: int) -> Iterator[Tensor]:
    """Yield the batches of a view, float, (B, 3, S, S) in [0, 1]."""
    if not augmentation.of_photos:
        for start, batch in images.batches(_BATCH):
            yield augmentation(batch, seed, f"view-{view}-{start}")
        return
    edge = augmentation.stored_size
    for start in range(0, len(images), _BATCH):
        places = np.arange(start, min(start + _BATCH, len(images)))
        shares = cast("np.ndarray", augmentation.draw(len(places), edge, seed, f"view-{view}-{start}").crops)
        crops = np.empty((len(places), 3, edge, edge), np.uint8)
        read = partial(read_crops, images.pixels)
        for _ in workers().map(read, places[:, None], shares[:, None], crops[:, None]):
            pass
        yield augmentation(torch.from_numpy(crops), seed, f"view-{view}-{start}")


_REMEMBERED = 8


class FrozenEncoder:
    """A frozen encoder that computes the features of a set of images once.

    Args:
        encode: the encoder.
        size: edge length of the images that it takes.
        progress: is told how many features are computed.
    """

    def __init__(self, encode: Encode, size: int, progress: Progress | None = None) -> None:
        self.encode = encode
        self.size = size
        self._progress = progress
        # By the very object: sets of equal keys may hold other pixels (another size, or a planted leak).
        self._known: list[tuple[ImageSet, object, Tensor]] = []

    def plain(self, images: ImageSet) -> Tensor:
        """Return the features of the images as they are, (N, D)."""
        return self._once(images, "plain", lambda: plain_features(self.encode, images, self._progress))

    def views(self, images: ImageSet, augment: AugmentConfig, count: int, seed: int) -> Tensor:
        """Return the features of `count` augmented views of each image, (count, N, D)."""
        views = Views(augment, self.size, count, seed)
        compute = partial(view_features, self.encode, images, views, self._progress)
        return self._once(images, (augment.model_dump_json(), count, seed), compute)

    def _once(self, images: ImageSet, key: object, compute: Callable[[], Tensor]) -> Tensor:
        for known, own, features in self._known:
            if known is images and own == key:
                return features
        features = compute()
        self._known = [*self._known[1 - _REMEMBERED :], (images, key, features)]
        return features


class LinearHead(nn.Module):
    """A linear layer on features, standardised or as they are.

    A deviation that is estimated from two or three images can be close to nothing by chance, and would blow up whatever
    that feature shows on other images. So no deviation counts for less than the median one of the features that vary.

    Args:
        features: real training features, (N, D), whose mean and deviation standardise all others.
        classes: number of classes.
        seed: of the initial weights.
        standardise: False leaves features as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: Tensor, classes: int, seed: int, *, standardise: bool = True) -> None:
        super().__init__()
        width = features.shape[1]
        self.register_buffer("mean", features.mean(dim=0) if standardise else torch.zeros(width))
        self.register_buffer("std", _deviations(features) if standardise else torch.ones(width))
        with seeded(seed, "initial-weights"):
            self.linear = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, C) of features (B, D)."""
        logits: Tensor = self.linear((features - self.mean) / self.std)
        return logits


def _deviations(features: Tensor) -> Tensor:
    std = features.std(dim=0, correction=0)
    varying = std[std > 1e-6]
    return std.clamp_min(float(varying.median()) if len(varying) else 1.0)
