"""Training: networks, their weights, optimisers, transforms, losses, screening."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from augcond.checks.look import Look, Problem, raised, to_fetch, tried
from augcond.errors import AugcondError, TrainingError
from augcond.store import RunFolder
from augcond.training.arms import Arm, unused_real

if TYPE_CHECKING:
    from augcond.config import RunConfig


def check_arms(look: Look) -> Iterator[Problem]:
    """Networks, their weights, optimisers, transforms and losses of the arms that are not trained yet."""
    if not look.trains:
        return
    from augcond.training.devices import Rank, find_rank
    from augcond.training.loop import check_optimizer
    from augcond.training.models import check_training
    from augcond.training.networks import check_batch

    # Where the data are missing, weights are compared but for their classifying layer.
    classes = 1 if isinstance(look.real, AugcondError) else len(look.real.pool.classes)
    checked, processes = set[str](), 1
    for arm in look.arms_or_none:
        text = arm.config.model_dump_json(exclude={"seeds"})
        if text in checked or _is_trained(look.config, arm):
            continue
        checked.add(text)
        found = tried(partial(check_training, arm.config, classes))
        yield from raised("training", _named(look, arm, found))
        if isinstance(found, str):
            yield to_fetch("classifier weights", found, TrainingError)
        if "train" in look.work:
            # Of several processes each trains on its share of a batch.
            rank = tried(partial(find_rank, arm.config))
            yield from raised("training", _named(look, arm, rank))
            if isinstance(rank, Rank):
                yield from raised("training", _named(look, arm, tried(partial(check_optimizer, arm.config))))
                processes = rank.count
        if not isinstance(found, AugcondError) and arm.config.model != "generator":
            each = partial(check_batch, arm.config, classes, arm.config.batch_size // processes)
            yield from raised("training", _named(look, arm, tried(each)))


def _named(look: Look, arm: Arm, found: object) -> object:
    """Return an error with the arm in it, where the config names its arms."""
    if isinstance(found, AugcondError) and look.config.training.arms is not None:
        return type(found)(f"the arm {arm.name!r}: {found}")
    return found


def _is_trained(config: RunConfig, arm: Arm) -> bool:
    """Tell whether every model of an arm is there; what it was trained with is looked at when it is trained."""
    from augcond.training.cards import read_card

    run = RunFolder(config.run)
    folders = (run.model_path(arm.name, seed) for seed in config.training.training_seeds)
    return all(tried(partial(read_card, folder)) is not None for folder in folders)


def check_counts(look: Look) -> Iterator[Problem]:
    """Losses that count the real images of each class, and ceilings that take unused ones."""
    if not look.trains or isinstance(look.real, AugcondError):
        return
    from augcond.training.losses import make_objective

    real = look.real
    for arm in look.arms_or_none:
        if arm.config.counts == "real":
            counts = real.training.counts()
            found = tried(partial(make_objective, arm.config.loss, counts, real.pool.classes))
            yield from raised("training.loss", found)
        if arm.kind == "ceiling":
            unused = partial(unused_real, look.config, real.pool, real.split, real.training, arm.per_class)
            yield from raised("training.arms", tried(unused))


def check_screening(look: Look) -> Iterator[Problem]:
    """A protocol that screening goes with; its validation images are looked at with the others."""
    if look.screens:
        from augcond.screening.screen import refuse_leaks

        yield from raised("screening", tried(partial(refuse_leaks, look.config)))
