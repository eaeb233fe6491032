"""Tiny checkpoints of transformers of flow matching with random weights, in the real formats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from augcond.generators.loading import errors_only, quiet_progress
from augcond.testing.networks import (
    TinyShape,
    random_weights,
    save_pipeline,
    tiny_chat_tokenizer,
    tiny_siglip,
    tiny_siglip_extractor,
    tiny_t5,
    tiny_t5_tokenizer,
    tiny_text_encoder,
    tiny_tokenizer,
    tiny_vae,
)

_SHIFTED: dict[str, Any] = {"scaling_factor": 0.4, "shift_factor": 0.1}
"""Of the autoencoders; neither is 1 or 0, or a missing one would go unnoticed."""


def save_tiny_flux(
    folder: Path | str, kind: Literal["dev", "schnell"] = "dev", *, seed: int = 0, shape: TinyShape | None = None
) -> Path:
    """Save a FLUX.1 pipeline with random weights, and return its folder.

    Args:
        folder: where to save; made where it does not exist.
        kind: dev is told the scale of guidance, and shifts its time by the number of tokens; schnell does neither.
        seed: of the random weights; PyTorch's global random state is left as it was.
        shape: the dimensions; `latent`, `autoencoder` and `prediction` do not apply.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    shape = shape or TinyShape()
    tokenizer, tokenizer_2 = tiny_tokenizer(), tiny_t5_tokenizer()
    with random_weights(seed):
        pipeline = FluxPipeline(
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            text_encoder=tiny_text_encoder(shape, tokenizer),
            text_encoder_2=tiny_t5(shape, tokenizer_2),
            transformer=FluxTransformer2DModel(
                in_channels=16,
                num_layers=2,
                num_single_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=shape.text,
                pooled_projection_dim=shape.text,
                guidance_embeds=kind == "dev",
                axes_dims_rope=(2, 2, 4),
            ).eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(
                shift=3.0 if kind == "dev" else 1.0, use_dynamic_shifting=kind == "dev"
            ),
            vae=tiny_vae(shape, **_SHIFTED),
        )
    return save_pipeline(pipeline, folder)


def save_tiny_redux(folder: Path | str, *, seed: int = 0, shape: TinyShape | None = None) -> Path:
    """Save FLUX's Redux with random weights, without the text encoders as on the hub, and return its folder.

    Args:
        folder: where to save; made where it does not exist.
        seed: of the random weights; PyTorch's global random state is left as it was.
        shape: the dimensions; images have (`encoder_input` / 8) ** 2 tokens of `embedding` features.
    """
    from diffusers import FluxPriorReduxPipeline
    from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder

    shape = shape or TinyShape()
    with random_weights(seed):
        pipeline = FluxPriorReduxPipeline(
            image_encoder=tiny_siglip(shape),
            feature_extractor=tiny_siglip_extractor(shape),
            image_embedder=ReduxImageEncoder(redux_dim=shape.embedding, txt_in_features=shape.text).eval(),
        )
    return save_pipeline(pipeline, folder)


def save_tiny_sd3(folder: Path | str, *, seed: int = 0, shape: TinyShape | None = None) -> Path:
    """Save a Stable Diffusion 3.5 pipeline with random weights, and return its folder.

    Args:
        folder: where to save; made where it does not exist.
        seed: of the random weights; PyTorch's global random state is left as it was.
        shape: the dimensions; `autoencoder` and `prediction` do not apply.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    shape = shape or TinyShape()
    tokenizer, tokenizer_3 = tiny_tokenizer(), tiny_t5_tokenizer()
    wide = replace(shape, text=2 * shape.text)
    with random_weights(seed):
        pipeline = StableDiffusion3Pipeline(
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            tokenizer_3=tokenizer_3,
            text_encoder=tiny_text_encoder(shape, tokenizer, projection=True),
            text_encoder_2=tiny_text_encoder(shape, tokenizer, projection=True),
            text_encoder_3=tiny_t5(wide, tokenizer_3),
            transformer=SD3Transformer2DModel(
                sample_size=shape.latent,
                in_channels=4,
                out_channels=4,
                num_layers=3,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=wide.text,
                caption_projection_dim=16,
                pooled_projection_dim=wide.text,
                pos_embed_max_size=2 * shape.latent,
                qk_norm="rms_norm",
            ).eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=tiny_vae(shape, **_SHIFTED),
        )
    return save_pipeline(pipeline, folder)


def save_tiny_sd3_ip_adapter(
    folder: Path | str, model: Path | str, *, seed: int = 0, shape: TinyShape | None = None
) -> Path:
    """Save an IP-Adapter with random weights in the layout of InstantX's for diffusers, and return its folder.

    Args:
        folder: where to save; made where it does not exist.
        model: folder of the tiny pipeline that the adapter is for.
        seed: of the random weights; PyTorch's global random state is left as it was.
        shape: the dimensions of the image encoder, of which only `embedding` applies.
    """
    from diffusers import SD3Transformer2DModel
    from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
    from diffusers.models.embeddings import IPAdapterTimeImageProjection
    from safetensors.torch import save_file

    features = (shape or TinyShape()).embedding
    config = SD3Transformer2DModel.load_config(model, subfolder="transformer", local_files_only=True)
    width, hidden = config["num_attention_heads"] * config["attention_head_dim"], 16
    with random_weights(seed):
        parts = {
            "image_proj": IPAdapterTimeImageProjection(
                features, width, hidden, heads=1, num_queries=4, timestep_in_dim=8
            ),
            **{
                f"ip_adapter.{block}": SD3IPAdapterJointAttnProcessor2_0(
                    width, width, config["attention_head_dim"], timesteps_emb_dim=hidden
                )
                for block in range(config["num_layers"])
            },
        }
    weights = {f"{part}.{name}": tensor for part in parts for name, tensor in parts[part].state_dict().items()}
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file(weights, Path(folder) / "ip-adapter.safetensors")
    return Path(folder)


def save_tiny_siglip(folder: Path | str, *, seed: int = 0, shape: TinyShape | None = None) -> Path:
    """Save a SigLIP with random weights, vision and text as on the hub, with its preprocessing; return its folder.

    Args:
        folder: where to save; made where it does not exist.
        seed: of the random weights; PyTorch's global random state is left as it was.
        shape: the dimensions; images have (`encoder_input` / 8) ** 2 tokens of `embedding` features.
    """
    from transformers import SiglipConfig, SiglipModel

    shape = shape or TinyShape()
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text |= {"vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1}
    with random_weights(seed), quiet_progress(), errors_only():
        vision = tiny_siglip(shape).config.to_dict()
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        model.save_pretrained(folder, safe_serialization=True)
    tiny_siglip_extractor(shape).save_pretrained(folder)
    return Path(folder)


def save_tiny_flux2_klein(folder: Path | str, *, seed: int = 0, distilled: bool = True) -> Path:
    """Save a FLUX.2 klein pipeline with random weights, and return its folder; 16 x 16 pixels are a token, as in truth.

    Args:
        folder: where to save; made where it does not exist.
        seed: of the random weights; PyTorch's global random state is left as it was.
        distilled: False for one of the base models, which are guided.
    """
    import torch
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer, layers = tiny_chat_tokenizer(), 28  # the last that is read is the 27th
    with random_weights(seed):
        text_encoder = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=8,
                intermediate_size=16,
                num_hidden_layers=layers,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=4,
                initializer_range=0.3,
                bos_token_id=None,
                eos_token_id=0,
                tie_word_embeddings=True,
            )
        ).eval()
        vae = AutoencoderKLFlux2(
            block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=2, norm_num_groups=2, sample_size=64
        ).eval()
        # Not 0 and 1, or a missing normalisation would go unnoticed.
        vae.bn.running_mean.normal_(std=0.2)
        vae.bn.running_var.uniform_(0.3, 2.0)
        transformer = Flux2Transformer2DModel(
            in_channels=8,
            num_layers=2,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ).eval()
        for parameter in transformer.parameters():  # else references and prompts hardly count
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=1.5 / parameter.shape[1] ** 0.5)
    pipeline = Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=distilled,
    )
    return save_pipeline(pipeline, folder)
