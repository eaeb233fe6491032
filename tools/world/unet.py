"""The UNet: denoises latents, told by an image embedding and a caption, either of which is dropped now and then.

    torchrun --nproc-per-node 2 -m tools.world.unet --build ../world-build --images 600000

To go on from the committed checkpoint with fresh optimizer state (what lies outside the repository may be lost):

    ... -m tools.world.unet --build ../world-build --init-from src/augcond/assets/world/checkpoint --images 600000
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from tools.world.autoencoder import LATENT_CHANNELS
from tools.world.bank import Bank, load_bank
from tools.world.captions import CAPTION_COUNT, draw_captions
from tools.world.encoders import EMBEDDING, TEXT_WIDTH
from tools.world.optimizer import MuonAdamW
from tools.world.training import BUILD_FOLDER, TrainingPlan, train
from tools.world.workers import start_workers
from torch import Generator, Tensor, nn

CAPTION_RATES = (0.3, 0.92, 0.3)  # how often colour, garment and backdrop are named
DROP_IMAGE, DROP_TEXT, DROP_BOTH = 0.3, 0.08, 0.1
_NOISY_EMBEDDINGS = 0.2  # share trained at a random noise level; the rest at level 0, as the product runs
_SNR_CAP = 5.0


def build_unet() -> UNet2DConditionModel:
    """The untrained UNet: attention only at 4x4, no group of fewer than four channels."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=16,
        attention_head_dim=(2, 4),  # heads, despite the name; 32 channels each
        cross_attention_dim=TEXT_WIDTH,
        use_linear_projection=True,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * EMBEDDING,
        resnet_time_scale_shift="scale_shift",
    )


def noise_schedule() -> DDPMScheduler:
    """The schedule the UNet is trained on, and, apart from the prediction type, that of the embedding noise."""
    return DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False)


def draw_levels(count: int, generator: Generator) -> Tensor:
    """(count,) noise levels of the image embedding."""
    noisy = torch.rand(count, generator=generator) < _NOISY_EMBEDDINGS
    return torch.where(noisy, torch.randint(1000, (count,), generator=generator), 0)


def condition(bank: Bank, rows: Tensor, schedule: DDPMScheduler, generator: Generator) -> tuple[Tensor, Tensor]:
    """What the UNet is told of some pictures of the bank.

    Returns:
        (B, 2 D) noised embeddings with their level, all zeros where dropped, and (B, 16, W) caption states.
    """
    count = len(rows)
    levels = draw_levels(count, generator)
    normal = (bank.embeddings[rows].float() - bank.mean) / bank.std
    noise = torch.randn(normal.shape, generator=generator)
    noised = schedule.add_noise(normal, noise, levels) * bank.std + bank.mean
    level_states = get_timestep_embedding(levels, EMBEDDING, flip_sin_to_cos=True, downscale_freq_shift=0)
    vectors = torch.cat([noised, level_states], dim=1)
    captions = draw_captions(bank.colours[rows], bank.labels[rows], bank.backdrops[rows], CAPTION_RATES, generator)
    draw = torch.rand(count, generator=generator)
    no_image = draw < DROP_IMAGE + DROP_BOTH
    no_text = (draw >= DROP_IMAGE) & (draw < DROP_IMAGE + DROP_BOTH + DROP_TEXT)
    captions = torch.where(no_text, CAPTION_COUNT, captions)
    return vectors.masked_fill(no_image[:, None], 0.0), bank.caption_states[captions]


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights inside the blocks, for Muon, and all other parameters."""
    hidden, others = [], []
    for name, parameter in model.named_parameters():
        inside = "_block" in name and parameter.ndim >= 2
        (hidden if inside else others).append(parameter)
    return hidden, others


def main() -> None:
    """Train the UNet on the bank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=BUILD_FOLDER)
    parser.add_argument("--images", type=int, default=600_000, help="latents seen when the schedule ends")
    parser.add_argument("--batch-size", type=int, default=192)
    parser.add_argument("--init-from", type=Path, help="a checkpoint folder whose UNet is the start")
    parser.add_argument("--seed", type=int, default=0, help="give another one when going on from an export")
    arguments = parser.parse_args()
    start_workers()
    bank = load_bank(arguments.build)
    torch.manual_seed(arguments.seed)
    if arguments.init_from:
        model = UNet2DConditionModel.from_pretrained(arguments.init_from, subfolder="unet", use_safetensors=True)
    else:
        model = build_unet()
    model.to(memory_format=torch.channels_last)
    schedule = noise_schedule()
    ratio = schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)
    weights = ratio.clamp(max=_SNR_CAP) / (ratio + 1)
    plan = TrainingPlan(
        arguments.images, arguments.batch_size, ema_decay=0.998, seed=arguments.seed, warmup=200, log_steps=100
    )

    def losses_of(_: int, generator: Generator) -> dict[str, Tensor]:
        rows = torch.randint(len(bank.labels), (plan.local_batch,), generator=generator)
        latents = bank.latents[rows].float()
        vectors, captions = condition(bank, rows, schedule, generator)
        steps = torch.randint(1000, (plan.local_batch,), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        noisy = schedule.add_noise(latents, noise, steps).contiguous(memory_format=torch.channels_last)
        predicted = model(noisy, steps, encoder_hidden_states=captions, class_labels=vectors).sample
        errors = (predicted - schedule.get_velocity(latents, noise, steps)).pow(2).mean((1, 2, 3))
        return {"v": (errors * weights[steps]).mean()}

    optimizer = MuonAdamW(*split_parameters(model), muon_rate=0.01, adam_rate=1e-3)
    train(plan, arguments.build / "unet", model, losses_of, optimizer)


if __name__ == "__main__":
    main()
