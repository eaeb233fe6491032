"""The true dimensions of all generators, on the meta device: no memory, no weights, no download.

`python -m benchmarks.full_size --architectures` counts parameters, takes one denoising step of those of flow matching,
and writes what goes in and out, and where the dimensions are from, to benchmarks/results/architectures.json.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

PIXELS = 1024
"""Edge length of the images, at which all of them were trained."""

BYTES = {"float32": 4, "float16 or bfloat16": 2}

CLIP_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
CLIP_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
VIT_H: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "projection_dim": 1024,
    "patch_size": 14,
}
VIT_BIGG: dict[str, Any] = {
    "hidden_size": 1664,
    "intermediate_size": 8192,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "projection_dim": 1280,
    "patch_size": 14,
}
SDXL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
T5_XXL: dict[str, Any] = {
    "d_model": 4096,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "d_kv": 64,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
}
SIGLIP: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
QWEN3_4B: dict[str, Any] = {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
VAE_4: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
VAE_16: dict[str, Any] = {**VAE_4, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
FLUX1: dict[str, Any] = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
KLEIN: dict[str, Any] = {
    "in_channels": 128,
    "num_layers": 5,
    "num_single_layers": 20,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "guidance_embeds": False,
}
SD35_LARGE: dict[str, Any] = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "num_layers": 38,
    "attention_head_dim": 64,
    "num_attention_heads": 38,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 2432,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
    "qk_norm": "rms_norm",
}

_CONVERTED = "diffusers' conversion script"
_DEFAULTS = "diffusers' class defaults"
_CLIP = "as published (arXiv 2103.00020; OpenCLIP)"


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a family of generators is made of.

    Attributes:
        networks: makes them, by name.
        sources: where the dimensions of each are from.
        step: takes one denoising step, and returns what goes in and out; None where none is taken.
    """

    networks: Callable[[], dict[str, nn.Module]]
    sources: dict[str, str]
    step: Callable[[dict[str, Any]], dict[str, Tensor]] | None = None


def _clip(dimensions: dict[str, Any], *, projected: bool) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    found: nn.Module = (CLIPTextModelWithProjection if projected else CLIPTextModel)(CLIPTextConfig(**dimensions))
    return found


def _klein() -> dict[str, nn.Module]:
    from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return {
        "transformer": Flux2Transformer2DModel(**KLEIN),
        "text_encoder": Qwen3ForCausalLM(Qwen3Config(**QWEN3_4B)),
        "vae": AutoencoderKLFlux2(),
    }


def _klein_step(made: dict[str, Any]) -> dict[str, Tensor]:
    """One reference of 512 pixels, of which some tokens are dropped."""
    from augcond.generators.denoising import Conditions
    from augcond.generators.flux2_klein import TOKENS, Flux2Denoiser, read_layers
    from augcond.generators.transformer import tokens_of

    mask = torch.ones(1, 1, TOKENS, TOKENS, dtype=torch.bool)  # so that none is made, which looks at values
    text = read_layers(made["text_encoder"].model, torch.zeros(1, TOKENS, dtype=torch.long), mask)
    latents = made["vae"].encode(torch.empty(1, 3, 512, 512)).latent_dist.mode()
    references = tokens_of(nn.functional.pixel_unshuffle(latents, 2))[:, None]
    denoiser = Flux2Denoiser(made["transformer"])
    noise = torch.empty(1, *denoiser.latent_shape(*denoiser.native))
    # On the CPU, where it can be looked at.
    present = torch.ones(references.shape[:3], dtype=torch.bool, device="cpu")
    told = {"text": text, "references": references, "present": present}
    predicted = denoiser.begin()(noise, torch.empty(()), Conditions(told))
    image = made["vae"].decode(predicted).sample
    return {"text": text, "references": references, "noise": noise, "predicted": predicted, "image": image}


def _flux() -> dict[str, nn.Module]:
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
    from transformers import SiglipVisionConfig, SiglipVisionModel, T5Config, T5EncoderModel

    return {
        "transformer": FluxTransformer2DModel(**FLUX1),
        "text_encoder": _clip(CLIP_L, projected=False),
        "text_encoder_2": T5EncoderModel(T5Config(**T5_XXL)),
        "vae": AutoencoderKL(**VAE_16),
        "image_encoder": SiglipVisionModel(SiglipVisionConfig(**SIGLIP)),
        "image_embedder": ReduxImageEncoder(redux_dim=1152, txt_in_features=4096),
    }


def _flux_step(made: dict[str, Any]) -> dict[str, Tensor]:
    """512 tokens of T5, and one image's 729 behind them."""
    hidden = made["image_encoder"](torch.empty(1, 3, 384, 384)).last_hidden_state
    embedding = made["image_embedder"](hidden).image_embeds
    text = made["text_encoder_2"](torch.zeros(1, 512, dtype=torch.long))[0]
    places = PIXELS // 16
    told = torch.cat([text, embedding], 1)
    packed = made["transformer"](
        hidden_states=torch.empty(1, places * places, 64),
        encoder_hidden_states=told,
        pooled_projections=torch.empty(1, CLIP_L["hidden_size"]),
        timestep=torch.empty(1),
        img_ids=torch.zeros(places * places, 3),
        txt_ids=torch.zeros(told.shape[1], 3),
        guidance=torch.empty(1),
        return_dict=False,
    )[0]
    latents = torch.empty(1, 16, PIXELS // 8, PIXELS // 8)
    image = made["vae"].decode(latents).sample
    return {"hidden states": hidden, "embedding": embedding, "told": told, "predicted": packed, "image": image}


def _sd3() -> dict[str, nn.Module]:
    from diffusers import AutoencoderKL, SD3Transformer2DModel
    from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
    from diffusers.models.embeddings import IPAdapterTimeImageProjection
    from transformers import SiglipVisionConfig, SiglipVisionModel, T5Config, T5EncoderModel

    transformer = SD3Transformer2DModel(**SD35_LARGE)
    width = transformer.inner_dim
    transformer.set_attn_processor(
        {name: SD3IPAdapterJointAttnProcessor2_0(width, width, 64) for name in transformer.attn_processors}
    )
    transformer.image_proj = IPAdapterTimeImageProjection()
    return {
        "transformer": transformer,
        "text_encoder": _clip(CLIP_L, projected=True),
        "text_encoder_2": _clip(CLIP_G, projected=True),
        "text_encoder_3": T5EncoderModel(T5Config(**T5_XXL)),
        "vae": AutoencoderKL(**VAE_16),
        "image_encoder": SiglipVisionModel(SiglipVisionConfig(**SIGLIP)),
    }


def _sd3_step(made: dict[str, Any]) -> dict[str, Tensor]:
    """77 tokens of both CLIPs and 256 of T5; one image's hidden states, which the adapter makes 64 tokens of."""
    image = torch.empty(1, 3, 384, 384)
    hidden = made["image_encoder"](image, output_hidden_states=True).hidden_states[-2]
    latents = torch.empty(1, 16, PIXELS // 8, PIXELS // 8)
    text = torch.empty(1, 77 + 256, 4096)
    timestep = torch.empty(1)
    projected = made["transformer"].image_proj(hidden, timestep)[0]
    attend = nn.functional.scaled_dot_product_attention

    def as_devices_do(*args: Any, **named: Any) -> Tensor:
        """Heads beside each other in memory, which the adapter counts on; on the meta device they are not."""
        return attend(*args, **named).transpose(1, 2).contiguous().transpose(1, 2)

    with mock.patch.object(nn.functional, "scaled_dot_product_attention", as_devices_do):
        predicted = made["transformer"](
            hidden_states=latents,
            encoder_hidden_states=text,
            pooled_projections=torch.empty(1, 2048),
            timestep=timestep,
            joint_attention_kwargs={"ip_adapter_image_embeds": hidden},
            return_dict=False,
        )[0]
    shown = made["vae"].decode(latents).sample
    return {"embedding": hidden, "projected": projected, "text": text, "predicted": predicted, "image": shown}


def _unclip() -> dict[str, nn.Module]:
    from benchmarks.full_size import networks

    return networks()


def _stable_diffusion() -> dict[str, nn.Module]:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    return {
        "unet": UNet2DConditionModel(cross_attention_dim=CLIP_L["hidden_size"]),
        "text_encoder": _clip(CLIP_L, projected=False),
        "vae": AutoencoderKL(**VAE_4),
    }


def _ip_adapter() -> dict[str, nn.Module]:
    return {**_stable_diffusion(), **_adapted(VIT_H, layers={320: 5, 640: 5, 1280: 6}, width=CLIP_L["hidden_size"])}


def _ip_adapter_xl() -> dict[str, nn.Module]:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    return {
        "unet": UNet2DConditionModel(**SDXL),
        "text_encoder": _clip(CLIP_L, projected=False),
        "text_encoder_2": _clip(CLIP_G, projected=True),
        "vae": AutoencoderKL(**VAE_4),
        **_adapted(VIT_BIGG, layers={640: 10, 1280: 60}, width=SDXL["cross_attention_dim"]),
    }


def _adapted(vision: dict[str, Any], layers: dict[int, int], width: int) -> dict[str, nn.Module]:
    """Return a base IP-Adapter and its image encoder: 4 tokens, a key and a value of them for each cross-attention."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    features = vision["projection_dim"]
    keys = [nn.Linear(width, hidden, bias=False) for hidden, count in layers.items() for _ in range(2 * count)]
    return {
        "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)),
        "adapter": nn.ModuleList([nn.Linear(features, 4 * width), nn.LayerNorm(width), *keys]),
    }


ARCHITECTURES = {
    "stable-unclip": Architecture(_unclip, {"all": "benchmarks/full_size.py"}),
    "stable-diffusion": Architecture(
        _stable_diffusion,
        {"unet": _DEFAULTS, "text_encoder": f"CLIP ViT-L/14, {_CLIP}", "vae": f"{_CONVERTED} for SD 1"},
    ),
    "ip-adapter": Architecture(
        _ip_adapter, {"image_encoder": f"CLIP ViT-H/14, {_CLIP}", "adapter": "base, as published (arXiv 2308.06721)"}
    ),
    "ip-adapter-xl": Architecture(
        _ip_adapter_xl,
        {
            "unet": f"{_CONVERTED} for SDXL",
            "text_encoder_2": f"CLIP ViT-bigG/14, {_CLIP}",
            "image_encoder": f"CLIP ViT-bigG/14, {_CLIP}",
            "adapter": "base, as published (arXiv 2308.06721)",
        },
    ),
    "flux2-klein": Architecture(
        _klein,
        {
            "transformer": f"{_CONVERTED} for klein 4B, which is not the class's default",
            "text_encoder": "Qwen3-4B as published (arXiv 2505.09388), its head tied to its embedding",
            "vae": _DEFAULTS,
        },
        _klein_step,
    ),
    "flux-redux": Architecture(
        _flux,
        {
            "transformer": f"{_CONVERTED} for FLUX.1, dev: told the scale of guidance",
            "text_encoder": f"CLIP ViT-L/14, {_CLIP}",
            "text_encoder_2": "T5-v1.1-XXL's encoder, as published (arXiv 1910.10683)",
            "vae": f"{_CONVERTED} for FLUX.1",
            "image_encoder": "SigLIP so400m/14 at 384 pixels, as published (arXiv 2303.15343)",
            "image_embedder": _DEFAULTS,
        },
        _flux_step,
    ),
    "sd3-ip-adapter": Architecture(
        _sd3,
        {
            "transformer": f"{_CONVERTED} for SD 3.5 large; the adapter in it: {_DEFAULTS}",
            "text_encoder": f"CLIP ViT-L/14, {_CLIP}",
            "text_encoder_2": f"CLIP ViT-bigG/14, {_CLIP}",
            "text_encoder_3": "T5-v1.1-XXL's encoder, as published (arXiv 1910.10683)",
            "vae": f"{_CONVERTED} for SD 3",
            "image_encoder": "SigLIP so400m/14 at 384 pixels, as published (arXiv 2303.15343)",
        },
        _sd3_step,
    ),
}


def measured(name: str) -> dict[str, Any]:
    """Return parameters, gigabytes, shapes through one step, and where the dimensions are from."""
    architecture = ARCHITECTURES[name]
    with torch.device("meta"), torch.inference_mode():
        made = {part: network.eval() for part, network in architecture.networks().items()}
        found = {} if architecture.step is None else architecture.step(made)
    counts = {part: sum(map(_size, network.parameters())) for part, network in made.items()}
    return {
        "parameters": counts,
        "gigabytes of weights": {dtype: _gigabytes(sum(counts.values()), size) for dtype, size in BYTES.items()},
        "gigabytes of the largest network": {
            dtype: _gigabytes(max(counts.values()), size) for dtype, size in BYTES.items()
        },
        "shapes": {what: list(tensor.shape) for what, tensor in found.items()},
        "dimensions from": architecture.sources,
    }


def _size(parameter: nn.Parameter) -> int:
    return math.prod(parameter.shape)


def _gigabytes(parameters: int, size: int) -> float:
    return round(parameters * size / 1e9, 1)
