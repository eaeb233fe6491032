"""A recipe of your own: own_recipe.py, which a config names as `conditioning: {recipe: [image, own_recipe:middle]}`."""

from torch import Tensor
from torchvision.datasets import FakeData

import augcond
from augcond.conditioning import Draws, Recipe
from augcond.conditioning.streams import numpy_stream
from augcond.config import ConditioningConfig


def towards_the_middle(embeddings: Tensor, settings: ConditioningConfig, seed: int) -> tuple[Tensor, Draws]:
    """Move the first source's embedding a part of the way to the mean of all: (n, *shape) to (*shape)."""
    count = len(embeddings)
    part = float(numpy_stream(seed, "towards-the-middle").beta(settings.alpha, settings.alpha))
    weights = (1 - part + part / count, *[part / count] * (count - 1))
    moved = sum(weight * embedding for weight, embedding in zip(weights, embeddings, strict=True))
    return moved, Draws(lam=part, share=weights[0], weights=weights)


middle = Recipe("middle", embeddings=towards_the_middle, sources=3, dropout=True, revision="1")


if __name__ == "__main__":
    images, labels = zip(*FakeData(12, (3, 32, 32), 2), strict=True)  # your own images, and what they show
    augmenter = augcond.Augmenter({"steps": 5}, ["image", "own_recipe:middle"])
    for made in augmenter(images, labels, classes=["cat", "dog"], per_class=2):
        print(made.provenance.key, made.provenance.weights)
