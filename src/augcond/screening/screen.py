"""Screening: drop generated images that a judge places in another class.

The judge gives each image a margin: its score for the image's own class minus the best score of any other. The
threshold is the margin below which a stated share of *real validation images* falls; synthetic images never set it.

Of a plan that is oversampled, as many are kept as were asked for, class by class, and no threshold is needed: those
that the judge finds right come first, the least certain of them before the others.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from augcond.amounts import images_to_make
from augcond.config.base import counted, uncounted
from augcond.errors import ConfigError, CorruptRunError, LeakError, RunError
from augcond.generators.checked import embed_prompts
from augcond.progress import Interrupted, NoProgress
from augcond.sealed import write_json, write_table
from augcond.store.screened import Screening, dropped_keys, recorded_screening
from augcond.training.arm_images import RunImages
from augcond.training.arms import REAL_ONLY, Arm
from augcond.training.image_sets import synthetic_images
from augcond.training.trainer import train_one, training_settings, weights_identity

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.config.training import JudgeName
    from augcond.progress import Progress
    from augcond.training.experiment import Experiment
    from augcond.training.image_sets import ImageSet
    from augcond.training.probes import FrozenEncoder
    from augcond.training.synthetic import SyntheticRows

logger = logging.getLogger(__name__)

Judge = Callable[["ImageSet"], Tensor]
"""Gives scores (N, C) of images."""


def margins(scores: Tensor, labels: Tensor, second: Tensor | None = None) -> Tensor:
    """Return, per image, the score of its label minus the best other score, (N,).

    Args:
        scores: (N, C).
        labels: int64, (N,).
        second: of images of two classes the second one, whose score is as good as that of `labels`; int64, (N,).
    """
    own = scores.gather(1, labels[:, None]).squeeze(1)
    others = scores.scatter(1, labels[:, None], -torch.inf)
    if second is not None:
        own = torch.maximum(own, scores.gather(1, second[:, None]).squeeze(1))
        others = others.scatter(1, second[:, None], -torch.inf)
    return own - others.amax(dim=1)


def threshold_from(real_margins: Tensor, rejected_real: float) -> float:
    """Return the margin below which (at most) a share `rejected_real` of the real margins, (N,), falls."""
    return float(np.quantile(real_margins.double().numpy(), rejected_real, method="lower"))


def most_useful(margins: Tensor, groups: Sequence[object], wanted: Mapping[object, int]) -> Tensor:
    """Return which images are kept of those that were made beyond what was asked for, bool, (N,).

    Of each group the first so many in this order: those of a positive margin, which the judge finds right, from the
    smallest up: the least certain, from which most is learnt; then the others, from the largest down. Equal ones stay
    in their order.

    Args:
        margins: (N,).
        groups: of each image.
        wanted: number to keep of each group; all of a smaller one.
    """
    members: dict[object, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    kept = torch.zeros(len(margins), dtype=torch.bool)
    for group, places in members.items():
        own = margins[places]
        order = torch.argsort(torch.where(own > 0, own, torch.inf), stable=True)
        right = int((own > 0).sum())
        wrong = order[right:]
        order[right:] = wrong[torch.argsort(-own[wrong], stable=True)]
        kept[torch.tensor(places)[order[: wanted[group]]]] = True
    return kept


def screened_out(experiment: Experiment, progress: Progress | None = None) -> tuple[str, ...]:
    """Return the keys of the synthetic images that screening drops; none where it is off.

    Writes RUN/screening.parquet (key, margin, kept) and RUN/screening.json.

    Args:
        experiment: the run.
        progress: is told how far the judge's training is, and how many images and features are made ready for it.

    Raises:
        ConfigError: there are no validation images.
        LeakError: validation images are training images.
        RunError: the run was not generated.
    """
    config = experiment.config.screening
    if config.by == "none":
        return ()
    rows = experiment.rows
    if rows is None:
        raise RunError(f"{experiment.folder.path} has no synthetic images to screen: run augcond generate first")
    refuse_leaks(experiment.config)
    fingerprint = _fingerprint(experiment)
    known = _read(experiment, fingerprint)
    if known is not None:
        return known
    images = RunImages(experiment, progress=progress)
    judge, size = JUDGES[config.by](images, progress or NoProgress())
    threshold = None if _oversampled(experiment) else _threshold(images, judge, size)
    positions = np.arange(len(rows.keys))
    synthetic = synthetic_images(rows, positions, size, experiment.max_bytes, progress)
    found = margins(judge(synthetic), synthetic.labels, None if synthetic.mixed is None else synthetic.mixed[0])
    kept = found >= threshold[0] if threshold is not None else _kept_of_more(experiment, rows, found)
    _save(
        experiment,
        Screening(
            by=config.by,
            threshold=None if threshold is None else threshold[0],
            rejected_real=None if threshold is None else threshold[1],
            validation_accuracy=None if threshold is None else threshold[2],
            kept=int(kept.sum()),
            dropped=int((~kept).sum()),
            fingerprint=fingerprint,
        ),
        pa.table({"key": synthetic.keys, "margin": found.double().numpy(), "kept": kept.numpy()}),
    )
    return tuple(key for key, keep in zip(synthetic.keys, kept.tolist(), strict=True) if not keep)


def _oversampled(experiment: Experiment) -> bool:
    return experiment.config.plan.oversample > 1


def _threshold(images: RunImages, judge: Judge, size: int) -> tuple[float, float, float]:
    """Return the threshold, which share of the real validation images it drops, and which the judge places right."""
    experiment = images.experiment
    real = images.load(experiment.held_out_images("validation"), size)
    scores = judge(real)
    own = margins(scores, real.labels)
    threshold = threshold_from(own, experiment.config.screening.rejected_real)
    right = (scores.argmax(dim=1) == real.labels).float().mean()
    return threshold, float((own < threshold).float().mean()), float(right)


def _kept_of_more(experiment: Experiment, rows: SyntheticRows, found: Tensor) -> Tensor:
    """Return which images of an oversampled plan are kept: of each class and recipe as many as were asked for."""
    training, plan = experiment.training, experiment.config.plan
    asked = images_to_make(plan, training.classes, training.counts())
    groups = list(zip(rows.labels.tolist(), rows.recipes.tolist(), strict=True))
    return most_useful(found, groups, {group: asked[group[0]] for group in groups})


def refuse_leaks(config: RunConfig) -> None:
    """Refuse to screen in a protocol that leaks.

    Raises:
        LeakError: the config names leaks.
    """
    if config.leaks:
        raise LeakError("screening chooses on validation images: it does not go with a protocol that leaks them")


def _fingerprint(experiment: Experiment) -> str:
    """Return the hex digest of judge, training images and synthetic images."""
    config, plan = experiment.config, experiment.folder.read_plan()
    training = None
    if config.screening.by == "classifier":
        settings = training_settings(RunImages(experiment), config.training)
        weights = weights_identity(RunImages(experiment), config.training)
        training = {**settings, "weights": weights, "seed": config.training.training_seeds[0]}
    more = {"oversample": config.plan.oversample, "plan": uncounted(config.plan, "images")}
    validation = None if _oversampled(experiment) else experiment.held_out_images("validation").contents_sha256()
    about = {
        "screening": counted(config.screening, "kept"),
        "training": training,
        "generator": plan.settings["generator"],
        "prompt": config.prompt if config.screening.by == "prompts" else None,
        "validation": validation,
        "real": experiment.training.contents_sha256(),
        "shards": plan.fingerprints,
        **(more if _oversampled(experiment) else {}),
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _read(experiment: Experiment, fingerprint: str) -> tuple[str, ...] | None:
    """Return the keys that an equal screening dropped before; None where there was none."""
    try:
        about, table = recorded_screening(experiment.folder)
        return dropped_keys(table) if about.fingerprint == fingerprint else None
    except FileNotFoundError:
        return None
    except CorruptRunError as error:
        logger.warning("%s", error)
        return None


def _save(experiment: Experiment, screening: Screening, table: pa.Table) -> None:
    folder = experiment.folder
    sha256 = write_table(folder.margins_path, table)
    write_json(folder.screening_path, asdict(replace(screening, margins_sha256=sha256)))


def _classifier(images: RunImages, progress: Progress) -> tuple[Judge, int]:
    """Return log probabilities by a classifier that is trained on the real training images alone."""
    config = images.experiment.config.training
    arm = Arm(REAL_ONLY, "real-only", None, None, config)
    telling = Interrupted(progress)
    images = RunImages(images.experiment, progress=telling.between)
    telling.start(config.steps, "steps of the judge")
    model, card = train_one(images, arm, config.training_seeds[0], lambda done, module: telling.advance(1, 0))
    shift = torch.tensor(card.test_shift)
    return lambda judged: torch.log_softmax(model.logits(model.module, judged) + shift, dim=1), model.size


def _nearest_class_mean(images: RunImages, progress: Progress) -> tuple[Judge, int]:
    """Return cosine similarities to the class means of the real training images, by the generator's own encoder."""
    encoder = _own_encoder(images)
    real = images.real(encoder.size)
    features = functional.normalize(encoder.plain(real), dim=1)
    sums = torch.zeros(len(images.experiment.pool.classes), features.shape[1]).index_add_(0, real.labels, features)
    # A class without training images has mean 0, and so similarity 0 to everything.
    means = functional.normalize(sums, dim=1)
    return lambda judged: functional.normalize(encoder.plain(judged), dim=1) @ means.T, encoder.size


def _class_prompts(images: RunImages, progress: Progress) -> tuple[Judge, int]:
    """Return cosine similarities of image and class prompt, by the generator's own two encoders.

    The prompts are those of the run; of several templates or names the mean embedding of each class counts, as in
    CLIP's zero-shot classifiers.
    """
    encoder = _own_encoder(images)
    config, named = images.experiment.config, images.experiment.pool.drawn_names
    prompts = [template.format(class_name=name) for names in named for name in names for template in config.prompt]
    try:
        prompt_embeddings = embed_prompts(images.generator, prompts)
    except ConfigError as error:
        raise ConfigError(f"screening.by prompts: {error}; use by: encoder or by: classifier") from error
    embedded = functional.normalize(prompt_embeddings.flatten(1), dim=1)
    own = torch.split(embedded, [len(names) * len(config.prompt) for names in named])
    means = functional.normalize(torch.stack([one.mean(dim=0) for one in own]), dim=1)
    return lambda judged: functional.normalize(encoder.plain(judged), dim=1) @ means.T, encoder.size


def _own_encoder(images: RunImages) -> FrozenEncoder:
    config = images.experiment.config.training.model_copy(
        update={"model": "generator", "mode": "linear-probe", "weights": None, "image_size": None}
    )
    return images.encoder(config)


JUDGES: dict[JudgeName, Callable[[RunImages, Progress], tuple[Judge, int]]] = {
    "classifier": _classifier,
    "encoder": _nearest_class_mean,
    "prompts": _class_prompts,
}
"""Every judge that `augcond.config.training.JudgeName` names."""
