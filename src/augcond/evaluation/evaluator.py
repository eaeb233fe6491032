"""Judge every trained model of a run on the test (or validation) set, each image once, and write the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from augcond.engine.base import NoProgress
from augcond.evaluation.intervals import SeedPredictions, Trained, compare, mean_metrics, spread_metrics
from augcond.evaluation.metrics import Predictions, confusion_matrix, measure, per_class_accuracy
from augcond.evaluation.predictions import predictions_path, save_predictions
from augcond.evaluation.results import ArmResult, Difference, Results, SeedResult, results_to_json
from augcond.store.commit import write_atomically
from augcond.training.arms import Arm, arms_of
from augcond.training.experiment import Experiment, evaluation_images
from augcond.training.identity import REAL_ONLY, EvaluationPart
from augcond.training.learners import load_model
from augcond.training.models import ModelCard, model_folder, read_cards
from augcond.training.run_images import RunImages

if TYPE_CHECKING:
    from augcond.config import EvaluationConfig, RunConfig
    from augcond.datasets import Dataset
    from augcond.engine import Progress

RESULTS: dict[EvaluationPart, str] = {"test": "results.json", "validation": "validation.json"}
"""What the results are called in the run folder."""


def evaluate_models(
    experiment: Experiment, *, part: EvaluationPart = "test", progress: Progress | None = None
) -> Results:
    """Judge all trained models of a run, save predictions and results, and return the results.

    Args:
        experiment: the run.
        part: `test`; or `validation`, on which recipe, guidance and the like are to be chosen.
        progress: is told how many models are judged.

    Raises:
        RunError: there is no trained model.
        ConfigError: the config names no such images.
        LeakError: some of them are training images.
    """
    progress = progress or NoProgress()
    run = experiment.folder.path
    cards = read_cards(run)
    progress.start(len(cards))
    test = evaluation_images(experiment, part)
    images = RunImages(experiment)
    models: dict[str, Trained] = {}
    for card in cards:
        predictions = predict(images, card, test)
        path = run / predictions_path(part, card.arm, card.seeds.training)
        save_predictions(path, predictions, experiment.pool.classes)
        models.setdefault(card.arm, {})
        models[card.arm] = {**models[card.arm], card.seeds: SeedPredictions(predictions, card.real_counts)}
        progress.advance(1, 0)
    results = assemble_results(experiment, cards, models, part)
    write_atomically(run / RESULTS[part], results_to_json(results).encode())
    return results


def predict(images: RunImages, card: ModelCard, test: Dataset) -> Predictions:
    """Return what the model behind `card` says of every image of `test`.

    Raises:
        CorruptRunError: its weights are missing or damaged.
    """
    folder = model_folder(images.experiment.folder.path, card.arm, card.seeds.training)
    model = load_model(images, card.config, folder)
    arm = Arm(card.arm, card.kind, card.recipe, None, card.config)
    judged = images.judged(test, arm, model.size, card.seeds.training)
    logits = model.logits(model.module, judged).double() + torch.tensor(card.test_shift, dtype=torch.float64)
    return Predictions(judged.keys, judged.labels.numpy(), torch.softmax(logits, dim=1).numpy())


def assemble_results(
    experiment: Experiment, cards: Sequence[ModelCard], models: Mapping[str, Trained], part: EvaluationPart
) -> Results:
    """Return the results of a run from the predictions of its models.

    Args:
        experiment: the run.
        cards: of its models.
        models: their predictions, by arm and seed.
        part: what they were judged on.
    """
    config = experiment.config
    arms = tuple(
        _arm([card for card in cards if card.arm == name], models[name], config, part)
        for name in _ordered(models, [arm.name for arm in arms_of(config)])
    )
    # Those that models were trained with, and those that they are judged with now.
    leaks = tuple(dict.fromkeys((*config.leaks, *(leak for card in cards for leak in card.leaks))))
    return Results(
        protocol=config.protocol,
        leaky=bool(leaks),
        leaks=leaks,
        classes=experiment.pool.classes,
        class_names=experiment.pool.class_names,
        real_counts=arms[0].seeds[0].real_counts,
        test_images=sum(map(sum, arms[0].seeds[0].confusion)),
        many=config.evaluation.many,
        few=config.evaluation.few,
        model=cards[0].config.model,
        arms=arms,
        differences=tuple(_differences(arms, models, config.evaluation)),
        part=part,
    )


def _ordered(models: Mapping[str, Trained], configured: Sequence[str]) -> list[str]:
    """Return the arms with the baseline first, then as the config lists them, then by name."""
    first = [REAL_ONLY, *configured]
    return sorted(models, key=lambda name: (first.index(name) if name in first else len(first), name))


def _arm(cards: Sequence[ModelCard], trained: Trained, config: RunConfig, part: EvaluationPart) -> ArmResult:
    seeds = tuple(_seed(card, trained[card.seeds], config.evaluation, part) for card in cards)
    metrics = [seed.metrics for seed in seeds]
    first = cards[0]
    return ArmResult(
        name=first.arm,
        kind=first.kind,
        recipe=first.recipe if first.kind == "synthetic" else None,
        real_images=first.real_images,
        synthetic_images=first.synthetic_images,
        screened_out=first.screened_out,
        steps=first.config.steps,
        leaky=any((config.leaks, *(card.leaks for card in cards))),
        seeds=seeds,
        mean=mean_metrics(metrics),
        spread=spread_metrics(metrics),
    )


def _seed(card: ModelCard, judged: SeedPredictions, bounds: EvaluationConfig, part: EvaluationPart) -> SeedResult:
    predictions = judged.predictions
    return SeedResult(
        seeds=card.seeds,
        metrics=measure(predictions, card.real_counts, bounds),
        per_class=tuple(per_class_accuracy(predictions)),
        confusion=tuple(tuple(row) for row in confusion_matrix(predictions).tolist()),
        real_counts=card.real_counts,
        predictions=predictions_path(part, card.arm, card.seeds.training).as_posix(),
    )


def _differences(
    arms: Sequence[ArmResult], models: Mapping[str, Trained], bounds: EvaluationConfig
) -> list[Difference]:
    found: list[Difference] = []
    baselines = [arms[0].name, *(arm.name for arm in arms if arm.recipe == "text")]
    for baseline in dict.fromkeys(baselines):
        for arm in arms:
            shared = set(models[arm.name]) & set(models[baseline])
            if arm.name != baseline and shared and arm.name != arms[0].name:
                found += compare(arm.name, baseline, models, bounds)
    return found
