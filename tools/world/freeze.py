"""Freeze everything but the UNet as a Stable unCLIP folder, float16 on disk, with a UNet that knows nothing yet.

    python -m tools.world.freeze --build ../world-build

The bank, the UNet's training and the export start from this folder, or as well from the committed checkpoint.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, StableUnCLIPImg2ImgPipeline
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from safetensors.torch import save_file
from tools.world.autoencoder import build_autoencoder, load_or_fit_code
from tools.world.bank import FROZEN
from tools.world.data import split_garments
from tools.world.encoders import EMBEDDING, Encoders, build
from tools.world.styles import SIZE, draw_broad, render, to_unit
from tools.world.training import BUILD_FOLDER, load_average
from tools.world.unet import build_unet, noise_schedule
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPTokenizer

_PICTURES = 5000


def sampling_schedule() -> DPMSolverMultistepScheduler:
    """The default sampler: DPM-Solver++ of second order, made for few steps."""
    return DPMSolverMultistepScheduler(
        1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
    )


@torch.no_grad()
def fit_normalizer(encoders: Encoders, pictures: Tensor) -> StableUnCLIPImageNormalizer:
    """Scale the visual projection so that embeddings have a mean square of one; return their mean and spread."""
    embeddings = torch.cat([encoders.see(to_unit(part))[0] for part in pictures.split(500)])
    size = embeddings.pow(2).mean().sqrt()
    encoders.vision.visual_projection.weight /= size
    normalizer = StableUnCLIPImageNormalizer(EMBEDDING)
    normalizer.load_state_dict(
        {"mean": embeddings.mean(0, keepdim=True) / size, "std": embeddings.std(0, keepdim=True) / size}
    )
    return normalizer


def build_pipeline(folder: Path) -> tuple[StableUnCLIPImg2ImgPipeline, Encoders]:
    """The pipeline in float32 with an untrained UNet, and the encoders it took its models from."""
    garments = split_garments()["generator"]
    encoders = build(folder)
    encoders.load_state_dict(load_average(folder / "encoders"))
    encoders.eval()
    autoencoder = build_autoencoder(load_or_fit_code(folder, garments))
    autoencoder.load_state_dict(load_average(folder / "autoencoder"))
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(len(garments), (_PICTURES,), generator=generator)
    pipeline = StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": SIZE},
            crop_size={"height": SIZE, "width": SIZE},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ),
        image_normalizer=fit_normalizer(encoders, render(garments.images[rows], draw_broad(_PICTURES, generator))),
        image_encoder=encoders.vision,
        image_noising_scheduler=noise_schedule(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=encoders.text,
        unet=build_unet(),
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
    for name in ("vocab.json", "merges.txt"):  # what transformers 4 reads instead of tokenizer.json
        shutil.copy(folder.parent / "tokenizer" / name, folder / "tokenizer" / name)
    projection = {"weight": encoders.text_projection.weight.half(), "log_scale": encoders.log_scale.half()}
    (folder / "text_projection").mkdir()
    save_file(
        {name: value.detach().contiguous() for name, value in projection.items()},
        folder / "text_projection/model.safetensors",
    )


def _edit_json(path: Path, change: Callable[[dict], dict]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text())), indent=2) + "\n")


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=BUILD_FOLDER)
    arguments = parser.parse_args()
    folder = arguments.build / FROZEN
    shutil.rmtree(folder, ignore_errors=True)
    write_folder(*build_pipeline(arguments.build), folder)


if __name__ == "__main__":
    main()
