"""Small convolutional networks: the teacher of the image encoder, and the two judges of the samples.

    python -m tools.world.classifiers teacher oracle domain --build ../world-build

The oracle tells the class in any style, the domain judge tells the narrow style from all others. The teacher is the
oracle's architecture from another seed, so that no judge has had a hand in what it judges. All are trained on the
generator's 50,000 garments only.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from tools.world.data import split_garments
from tools.world.garments import CLASS_NAMES, Garments
from tools.world.optimizer import MuonAdamW
from tools.world.styles import Style, draw_broad, draw_narrow, render, to_unit
from tools.world.training import BUILD_FOLDER, TrainingPlan, load_average, train
from tools.world.workers import start_workers
from torch import Generator, Tensor, nn
from torch.nn import functional as F

SEEDS = {"teacher": 1, "oracle": 0, "domain": 0}
logger = logging.getLogger(__name__)


class Judge(nn.Module):
    """A small residual network over 32x32 pictures in [-1, 1], giving logits."""

    def __init__(self, outputs: int, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, stride=2)
        self.stages = nn.ModuleList(_Block(width * 2**stage, width * 2 ** (stage + 1)) for stage in range(2))
        self.head = nn.Linear(width * 4, outputs)

    def forward(self, unit: Tensor) -> Tensor:
        """(B, 3, 32, 32) in [-1, 1] to (B, outputs) logits."""
        return self.head(self.features(unit))

    def features(self, unit: Tensor) -> Tensor:
        """(B, 4 * width) what the last layer sees."""
        states = self.stem(unit)
        for stage in self.stages:
            states = stage(states)
        return states.mean((2, 3))


class _Block(nn.Module):
    """Two residual units, the second of them after halving the size."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.same = _unit(width, width)
        self.down = nn.Conv2d(width, out_width, 2, stride=2)
        self.small = _unit(out_width, out_width)

    def forward(self, states: Tensor) -> Tensor:
        states = self.down(states + self.same(states))
        return states + self.small(states)


def _unit(width: int, out_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, out_width, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_width),
        nn.ReLU(),
        nn.Conv2d(out_width, out_width, 3, padding=1, bias=False),
    )


@torch.no_grad()
def judge(model: Judge, pictures: Tensor) -> Tensor:
    """(N, 3, 32, 32) uint8 pictures to (N,) predicted classes."""
    model.eval()
    return torch.cat([model(to_unit(part)).argmax(1) for part in pictures.split(250)])


def build_judge(name: str) -> Judge:
    """An untrained network for one of `SEEDS`."""
    return Judge(2, width=12) if name == "domain" else Judge(len(CLASS_NAMES))


def load_judge(folder: Path, name: str) -> Judge:
    """The trained network of a build folder."""
    model = build_judge(name)
    model.load_state_dict(load_average(folder / name))
    return model.eval()


def train_judge(folder: Path, name: str, garments: Garments, images: int) -> None:
    """Train one of the networks."""
    torch.manual_seed(SEEDS[name])
    model = build_judge(name).to(memory_format=torch.channels_last)
    plan = TrainingPlan(images, batch_size=128, ema_decay=0.99, seed=SEEDS[name], warmup=50, log_steps=50)

    def losses_of(_: int, generator: Generator) -> dict[str, Tensor]:
        pictures, labels = draw_for(name)(garments, plan.local_batch, generator)
        return {"entropy": F.cross_entropy(model(to_unit(pictures)), labels, label_smoothing=0.05)}

    hidden = [parameter for parameter in model.stages.parameters() if parameter.ndim == 4]
    others = [parameter for parameter in model.parameters() if not any(parameter is other for other in hidden)]
    train(plan, folder / name, model, losses_of, MuonAdamW(hidden, others, muon_rate=0.02, adam_rate=2e-3))


def draw_for(name: str) -> Callable[[Garments, int, Generator], tuple[Tensor, Tensor]]:
    """The function that draws pictures and labels for one of the networks."""
    return draw_domains if name == "domain" else draw_labelled


def draw_labelled(garments: Garments, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Pictures in all styles (one in eight narrow) with their classes."""
    rows = torch.randint(len(garments), (count,), generator=generator)
    narrow = count // 8
    styles = [draw_narrow(narrow, generator), draw_broad(count - narrow, generator)]
    parts = [
        render(grey, style)
        for grey, style in zip(garments.images[rows].split([narrow, count - narrow]), styles, strict=True)
    ]
    return torch.cat(parts), garments.labels[rows]


def draw_domains(garments: Garments, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Pictures, half of them narrow (label 1), an eighth each with only the garment or only the backdrop narrow."""
    rows = torch.randint(len(garments), (count,), generator=generator)
    half, eighth = count // 2, count // 8
    narrow, broad = draw_narrow(count, generator), draw_broad(count, generator)
    keep_garment = (torch.arange(count) < half + eighth)[:, None]
    keep_backdrop = ((torch.arange(count) < half) | (torch.arange(count) >= count - eighth))[:, None]
    style = Style(
        garment=torch.where(keep_garment, narrow.garment, broad.garment),
        top=torch.where(keep_backdrop, narrow.top, broad.top),
        bottom=torch.where(keep_backdrop, narrow.bottom, broad.bottom),
        angle=narrow.angle,
        scale=narrow.scale,
        shift=narrow.shift,
        brightness=narrow.brightness,
    )
    return render(garments.images[rows], style), (torch.arange(count) < half).long()


def main() -> None:
    """Train both judges and report how good they are on held-out garments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=SEEDS)
    parser.add_argument("--build", type=Path, default=BUILD_FOLDER)
    parser.add_argument("--images", type=int, default=200_000)
    arguments = parser.parse_args()
    start_workers()
    parts = split_garments()
    for name in arguments.names:
        train_judge(arguments.build, name, parts["generator"], arguments.images)
        pictures, labels = draw_for(name)(parts["held_out"], 4000, torch.Generator().manual_seed(4))
        right = (judge(load_judge(arguments.build, name), pictures) == labels).float().mean().item()
        logger.info("%s: %.3f right on held-out garments", name, right)


if __name__ == "__main__":
    main()
