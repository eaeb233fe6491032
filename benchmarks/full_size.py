"""Load and run the true architecture of Stable Diffusion 2.1 unCLIP on a CPU: python -m benchmarks.full_size.

Builds UNet, OpenCLIP ViT-H towers and VAE at their real dimensions with random weights, saves them in float16 as a
checkpoint, loads that through augcond, and takes a few steps. The images mean nothing; shapes, dtypes, memory and time
to load are those of the real weights. Then a call of the UNet for 768 pixels is timed, whole and with its deep features
kept (`generator.cache`). Building and running are processes of their own: neither's memory counts for the other.
Needs up to 16 GiB of memory, and 4 GB of disk for a while. Prints JSON and writes benchmarks/results/full_size.json.

With --architectures nothing of that, but what all generators are made of at their true size, on the meta device
(benchmarks/architectures.py): seconds, no memory, and benchmarks/results/architectures.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from benchmarks.writing import RESULTS, write_result
from torch import nn

MEMORY_GIB = 16
DISK_GB = 10
SIZE = 256
STEPS = 2
BRANCHES, CALLS = (0, 3), 2

UNET: dict[str, Any] = {
    "sample_size": 96,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "upcast_attention": True,
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": 2048,
}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 768,
}
TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,  # of OpenCLIP's 24, whose last but one is what the UNet was trained on
    "num_attention_heads": 16,
    "projection_dim": 512,
    "hidden_act": "gelu",
    "max_position_embeddings": 77,
}
VISION: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "projection_dim": 1024,
    "hidden_act": "gelu",
    "image_size": 224,
    "patch_size": 14,
}


def networks() -> dict[str, nn.Module]:
    """Return the four networks at their real dimensions, without memory for their weights (on the meta device)."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.device("meta"):
        return {
            "unet": UNet2DConditionModel(**UNET),
            "vae": AutoencoderKL(**VAE),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)),
        }


def parameter_count(network: nn.Module) -> int:
    """Return how many parameters a network has."""
    return sum(parameter.numel() for parameter in network.parameters())


def build(folder: Path) -> None:
    """Save a checkpoint of the true architecture in float16, with small random weights."""
    from diffusers import DDPMScheduler, StableUnCLIPImg2ImgPipeline
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
    from transformers import CLIPImageProcessor

    from augcond.generators.loading import quiet_progress
    from augcond.testing.networks import tiny_scheduler, tiny_tokenizer

    generator = torch.Generator().manual_seed(0)
    made = {name: _fill(network, generator) for name, network in networks().items()}
    tokenizer = tiny_tokenizer(length=77)
    pipeline = StableUnCLIPImg2ImgPipeline(
        **made,
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": VISION["image_size"]},
            crop_size={"height": VISION["image_size"], "width": VISION["image_size"]},
        ),
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=VISION["projection_dim"]),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=tokenizer,
        scheduler=tiny_scheduler("v_prediction"),
    )
    with quiet_progress():
        pipeline.save_pretrained(folder, safe_serialization=True)


def _fill(network: nn.Module, generator: torch.Generator) -> nn.Module:
    # The usual initialisation takes minutes; nothing here depends on it.
    network = network.half().to_empty(device="cpu").eval()
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1:
            parameter.data.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            parameter.data.normal_(std=0.02, generator=generator)
    return network


def measure(folder: Path) -> None:
    """Load the checkpoint through augcond, encode an image, take a few steps, and write what was seen."""
    from PIL import Image

    from augcond.conditioning import Conditioning
    from augcond.config import GeneratorConfig
    from augcond.generators import load_generator

    config = GeneratorConfig(model=str(folder), size=SIZE, steps=STEPS, guidance_scale=3.0, device="cpu")
    seconds: dict[str, float] = {}
    with _timed("load", seconds):
        generator: Any = load_generator(config)
    after_load = _peak_gib()
    with _timed("encode one image", seconds):
        embeddings = generator.encode_images(generator.view(Image.effect_noise((300, 200), 80).convert("RGB"))[None])
    conditioning = Conditioning(embeddings, torch.tensor([True]), ("a photo of a cat",))
    with _timed(f"{STEPS} guided steps of one image, and its decoding", seconds):
        generated = generator.generate(conditioning, [1])
    own_size = [generator._denoiser.network.config.sample_size * generator._vae_scale] * 2
    text = generator._prompts.encode(conditioning.prompts)
    result = {
        "what": "Stable Diffusion 2.1 unCLIP, true dimensions, random weights",
        "parameters": {name: parameter_count(network) for name, network in networks().items()},
        "disk_gb": round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9, 2),
        "dtypes": {
            "on disk": "float16",
            "unet": str(generator._denoiser.network.dtype),
            "vae": str(generator._vae.dtype),
            "text_encoder": str(generator._others[0].dtype),
            "embeddings": str(embeddings.dtype),
        },
        "shapes": {
            "image embedding": list(generator.embedding_shape),
            "unet's image input": list(generator._image_vectors(conditioning, [1]).shape[1:]),
            "prompt embedding": list(text.shape[1:]),
            "latents": [4, SIZE // generator._vae_scale, SIZE // generator._vae_scale],
            "image": list(generated.images.shape[1:]),
            "image at its own size": [*own_size, 3],
        },
        "errors": [error for error in generated.errors if error],
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "peak_gib": {"after loading": round(after_load, 2), "in all": round(_peak_gib(), 2)},
        "limit_gib": MEMORY_GIB,
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in ("torch", "diffusers", "transformers")},
    }
    write_result("full_size", result)


class _timed:
    """Notes how many seconds a block took."""

    def __init__(self, name: str, seconds: dict[str, float]) -> None:
        self._name, self._seconds = name, seconds

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._seconds[self._name] = time.perf_counter() - self._started


def _peak_gib() -> float:
    """Return the largest resident set of this process so far; pages of the weights' files count."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def time_denoiser() -> None:
    """Time calls of the UNet for one image of 768 pixels, whole and of its outer layers, and write what was seen."""
    import json

    from augcond.config.generation import CacheConfig
    from augcond.generators.unet import UNetDenoiser, unet_conditions

    network: Any = _fill(networks()["unet"], torch.Generator().manual_seed(0)).float()
    noise = torch.Generator().manual_seed(1)
    sample = torch.randn(1, 4, UNET["sample_size"], UNET["sample_size"], generator=noise)
    text = torch.randn(1, TEXT["max_position_embeddings"], UNET["cross_attention_dim"], generator=noise)
    conditions = unet_conditions(text, torch.randn(1, UNET["projection_class_embeddings_input_dim"], generator=noise))
    seconds: dict[str, float] = {}
    with torch.inference_mode():
        for branch in BRANCHES:
            denoiser = UNetDenoiser(network, CacheConfig(interval=100, branch=branch))
            calls: dict[str, list[float]] = {"whole": [], "outer": []}
            for _ in range(CALLS):
                predict = denoiser.begin()
                for kind in ("whole", "outer"):
                    started = time.process_time()
                    predict(sample, torch.tensor(500), conditions)
                    calls[kind].append(time.process_time() - started)
            seconds |= {f"{kind}, branch {branch}": round(min(found), 2) for kind, found in calls.items()}
    whole = min(found for name, found in seconds.items() if name.startswith("whole"))
    outer = {branch: seconds[f"outer, branch {branch}"] / whole for branch in BRANCHES}
    result = json.loads((RESULTS / "full_size.json").read_text(encoding="utf-8"))
    result["one call of the UNet at 768 pixels"] = {
        "processor seconds": seconds,
        "outer layers over whole": {f"branch {branch}": round(share, 3) for branch, share in outer.items()},
        "times faster": {
            f"interval {interval}, branch {branch}": round(interval / (1 + (interval - 1) * share), 2)
            for branch, share in outer.items()
            for interval in (2, 3, 5)
        },
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
    }
    write_result("full_size", result)


def main() -> None:
    """Build, measure, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the checkpoint here, or use the one that is there")
    parser.add_argument(
        "--only-denoiser", action="store_true", help="time the UNet alone, into the result that is there"
    )
    parser.add_argument("--architectures", action="store_true", help="what all generators are made of, on no device")
    arguments = parser.parse_args()
    if arguments.architectures:
        from benchmarks.architectures import ARCHITECTURES, measured

        write_result("architectures", {name: measured(name) for name in ARCHITECTURES})
        return
    if arguments.only_denoiser:
        _run(time_denoiser)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "sd21-unclip"
        if not (folder / "model_index.json").is_file():
            free = shutil.disk_usage(folder.parent).free / 1e9
            if free < DISK_GB:
                sys.exit(f"{folder.parent} has {free:.0f} GB free; {DISK_GB} GB are needed")
            _run(build, folder)
        _run(measure, folder)
    _run(time_denoiser)


def _run(work: Callable[..., None], *arguments: Path) -> None:
    """Run `work` in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode != 0:
        sys.exit(f"{work.__name__} failed with exit code {process.exitcode}")


if __name__ == "__main__":
    main()
