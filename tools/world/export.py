"""Export the trained parts as one Stable unCLIP folder, float16 on disk, and prove that it opens and generates.

python -m tools.world.export --build world-build
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import (
    AutoencoderTiny,
    DPMSolverMultistepScheduler,
    StableUnCLIPImg2ImgPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from safetensors.torch import save_file
from tools.world.autoencoder import build_autoencoder, load_or_fit_code
from tools.world.bank import Bank, load_bank, load_encoders
from tools.world.data import ASSETS, split_garments
from tools.world.encoders import EMBEDDING, Encoders
from tools.world.styles import SIZE
from tools.world.training import BUILD_FOLDER, load_average, read_log
from tools.world.unet import build_unet, noise_schedule
from transformers import CLIPImageProcessor, CLIPTokenizer

CHECKPOINT = ASSETS / "checkpoint"
MODEL_CARD = Path(__file__).with_name("model_card.md")
STAGES = ("autoencoder", "encoders", "unet")
logger = logging.getLogger(__name__)


def sampling_schedule() -> DPMSolverMultistepScheduler:
    """The default sampler: DPM-Solver++ of second order, made for few steps."""
    return DPMSolverMultistepScheduler(
        1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
    )


def load_trained(folder: Path) -> tuple[Encoders, AutoencoderTiny, UNet2DConditionModel, Bank]:
    """Every trained part of a build folder, moving averages, the embedding scaled as the bank was."""
    bank = load_bank(folder)
    encoders = load_encoders(folder)
    encoders.vision.visual_projection.weight.data.copy_(bank.projection)
    autoencoder = build_autoencoder(load_or_fit_code(folder, split_garments()["generator"]))
    autoencoder.load_state_dict(load_average(folder / "autoencoder"))
    unet = build_unet()
    unet.load_state_dict(load_average(folder / "unet"))
    return encoders, autoencoder, unet, bank


def build_pipeline(folder: Path) -> tuple[StableUnCLIPImg2ImgPipeline, Encoders]:
    """The pipeline in float32, and the encoders it took its models from."""
    encoders, autoencoder, unet, bank = load_trained(folder)
    normalizer = StableUnCLIPImageNormalizer(EMBEDDING)
    normalizer.load_state_dict({"mean": bank.mean, "std": bank.std})
    pipeline = StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": SIZE},
            crop_size={"height": SIZE, "width": SIZE},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ),
        image_encoder=encoders.vision,
        image_normalizer=normalizer,
        image_noising_scheduler=noise_schedule(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=encoders.text,
        unet=unet,
        scheduler=sampling_schedule(),
        vae=autoencoder,
    )
    return pipeline, encoders


def write_folder(pipeline: StableUnCLIPImg2ImgPipeline, encoders: Encoders, folder: Path) -> None:
    """Save in float16, with the text projection beside, and float32 as the type that transformers opens it with."""
    for part in (pipeline.image_encoder, pipeline.text_encoder, pipeline.unet, pipeline.vae, pipeline.image_normalizer):
        part.half()
    pipeline.save_pretrained(folder, safe_serialization=True)
    for name in ("image_encoder", "text_encoder"):
        _edit_json(folder / name / "config.json", lambda config: config | {"dtype": "float32"})
    derived = "block_out_channels"  # AutoencoderTiny computes it, writes it, and complains when it reads it
    _edit_json(folder / "vae/config.json", lambda config: {key: config[key] for key in config if key != derived})
    projection = {"weight": encoders.text_projection.weight.half(), "log_scale": encoders.log_scale.half()}
    (folder / "text_projection").mkdir()
    save_file(
        {name: value.detach().contiguous() for name, value in projection.items()},
        folder / "text_projection/model.safetensors",
    )


def _edit_json(path: Path, change: Callable[[dict], dict]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text())), indent=2) + "\n")


def training_record(folder: Path) -> dict[str, dict[str, float]]:
    """The last log line of every stage: pictures seen, seconds, losses."""
    return {stage: list(read_log(folder / stage))[-1] for stage in STAGES}


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
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fresh = arguments.build / "export"
    shutil.rmtree(fresh, ignore_errors=True)
    with torch.no_grad():
        write_folder(*build_pipeline(arguments.build), fresh)
        verify(fresh)
    record = training_record(arguments.build)
    (fresh / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    shutil.copy(MODEL_CARD, fresh / "README.md")
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(fresh, arguments.out.with_suffix(".new"))
    arguments.out.with_suffix(".new").replace(arguments.out)
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    logger.info("%s: %.1f MB, %s", arguments.out.name, size / 1e6, record["unet"])


if __name__ == "__main__":
    main()
