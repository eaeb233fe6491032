"""Which images each stage may see: the honest answers, and where leaky ones come from if a config asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from augcond import registry

if TYPE_CHECKING:
    from torch import nn

    from augcond.config import RunConfig, SplitConfig
    from augcond.datasets.base import Dataset

Images = TypeVar("Images")
"""How the stages above hold images."""


class EpochChooser(Protocol):
    """Looks at a network while it is trained, and may put back what it was."""

    def __call__(self, done: int, module: nn.Module) -> None:
        """Look at `module` after `done` steps."""
        ...

    def restore(self, module: nn.Module) -> str:
        """Put the chosen weights into `module` and return a note of what was chosen."""
        ...


class HonestProtocol(Generic[Images]):
    """Sources are training images, and what is judged on is held out; `published` has a subclass that leaks.

    Args:
        config: the run.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    def split(self) -> SplitConfig | None:
        """Return the split to draw."""
        return self.config.data.split

    def sources(self, pool: Dataset, training: Dataset) -> Dataset:
        """Return the images that generation may be conditioned on, of all and of the training images."""
        return training

    def held_out(self, pool: Dataset, own: Callable[[], Dataset]) -> Dataset:
        """Return the images that models are judged on, of all images and those that the config holds out."""
        return own()

    def judged(self, images: Images, synthetic: Callable[[], Images], seed: int) -> Images:
        """Return the images that one model is judged on.

        Args:
            images: those that all models are.
            synthetic: gives the synthetic images that this one was trained on.
            seed: of its training.
        """
        return images

    def best_epoch(self, accuracy: Callable[[], Callable[[nn.Module], float]], steps: int) -> EpochChooser | None:
        """Return what chooses the weights to keep of a training of `steps` steps; the last ones where None.

        Args:
            accuracy: gives a measure of a network on the images that it will be judged on.
            steps: of the training.
        """
        return None


def protocol_of(config: RunConfig) -> HonestProtocol[Any]:
    """Return the protocol of a run: honest, unless its config names leaks."""
    if not config.leaks:
        return HonestProtocol(config)
    leaky: type[HonestProtocol[Any]] = registry.protocols.load("leaky")
    return leaky(config)
