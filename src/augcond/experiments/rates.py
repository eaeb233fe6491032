"""GPU hours from published rates: what was measured, by whom, and what is assumed to carry it over to a run.

No rate here is a guess. What no one has published for a model or a GPU is not forecast; `augcond plan` times a few
images on the machine at hand instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from augcond.conditioning import recipes_of
from augcond.generators import find_family

if TYPE_CHECKING:
    from augcond.config import ConditioningConfig, GeneratorConfig, RunConfig
    from augcond.training.arms import Arm


@dataclass(frozen=True, slots=True)
class Cost:
    """What one stage takes on one device.

    Attributes:
        stage: generation or training.
        device: the GPU that the rate was measured on.
        hours: GPU hours.
        source: who published the rate, and how it was measured.
        assumptions: what is assumed beside it; each can be wrong.
    """

    stage: Literal["generation", "training"]
    device: str
    hours: float
    source: str
    assumptions: tuple[str, ...]


_TRAINED_PER_SECOND = {
    "resnet50": 1218.01,
    "resnext50_32x4d": 1001.03,
    "resnet101": 747.89,
    "resnet152": 501.44,
    "convnext_tiny": 819.24,
    "vit_small_patch16_224": 1057.92,
}
"""Images per second in training, at 224 pixels."""

_TRAINED_SOURCE = (
    "published: timm, results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv (224 pixels, mixed precision, "
    "channels last, PyTorch 1.12)"
)
_TRAINED_DEVICE = "RTX 3090"
_TRAINED_PIXELS = 224


def generation_costs(
    config: GeneratorConfig, conditioning: ConditioningConfig, images_by_recipe: dict[str, int]
) -> tuple[Cost, ...]:
    """Return the GPU hours of generation on every GPU with a published rate; none where no rate fits the generator.

    Args:
        config: the generator and how it samples.
        conditioning: the recipes; those that start from an image do a share of the denoising, its `strength`.
        images_by_recipe: how many images each recipe makes.
    """
    family = find_family(config.name)
    rates, pixels = family.rates, config.size or family.native_pixels
    if rates is None or pixels is None or config.model == "builtin":
        return ()
    evaluations = config.steps + (1 if config.scheduler == "pndm" else 0)
    done = {recipe.name: conditioning.strength if recipe.initial else 1.0 for recipe in recipes_of(conditioning)}
    weighed = sum(count * done[recipe] for recipe, count in images_by_recipe.items())
    guided = config.guidance_interval[1] - config.guidance_interval[0] if config.guidance_scale > 1 else 0.0
    steps = weighed * evaluations * (pixels / rates.pixels) ** 2 * (1 + guided) / 2
    assumptions = ["encoding and decoding, which the rate leaves out, take no time", "the dtype is float16"]
    if config.size is None:
        assumptions.append(f"images of {pixels} pixels, as the published weights of {config.name} make")
    if pixels != rates.pixels:
        # Attention grows faster than the number of pixels.
        assumptions.append(
            f"time grows as the number of pixels, {(pixels / rates.pixels) ** 2:.2f} times; more in truth"
        )
    if guided < 1:
        assumptions.append("a step without guidance takes half the time of one with it")
    if config.cache is not None:
        assumptions.append("generator.cache saves nothing: less in truth")
    return tuple(
        Cost("generation", device, steps / rate / 3600, rates.source, tuple(assumptions))
        for device, rate in rates.steps_per_second.items()
    )


def training_costs(config: RunConfig, arms: tuple[Arm, ...], real: int, synthetic: dict[str, int]) -> tuple[Cost, ...]:
    """Return the GPU hours of training all arms with all seeds; none where a network has no published rate.

    Args:
        config: the run.
        arms: the rows of its table.
        real: number of real training images.
        synthetic: number of synthetic images of each recipe.
    """
    seconds = 0.0
    assumptions = ["images are read as fast as they are trained on"]
    for arm in arms:
        training = arm.config
        rate = _TRAINED_PER_SECOND.get(training.model.partition(".")[0])
        if rate is None:
            return ()
        scale = ((training.image_size or _TRAINED_PIXELS) / _TRAINED_PIXELS) ** 2
        seeds = len(training.training_seeds)
        if training.mode == "linear-probe" and training.views != "fresh":
            # Features once per view and image, whatever the number of steps and seeds.
            names = arm.recipe if isinstance(arm.recipe, tuple) else (arm.recipe or "",)
            added = sum(synthetic.get(name, 0) for name in names) / len(names)
            images = (real + added) * (1 + training.views)
            assumptions.append("a linear probe's forward passes are as slow as training; its own steps take no time")
        else:
            images = training.steps * training.batch_size * seeds
        if scale != 1:
            assumptions.append(f"time grows as the number of pixels, {scale:.2f} times")
        if training.precision == "no":
            assumptions.append("mixed precision, which this config does not use: more in truth")
        seconds += images * scale / rate
    kept = tuple(dict.fromkeys(assumptions))
    return (Cost("training", _TRAINED_DEVICE, seconds / 3600, _TRAINED_SOURCE, kept),)
