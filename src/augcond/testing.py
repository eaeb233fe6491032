"""Test tools for users of augcond: a weightless generator and tiny checkpoints of the real format.

Nothing here makes useful images. `FakeGenerator` stands behind the real interface and tests everything around a
generator in milliseconds; `save_tiny_stable_unclip` saves a real Stable unCLIP pipeline with random weights, small
enough to load and run in about a second.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn import functional

from augcond.errors import ConfigError
from augcond.generators.base import Generated, Generator, GeneratorIdentity
from augcond.generators.loading import quiet_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image
    from torch import Tensor

    from augcond.conditioning.base import Conditioning
    from augcond.config import GeneratorConfig

_POOL = 4  # the fake encoder sees 4 x 4 average colours


class FakeGenerator(Generator):
    """A deterministic generator without weights: an image is a pattern made from a hash of what it is asked for.

    Each row is computed alone, so images and embeddings are bit-equal in every batch. The hash takes the row's
    embedding rounded to 1e-4, whether it has an image at all, its prompt and its seed.

    Args:
        image_size: height and width of the images, multiples of 4.
        encoder_size: edge length of the views.
        embedding_shape: (D,), or (T, D) for a generator that is conditioned on tokens.
        delay: seconds that every batch takes.
        fails: rows whose seed satisfies this come back black, with an error.
        max_batch: larger batches raise `torch.OutOfMemoryError`.
    """

    def __init__(
        self,
        *,
        image_size: tuple[int, int] = (16, 16),
        encoder_size: int = 16,
        embedding_shape: tuple[int, ...] = (12,),
        delay: float = 0.0,
        fails: Callable[[int], bool] | None = None,
        max_batch: int | None = None,
    ) -> None:
        self.identity = GeneratorIdentity(name="fake", model="fake", revision="1")
        self.image_size = image_size
        self.encoder_size = encoder_size
        self.embedding_shape = embedding_shape
        self._delay = delay
        self._fails = fails
        self._max_batch = max_batch
        # A fixed full-rank projection of the colours; float64 and row by row, so that a batch cannot change a bit.
        features, colours = math.prod(embedding_shape), 3 * _POOL * _POOL
        angles = torch.outer(torch.arange(1, colours + 1), torch.arange(1, features + 1)).double()
        self._projection = torch.sin(angles * 0.7)

    def view(self, image: Image) -> Tensor:
        """Return `image` resized to a square, (3, S, S) in [0, 1]."""
        resized = image.convert("RGB").resize((self.encoder_size, self.encoder_size))
        pixels = torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8)
        return pixels.view(self.encoder_size, self.encoder_size, 3).permute(2, 0, 1).float() / 255

    def encode_images(self, views: Tensor) -> Tensor:
        """Return a fixed linear function of the average colours of each view, (B, *embedding_shape)."""
        rows = [functional.adaptive_avg_pool2d(view.double(), _POOL).flatten() @ self._projection for view in views]
        if not rows:
            return torch.zeros(0, *self.embedding_shape)
        return torch.stack(rows).float().view(-1, *self.embedding_shape)

    def generate(self, conditioning: Conditioning, seeds: Sequence[int]) -> Generated:
        """Return a pattern of 4 x 4 random colours for each row.

        Raises:
            torch.OutOfMemoryError: the batch is larger than `max_batch`.
        """
        if len(seeds) != len(conditioning):
            raise ValueError(f"{len(conditioning)} rows of conditioning but {len(seeds)} seeds")
        if self._max_batch is not None and len(conditioning) > self._max_batch:
            raise torch.OutOfMemoryError(f"fake generator: a batch of {len(conditioning)} exceeds {self._max_batch}")
        time.sleep(self._delay)
        images = torch.zeros(len(seeds), *self.image_size, 3, dtype=torch.uint8)
        errors: list[str | None] = []
        for row, seed in enumerate(seeds):
            failed = self._fails is not None and self._fails(seed)
            errors.append("made to fail" if failed else None)
            if not failed:
                images[row] = self._pattern(conditioning, row, seed)
        return Generated(images=images, errors=tuple(errors))

    def _pattern(self, conditioning: Conditioning, row: int, seed: int) -> Tensor:
        content = hashlib.sha256(f"{seed}\0{conditioning.prompts[row]}\0".encode())
        if conditioning.with_image[row]:
            rounded = (conditioning.embeddings[row].double() * 1e4).round().to(torch.int64)
            content.update(rounded.numpy().tobytes())
        digest = content.digest() + hashlib.sha256(content.digest()).digest()
        colours = torch.frombuffer(bytearray(digest[:48]), dtype=torch.uint8).view(4, 4, 3)
        height, width = self.image_size
        return colours.repeat_interleave(height // 4, 0).repeat_interleave(width // 4, 1)


def load_fake_generator(config: GeneratorConfig) -> FakeGenerator:
    """Return the `FakeGenerator` that a config with `generator.name=fake` stands for.

    `generator.size` sets the image size. `generator.model` holds the knobs as `knob=number`, joined by commas:
    `delay` (seconds per batch), `max_batch`, and `fail_every=n` (rows whose seed is a multiple of n fail), such as
    `--set generator.model=delay=0.1,fail_every=7`; `builtin` and `fake` stand for none. The knobs are not part of
    the identity.

    Raises:
        ConfigError: a knob is unknown or not a number, or the size is not a multiple of 4.
    """
    knobs = {"delay": 0.0, "max_batch": 0.0, "fail_every": 0.0}
    for part in () if config.model in ("builtin", "fake") else config.model.split(","):
        name, _, value = part.partition("=")
        try:
            if name not in knobs:
                raise ValueError
            knobs[name] = float(value)
        except ValueError:
            raise ConfigError(
                f"generator.model: the fake generator takes {', '.join(knobs)} as knob=number, not {part!r}"
            ) from None
    size = config.size or 16
    if size % 4:
        raise ConfigError(f"generator.size: the fake generator makes multiples of 4, not {size}")
    every, max_batch = int(knobs["fail_every"]), int(knobs["max_batch"])
    return FakeGenerator(
        image_size=(size, size),
        delay=knobs["delay"],
        fails=(lambda seed: seed % every == 0) if every else None,
        max_batch=max_batch or None,
    )


@dataclass(frozen=True, slots=True)
class TinyShape:
    """Dimensions of a tiny Stable unCLIP pipeline; the defaults load and run in about a second.

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


def save_tiny_stable_unclip(folder: Path | str, *, seed: int = 0, shape: TinyShape | None = None) -> Path:
    """Save a Stable unCLIP pipeline with random weights in the format of the real one, and return its folder.

    Args:
        folder: where to save; made where it does not exist.
        seed: of the random weights; PyTorch's global random state is left as it was.
        shape: the dimensions.

    Source: the shape of the components follows diffusers' own tests of StableUnCLIPImg2ImgPipeline.
    """
    from diffusers import StableUnCLIPImg2ImgPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        components = _tiny_components(shape or TinyShape())
    with quiet_progress():
        StableUnCLIPImg2ImgPipeline(**components).save_pretrained(folder, safe_serialization=True)
    return Path(folder)


def _tiny_components(shape: TinyShape) -> dict[str, Any]:
    from diffusers import DDPMScheduler, PNDMScheduler, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
    from transformers import (
        CLIPImageProcessor,
        CLIPTextConfig,
        CLIPTextModel,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    tokenizer = _tiny_tokenizer()
    text = CLIPTextConfig(
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
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=shape.embedding,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=shape.encoder_input,
        patch_size=8,
    )
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=shape.embedding)
    # Not 0 and 1, or a missing normalisation would go unnoticed.
    normalizer.mean.data.normal_(std=0.1)
    normalizer.std.data.uniform_(0.5, 1.5)
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    return {
        "feature_extractor": CLIPImageProcessor(
            size={"shortest_edge": shape.encoder_input},
            crop_size={"height": shape.encoder_input, "width": shape.encoder_input},
        ),
        "image_encoder": CLIPVisionModelWithProjection(vision).eval(),
        "image_normalizer": normalizer,
        "image_noising_scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        "tokenizer": tokenizer,
        "text_encoder": CLIPTextModel(text).eval(),
        "unet": UNet2DConditionModel(
            sample_size=shape.latent,
            in_channels=4,
            out_channels=4,
            block_out_channels=(16, 32),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=(2, 4),
            norm_num_groups=4,
            cross_attention_dim=shape.text,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=2 * shape.embedding,
        ).eval(),
        "scheduler": PNDMScheduler(prediction_type=shape.prediction, skip_prk_steps=True, steps_offset=1, **betas),
        "vae": _tiny_vae(shape).eval(),
    }


def _tiny_vae(shape: TinyShape) -> Any:
    from diffusers import AutoencoderKL, AutoencoderTiny

    levels = int(math.log2(shape.vae_scale)) + 1
    if shape.autoencoder == "tiny":
        channels = (8,) * levels
        return AutoencoderTiny(
            encoder_block_out_channels=channels,
            decoder_block_out_channels=channels,
            num_encoder_blocks=(1,) * levels,
            num_decoder_blocks=(1,) * levels,
        )
    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=shape.latent * shape.vae_scale,
    )


def _tiny_tokenizer() -> Any:
    """Return a CLIPTokenizer that spells every word: letters, digits and punctuation, no merges."""
    from transformers import CLIPTokenizer

    characters = "abcdefghijklmnopqrstuvwxyz0123456789!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"
    tokens = [*characters, *(f"{character}</w>" for character in characters), "<|startoftext|>", "<|endoftext|>"]
    with TemporaryDirectory() as name:
        folder = Path(name)
        vocabulary = {token: index for index, token in enumerate(tokens)}
        (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
        # By the files, since the constructor's arguments differ between transformers 4 and 5.
        return CLIPTokenizer.from_pretrained(folder, model_max_length=24)
