"""A bank of encoded pictures, so that UNet training spends its time on the UNet.

    torchrun --nproc-per-node 2 -m tools.world.bank --build ../world-build

Every garment of the generator's 50,000 in several broad styles: latent, image embedding, class, colour names.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from diffusers import StableUnCLIPImg2ImgPipeline
from tools.world.captions import caption_table, name_colours
from tools.world.data import split_garments
from tools.world.styles import draw_broad, render, to_unit
from tools.world.training import BUILD_FOLDER
from tools.world.workers import gather_objects, start_workers, worker_count, worker_rank
from torch import Tensor

FROZEN = "frozen"
COLUMNS = ("latents", "embeddings", "labels", "colours", "backdrops")
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
        mean: (1, D) mean embedding, as the checkpoint's image normaliser has it.
        std: (1, D) spread of the embeddings, likewise.
        caption_states: (captions + 1, 16, W) text encoder output, the empty prompt last.
    """

    latents: Tensor
    embeddings: Tensor
    labels: Tensor
    colours: Tensor
    backdrops: Tensor
    mean: Tensor
    std: Tensor
    caption_states: Tensor


def load_bank(folder: Path) -> Bank:
    """Read the bank of a build folder."""
    return Bank(**torch.load(folder / "bank.pt", weights_only=True, mmap=True))


@torch.no_grad()
def encode_garments(pipeline: StableUnCLIPImg2ImgPipeline, styles: int) -> dict[str, Tensor]:
    """This process's share of every garment of the generator in `styles` styles, encoded: columns of a `Bank`."""
    garments = split_garments()["generator"]
    columns: dict[str, list[Tensor]] = {name: [] for name in COLUMNS}
    chunks = range(styles * len(garments) // _CHUNK)
    for chunk in chunks[worker_rank() :: worker_count()]:
        generator = torch.Generator().manual_seed(1_000_000 + chunk)
        rows = torch.arange(chunk * _CHUNK, (chunk + 1) * _CHUNK) % len(garments)
        style = draw_broad(_CHUNK, generator)
        unit = to_unit(render(garments.images[rows], style))
        columns["latents"].append(pipeline.vae.encode(unit).latents.half())
        columns["embeddings"].append(pipeline.image_encoder(unit).image_embeds.half())
        columns["labels"].append(garments.labels[rows])
        columns["colours"].append(name_colours(style.garment))
        columns["backdrops"].append(name_colours(style.backdrop))
        if chunk % 20 == 0:
            logger.info("%d pictures of %d", chunk * _CHUNK, len(chunks) * _CHUNK)
    return {name: torch.cat(parts) for name, parts in columns.items()}


@torch.no_grad()
def make_bank(checkpoint: Path, styles: int) -> Bank:
    """The bank of the garments, encoded with the parts of a checkpoint folder."""
    pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(checkpoint, use_safetensors=True)
    shares = gather_objects(encode_garments(pipeline, styles))
    tokens = caption_table(pipeline.tokenizer)
    return Bank(
        **{name: torch.cat([share[name] for share in shares]) for name in COLUMNS},
        mean=pipeline.image_normalizer.mean.detach(),
        std=pipeline.image_normalizer.std.detach(),
        caption_states=torch.cat([pipeline.text_encoder(part).last_hidden_state for part in tokens.split(512)]),
    )


def main() -> None:
    """Make the bank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=BUILD_FOLDER)
    parser.add_argument("--styles", type=int, default=2, help="styles for each garment")
    parser.add_argument("--checkpoint", type=Path, help="encode with the parts of this folder")
    arguments = parser.parse_args()
    start_workers()
    bank = make_bank(arguments.checkpoint or arguments.build / FROZEN, arguments.styles)
    if worker_rank() == 0:
        torch.save({field.name: getattr(bank, field.name) for field in fields(bank)}, arguments.build / "bank.pt")


if __name__ == "__main__":
    main()
