"""Transforms of whole batches, in processes of their own.

torchvision's transforms draw from PyTorch's one generator of the process: threads take turns, and an image's draws
depend on those of the images before it. So a process takes a batch, and another one the next. It is run as
`python -m augcond.training.transforming`, and gives the bytes that the training's own process would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from augcond.datasets.decoding import available_cores
from augcond.errors import TrainingError
from augcond.processes import HelperEndedError, Helpers, serve
from augcond.training.augmentation import BatchAugmentation

if TYPE_CHECKING:
    from collections.abc import Callable

    from augcond.config.training import AugmentConfig

_MOST = 8
"""Each takes some 740 MB, the pages of libraries that they share among them."""

_PAY_FROM = 60.0
"""So many seconds of transforms: a process takes three to start."""

_PER_IMAGE, _PER_PIXEL = 5e-4, 2.4e-8
"""Seconds that RandAugment takes: 0.52 ms at 32 pixels, 1.7 ms at 224."""


class Transforming:
    """Processes that transform batches. Close them.

    Args:
        config: which transforms.
        size: edge length of the network's input.
        processes: how many.
    """

    def __init__(self, config: AugmentConfig, size: int, processes: int) -> None:
        self.processes = processes
        self._helpers = Helpers("augcond.training.transforming", (config, size), processes)

    def __call__(self, images: np.ndarray, seed: int, purpose: str) -> np.ndarray:
        """Return what `BatchAugmentation.transform` does, by a process that is waited for.

        Raises:
            TrainingError: it has ended.
            ConfigError: a transform does not apply to these images.
        """
        try:
            transformed: np.ndarray = self._helpers.ask((images, seed, purpose))
        except HelperEndedError as ended:
            raise TrainingError(
                f"a process that transforms images has ended ({ended.how}), maybe for want of memory: it goes on from "
                "the last checkpoint when the command is run again"
            ) from None
        return transformed

    def close(self) -> None:
        """End them; none is being asked."""
        self._helpers.close()


def transforming_for(augmentation: BatchAugmentation, config: AugmentConfig, images: int) -> Transforming | None:
    """Return processes where they pay, else None.

    Args:
        augmentation: of the batches.
        config: the same.
        images: how many are to be transformed in all.
    """
    edge, cores = augmentation.stored_size, available_cores()
    seconds = images * (_PER_IMAGE + _PER_PIXEL * edge**2)
    if not augmentation.transforms or cores == 1 or seconds < _PAY_FROM:
        return None
    return Transforming(config, augmentation.size, min(cores, _MOST))


def _transformer(settings: tuple[AugmentConfig, int]) -> Callable[[tuple[np.ndarray, int, str]], np.ndarray]:
    torch.set_num_threads(1)  # there is a process for each core
    augmentation = BatchAugmentation(*settings)

    def transform(request: tuple[np.ndarray, int, str]) -> np.ndarray:
        images, seed, purpose = request
        return np.ascontiguousarray(augmentation.transform(torch.from_numpy(images), seed, purpose).numpy())

    return transform


if __name__ == "__main__":
    serve(_transformer)
