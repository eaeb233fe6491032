"""Are our departures from the published linear probe an improvement? Measured on the built-in world, real images alone.

    python -m benchmarks.departures         # prints the differences, writes benchmarks/results/departures.json

The few-shot probe on the features of the generator's own encoder, k = 4, five splits, one training each: a constant or
a cosine rate, raw or standardised features. Steps are a fifth of the published ones, at five times the rate.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from augcond.config import EvaluationConfig, RunConfig, parse_config
from augcond.evaluation.intervals import SeedPredictions, compare, with_intervals
from augcond.evaluation.metrics import Predictions, measure
from augcond.evaluation.results import Seeds
from augcond.generators import load_generator
from augcond.training.batches import BatchSampler, BatchSettings, FeatureInputs
from augcond.training.experiment import load_experiment
from augcond.training.image_sets import real_images
from augcond.training.loop import Task, fit
from augcond.training.losses import make_objective
from augcond.training.probes import FrozenEncoder, GeneratorEncoder, LinearHead

RESULT = Path(__file__).parent / "results" / "departures.json"
SEEDS, SHOTS, STEPS, RATE, VIEWS, SIZE = 5, 4, 2000, 5e-4, 8, 32
VARIANTS = {
    "published: constant, raw": ("constant", False),
    "cosine, raw": ("cosine", False),
    "constant, standardised": ("constant", True),
    "cosine, standardised": ("cosine", True),
}


def run_config(folder: Path, seed: int) -> RunConfig:
    """Return the few-shot run of one seed."""
    values: dict[str, Any] = {
        "run": str(folder / f"seed-{seed}"),
        "data": {"source": "builtin", "split": {"name": "few-shot", "k": SHOTS, "seed": seed}},
        "training": {"steps": STEPS, "batch_size": 32, "optimizer": "adam", "lr": RATE, "weight_decay": 0.0},
    }
    augment = {"crop": "none", "transforms": [{"name": "RandomRotation", "degrees": 15}]}
    values["training"] |= {"augment": augment, "loss": "cross-entropy", "device": "cpu"}
    return parse_config(values)


def main() -> None:
    """Measure, print and write."""
    with TemporaryDirectory() as folder:
        _measure(Path(folder))


def _measure(folder: Path) -> None:
    encoder = FrozenEncoder(GeneratorEncoder(load_generator(run_config(folder, 0).generator)), SIZE)
    models: dict[str, dict[Seeds, SeedPredictions]] = {name: {} for name in VARIANTS}
    test = None
    for seed in range(SEEDS):
        experiment = load_experiment(config := run_config(folder, seed))
        pool, real = experiment.pool, experiment.training
        if test is None:
            judged = real_images(experiment.held_out_images("test"), SIZE, 1e9)
            test = (judged.keys, judged.labels.numpy(), encoder.plain(judged))
        images = real_images(real, SIZE, 1e9)
        features = torch.cat([encoder.plain(images)[None], encoder.views(images, config.training.augment, VIEWS, 0)])
        for name, (schedule, standardise) in VARIANTS.items():
            training = config.training.model_copy(update={"schedule": schedule, "standardise": standardise})
            head = LinearHead(features.flatten(0, 1), len(pool.classes), seed, standardise=standardise)
            sampler = BatchSampler(len(images), 0, BatchSettings(32, 0.0, "exact"), seed, STEPS)
            inputs = FeatureInputs(features, images.labels, features[:, :0], images.labels[:0], sampler, seed)
            objective = make_objective("cross-entropy", real.counts(), pool.classes)
            fit(Task(head, inputs, objective, training, seed))
            with torch.inference_mode():
                said = torch.softmax(head(test[2]).double(), dim=1).numpy()
            found = SeedPredictions(Predictions(test[0], test[1], said), tuple(real.counts()))
            models[name][Seeds(seed, seed, seed)] = found
    baseline, *others = VARIANTS
    table = [one for name in others for one in compare(name, baseline, models, EvaluationConfig())]
    gains = with_intervals([one for one in table if one.metric == "overall"])
    accuracy = {
        name: [measure(found.predictions, found.real_counts, EvaluationConfig()).overall for found in trained.values()]
        for name, trained in models.items()
    }
    for name, values in accuracy.items():
        sys.stdout.write(f"{name}: {100 * sum(values) / len(values):.1f} %\n")
    for gain in gains:
        sys.stdout.write(f"{gain.arm} against published: {gain.text}\n")
    result = {"seeds": SEEDS, "shots": SHOTS, "accuracy": accuracy, "gains": {gain.arm: gain.text for gain in gains}}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
