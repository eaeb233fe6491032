"""Tiny checkpoints of the real formats, with random weights, for tests of generators.

The shapes of the components follow diffusers' own tests of the same pipelines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from augcond.generators.loading import quiet_progress
from augcond.testing.adapters import tiny_adapter_weights
from augcond.testing.networks import (
    BETAS,
    TinyShape,
    random_weights,
    save_pipeline,
    tiny_extractor,
    tiny_image_encoder,
    tiny_scheduler,
    tiny_text_encoder,
    tiny_tokenizer,
    tiny_unet,
    tiny_vae,
)


def save_tiny_stable_unclip(folder: Path | str, *, seed: int = 0, shape: TinyShape | None = None) -> Path:
    """Save a Stable unCLIP pipeline with random weights in the format of the real one, and return its folder.

    Args:
        folder: where to save; made where it does not exist.
        seed: of the random weights; PyTorch's global random state is left as it was.
        shape: the dimensions.
    """
    from diffusers import DDPMScheduler, StableUnCLIPImg2ImgPipeline
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

    shape = shape or TinyShape()
    tokenizer = tiny_tokenizer()
    with random_weights(seed):
        text_encoder = tiny_text_encoder(shape, tokenizer)
        normalizer = StableUnCLIPImageNormalizer(embedding_dim=shape.embedding)
        # Not 0 and 1, or a missing normalisation would go unnoticed.
        normalizer.mean.data.normal_(std=0.1)
        normalizer.std.data.uniform_(0.5, 1.5)
        pipeline = StableUnCLIPImg2ImgPipeline(
            feature_extractor=tiny_extractor(shape),
            image_encoder=tiny_image_encoder(shape),
            image_normalizer=normalizer,
            image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            unet=tiny_unet(
                shape, class_embed_type="projection", projection_class_embeddings_input_dim=2 * shape.embedding
            ),
            scheduler=tiny_scheduler(shape.prediction),
            vae=tiny_vae(shape),
        )
    return save_pipeline(pipeline, folder)


def save_tiny_stable_diffusion(folder: Path | str, *, seed: int = 0, shape: TinyShape | None = None) -> Path:
    """Save a text-to-image Stable Diffusion pipeline with random weights, and return its folder.

    Args:
        folder: where to save; made where it does not exist.
        seed: of the random weights; PyTorch's global random state is left as it was.
        shape: the dimensions.
    """
    from diffusers import StableDiffusionPipeline

    shape = shape or TinyShape(prediction="epsilon")
    tokenizer = tiny_tokenizer()
    with random_weights(seed):
        pipeline = StableDiffusionPipeline(
            tokenizer=tokenizer,
            text_encoder=tiny_text_encoder(shape, tokenizer),
            unet=tiny_unet(shape),
            scheduler=tiny_scheduler(shape.prediction),
            vae=tiny_vae(shape),
            safety_checker=None,
            feature_extractor=tiny_extractor(shape),
            requires_safety_checker=False,
        )
    return save_pipeline(pipeline, folder)


def save_tiny_stable_diffusion_xl(folder: Path | str, *, seed: int = 0, shape: TinyShape | None = None) -> Path:
    """Save a Stable Diffusion XL pipeline with random weights, and return its folder.

    Args:
        folder: where to save; made where it does not exist.
        seed: of the random weights; PyTorch's global random state is left as it was.
        shape: the dimensions.
    """
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    shape = shape or TinyShape(prediction="epsilon")
    tokenizer = tiny_tokenizer()
    size_numbers, width = 6, 8  # height and width of three boxes, 8 features for each number
    with random_weights(seed):
        pipeline = StableDiffusionXLPipeline(
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            text_encoder=tiny_text_encoder(shape, tokenizer),
            text_encoder_2=tiny_text_encoder(shape, tokenizer, projection=True),
            unet=tiny_unet(
                shape,
                cross_attention_dim=2 * shape.text,
                addition_embed_type="text_time",
                addition_time_embed_dim=width,
                projection_class_embeddings_input_dim=size_numbers * width + shape.text,
            ),
            scheduler=EulerDiscreteScheduler(steps_offset=1, timestep_spacing="leading", **BETAS),
            vae=tiny_vae(shape),
            add_watermarker=False,
        )
    return save_pipeline(pipeline, folder)


def save_tiny_ip_adapter(
    folder: Path | str,
    model: Path | str,
    kind: Literal["base", "plus"] = "base",
    *,
    seed: int = 0,
    shape: TinyShape | None = None,
) -> Path:
    """Save an IP-Adapter with random weights and its image encoder in the layout of h94/IP-Adapter; return its folder.

    Args:
        folder: where to save; made where it does not exist. Kinds may share one.
        model: folder of the tiny pipeline that the adapter is for, which decides the names of its files.
        kind: `base` takes the projected embedding (D,), `plus` the hidden states (T, 16).
        seed: of the random weights; PyTorch's global random state is left as it was.
        shape: the dimensions of the image encoder.
    """
    from diffusers import UNet2DConditionModel
    from safetensors.torch import save_file

    shape = shape or TinyShape()
    with quiet_progress():
        unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet", local_files_only=True)
    xl = unet.config.addition_embed_type == "text_time"
    root, version = (Path(folder) / "sdxl_models", "sdxl") if xl else (Path(folder) / "models", "sd15")
    name = f"ip-adapter_{version}" if kind == "base" else f"ip-adapter-plus_{version}"
    if xl and kind == "plus":
        name += "_vit-h"
    with random_weights(seed):
        weights = tiny_adapter_weights(unet, kind, shape.embedding if kind == "base" else 16)
        encoder = tiny_image_encoder(shape)
    root.mkdir(parents=True, exist_ok=True)
    save_file(weights, root / f"{name}.safetensors")
    # All adapters with ViT-H in their name share the one of Stable Diffusion 1.5.
    home = Path(folder) / "models" if "vit-h" in name else root
    with quiet_progress():
        encoder.save_pretrained(home / "image_encoder", safe_serialization=True)
    return Path(folder)


def save_tiny_kandinsky(folder: Path | str, *, seed: int = 0, shape: TinyShape | None = None) -> Path:
    """Save a Kandinsky 2.2 decoder pipeline with random weights, and return its folder.

    Args:
        folder: where to save; made where it does not exist.
        seed: of the random weights; PyTorch's global random state is left as it was.
        shape: the dimensions; `autoencoder` and `prediction` do not apply.
    """
    from diffusers import DDPMScheduler, KandinskyV22Pipeline, VQModel

    shape = shape or TinyShape()
    with random_weights(seed):
        pipeline = KandinskyV22Pipeline(
            unet=tiny_unet(
                shape,
                out_channels=8,
                addition_embed_type="image",
                down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
                mid_block_type="UNetMidBlock2DSimpleCrossAttn",
                up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
                encoder_hid_dim=shape.embedding,
                encoder_hid_dim_type="image_proj",
                # The embedding that is added to the time's has to be divisible by 64 heads at least.
                block_out_channels=(32, 64),
                cross_attention_dim=shape.text,
                attention_head_dim=4,
                resnet_time_scale_shift="scale_shift",
            ),
            scheduler=DDPMScheduler(
                beta_schedule="linear",
                beta_start=0.00085,
                beta_end=0.012,
                clip_sample=False,
                variance_type="learned_range",
            ),
            movq=VQModel(
                block_out_channels=(32, 32),  # its norm has 32 groups
                down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
                up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
                latent_channels=4,
                norm_num_groups=4,
                norm_type="spatial",
                num_vq_embeddings=12,
                vq_embed_dim=4,
            ).eval(),
        )
    return save_pipeline(pipeline, folder)


def save_tiny_kandinsky_prior(folder: Path | str, *, seed: int = 0, shape: TinyShape | None = None) -> Path:
    """Save a Kandinsky 2.2 prior pipeline with random weights, which holds the decoder's image encoder.

    Args:
        folder: where to save; made where it does not exist.
        seed: of the random weights; PyTorch's global random state is left as it was.
        shape: the dimensions.

    Returns:
        The folder.
    """
    from diffusers import KandinskyV22PriorPipeline, PriorTransformer, UnCLIPScheduler

    shape = shape or TinyShape()
    tokenizer = tiny_tokenizer()
    with random_weights(seed):
        pipeline = KandinskyV22PriorPipeline(
            prior=PriorTransformer(
                num_attention_heads=2, attention_head_dim=4, num_layers=1, embedding_dim=shape.embedding
            ),
            image_encoder=tiny_image_encoder(shape),
            text_encoder=tiny_text_encoder(shape, tokenizer, projection=True),
            tokenizer=tokenizer,
            scheduler=UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample"),
            image_processor=tiny_extractor(shape),
        )
    return save_pipeline(pipeline, folder)
