"""Which generated images miss their class or their style, seen by an image encoder.

All features are scaled to length 1 first; distances are Euclidean, in [0, 2].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How each sample stands to the real images.

    Attributes:
        margin: (M,) distance to the mean of its own class minus distance to the nearest mean of another class; above 0
            it looks like another class (semantic error). NaN without another class.
        nearest: (M,) label of the class whose mean is nearest.
        shift: (M,) distance to the nearest real image of its own class (domain shift); NaN where there is none.
    """

    margin: Tensor
    nearest: Tensor
    shift: Tensor


def class_fidelity(features: Tensor, labels: Tensor, real: Tensor, real_labels: Tensor) -> Fidelity:
    """Return how samples stand to the real images of their own and of the other classes.

    Args:
        features: (M, D) of the samples.
        labels: (M,) the classes that they should be of.
        real: (N, D) of real images; every class in `labels` has one.
        real_labels: (N,).

    Raises:
        ValueError: a class has samples but no real image.
    """
    features, real = functional.normalize(features.double()), functional.normalize(real.double())
    classes, means, _ = _means(real, real_labels)
    own = _places(classes, labels)
    distances = torch.cdist(features, means)
    shift = torch.full((len(features),), torch.nan, dtype=torch.float64)
    for label in torch.unique(labels):
        mine = labels == label
        shift[mine] = torch.cdist(features[mine], real[real_labels == label]).min(dim=1).values
    return _fidelity(distances, own, classes, shift)


def real_fidelity(real: Tensor, real_labels: Tensor) -> Fidelity:
    """Return how each real image stands to all others: what the encoder makes of images that are right.

    Each image is left out of its own class's mean and neighbours. A class with a single image has no mean without it:
    that image gets NaN, and its own class as the nearest.

    Args:
        real: (N, D).
        real_labels: (N,).
    """
    real = functional.normalize(real.double())
    classes, means, counts = _means(real, real_labels)
    own = _places(classes, real_labels)
    distances = torch.cdist(real, means)
    single = counts[own] == 1
    others = (means[own] * counts[own, None] - real) / (counts[own, None] - 1).clamp(min=1)
    distances[torch.arange(len(real)), own] = torch.where(single, torch.nan, (real - others).norm(dim=1))
    shift = torch.full((len(real),), torch.nan, dtype=torch.float64)
    for label in classes:
        mine = real_labels == label
        if int(mine.sum()) > 1:
            shift[mine] = torch.cdist(real[mine], real[mine]).fill_diagonal_(torch.inf).min(dim=1).values
    return _fidelity(distances, own, classes, shift)


def _means(real: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    classes, places, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(classes), real.shape[1], dtype=real.dtype).index_add_(0, places, real)
    return classes, sums / counts[:, None], counts


def _places(classes: Tensor, labels: Tensor) -> Tensor:
    places = torch.searchsorted(classes, labels).clamp(max=len(classes) - 1)
    missing = labels[classes[places] != labels]
    if len(missing):
        raise ValueError(f"class {int(missing[0])} has samples but no real image")
    return places


def _fidelity(distances: Tensor, own: Tensor, classes: Tensor, shift: Tensor) -> Fidelity:
    rows = torch.arange(len(distances))
    mine = distances[rows, own]
    others = distances.clone()
    others[rows, own] = torch.inf
    if len(classes) > 1:
        other, where = others.min(dim=1)
    else:
        other, where = torch.full_like(mine, torch.nan), own
    # A comparison with NaN is false: what cannot be judged is not called wrong.
    nearest = torch.where(other < mine, classes[where], classes[own])
    return Fidelity(mine - other, nearest, shift)
