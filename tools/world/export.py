"""Put the trained UNet into the frozen folder, prove that it opens and generates, and swap it into the package.

python -m tools.world.export --build ../world-build
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from pathlib import Path

import torch
from diffusers import StableUnCLIPImg2ImgPipeline
from tools.world.bank import FROZEN
from tools.world.data import ASSETS
from tools.world.styles import SIZE
from tools.world.training import BUILD_FOLDER, checkpoint_record, load_average
from tools.world.unet import build_unet

CHECKPOINT = ASSETS / "checkpoint"
MODEL_CARD = Path(__file__).with_name("model_card.md")
RECORD = "training.json"
STAGES = ("autoencoder", "encoders", "unet")
logger = logging.getLogger(__name__)


def training_record(build: Path, frozen: Path) -> dict[str, dict[str, float]]:
    """What every stage has seen (pictures, seconds, losses); the frozen folder's own record where it has one."""
    path = frozen / RECORD
    known = json.loads(path.read_text()) if path.exists() else {}
    fresh = {stage: checkpoint_record(build / stage) for stage in STAGES if (build / stage / "checkpoint.pt").exists()}
    if "unet" in known:  # training went on from a committed checkpoint: count what that one had seen
        for total in ("images", "seconds"):
            fresh["unet"][total] += known["unet"][total]
    return known | fresh


def verify(folder: Path) -> None:
    """Open the folder as a stranger would and generate with it."""
    pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    source = torch.zeros(1, 3, SIZE, SIZE)
    picture = pipeline(source, "a photo of a bag", num_inference_steps=2, generator=torch.Generator().manual_seed(0))
    if picture.images[0].size != (SIZE, SIZE):
        raise RuntimeError(f"{folder} generated a picture of {picture.images[0].size}, expected {SIZE}x{SIZE}")


def main() -> None:
    """Export, verify, and swap the folder in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=BUILD_FOLDER)
    parser.add_argument("--frozen", type=Path, help="take all but the UNet from this folder; the build's own otherwise")
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    frozen = arguments.frozen or arguments.build / FROZEN
    fresh = arguments.out.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(frozen, fresh)
    unet = build_unet()
    unet.load_state_dict(load_average(arguments.build / "unet"))
    unet.half().save_pretrained(fresh / "unet", safe_serialization=True)
    verify(fresh)
    record = training_record(arguments.build, frozen)
    (fresh / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    shutil.copy(MODEL_CARD, fresh / "README.md")
    shutil.rmtree(arguments.out, ignore_errors=True)
    fresh.replace(arguments.out)
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    logger.info("%s: %.1f MB, %s", arguments.out.name, size / 1e6, record["unet"])


if __name__ == "__main__":
    main()
