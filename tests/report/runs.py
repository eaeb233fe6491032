"""Small runs for the report's tests, made through augcond's own stages with the fake generator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from augcond.config import RunConfig
from augcond.engine import Summary
from augcond.evaluation.results import ArmKind, ArmResult, Difference, Metrics, Results, SeedResult, Seeds, Verdict
from augcond.pipeline import generate
from tests.datasets.photos import encode, picture
from tests.toy import config_with

INJECTED = "<script>alert(1)</script>"
INJECTED_FOLDER = "<img src=x onerror=alert(1)>"

COUNTS = {"heron": 12, "tree frog": 9, "lighthouse": 5, "Café crème": 3, INJECTED_FOLDER: 2}


def write_photos(root: Path, counts: dict[str, int], size: tuple[int, int] = (96, 80)) -> Path:
    """Write a folder of generated photos, each class in colours of its own, and one broken file."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            # Of one class, the coarse colours are alike: near neighbours exist for an encoder to find.
            rng = np.random.default_rng(label)
            rng.bit_generator.advance(i % 3)
            (root / name / f"{i:03d}.jpg").write_bytes(encode(picture(rng, *size), "JPEG", quality=85))
    (root / next(iter(counts)) / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    return root


def photo_config(root: Path, counts: dict[str, int] | None = None, **sections: Any) -> RunConfig:
    """Return the config of a run on generated photos under `root`."""
    counts = counts or COUNTS
    photos = root / "photos"
    if not photos.exists():
        write_photos(photos, counts)
        names = (f"{name}\t{INJECTED if name == INJECTED_FOLDER else name}" for name in counts)
        (root / "names.tsv").write_text("\n".join(names) + "\n", encoding="utf-8")
    values: dict[str, Any] = {
        "data": {"path": photos, "class_names": root / "names.tsv"},
        "run": root / "herons and frogs",
        "plan": {"fill_to": 12},
        "conditioning": {"recipe": ["text", "image", "mixup", "embed-cutmix-dropout"]},
        "generator": {"name": "fake", "size": 128, "model": "fail_every=7"},
        "engine": {"shard_size": 64, "batch_size": 16},
    }
    # A plan takes one amount, so it is replaced whole.
    values["plan"] = sections.pop("plan", values["plan"])
    return config_with(values, sections)


def make_run(root: Path, **sections: Any) -> tuple[RunConfig, Summary]:
    """Generate the run of `photo_config`."""
    config = photo_config(root, **sections)
    return config, generate(config)


CLASS_NAMES = ("heron", "tree frog", "lighthouse")


def make_results(**changes: Any) -> Results:
    """Return results of three arms on three classes, made up."""
    arms = (
        arm("real-only", "real-only", (0.5, 0.6)),
        arm("image", "synthetic", (0.6, 0.72)),
        arm("more-real", "ceiling", (0.7, 0.7)),
    )
    results = Results(
        protocol="long-tail",
        leaky=False,
        leaks=(),
        classes=CLASS_NAMES,
        class_names=CLASS_NAMES,
        real_counts=(120, 24, 3),
        test_images=300,
        many=100,
        few=20,
        model="small-resnet",
        arms=arms,
        differences=(
            gain("image", 0.11),
            replace(gain("image", 0.3), metric="few", family=0, verdict="exploratory"),
            gain("more-real", 0.15),
        ),
    )
    return replace(results, **changes)


def gain(name: str, mean: float, reach: float = 0.05, seeds: int = 5, family: int = 2) -> Difference:
    """Return a difference in overall accuracy over `real-only`, judged by its interval alone."""
    verdict: Verdict = "undecided" if abs(mean) <= reach else "gain" if mean > 0 else "loss"
    found = Difference("", "real-only", "overall", mean, (mean,) * seeds, None, mean - reach, mean + reach)
    return replace(found, arm=name, family=family, verdict=verdict)


def arm(name: str, kind: ArmKind, overall: tuple[float, ...]) -> ArmResult:
    """Return an arm with a model per entry of `overall`; the second class has no test images."""
    models = tuple(
        SeedResult(
            Seeds(seed, 0, seed),
            metrics(value),
            (value, None, value / 2),
            tuple((true, said, 1) for true in range(3) for said in range(3)),
            (120, 24, 3),
            f"{seed}.parquet",
            training_seconds=30.0,
            evaluation_seconds=2.0,
        )
        for seed, value in enumerate(overall)
    )
    made = 0 if kind == "real-only" else 80
    return ArmResult(
        name=name,
        kind=kind,
        recipe=name if kind == "synthetic" else None,
        real_images=147,
        synthetic_images=made,
        screened_out=0,
        steps=1000,
        leaky=False,
        seeds=models,
        mean=metrics(sum(overall) / len(overall)),
        spread=metrics(0.05) if len(overall) > 1 else None,
    )


def metrics(value: float) -> Metrics:
    """Return metrics that are alike, without a medium class."""
    return Metrics(value, value, value, None, value / 2, 0.1)
