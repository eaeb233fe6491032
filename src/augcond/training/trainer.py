"""Train every arm of a run with every training seed; models that are there already are kept."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from augcond.config import TrainingConfig
from augcond.config.base import counted, setting_of, with_neutral
from augcond.errors import ConfigError, RunMismatchError, TrainingError
from augcond.files import file_sha256, make_folder
from augcond.progress import Interrupted, NoProgress
from augcond.store.names import CARD, CHECKPOINT, WEIGHTS
from augcond.store.verifying import model_flaw, set_aside_model
from augcond.tracking import current
from augcond.training.arm_images import RunImages
from augcond.training.arms import Arm, Seeds, arms_of
from augcond.training.cards import ModelCard, read_card, save_model
from augcond.training.devices import find_rank
from augcond.training.experiment import Experiment, evaluation_images
from augcond.training.loop import OnStep, Task, check_optimizer, fit
from augcond.training.losses import Objective, make_objective
from augcond.training.models import Model, check_training, prepare_training
from augcond.training.networks import fetch_weights, input_size, weights_file
from augcond.training.orders import effective_counts

if TYPE_CHECKING:
    from augcond.progress import Progress

logger = logging.getLogger(__name__)


def train_arms(
    experiment: Experiment,
    *,
    dropped: Collection[str] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[ModelCard]:
    """Train what is not trained yet, and return the cards of all models, arm by arm.

    Args:
        experiment: the run; it has passed the guards.
        dropped: keys of the synthetic images that screening dropped.
        overwrite: train models anew that were trained with other settings or images.
        progress: is told how many optimiser steps are done, and how many images are decoded before them.

    Raises:
        RunMismatchError: there is a model of other settings or images, and `overwrite` is not given.
        RunLockedError: another process trains this run.
        RunError: an arm needs synthetic images, and there are none.
        ConfigError: an arm names what there is not, such as a network, an optimiser or a transform.
        TrainingError: a training cannot be done, or diverged.
    """
    steps = Interrupted(progress or NoProgress())
    arms = arms_of(experiment.config)
    seeds = experiment.config.training.training_seeds
    images = RunImages(experiment, dropped, steps.between)
    rank = find_rank(experiment.config.training)
    # All of them before the first: what is wrong with the last arm shows now, not in some hours.
    jobs = [(arm, _card(images, arm, seed)) for arm in arms for seed in seeds]
    found = [_existing(images, arm, card, overwrite=overwrite) for arm, card in jobs]
    left = [arm for (arm, _), done in zip(jobs, found, strict=True) if done is None]
    for arm in arms:
        if arm in left:
            _check(images, arm)
    if rank.number == 0:
        for (_, card), done in zip(jobs, found, strict=True):
            if done is None:
                _clear(experiment, card)
    rank.wait()
    steps.start(sum(arm.config.steps for arm in left))
    return [done or _train(images, arm, card, steps) for (arm, card), done in zip(jobs, found, strict=True)]


def train_one(
    images: RunImages, arm: Arm, seed: int, on_step: OnStep = lambda done, module: None
) -> tuple[Model, ModelCard]:
    """Train `arm` with a training seed, without keeping anything on disk.

    Raises:
        TrainingError: the training cannot be done, or diverged.
    """
    model, inputs = prepare_training(images, arm, seed)
    card = _card(images, arm, seed)
    fitted = fit(Task(model.module, inputs, _objective(images, arm), arm.config, seed, on_step=on_step))
    return model, replace(card, history=tuple(fitted.history), seconds=fitted.seconds)


def _existing(images: RunImages, arm: Arm, card: ModelCard, *, overwrite: bool) -> ModelCard | None:
    """Return the card of the trained model that `card` describes, None where it is still to train."""
    folder = images.experiment.folder.model_path(card.arm, card.seeds.training)
    # Looked at twice: another process may just have written it.
    if model_flaw(folder) and (flaw := model_flaw(folder)):
        logger.warning("%s: it is trained anew", flaw)
        if find_rank(arm.config).number == 0:
            set_aside_model(folder)
        return None
    found = read_card(folder)
    if found is None or found.fingerprint == card.fingerprint or _is_of_0_1(images, arm, card, found):
        if found is not None:
            # Who was killed right after the card was written left it.
            (folder / CHECKPOINT).unlink(missing_ok=True)
        return found
    if not overwrite:
        raise RunMismatchError(
            f"{folder} holds a model of other settings or images ({_difference(found, card, arm.config)}): train with "
            "--overwrite to replace it, or give the arm another name"
        )
    return None


def _check(images: RunImages, arm: Arm) -> None:
    """Refuse settings that would fail once `arm` is trained, in an error that names it."""
    if arm.share and not images.added_keys(arm):
        rows = images.experiment.rows
        by_hand = f", and {len(rows.rejected)} of the run are rejected" if rows is not None and rows.rejected else ""
        raise TrainingError(
            f"the arm {arm.name!r} has no images to add to the real ones; screening dropped "
            f"{images.screened_out(arm)}{by_hand}: loosen it (screening.rejected_real), or plan more"
        )
    try:
        check_optimizer(arm.config)
        size = images.encoder(arm.config).size if arm.config.mode == "linear-probe" else None
        if check_training(arm.config, len(images.experiment.pool.classes), size) is not None:
            fetch_weights(arm.config)
    except (ConfigError, TrainingError) as error:
        raise type(error)(f"the arm {arm.name!r}: {error}") from error


def _clear(run: Experiment, card: ModelCard) -> None:
    """Delete a model of other settings; what an interrupted training left stays, for the next one to go on from."""
    folder = run.folder.model_path(card.arm, card.seeds.training)
    if read_card(folder) is not None:
        # The card first: weights without one are no model.
        for name in (CARD, WEIGHTS, CHECKPOINT):
            (folder / name).unlink(missing_ok=True)


def _train(images: RunImages, arm: Arm, card: ModelCard, progress: Progress) -> ModelCard:
    run, seed = images.experiment, card.seeds.training
    folder = run.folder.model_path(arm.name, seed)
    make_folder(folder, 3)  # RUN/models/ARM/SEED
    model, inputs = prepare_training(images, arm, seed)
    best = run.protocol.best_epoch(partial(_accuracy, images, arm, card, model), arm.config.steps)

    told = 0

    def on_step(done: int, module: torch.nn.Module) -> None:
        nonlocal told
        # A resumed training starts in the middle.
        progress.advance(done - told, 0)
        told = done
        if best is not None:
            best(done, module)

    task = Task(
        module=model.module,
        inputs=inputs,
        objective=_objective(images, arm),
        config=arm.config,
        seed=seed,
        fingerprint=card.fingerprint,
        # The best epoch so far is not in a checkpoint.
        checkpoint=None if best else folder / CHECKPOINT,
        on_step=on_step,
        on_loss=lambda done, loss: current().numbers({f"loss/{arm.name}/seed-{seed}": loss}, done),
    )
    fitted = fit(task)
    card = replace(card, history=tuple(fitted.history), seconds=fitted.seconds)
    if best is not None:
        card = replace(card, note=best.restore(model.module))
    rank = find_rank(arm.config)
    if rank.number == 0:
        card = save_model(folder, card, model.module)
    rank.wait()
    logger.info("trained %s, seed %d: loss %.4f", arm.name, seed, card.history[-1][1])
    return card


def _objective(images: RunImages, arm: Arm) -> Objective:
    run = images.experiment
    counts: list[float] = [float(count) for count in run.training.counts()]
    if arm.config.counts == "effective":
        balanced = arm.config.sampling == "class-balanced"
        # Of all steps, those of real images alone too.
        share = arm.share * (arm.config.steps - arm.config.real_steps) / arm.config.steps
        counts = effective_counts(run.training.counts(), images.added_counts(arm, drawn=True), share, balanced=balanced)
    return make_objective(
        arm.config.loss,
        counts,
        run.pool.classes,
        tau=arm.config.tau,
        label_smoothing=arm.config.label_smoothing,
    )


def _card(images: RunImages, arm: Arm, seed: int) -> ModelCard:
    run = images.experiment
    training = counted(arm.config, "models")
    split = run.config.data.split
    return ModelCard(
        arm=arm.name,
        kind=arm.kind,
        recipe=arm.recipe,
        seeds=Seeds(split.seed if split is not None else None, run.config.plan.seed, seed),
        fingerprint=_fingerprint(
            images, arm, seed, training_settings(images, arm.config), weights_identity(images, arm.config)
        ),
        classes=run.pool.classes,
        real_counts=tuple(run.training.counts()),
        real_images=len(run.training.images),
        real_sha256=run.training.contents_sha256(),
        synthetic_images=len(images.added_keys(arm)),
        screened_out=images.screened_out(arm),
        test_shift=tuple(float(shift) for shift in _objective(images, arm).test_shift),
        leaks=run.config.leaks,
        history=(),
        training=training,
        per_class=arm.per_class,
        added_counts=() if arm.kind == "real-only" else tuple(map(round, images.added_counts(arm))),
    )


def _fingerprint(images: RunImages, arm: Arm, seed: int, training: dict[str, Any], weights: str) -> str:
    """Return the hex digest of all that decides a model: settings, seed, real images and synthetic ones.

    Args:
        images: of the run.
        arm: whose model it is.
        seed: of the training.
        training: the settings that count, from `training_settings`, or as 0.1 hashed them.
        weights: what the weights that it starts from are.
    """
    run = images.experiment
    about = {
        "training": training,
        "seed": seed,
        "recipe": arm.recipe,
        "leaks": run.config.leaks,
        **counted(run.config.data, "real"),
        "real": run.training.contents_sha256(),
        "added": images.added_sha256(arm),
        "weights": weights,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def training_settings(images: RunImages, config: TrainingConfig) -> dict[str, Any]:
    """Return the settings that decide a model, with null as what it stands for; weights count by themselves."""
    size = images.encoder(config).size if config.model == "generator" else input_size(config)
    return {**counted(config, "models"), "image_size": size, "weights": None, "revision": None}


def _is_of_0_1(images: RunImages, arm: Arm, card: ModelCard, found: ModelCard) -> bool:
    """Return whether a model that 0.1 trained is the one that `card` describes.

    0.1 left nulls as they were and hashed the path of the weights beside their contents: the contents decide.
    """
    if found.format != 1:
        return False
    training = {**card.training, "weights": found.training.get("weights")}
    weights = "" if arm.config.weights == "hub" else weights_identity(images, arm.config)
    return found.fingerprint == _fingerprint(images, arm, card.seeds.training, training, weights)


def weights_identity(images: RunImages, config: TrainingConfig) -> str:
    """Return what the weights that a training starts from are, wherever they lie."""
    if config.model == "generator":
        return images.generator.identity.revision
    if config.weights is None:
        return ""
    path = weights_file(config)
    # A missing file is reported where it is loaded.
    return file_sha256(path) if path.is_file() else ""


def _difference(found: ModelCard, card: ModelCard, config: TrainingConfig) -> str:
    # What is left out stands at its neutral value.
    before, after = (with_neutral(type(config), settings) for settings in (found.training, card.training))
    for key, value in after.items():
        # Of what lies behind a path the contents count.
        if before.get(key) != value and setting_of(type(config), key).path is None:
            return f"training.{key}: it has {before.get(key)!r}, this config {value!r}"
    for name in ("recipe", "leaks", "real_images", "synthetic_images"):
        if getattr(found, name) != getattr(card, name):
            return f"{name}: it has {getattr(found, name)!r}, this run {getattr(card, name)!r}"
    return "its images were others, or the weights that it started from"


def _accuracy(images: RunImages, arm: Arm, card: ModelCard, model: Model) -> Callable[[torch.nn.Module], float]:
    """Return what measures a network like that of `model` on the images that it will be judged on."""
    judged = images.judged(evaluation_images(images.experiment), arm, model.size, card.seeds.training)
    shift = torch.tensor(card.test_shift)

    def accuracy(module: torch.nn.Module) -> float:
        predicted = (model.logits(module, judged) + shift).argmax(dim=1)
        return float((predicted == judged.labels).float().mean())

    return accuracy
