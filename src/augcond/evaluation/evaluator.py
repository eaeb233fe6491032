"""Judge every trained model of a run on the test (or validation) set, each image once, and write the results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from augcond.config.base import counted
from augcond.errors import ConfigError, CorruptRunError, RunMismatchError
from augcond.evaluation.intervals import (
    SeedPredictions,
    Trained,
    comparable,
    compare,
    mean_metrics,
    spread_metrics,
    with_accuracies,
    with_intervals,
)
from augcond.evaluation.metrics import Predictions, confused, measure, per_class_accuracy
from augcond.evaluation.predictions import save_predictions
from augcond.evaluation.provenance import provenance_now
from augcond.evaluation.results import (
    METRICS,
    ArmResult,
    Difference,
    Results,
    SeedResult,
    Setup,
    share_text,
    write_results,
)
from augcond.evaluation.verdicts import judged as with_verdicts
from augcond.progress import Interrupted, NoProgress
from augcond.store.verifying import model_flaw, set_aside_model
from augcond.tracking import current
from augcond.training.arm_images import RunImages
from augcond.training.arms import REAL_ONLY, Arm, HeldOut, Seeds, arms_of
from augcond.training.cards import ModelCard, read_cards
from augcond.training.experiment import Experiment, evaluation_images
from augcond.training.models import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import EvaluationConfig, RunConfig
    from augcond.datasets import Dataset
    from augcond.progress import Progress


def evaluate_models(experiment: Experiment, *, on: HeldOut = "test", progress: Progress | None = None) -> Results:
    """Judge all trained models of a run, save predictions and results, and return the results.

    Args:
        experiment: the run.
        on: `test`; or `validation`, on which recipe, guidance and the like are to be chosen.
        progress: is told how many models are judged, and how many images are decoded before.

    Raises:
        RunError: there is no trained model.
        RunMismatchError: a model was trained on other real images than this run's, or for longer than another one.
        ConfigError: the config names no such images.
    """
    models = Interrupted(progress or NoProgress())
    folder = experiment.folder
    cards = read_cards(folder.path)
    _check_models(experiment, cards)
    _check_weights(experiment, cards)
    models.start(len(cards))
    test = evaluation_images(experiment, on)
    images = RunImages(experiment, progress=models.between)
    judged: dict[str, dict[Seeds, SeedPredictions]] = {}
    for card in cards:
        started = time.perf_counter()
        predictions = predict(images, card, test)
        seconds = time.perf_counter() - started
        path = folder.predictions_path(on, card.arm, card.seeds.training)
        sha256 = save_predictions(path, predictions, experiment.pool.classes)
        own = SeedPredictions(predictions, card.real_counts, path.relative_to(folder.path).as_posix(), seconds, sha256)
        judged.setdefault(card.arm, {})[card.seeds] = own
        models.advance(1, 0)
    order = [REAL_ONLY, *(arm.name for arm in arms_of(experiment.config))]
    names = sorted(judged, key=lambda name: (order.index(name) if name in order else len(order), name))
    texts = [card.arm for card in cards if card.recipe == "text"]
    results = assemble_results(
        experiment.config,
        experiment.pool,
        cards,
        {name: judged[name] for name in names},
        on=on,
        baselines=lambda name: [names[0], *(text for text in texts if name != names[0])],
        missing=tuple(f"{file.key}: {file.reason}" for file in test.rejected),
    )
    write_results(folder.results_path(on), results)
    _track(results)
    return results


def _track(results: Results) -> None:
    """Tell trackers of accuracies, and of the table."""
    rows = []
    for arm in results.arms:
        values = {name: getattr(arm.mean, name) for name in METRICS}
        current().numbers({f"{results.on}/{arm.name}/{name}": value for name, value in values.items()})
        gain = results.gain(arm.name, results.arms[0].name)
        rows.append([arm.name, *(share_text(value) for value in values.values()), gain.text if gain else ""])
    current().table(f"{results.on}/results", ["arm", *(name.replace("_", " ") for name in METRICS), "gain"], rows)


def _check_models(experiment: Experiment, cards: Sequence[ModelCard]) -> None:
    """Refuse models that cannot stand in one table: they may have seen what they are judged on, or more of it."""

    def place(card: ModelCard) -> Path:
        return experiment.folder.model_path(card.arm, card.seeds.training)

    own = experiment.training.contents_sha256()
    for card in cards:
        if card.real_sha256 != own:
            raise RunMismatchError(
                f"{place(card)} was trained on other real images than those of this run's split: "
                "train it anew with --overwrite, or delete it"
            )
        if _budget(card) != _budget(cards[0]):
            raise RunMismatchError(
                f"{place(card)} was trained for {_budget(card)}, {place(cards[0])} for {_budget(cards[0])}: "
                "train one of them anew with --overwrite, or delete it"
            )


def _check_weights(experiment: Experiment, cards: Sequence[ModelCard]) -> None:
    """Refuse models that are not what was trained, and set them aside.

    Raises:
        CorruptRunError: naming them.
    """
    flaws = []
    for card in cards:
        place = experiment.folder.model_path(card.arm, card.seeds.training)
        # Looked at twice: another process may just have trained it anew.
        if model_flaw(place) and (flaw := model_flaw(place)):
            set_aside_model(place)
            flaws.append(flaw)
    if flaws:
        raise CorruptRunError(f"{'; '.join(flaws)} (set aside)")


def _budget(card: ModelCard) -> str:
    return f"{card.config.steps} steps of {card.config.batch_size} images"


def predict(images: RunImages, card: ModelCard, test: Dataset) -> Predictions:
    """Return what the model behind `card` says of every image of `test`.

    Raises:
        CorruptRunError: its weights are missing or damaged.
        RunMismatchError: a leak would judge it with other synthetic images than it was trained on.
    """
    folder = images.experiment.folder.model_path(card.arm, card.seeds.training)
    model = load_model(images, card.config, folder)
    arm = Arm(card.arm, card.kind, card.recipe, card.per_class, card.config)
    if images.experiment.config.leaks and len(images.added_keys(arm)) != card.synthetic_images:
        # A leak may judge a model with the very images that it was trained on.
        raise RunMismatchError(
            f"{folder} was trained on {card.synthetic_images} images beside the real ones, and the leaks would judge "
            f"it with {len(images.added_keys(arm))}: train it anew with --overwrite, or delete it"
        )
    judged = images.judged(test, arm, model.size, card.seeds.training)
    logits = model.logits(model.module, judged).double() + torch.tensor(card.test_shift, dtype=torch.float64)
    return Predictions(judged.keys, judged.labels.numpy(), torch.softmax(logits, dim=1).numpy())


def assemble_results(
    config: RunConfig,
    pool: Dataset,
    cards: Sequence[ModelCard],
    models: Mapping[str, Trained],
    *,
    on: HeldOut,
    baselines: Callable[[str], Sequence[str]],
    bounds: Mapping[str, EvaluationConfig] | None = None,
    missing: Sequence[str] = (),
) -> Results:
    """Return results from the predictions of trained models.

    Args:
        config: of the run.
        pool: its labelled images, for the classes.
        cards: of the models.
        models: their predictions, by arm (in the order of the results) and seed.
        on: what they were judged on.
        baselines: names the arms that an arm is compared with; itself, and those without a common seed or judged on
            other images, are passed over. The gain over the first of them is what gets a verdict.
        bounds: of the shot groups, by arm, where a sweep varies them; those of `config` elsewhere.
        missing: test images that could not be used, by name, with the reason.

    Raises:
        ConfigError: `evaluation.primary` names what is no row of the table, or the baseline.
    """
    bounds = bounds or dict.fromkeys(models, config.evaluation)
    arms = tuple(
        _arm([card for card in cards if card.arm == name], models[name], config, bounds[name]) for name in models
    )
    # Those that models were trained with, and those that they are judged with now.
    leaks = tuple(dict.fromkeys((*config.leaks, *(leak for card in cards for leak in card.leaks))))
    found: list[Difference] = []
    for name in models:
        for baseline in dict.fromkeys(baselines(name)):
            if baseline != name and comparable(models[name], models[baseline]):
                found += compare(name, baseline, models, bounds[name])
    differences = with_verdicts(with_intervals(found), _asked(found, config.evaluation.primary, baselines))
    return Results(
        protocol=config.protocol,
        leaky=bool(leaks),
        leaks=leaks,
        classes=pool.classes,
        class_names=pool.class_names,
        real_counts=arms[0].seeds[0].real_counts,
        test_images=sum(images for _, _, images in arms[0].seeds[0].confusion),
        many=config.evaluation.many,
        few=config.evaluation.few,
        model=cards[0].config.model,
        arms=tuple(with_accuracies(arms, models)),
        differences=tuple(differences),
        on=on,
        missing=tuple(missing),
        provenance=provenance_now(),
    )


def _asked(found: Sequence[Difference], primary: Sequence[str], baselines: Callable[[str], Sequence[str]]) -> list[int]:
    """Return the places of the comparisons that get a verdict: gains in overall accuracy over an arm's first baseline.

    Where `primary` names arms, they alone.
    """
    places = {
        one.arm: place
        for place, one in enumerate(found)
        if one.metric == "overall" and one.baseline == next(iter(baselines(one.arm)), None)
    }
    wrong = [name for name in primary if name not in places]
    if wrong:
        raise ConfigError(
            f"evaluation.primary: {wrong[0]!r} has no gain over a baseline in this table; those that have one: "
            f"{', '.join(places) or 'none'}"
        )
    return [place for name, place in places.items() if not primary or name in primary]


def _arm(cards: Sequence[ModelCard], trained: Trained, config: RunConfig, bounds: EvaluationConfig) -> ArmResult:
    seeds = tuple(_seed(card, trained[card.seeds], bounds) for card in cards)
    metrics = [seed.metrics for seed in seeds]
    first = cards[0]
    return ArmResult(
        name=first.arm,
        kind=first.kind,
        recipe=_told(first.recipe) if first.kind == "synthetic" else None,
        real_images=first.real_images,
        synthetic_images=first.synthetic_images,
        screened_out=first.screened_out,
        steps=first.config.steps,
        leaky=any((config.leaks, *(card.leaks for card in cards))),
        seeds=seeds,
        mean=mean_metrics(metrics),
        spread=spread_metrics(metrics),
        setup=_setup(first, config),
    )


def _setup(card: ModelCard, config: RunConfig) -> Setup:
    """Return how the models of an arm were trained, and what of it is not as the run's own settings say."""
    own, of_run = card.config, counted(config.training, "models")
    settings = counted(own, "models")
    others = (key for key in settings if settings[key] != of_run.get(key, settings[key]) and key != "arms")
    return Setup(
        loss=own.loss,
        counts=own.counts,
        batch_size=own.batch_size,
        synthetic_share=0.0 if card.kind == "real-only" else own.synthetic_share,
        overrides=tuple(f"{key}={_text(settings[key])}" for key in others),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _told(recipe: str | tuple[str, ...] | None) -> str | None:
    return " + ".join(recipe) if isinstance(recipe, tuple) else recipe


def _seed(card: ModelCard, judged: SeedPredictions, bounds: EvaluationConfig) -> SeedResult:
    predictions = judged.predictions
    return SeedResult(
        seeds=card.seeds,
        metrics=measure(predictions, card.real_counts, bounds),
        per_class=tuple(per_class_accuracy(predictions)),
        confusion=confused(predictions),
        real_counts=card.real_counts,
        predictions=judged.path,
        training_seconds=card.seconds,
        evaluation_seconds=judged.seconds,
        predictions_sha256=judged.sha256,
        fingerprint=card.fingerprint,
        added_counts=card.added_counts,
    )
