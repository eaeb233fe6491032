"""What the published scripts do, through plain diffusers, beside augcond at its defaults: seconds and accuracy.

    python -m benchmarks.authors_flow                 # prints JSON and writes benchmarks/results/authors_flow.json
    python -m benchmarks.authors_flow --seeds 3       # of the accuracy; resumes where it was stopped
    python -m benchmarks.authors_flow --smoke         # does the chain run here? Its numbers mean nothing

The published flow, on the built-in checkpoint: one image at a time, the encoder called twice for each, the
published dropout mask, `StableUnCLIPImg2ImgPipeline` with PNDM, 30 steps and guidance 10, one PNG for each. Timed in
alternating rounds with `augcond generate` at its defaults, loading, planning, storing and verifying included.

Accuracy: few shots (k = 2 and 4) of the built-in world for `dropout`, trained alike, once on images of the published
flow (behind augcond's interface, as a generator of its own with batches of one) and once on ours, both at guidance 10;
paired over seeds. The long tail is left out: its 1,600 images a seed would take the published flow ten times as long.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.evidence.campaign import Campaign
from benchmarks.evidence.measured import Measured
from benchmarks.evidence.measuring import Measuring
from benchmarks.evidence.records import read_records
from benchmarks.evidence.settings import FULL, SMOKE, Scale, synthetic
from benchmarks.evidence.units import Setting, make_unit
from benchmarks.speed_accuracy import EVIDENCE, SEEDS, Cell, paired
from benchmarks.writing import write_result
from PIL import Image
from torch import Tensor

from augcond.assets import WORLD
from augcond.conditioning import Conditioning
from augcond.conditioning.drop import dropout_mask
from augcond.config import GeneratorConfig, RunConfig, parse_config
from augcond.datasets import load_dataset
from augcond.datasets.contents import open_image
from augcond.generators import Family, Generated, Generator, load_generator
from augcond.generators.loading import quiet_progress
from augcond.pipeline import generate, plan_for

ROUNDS, OURS, THEIRS = 5, 640, 24
CELLS: tuple[Cell, ...] = (("few-shot", 2), ("few-shot", 4))
RECIPE = "dropout"
STEPS, GUIDANCE, DROPOUT = 30, 10.0, 0.4
RESULTS = EVIDENCE.parent / "authors_flow"


class Published:
    """Plain diffusers on the built-in checkpoint, used as the published scripts use it."""

    def __init__(self) -> None:
        from diffusers import PNDMScheduler, StableUnCLIPImg2ImgPipeline

        with quiet_progress():
            pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(WORLD / "checkpoint", local_files_only=True)
        pipeline.scheduler = PNDMScheduler.from_config(pipeline.scheduler.config, skip_prk_steps=True)
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline: Any = pipeline.to("cpu", torch.float32)
        self._noised = pipeline.noise_image_embeddings

    def encode(self, image: Image.Image) -> Tensor:
        """Return the embedding of one image, (1, D)."""
        pixels = self._pipeline.feature_extractor(images=image, return_tensors="pt").pixel_values
        with torch.inference_mode():
            found: Tensor = self._pipeline.image_encoder(pixels).image_embeds
        return found

    def make(self, embedding: Tensor, mask: Tensor, prompt: str, seed: int, steps: int = STEPS) -> Image.Image:
        """Return one image; the mask (2D,) is over the embedding and the noise level, as published."""
        self._pipeline.noise_image_embeddings = lambda *args, **kwargs: self._noised(*args, **kwargs) * mask
        made: Image.Image = self._pipeline(
            image_embeds=embedding,
            prompt=prompt,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        return made


class PublishedGenerator(Generator):
    """The published flow behind augcond's interface, for the accuracy that its images give."""

    inputs = frozenset({"text", "image"})

    def __init__(self, config: GeneratorConfig) -> None:
        self._ours = load_generator(GeneratorConfig(device="cpu"))
        self._published = Published()
        self._steps = config.steps
        self.identity = replace(self._ours.identity, name=config.name)
        self.encoder_size, self.embedding_shape = self._ours.encoder_size, self._ours.embedding_shape
        self.image_size = self._ours.image_size

    def view(self, image: Image.Image) -> Tensor:
        """Return the whole `image` as the encoder's own preprocessing shows it, (3, S, S) in [0, 1]."""
        return self._ours.view(image)

    def encode_images(self, views: Tensor) -> Tensor:
        """Return image embeddings (B, D) of views (B, 3, S, S)."""
        return self._ours.encode_images(views)

    def generate(self, conditioning: Conditioning, seeds: Sequence[int]) -> Generated:
        """Return one image per row, made one after the other."""
        images = []
        for row, seed in enumerate(seeds):
            mask = dropout_mask(seed, 2 * self.embedding_shape[0], conditioning.dropout[row]).float()
            embedding = conditioning.embeddings[row : row + 1]
            made = self._published.make(embedding, mask, conditioning.prompts[row], seed % 2**63, self._steps)
            images.append(torch.from_numpy(np.array(made.convert("RGB"))))
        return Generated(torch.stack(images), (None,) * len(seeds))


FAMILY = Family(load=PublishedGenerator, inputs=PublishedGenerator.inputs)


def configuration(run: Path, images: int, overrides: Sequence[str]) -> RunConfig:
    """Return the config of so many images of the built-in world at augcond's defaults."""
    values = {"data": {"source": "builtin"}, "plan": {"per_class": math.ceil(images / 10)}, "run": run}
    return parse_config({**values, "conditioning": {"recipe": RECIPE}}, tuple(overrides))


def time_both(rounds: int, ours: int, theirs: int, overrides: Sequence[str]) -> dict[str, list[float]]:
    """Return the seconds per image of both, round by round."""
    published = Published()
    seconds: dict[str, list[float]] = {"augcond": [], "published flow": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            config = configuration(Path(folder) / "run", ours, overrides)
            started = time.perf_counter()
            made = generate(config)
            seconds["augcond"].append((time.perf_counter() - started) / made.ok)
            dataset = load_dataset(config.data)
            rows = list(plan_for(config, dataset).rows())[:theirs]
            started = time.perf_counter()
            for row in rows:
                source = open_image(dataset, row.source_keys[0])
                embedding = published.encode(source)
                published.encode(source)
                mask = dropout_mask(row.seed, 2 * embedding.shape[1], DROPOUT).float()
                image = published.make(embedding * mask[: embedding.shape[1]], mask, row.prompt, row.seed % 2**63)
                image.save(Path(folder) / f"{row.key.replace('/', '-')}.png")
            seconds["published flow"].append((time.perf_counter() - started) / len(rows))
    return seconds


def accuracies(scale: Scale, options: argparse.Namespace) -> dict[str, Any]:
    """Measure what both kinds of images train, seed by seed, and return means and the paired difference."""
    identity = load_generator(GeneratorConfig.model_validate(scale.base["generator"])).identity
    campaign = Campaign(scale, EVIDENCE, options.work, identity.revision, options.seeds, guess=options.smoke)
    about = {"name": identity.name, "model": identity.model, "revision": identity.revision}
    measuring = Measuring(options.results, about)
    flows: dict[str, dict[str, Any]] = {
        "augcond": {"generator.steps": GeneratorConfig().steps, "generator.guidance_scale": GUIDANCE},
        "published flow": {
            "generator.name": "benchmarks.authors_flow:FAMILY",
            "generator.steps": scale.base["generator"]["steps"] if options.smoke else STEPS,
            "engine.batch_size": 1,
            "output.format": "png",
        },
    }
    for override in options.ours:
        key, _, value = override.partition("=")
        flows["augcond"][key] = json.loads(value)
    for seed in range(options.seeds):
        for protocol, shots in CELLS:
            for flow, overrides in flows.items():
                setting = campaign.with_tuned(Setting(protocol, (synthetic(RECIPE),), seed, shots))
                own = replace(setting, overrides={**setting.overrides, **overrides})
                where = {"work": options.work, "revision": identity.revision, "judged": ("test",)}
                unit = make_unit(f"{_table(shots, flow)}/seed-{seed}", own, scale, **where)
                if not measuring.is_done(unit):
                    measuring.measure(unit)
    measured = Measured(read_records(options.results))
    rows = {flow: [measured.row(_table(shots, flow), RECIPE) for _, shots in CELLS] for flow in flows}
    found = paired(*(list(filter(None, rows[flow])) for flow in ("augcond", "published flow")))
    means = {flow: round(statistics.fmean(row.mean() or 0.0 for row in mine if row), 4) for flow, mine in rows.items()}
    difference = None if found is None else {"mean": found.mean, "low": found.low, "high": found.high}
    return {"seeds": options.seeds, "mean over cells": means, "difference": difference}


def _table(shots: int | None, flow: str) -> str:
    return f"few-shot-k{shots}/{flow.replace(' ', '-')}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of the accuracy (default {SEEDS})")
    parser.add_argument("--ours", action="append", default=[], metavar="KEY=VALUE", help="for augcond's side")
    parser.add_argument("--results", type=Path, help="folder of the accuracy's records")
    parser.add_argument("--work", type=Path, default=Path("runs/authors_flow"), help="folder of its runs")
    parser.add_argument("--smoke", action="store_true", help="tiny, and kept nowhere but in the folder of the runs")
    options = parser.parse_args(arguments)
    options.results = options.results or (options.work / "results" if options.smoke else RESULTS)
    seconds = time_both(1, 10, 2, options.ours) if options.smoke else time_both(ROUNDS, OURS, THEIRS, options.ours)
    medians = {flow: statistics.median(found) for flow, found in seconds.items()}
    ratios = [theirs / ours for ours, theirs in zip(seconds["augcond"], seconds["published flow"], strict=True)]
    result = {
        "what": "the published flow through plain diffusers beside augcond at its defaults, on the built-in checkpoint",
        "ours": options.ours,
        "seconds_per_image": {flow: round(value, 4) for flow, value in medians.items()},
        "times faster": {
            "median": round(statistics.median(ratios), 2),
            "lowest": round(min(ratios), 2),
            "highest": round(max(ratios), 2),
        },
        "accuracy": accuracies(SMOKE if options.smoke else FULL, options),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
    }
    if options.smoke:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
    else:
        write_result("authors_flow", result)


if __name__ == "__main__":
    main()
