"""A bank of encoded pictures, so that UNet training spends its time on the UNet.

    python -m tools.world.bank --build world-build

Every garment of the generator's 50,000 in several broad styles: latent, image embedding, class, colour names.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from tools.world.autoencoder import build_autoencoder, load_or_fit_code
from tools.world.captions import name_colours
from tools.world.data import split_garments
from tools.world.encoders import Encoders, build
from tools.world.styles import draw_broad, render, to_unit
from tools.world.training import BUILD_FOLDER, load_average
from torch import Tensor

_CHUNK = 500
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bank:
    """N encoded pictures and all encoded captions.

    Attributes:
        latents: (N, 8, 8, 8) float16.
        embeddings: (N, D) float16, as the image encoder gives them.
        labels: (N,) class.
        colours: (N,) garment colour, index into `captions.COLOURS`.
        backdrops: (N,) backdrop colour.
        mean: (1, D) mean embedding.
        std: (1, D) spread of the embeddings.
        caption_states: (captions + 1, 16, W) text encoder output, the empty prompt last.
        projection: (D, W) the image encoder's last weight, scaled as it was for `embeddings`.
    """

    latents: Tensor
    embeddings: Tensor
    labels: Tensor
    colours: Tensor
    backdrops: Tensor
    mean: Tensor
    std: Tensor
    caption_states: Tensor
    projection: Tensor


def load_bank(folder: Path) -> Bank:
    """Read the bank of a build folder."""
    return Bank(**torch.load(folder / "bank.pt", weights_only=True, mmap=True))


def load_encoders(folder: Path) -> Encoders:
    """The trained encoders of a build folder."""
    encoders = build(folder)
    encoders.load_state_dict(load_average(folder / "encoders"))
    return encoders.eval()


@torch.no_grad()
def rescale(encoders: Encoders, pictures: Tensor) -> None:
    """Scale the visual projection so that embeddings of `pictures` have a mean square of one; nothing else changes."""
    size = encoders.see(to_unit(pictures))[0].pow(2).mean().sqrt()
    encoders.vision.visual_projection.weight /= size
    for head in (encoders.class_head, encoders.colour_head):
        head.weight *= size


@torch.no_grad()
def make_bank(folder: Path, styles: int) -> Bank:
    """Encode every garment of the generator in `styles` styles."""
    garments = split_garments()["generator"]
    encoders = load_encoders(folder)
    autoencoder = build_autoencoder(load_or_fit_code(folder, garments))
    autoencoder.load_state_dict(load_average(folder / "autoencoder"))
    rescale(encoders, render(garments.images[:2000], draw_broad(2000, torch.Generator().manual_seed(3))))
    columns: dict[str, list[Tensor]] = {name: [] for name in ("latents", "embeddings", "colours", "backdrops")}
    for chunk in range(styles * len(garments) // _CHUNK):
        generator = torch.Generator().manual_seed(1_000_000 + chunk)
        rows = torch.arange(chunk * _CHUNK, (chunk + 1) * _CHUNK) % len(garments)
        style = draw_broad(_CHUNK, generator)
        unit = to_unit(render(garments.images[rows], style))
        columns["latents"].append(autoencoder.encoder(unit).half())
        columns["embeddings"].append(encoders.see(unit)[0].half())
        columns["colours"].append(name_colours(style.garment))
        columns["backdrops"].append(name_colours(style.backdrop))
        if chunk % 50 == 0:
            logger.info("%d pictures", chunk * _CHUNK)
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    embeddings = joined["embeddings"].float()
    states = [encoders.text(part).last_hidden_state for part in encoders.tokens.split(512)]
    return Bank(
        **joined,
        labels=garments.labels.repeat(styles),
        mean=embeddings.mean(0, keepdim=True),
        std=embeddings.std(0, keepdim=True),
        caption_states=torch.cat(states),
        projection=encoders.vision.visual_projection.weight.detach(),
    )


def main() -> None:
    """Make the bank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=BUILD_FOLDER)
    parser.add_argument("--styles", type=int, default=5, help="styles for each garment")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    bank = make_bank(arguments.build, arguments.styles)
    torch.save({field.name: getattr(bank, field.name) for field in fields(bank)}, arguments.build / "bank.pt")


if __name__ == "__main__":
    main()
