"""What a tuning tells of a config beside its candidates: what it sets aside, and what so few images cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from augcond.config import RunConfig
from augcond.experiments.tuning.candidates import GUIDANCE, value_of
from augcond.experiments.tuning.folds import Blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

FEW_SHOTS, FEW_SHOT_GUIDANCE = 16, 10.0
"""The paper's few-shot protocol, and its best guidance there."""


def set_as_none(config: RunConfig) -> list[str]:
    """Return in sentences what of a config a tuning sets aside."""
    found = []
    if config.screening.by != "none":
        found.append("Screening is left out: its threshold is set on validation images. tuned.yaml has it again.")
    for section, key in (("generator", "away_from"), ("conditioning", "neighbours")):
        if getattr(getattr(config, section), key, None) is not None:
            found.append(
                f"{section}.{key} is left out: images would lean on real ones that a fold holds out. tuned.yaml has it "
                "again where its recipe takes it, untested."
            )
    if len(config.conditioning.recipe) > 1:
        found.append(f"Of the config's recipes the first is what it is taken to use: {config.conditioning.recipe[0]}.")
    if config.training.arms is not None:
        found.append("training.arms is left out: tuned.yaml trains its one recipe, beside real images alone.")
    return found


def few_images(counts: Sequence[int], blocks: Blocks, mixed: np.ndarray) -> list[str]:
    """Return in sentences which classes have too few images for what a tuning does with others.

    Args:
        counts: real images of each class.
        blocks: of each class.
        mixed: images that an image of each class is made from, at most, (C,).
    """
    single = sum(count == 1 for count in counts)
    few = int((blocks.pools < np.minimum(counts, mixed))[np.array(counts) > 1].sum())
    found = []
    if single:
        found.append(f"Classes of one real image, which are trained on and never judged: {single}.")
    if few:
        found.append(
            f"Classes whose pilots mix fewer different images than the run will: {few}. A fold must leave all that an "
            "image is made of."
        )
    return found


def weak_guidance(config: RunConfig, counts: Sequence[int]) -> list[str]:
    """Return in a sentence that the paper guided more strongly where there are as few images, if so.

    So few images seldom decide between guidances, and then the config's own stays.
    """
    guidance = float(value_of(config, GUIDANCE))
    if config.generator.name != "stable-unclip" or max(counts) > FEW_SHOTS or not 1 < guidance < FEW_SHOT_GUIDANCE:
        return []
    return [
        f"So few images a class seldom decide between guidances. The paper found {FEW_SHOT_GUIDANCE:g} best for 1 to "
        f"{FEW_SHOTS} images a class (arXiv 2502.04475); the {guidance:g} of this config stays unless something leads "
        f"it: set {GUIDANCE} to {FEW_SHOT_GUIDANCE:g} to start from that."
    ]
