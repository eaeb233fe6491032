"""What the image encoder says of training images as a whole: features to choose by, means to lead away from.

Views are encoded in blocks of one padded shape, class by class and in the order of their keys: the mean of a class
depends on its own images alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from augcond.engine.embeddings import BLOCK
from augcond.engine.feeding import Threads
from augcond.engine.sources import Sources, Unreadable
from augcond.errors import ConfigError, GeneratorError
from augcond.generators.checked import embed_images, require_finite
from augcond.nearness import SourceFeatures, similar_classes

if TYPE_CHECKING:
    from torch import Tensor

    from augcond.datasets import Dataset
    from augcond.engine.feeding import Materials
    from augcond.generators import Generator
    from augcond.store.plans import RunPlan


def embed_sources(dataset: Dataset, generator: Generator) -> SourceFeatures:
    """Return the features of all images of `dataset`, class by class.

    Raises:
        GeneratorError: an image cannot be read any more, or its embedding is not finite.
    """
    sources = Sources(dataset.reader, dataset.decoding, generator, 0)
    keys: list[str] = []
    labels: list[int] = []
    features: list[np.ndarray] = []
    with Threads() as threads:
        for label in range(len(dataset.classes)):
            own = sorted(image.key for image in dataset.images if image.label == label)
            keys += own
            labels += [label] * len(own)
            for block in _embedded(own, sources, generator, threads):
                features.append((block.mean(dim=1) if block.ndim == 3 else block).numpy())
    return SourceFeatures(tuple(keys), np.array(labels, dtype=np.int64), np.concatenate(features))


def similar_other_classes(dataset: Dataset, features: SourceFeatures) -> dict[str, tuple[str, str]]:
    """Return, by class id, the id of the most similar other class, and which images it has.

    Similar are classes whose mean features have a large cosine. Classes without images are left out.

    Raises:
        ConfigError: there is one class alone.
    """
    counts = np.array(dataset.counts())
    means = np.zeros((len(counts), features.features.shape[1]))
    np.add.at(means, features.labels, features.features.astype(np.float64))
    others = similar_classes(means / np.maximum(counts, 1)[:, None], counts)
    if not any(other is not None for other in others):
        raise ConfigError("generator.away_from: similar-class needs a second class with images: leave it out")
    contents: dict[int, str] = {}
    for other in {other for other in others if other is not None}:
        own = tuple(image for image in dataset.images if image.label == other)
        contents[other] = replace(dataset, images=own).contents_sha256()
    return {
        dataset.classes[label]: (dataset.classes[other], contents[other])
        for label, other in enumerate(others)
        if other is not None
    }


def led_away(materials: Materials, plan: RunPlan, labels: Mapping[str, int]) -> Materials:
    """Return `materials` with the embeddings that the guidance of a run leads away from, if it leads away from any.

    Args:
        materials: of the run.
        plan: says from which class, for the images of each.
        labels: of the training images, by key.

    Raises:
        GeneratorError: an image cannot be read any more, or its embedding is not finite.
    """
    if materials.away or not plan.columns.away_from:
        return materials
    number = {class_id: label for label, class_id in enumerate(plan.classes)}
    away_from = {number[class_id]: number[other] for class_id, other in plan.columns.away_from.items()}
    return led_away_from(away_from, materials, labels, reducing=plan.reducing)


def led_away_from(
    away_from: Mapping[int, int], materials: Materials, labels: Mapping[str, int], *, reducing: bool
) -> Materials:
    """Return `materials` with the mean embeddings that guidance leads away from.

    Args:
        away_from: the class to lead away from, by that of the images.
        materials: of the images.
        labels: of the training images, by key.
        reducing: see `Sources`.

    Raises:
        GeneratorError: see `led_away`.
    """
    members: dict[int, list[str]] = {other: [] for other in away_from.values()}
    for key, label in sorted(labels.items()):
        if label in members:
            members[label].append(key)
    generator = materials.generator
    sources = Sources(materials.reader, materials.decoding, generator, 0, reducing=reducing)
    with Threads() as threads:
        means = {other: _mean(_embedded(own, sources, generator, threads)) for other, own in members.items()}
    return replace(materials, away={label: means[other] for label, other in away_from.items()})


def _mean(blocks: Iterator[Tensor]) -> Tensor:
    """Return the mean of embeddings, float32; summed in float64, whatever the blocks."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for block in blocks:
        total, count = total + block.double().sum(dim=0), count + len(block)
    return (total / count).float()


def _embedded(keys: Sequence[str], sources: Sources, generator: Generator, threads: Threads) -> Iterator[Tensor]:
    """Yield the embeddings of the whole views of `keys`, float32, a block at a time."""
    size = generator.encoder_size
    for start in range(0, len(keys), BLOCK):
        block = keys[start : start + BLOCK]
        views = torch.zeros(BLOCK, 3, size, size)
        for place, found in enumerate([threads.submit(sources.view, key) for key in block]):
            try:
                views[place] = found.result()
            except Unreadable as error:
                raise GeneratorError(f"the training image {block[place]!r} cannot be read: {error.reason}") from error
        yield require_finite(embed_images(generator, views), "encode_images")[: len(block)]
