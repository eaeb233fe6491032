"""Images in rounds (deliberate practice, arXiv 2502.15588): each round makes them where a small judge is weakest.

    plan of every class -> images -> judge -> how many more of which class, from which sources -> images -> ...

What was chosen is input of the plan (`plan.rounds`) and stands in its rows, so that it defines the run's images, and
the judge does not. It lies in RUN/rounds.json; a choice that is there is not made again, so the same call resumes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from augcond.amounts import ChosenImages, Round, read_rounds, rounds_content
from augcond.errors import ConfigError
from augcond.pipeline import generate
from augcond.sealed import write_json
from augcond.store import RunFolder
from augcond.training.arm_images import RunImages
from augcond.training.arms import Arm
from augcond.training.experiment import load_experiment
from augcond.training.trainer import train_one

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from augcond.config import RunConfig
    from augcond.progress import Progress

JUDGE = "judge"


def generate_in_rounds(
    config: RunConfig,
    *,
    rounds: int,
    per_class: int,
    steps: int | None = None,
    reuse: Sequence[Path] = (),
    progress: Progress | None = None,
) -> RunConfig:
    """Make the images of a run, and those of some rounds more; call it again to resume after any interruption.

    Args:
        config: the run; its plan is what every class gets before the first round.
        rounds: number of rounds.
        per_class: images that each adds of each recipe, on the average of all classes.
        steps: of the judge's training; a quarter of the run's where None. A judge that knows its training images by
            heart would find none of them hard.
        reuse: see `augcond.pipeline.generate`.
        progress: is told how many images are made.

    Returns:
        The config that names the rounds as `plan.rounds`: train, evaluate and resume with it.

    Raises:
        ConfigError: the config names rounds of another file, or oversamples.
        AugcondError: as `augcond.pipeline.generate` does, and training.
    """
    path = RunFolder(config.run).rounds_path
    if config.plan.rounds not in (None, path):
        raise ConfigError(f"plan.rounds: {config.plan.rounds} was chosen elsewhere: leave it out to choose rounds here")
    if config.plan.oversample > 1:
        raise ConfigError("plan.oversample: rounds choose what is made, it chooses what is kept: leave it out")
    begun, with_rounds = (
        config.model_copy(update={"plan": config.plan.model_copy(update={"rounds": named})}) for named in (None, path)
    )
    chosen = list(read_rounds(with_rounds.plan)) if path.exists() else []
    current = with_rounds if chosen else begun
    generate(current, reuse=reuse, progress=progress)
    while len(chosen) < rounds:
        chosen.append(choose_round(current, per_class, steps or max(1, config.training.steps // 4)))
        # Whole before any image is made of it: what was made is always what the file says.
        write_json(path, rounds_content(chosen))
        current = with_rounds
        generate(current, reuse=reuse, progress=progress)
    return current


def choose_round(config: RunConfig, per_class: int, steps: int) -> Round:
    """Return what the next round of a run makes, by a judge that is trained on all that it has.

    Args:
        config: the run, generated to the end.
        per_class: images on the average of all classes.
        steps: of the judge's training.

    Raises:
        AugcondError: as training does.
    """
    experiment = load_experiment(config)
    images = RunImages(experiment)
    settings = config.training.model_copy(update={"steps": steps, "warmup_steps": 0, "real_steps": 0, "arms": None})
    names = config.conditioning.recipe_names
    arm = Arm(JUDGE, "synthetic", names[0] if len(names) == 1 else names, None, settings)
    model, card = train_one(images, arm, config.training.training_seeds[0])
    real = images.real(model.size)
    logits = model.logits(model.module, real) + torch.tensor(card.test_shift)
    losses = functional.cross_entropy(logits, real.labels, reduction="none")
    return next_round(losses, real.labels, real.keys, experiment.pool.classes, per_class)


def next_round(
    losses: Tensor, labels: Tensor, keys: Sequence[str], classes: Sequence[str], per_class: int
) -> dict[str, ChosenImages]:
    """Return how many images of each class are made next, from which sources.

    Classes get them in proportion to the mean loss of their training images, by largest remainders; their sources are
    the half of these whose loss is largest, of equal ones the first by key.

    Args:
        losses: of the judge on each real training image, >= 0, (N,).
        labels: int64, (N,).
        keys: of the images.
        classes: ids; those without images get none.
        per_class: images on the average of the classes that have images.
    """
    own = {label: torch.nonzero(labels == label).flatten().tolist() for label in range(len(classes))}
    held = [label for label, places in own.items() if places]
    means = np.array([float(losses[own[label]].double().mean()) for label in held])
    shares = means / means.sum() if means.sum() > 0 else np.full(len(held), 1 / len(held))
    due = per_class * len(held) * shares
    counts = np.floor(due).astype(int)
    left = np.argsort(-(due - counts), kind="stable")[: per_class * len(held) - counts.sum()]
    counts[left] += 1
    found = {}
    for label, count in zip(held, counts.tolist(), strict=True):
        hardest = sorted(own[label], key=lambda place: (-float(losses[place]), keys[place]))
        if count:
            half = hardest[: math.ceil(len(hardest) / 2)]
            found[classes[label]] = ChosenImages(count, tuple(keys[place] for place in half))
    return found
