"""Tiny networks with random weights, of which the checkpoints for tests are put together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from augcond.generators.loading import quiet_progress

BETAS: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
"""Stable Diffusion's noise schedule."""


@dataclass(frozen=True, slots=True)
class TinyShape:
    """Dimensions of a tiny pipeline; the defaults load and run in about a second.

    Attributes:
        embedding: D, length of the image embedding.
        latent: edge length of the latents; images are `latent * vae_scale` pixels wide.
        vae_scale: how many pixels one latent stands for, 2 or 4.
        text: width of the text embeddings.
        encoder_input: edge length of the image encoder's input, a multiple of 8.
        autoencoder: `kl` for AutoencoderKL, `tiny` for AutoencoderTiny.
        prediction: what the UNet predicts.
    """

    embedding: int = 16
    latent: int = 8
    vae_scale: Literal[2, 4] = 2
    text: int = 16
    encoder_input: int = 32
    autoencoder: Literal["kl", "tiny"] = "kl"
    prediction: Literal["epsilon", "v_prediction"] = "v_prediction"


def tiny_scheduler(prediction: str) -> Any:
    """Return a PNDMScheduler on Stable Diffusion's noise schedule."""
    from diffusers import PNDMScheduler

    return PNDMScheduler(prediction_type=prediction, skip_prk_steps=True, steps_offset=1, **BETAS)


def tiny_extractor(shape: TinyShape) -> Any:
    """Return a CLIPImageProcessor for the image encoder's input."""
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(
        size={"shortest_edge": shape.encoder_input},
        crop_size={"height": shape.encoder_input, "width": shape.encoder_input},
    )


def tiny_image_encoder(shape: TinyShape) -> Any:
    """Return a CLIPVisionModelWithProjection with patches of 8 pixels and hidden states of 16 features."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=shape.embedding,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=shape.encoder_input,
        patch_size=8,
    )
    return CLIPVisionModelWithProjection(config).eval()


def tiny_text_encoder(shape: TinyShape, tokenizer: Any, *, projection: bool = False) -> Any:
    """Return a CLIPTextModel, or one with a projection."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.text,
        intermediate_size=2 * shape.text,
        projection_dim=shape.text,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def tiny_unet(shape: TinyShape, **settings: Any) -> Any:
    """Return a UNet2DConditionModel of two levels, with cross-attention on the upper one and in the middle."""
    from diffusers import UNet2DConditionModel

    defaults: dict[str, Any] = {
        "sample_size": shape.latent,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": (2, 4),
        "norm_num_groups": 4,
        "cross_attention_dim": shape.text,
    }
    return UNet2DConditionModel(**(defaults | settings)).eval()


def tiny_vae(shape: TinyShape, **settings: Any) -> Any:
    """Return an AutoencoderKL, with other `settings` where they are named, or an AutoencoderTiny."""
    from diffusers import AutoencoderKL, AutoencoderTiny

    levels = int(math.log2(shape.vae_scale)) + 1
    if shape.autoencoder == "tiny":
        channels = (8,) * levels
        vae = AutoencoderTiny(
            encoder_block_out_channels=channels,
            decoder_block_out_channels=channels,
            num_encoder_blocks=(1,) * levels,
            num_decoder_blocks=(1,) * levels,
        )
        return vae.eval()
    defaults: dict[str, Any] = {
        "block_out_channels": (8,) * levels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 2,
        "sample_size": shape.latent * shape.vae_scale,
    }
    return AutoencoderKL(**(defaults | settings)).eval()


_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"


def tiny_chat_tokenizer() -> Any:
    """Return a Qwen2Tokenizer that spells every word in bytes, with the template of a chat."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2TokenizerFast

    tokens = ["<|endoftext|>", *sorted(ByteLevel.alphabet())]
    tokenizer = Qwen2TokenizerFast(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    tokenizer.chat_template = (
        "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% if not enable_thinking %}<>{% endif %}{% endif %}"
    )
    return tokenizer


def tiny_tokenizer(length: int = 24) -> Any:
    """Return a CLIPTokenizer of `length` tokens that spells every word: letters, digits, punctuation, no merges."""
    from transformers import CLIPTokenizer

    tokens = [*_CHARACTERS, *(f"{character}</w>" for character in _CHARACTERS), "<|startoftext|>", "<|endoftext|>"]
    with TemporaryDirectory() as name:
        folder = Path(name)
        vocabulary = {token: index for index, token in enumerate(tokens)}
        (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
        # By the files, since the constructor's arguments differ between transformers 4 and 5.
        return CLIPTokenizer.from_pretrained(folder, model_max_length=length)


def tiny_siglip(shape: TinyShape) -> Any:
    """Return a SiglipVisionModel with patches of 8 pixels and hidden states of `shape.embedding` features."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    config = SiglipVisionConfig(
        hidden_size=shape.embedding,
        intermediate_size=2 * shape.embedding,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=shape.encoder_input,
        patch_size=8,
    )
    return SiglipVisionModel(config).eval()


def tiny_siglip_extractor(shape: TinyShape) -> Any:
    """Return a SiglipImageProcessor for the image encoder's input."""
    from transformers import SiglipImageProcessor

    return SiglipImageProcessor(size={"height": shape.encoder_input, "width": shape.encoder_input})


def tiny_t5(shape: TinyShape, tokenizer: Any) -> Any:
    """Return a T5EncoderModel."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=shape.text,
        d_kv=8,
        d_ff=2 * shape.text,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


def tiny_t5_tokenizer(length: int = 32) -> Any:
    """Return a T5TokenizerFast of `length` tokens that spells every word."""
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import Unigram
    from transformers import T5TokenizerFast

    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    tokenizer = Tokenizer(Unigram([*vocabulary, *((character, -3.0) for character in _CHARACTERS)], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    with TemporaryDirectory() as name:
        tokenizer.save(str(Path(name) / "tokenizer.json"))
        # By the file, for the same reason.
        return T5TokenizerFast.from_pretrained(name, model_max_length=length, extra_ids=0)


@contextmanager
def random_weights(seed: int) -> Iterator[None]:
    """Draw random weights from a seed for a while; PyTorch's global random state is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def save_pipeline(pipeline: Any, folder: Path | str) -> Path:
    """Save a pipeline as safetensors, and return its folder."""
    with quiet_progress():
        pipeline.save_pretrained(folder, safe_serialization=True)
    return Path(folder)
