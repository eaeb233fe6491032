"""Measure the built-in world: autoencoder, embedding, samples, speed.

    python -m benchmarks.world --build ../world-build

Uses plain diffusers and the scripts in `tools/world`, no augcond. The judges are trained by
`python -m tools.world.classifiers oracle domain`. Writes `benchmarks/results/world.json`, sheets under `docs/world/`,
and prints the JSON; `latents_seen` says of every part how far the UNet was that it was measured on. `docs/world.md`
quotes the numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableUnCLIPImg2ImgPipeline
from tools.world.autoencoder import fit_linear_code, mean_errors
from tools.world.classifiers import Judge, draw_domains, draw_labelled, judge, load_judge
from tools.world.data import SEEDS, narrow_pictures, split_garments
from tools.world.export import CHECKPOINT
from tools.world.garments import CLASS_NAMES, Garments
from tools.world.sampling import Settings, embed, open_pipeline, sample
from tools.world.sheets import save_sheet
from tools.world.styles import draw_broad, jitter, render, to_unit
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import to_pil_image

REPOSITORY = Path(__file__).parents[1]
GUIDANCES = (1.0, 2.0, 3.0, 4.0, 7.0, 10.0)
STEPS = (5, 10, 20, 50)
MODES = ("text", "image")
PARTS = ("plain_diffusers", "autoencoder", "embedding", "judges", "samples", "grid")


@dataclass(frozen=True, slots=True)
class World:
    """What is measured, and with what."""

    pipeline: StableUnCLIPImg2ImgPipeline
    oracle: Judge
    domain: Judge
    held_out: Garments
    generator: Garments
    pool: Garments
    pool_pictures: Tensor
    sheets: Path


@dataclass(frozen=True, slots=True)
class Request:
    """Samples to draw: `per_class` of every class, in a mode of `MODES`."""

    mode: str
    per_class: int
    settings: Settings


def measure_autoencoder(world: World) -> dict[str, float]:
    """Mean absolute error in [-1, 1] on held-out garments in broad styles, beside a linear code of the same size."""
    fitted_on = _draw_pictures(world.generator, 20_000, seed=21)
    pictures = _draw_pictures(world.held_out, 2000, seed=22)
    errors = mean_errors(world.pipeline.vae, fit_linear_code(fitted_on), pictures)
    with torch.no_grad():
        unit = to_unit(pictures[:16])
        rebuilt = world.pipeline.vae(unit).sample
    both = torch.cat([pictures[:16], ((rebuilt + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)])
    save_sheet(both, world.sheets / "autoencoder.png", columns=16)
    return {"learned": errors["learned"], "linear": errors["linear"], "ratio": errors["learned"] / errors["linear"]}


def measure_embedding(world: World) -> dict[str, float]:
    """Linear probe on garments and styles the encoder never saw, and re-identification among 1,000."""
    count = 5000
    garments = world.held_out.take(torch.arange(2 * count))
    style = draw_broad(2 * count, torch.Generator().manual_seed(23))
    embeddings = embed(world.pipeline, render(garments.images, style))
    answers = _fit_probe(embeddings[:count], garments.labels[:count])(embeddings[count:]).argmax(1)
    generator = torch.Generator().manual_seed(24)
    first_style = style.take(slice(0, 1000))
    views = [
        F.normalize(embed(world.pipeline, render(garments.images[:1000], jitter(first_style, generator))), dim=1)
        for _ in range(2)
    ]
    unit = F.normalize(embeddings[:count], dim=1)
    similarity = (unit @ unit.T).fill_diagonal_(-1)
    return {
        "linear_probe": _share(answers == garments.labels[count:]),
        "reidentified_of_1000": _share((views[0] @ views[1].T).argmax(1) == torch.arange(1000)),
        "nearest_neighbour_same_class": _share(
            garments.labels[:count][similarity.argmax(1)] == garments.labels[:count]
        ),
    }


def measure_judges(world: World) -> dict[str, float]:
    """Accuracy of both judges on held-out garments; the oracle also on the pool, in the narrow style only."""
    pictures, labels = draw_labelled(world.held_out, 4000, torch.Generator().manual_seed(25))
    styled, domains = draw_domains(world.held_out, 4000, torch.Generator().manual_seed(26))
    return {
        "oracle": _share(judge(world.oracle, pictures) == labels),
        "oracle_on_pool": _share(judge(world.oracle, world.pool_pictures) == world.pool.labels),
        "domain": _share(judge(world.domain, styled) == domains),
        "domain_on_pool": _share(judge(world.domain, world.pool_pictures) == 1),
    }


def draw_samples(world: World, request: Request) -> tuple[Tensor, Tensor]:
    """(N, 3, 32, 32) samples, classes in order, and the (N,) rows of the pool they were conditioned on."""
    sources = torch.cat([torch.arange(request.per_class) + label * 200 for label in range(len(CLASS_NAMES))])
    prompts = [f"a photo of a {CLASS_NAMES[label]}" for label in world.pool.labels[sources].tolist()]
    embeddings = embed(world.pipeline, world.pool_pictures[sources]) if request.mode == "image" else None
    return sample(world.pipeline, prompts, embeddings, request.settings, seed=27), sources


def rate_samples(world: World, samples: Tensor, sources: Tensor) -> dict[str, float]:
    """How often the class is right by the oracle and the style narrow by the domain judge."""
    return {
        "class_right": _share(judge(world.oracle, samples) == world.pool.labels[sources]),
        "narrow": _share(judge(world.domain, samples) == 1),
    }


def measure_defaults(world: World, settings: Settings, per_class: int) -> dict[str, object]:
    """Rates, copies and spread of samples at the default settings, and a sheet of each mode."""
    result: dict[str, object] = {}
    for mode in MODES:
        samples, sources = draw_samples(world, Request(mode, per_class, settings))
        shown = torch.cat([torch.arange(8) + label * per_class for label in range(len(CLASS_NAMES))])
        save_sheet(_by_columns(samples[shown]), world.sheets / f"{mode}.png", columns=len(CLASS_NAMES))
        right = judge(world.oracle, samples) == world.pool.labels[sources]
        rates: dict[str, object] = dict(rate_samples(world, samples, sources))
        rates["class_right_by_class"] = {
            name: round(_share(right[world.pool.labels[sources] == label]), 3) for label, name in enumerate(CLASS_NAMES)
        }
        rates["pairwise_distance"] = _pairwise_distance(samples, per_class)
        if mode == "image":
            save_sheet(_by_columns(world.pool_pictures[sources[shown]]), world.sheets / "sources.png", columns=10)
            nearest = torch.cdist(_flat(samples), _flat(world.pool_pictures)).argmin(1)
            rates["nearest_is_source"] = _share(nearest == sources)
        result[mode] = rates
    result["real_pairwise_distance"] = _pairwise_distance(world.pool_pictures, 200)
    return result


def measure_grid(world: World, default: Settings, per_class: int) -> list[dict[str, object]]:
    """Rates for every guidance at the default steps and every number of steps at the default guidance."""
    cells = [Settings(guidance, default.steps) for guidance in GUIDANCES]
    cells += [Settings(default.guidance, steps) for steps in STEPS if steps != default.steps]
    rows: list[dict[str, object]] = []
    shown: dict[str, list[Tensor]] = {mode: [] for mode in MODES}
    for settings in cells:
        for mode in MODES:
            samples, sources = draw_samples(world, Request(mode, per_class, settings))
            rates = rate_samples(world, samples, sources)
            distance = _pairwise_distance(samples, per_class)
            rows.append(
                {"mode": mode, "guidance": settings.guidance, "steps": settings.steps}
                | {name: round(value, 3) for name, value in rates.items()}
                | {"pairwise_distance": round(distance, 4)}
            )
            shown[mode].append(samples[:: per_class // 2])
    for mode in MODES:
        save_sheet(torch.cat(shown[mode]), world.sheets / f"grid-{mode}.png", columns=2 * len(CLASS_NAMES))
    return rows


def measure_plain_diffusers(world: World, settings: Settings, folder: Path) -> dict[str, float]:
    """Sixty-four pictures by the pipeline's own call: a sheet, the seconds it took, and those of all processors."""
    pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    rows = torch.arange(64) * (len(world.pool) // 64)
    images = [to_pil_image(picture) for picture in world.pool_pictures[rows]]
    prompts = [f"a photo of a {CLASS_NAMES[label]}" for label in world.pool.labels[rows].tolist()]
    started, worked = time.perf_counter(), time.process_time()
    output = pipeline(
        images,
        prompts,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        generator=torch.Generator().manual_seed(28),
        output_type="pt",
    )
    seconds, processor_seconds = time.perf_counter() - started, time.process_time() - worked
    samples = (output.images * 255).round().to(torch.uint8)
    pairs = torch.stack([world.pool_pictures[rows], samples], dim=1).flatten(0, 1)
    save_sheet(pairs, world.sheets / "plain-diffusers.png", columns=16)
    return {
        "pictures": 64,
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "threads": torch.get_num_threads(),
    }


def _fit_probe(embeddings: Tensor, labels: Tensor) -> nn.Module:
    mean, std = embeddings.mean(0), embeddings.std(0)
    probe = nn.Linear(embeddings.shape[1], len(CLASS_NAMES))
    optimizer = torch.optim.LBFGS(probe.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(probe((embeddings - mean) / std), labels) + 1e-3 * probe.weight.pow(2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        probe.weight /= std
        probe.bias.sub_(probe.weight @ mean)
    return probe


def _draw_pictures(garments: Garments, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(garments), (count,), generator=generator)
    return render(garments.images[rows], draw_broad(count, generator))


def _pairwise_distance(pictures: Tensor, per_class: int) -> float:
    """Mean over classes of the root mean square difference, in [0, 1], between two different pictures of a class."""
    classes = _flat(pictures).reshape(len(CLASS_NAMES), per_class, -1)
    distances = torch.cdist(classes, classes).sum((1, 2)) / (per_class * (per_class - 1))
    return float(distances.mean() / classes.shape[2] ** 0.5)


def _flat(pictures: Tensor) -> Tensor:
    return pictures.flatten(1).float() / 255


def _by_columns(pictures: Tensor) -> Tensor:
    """Pictures ordered class by class, reordered so that every class is a column of a sheet."""
    return pictures.reshape(len(CLASS_NAMES), -1, *pictures.shape[1:]).transpose(0, 1).flatten(0, 1)


def _share(truths: Tensor) -> float:
    return truths.float().mean().item()


def main() -> None:
    """Measure everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("../world-build"), help="folder with the trained judges")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks/results/world.json")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--per-class", type=int, default=50, help="samples a class at the defaults")
    parser.add_argument("--grid-per-class", type=int, default=20, help="samples a class in every cell of the grid")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="measure these, keep the others")
    arguments = parser.parse_args()
    parts = split_garments()
    world = World(
        pipeline=open_pipeline(arguments.checkpoint),
        oracle=load_judge(arguments.build, "oracle"),
        domain=load_judge(arguments.build, "domain"),
        held_out=parts["held_out"],
        generator=parts["generator"],
        pool=parts["pool"],
        pool_pictures=narrow_pictures(parts["pool"], SEEDS["pool"]),
        sheets=REPOSITORY / "docs/world",
    )
    settings = Settings(arguments.guidance, arguments.steps)
    measures: dict[str, Callable[[], object]] = {
        "plain_diffusers": lambda: measure_plain_diffusers(world, settings, arguments.checkpoint),
        "autoencoder": lambda: measure_autoencoder(world),
        "embedding": lambda: measure_embedding(world),
        "judges": lambda: measure_judges(world),
        "samples": lambda: measure_defaults(world, settings, arguments.per_class),
        "grid": lambda: measure_grid(world, settings, arguments.grid_per_class),
    }
    training = json.loads((arguments.checkpoint / "training.json").read_text())
    for name in arguments.parts:
        measured = measures[name]()
        results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"latents_seen": {}}
        results[name] = measured
        results["latents_seen"][name] = training["unet"]["images"]
        results |= {"defaults": {"guidance": settings.guidance, "steps": settings.steps}, "training": training}
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")  # a long run that is cut keeps what it has
    sys.stdout.write(arguments.out.read_text())


if __name__ == "__main__":
    main()
