"""`augment:`: torchvision v2 transforms on each source image, by name."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import PIL.Image
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from augcond.conditioning.streams import augment_purpose, seeded
from augcond.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

    from augcond.config import ConditioningConfig

_TRIAL_EDGES = (256, 2048)  # the second for crops that are larger than the first
# What torchvision raises when it is given a wrong value or an image that a transform does not apply to.
_REFUSALS = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError)


@dataclass(frozen=True, slots=True)
class Augment:
    """The transforms of one run, in order, ready to use.

    Attributes:
        names: what the transforms are called.
        transform: all of them in one; draws from PyTorch's global generator.
    """

    names: tuple[str, ...]
    transform: Callable[[Any], Any]

    def __call__(self, image: Image, seed: int, position: int) -> Image:
        """Return the transformed `image`, RGB.

        Args:
            image: RGB.
            seed: the row's seed.
            position: of the source, counted from 1; each has a stream of its own.

        Raises:
            ConfigError: a transform does not apply to an image of this size, such as a crop larger than it.
        """
        try:
            return self._apply(image, seed, position)
        except _REFUSALS as error:
            size = f"{image.width}x{image.height}"
            raise ConfigError(
                f"conditioning.augment: {', '.join(self.names)} cannot be applied to a source of {size} pixels: {error}"
            ) from error

    def _apply(self, image: Image, seed: int, position: int) -> Image:
        # Tensors, not PIL images: some transforms (RandomErasing, GaussianNoise) leave PIL images alone or refuse them.
        tensor = tv_tensors.Image(v2.functional.pil_to_tensor(image))
        with seeded(seed, augment_purpose(position)):
            result = self.transform(tensor)
        return _as_rgb(result)


def build_augment(settings: ConditioningConfig) -> Augment | None:
    """Return the transforms that `settings.augment` names, None where it names none; built once, then cached.

    Every transform is tried on a blank image, so a wrong config fails here and not in the middle of a run.

    Raises:
        ConfigError: a transform or an argument is unknown, a value is wrong, or the result is no image.
    """
    if not settings.augment:
        return None
    try:
        # A config is YAML, so plain data. The text is the cache's key, and restores what it stands for.
        text = json.dumps(settings.augment)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"conditioning.augment: only numbers, texts, lists and mappings: {error}") from None
    return _build(text)


@lru_cache(maxsize=16)
def _build(text: str) -> Augment:
    entries = json.loads(text)
    transforms = [_transform(entry, f"conditioning.augment[{position}]") for position, entry in enumerate(entries)]
    names = tuple(type(transform).__name__ for transform in transforms)
    augment = Augment(names, v2.Compose(transforms))
    small, large = (PIL.Image.new("RGB", (edge, edge)) for edge in _TRIAL_EDGES)
    try:
        augment(small, seed=0, position=1)
    except ConfigError:
        augment(large, seed=0, position=1)
    return augment


def _transform(entry: Any, where: str) -> Any:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ConfigError(f"{where}: expected a mapping with a name, such as {{name: RandomHorizontalFlip}}")
    arguments = {key: value for key, value in entry.items() if key != "name"}
    name = entry["name"]
    kind = getattr(v2, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, v2.Transform)) or kind is v2.Transform:
        raise ConfigError(f"{where}: torchvision has no v2 transform {name!r}{_nearest(name, _transform_names())}")
    allowed = list(inspect.signature(kind).parameters)
    for key in arguments:
        if key not in allowed:
            takes = f"takes {', '.join(allowed)}" if allowed else "takes no arguments"
            raise ConfigError(f"{where}: {name} has no argument {key!r}{_nearest(key, allowed)} ({takes})")
    try:
        return kind(**{key: _value(key, value, f"{where}.{key}") for key, value in arguments.items()})
    except _REFUSALS as error:
        raise ConfigError(f"{where}: {name}: {error}") from error


def _value(key: str, value: Any, where: str) -> Any:
    """Return what a YAML value stands for where torchvision wants an object."""
    if key == "transforms" and isinstance(value, list):  # RandomApply, RandomChoice, RandomOrder, Compose
        return [_transform(entry, f"{where}[{position}]") for position, entry in enumerate(value)]
    if key == "interpolation" and isinstance(value, str):
        return v2.InterpolationMode(value)
    if key == "policy" and isinstance(value, str):
        return v2.AutoAugmentPolicy(value)
    if key == "dtype" and isinstance(value, str):
        dtype = getattr(torch, value, None)
        if not isinstance(dtype, torch.dtype):
            raise ConfigError(f"{where}: PyTorch has no dtype {value!r}")
        return dtype
    return value


def _transform_names() -> list[str]:
    return [name for name, kind in vars(v2).items() if inspect.isclass(kind) and issubclass(kind, v2.Transform)]


def _nearest(word: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(word, allowed, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def _as_rgb(result: Any) -> Image:
    if isinstance(result, PIL.Image.Image):
        return result.convert("RGB")
    if not isinstance(result, torch.Tensor) or result.dim() != 3 or result.shape[0] not in (1, 3):
        raise TypeError(f"the result is no single RGB image but {_description(result)}")
    if result.is_floating_point():
        result = (result.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    if result.dtype != torch.uint8:
        raise TypeError(f"the result has dtype {result.dtype}; expected uint8, or floats in [0, 1]")
    image: Image = v2.functional.to_pil_image(result.expand(3, -1, -1))
    return image


def _description(result: Any) -> str:
    if isinstance(result, torch.Tensor):
        return f"a tensor of shape {tuple(result.shape)}"
    return f"a {type(result).__name__}"
