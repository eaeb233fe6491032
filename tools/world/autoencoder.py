"""The autoencoder: a linear encoder, started at the principal components of 4x4 patches, and a convolutional decoder.

    python -m tools.world.autoencoder --build ../world-build

32x32x3 pictures become 8x8x8 latents. The encoder has no activations, so it stays linear while it is trained with the
decoder; starting from the best linear code of its size, it can only improve on it.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from tools.world.data import split_garments
from tools.world.garments import Garments
from tools.world.optimizer import MuonAdamW
from tools.world.styles import draw_broad, draw_narrow, render, to_unit
from tools.world.training import BUILD_FOLDER, TrainingPlan, load_average, train
from tools.world.workers import start_workers
from torch import Generator, Tensor, nn
from torch.nn import functional as F

PATCH = 4
LATENT_CHANNELS = 8
WIDTH = 48  # of the encoder; = 4 * 4 * 3, so it can carry the values of a patch in as many channels
_DECODER_WIDTH = 32
_WHITENING = 0.5  # 0 keeps the components' own spread, 1 gives every channel the same
_LATENT_NOISE = 0.03  # the decoder learns to forgive what a sampler leaves
_FIT_PICTURES = 20_000
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinearCode:
    """A linear code of 4x4 patches: latent = weight @ patch + bias, on pictures in [0, 1].

    Attributes:
        weight: (8, 48), patch values ordered (row, column, colour).
        bias: (8,).
        inverse: (48, 8), the least-squares decoder.
        mean: (48,) mean patch.
    """

    weight: Tensor
    bias: Tensor
    inverse: Tensor
    mean: Tensor

    def encode(self, unit: Tensor) -> Tensor:
        """(B, 3, 32, 32) pictures in [-1, 1] as (B, 8, 8, 8) latents."""
        latents = _patches((unit + 1) / 2) @ self.weight.T + self.bias
        return latents.permute(0, 3, 1, 2).contiguous()

    def decode(self, latents: Tensor) -> Tensor:
        """Latents as pictures in [-1, 1]: the reference that the trained decoder has to beat."""
        values = latents.permute(0, 2, 3, 1) @ self.inverse.T + self.mean
        batch, rows, columns, _ = values.shape
        values = values.reshape(batch, rows, columns, PATCH, PATCH, 3).permute(0, 5, 1, 3, 2, 4)
        return values.reshape(batch, 3, rows * PATCH, columns * PATCH).clamp(0, 1) * 2 - 1


def fit_linear_code(pictures: Tensor) -> LinearCode:
    """Fit the code to uint8 pictures: principal components, partly whitened, mean square of the latents 1."""
    patches = _patches(pictures.float() / 255).reshape(-1, WIDTH)
    mean = patches.mean(0)
    variance, axes = torch.linalg.eigh(torch.cov((patches - mean).T))
    spread = variance.flip(0)[:LATENT_CHANNELS].sqrt()
    axes = axes.flip(1)[:, :LATENT_CHANNELS].T
    spread_after = spread ** (1 - _WHITENING)
    gain = spread_after / spread_after.pow(2).mean().sqrt() / spread
    weight = axes * gain[:, None]
    return LinearCode(weight=weight, bias=-weight @ mean, inverse=(axes / gain[:, None]).T, mean=mean)


def build_autoencoder(code: LinearCode) -> AutoencoderTiny:
    """An `AutoencoderTiny` whose encoder starts as exactly `code` and whose decoder is untrained."""
    model = AutoencoderTiny(
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(WIDTH,) * 3,
        decoder_block_out_channels=(_DECODER_WIDTH,) * 3,
        num_encoder_blocks=(0, 0, 0),
        num_decoder_blocks=(4, 3, 1),
        scaling_factor=1.0,
    )
    first, second, third, last = model.encoder.layers
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
        for colour in range(3):
            first.weight[colour, colour, 1, 1] = 1
        _set_unshuffle(second, channels=3)
        _set_unshuffle(third, channels=12)
        last.weight[:, :, 1, 1] = code.weight[:, _carrier_order()]
        last.bias.copy_(code.bias)
    return model


def draw_pictures(garments: Garments, count: int, generator: Generator) -> Tensor:
    """(count, 3, 32, 32) uint8: random garments in random styles, one in eight narrow."""
    rows = torch.randint(len(garments), (count,), generator=generator)
    narrow = count // 8
    grey = garments.images[rows]
    parts = [render(grey[:narrow], draw_narrow(narrow, generator))] if narrow else []
    return torch.cat([*parts, render(grey[narrow:], draw_broad(count - narrow, generator))])


def mean_errors(model: AutoencoderTiny, code: LinearCode, pictures: Tensor) -> dict[str, float]:
    """Mean absolute error in [-1, 1] of the autoencoder and of the linear code on uint8 pictures."""
    unit = to_unit(pictures)
    with torch.no_grad():
        learned = model.decode(model.encode(unit).latents).sample.clamp(-1, 1)
    return {
        "learned": (learned - unit).abs().mean().item(),
        "linear": (code.decode(code.encode(unit)) - unit).abs().mean().item(),
    }


def load_or_fit_code(folder: Path, garments: Garments) -> LinearCode:
    """The linear code kept in the build folder, fitted and written there the first time."""
    path = folder / "linear_code.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        code = fit_linear_code(draw_pictures(garments, _FIT_PICTURES, torch.Generator().manual_seed(1)))
        torch.save({name: getattr(code, name) for name in LinearCode.__slots__}, path)
    return LinearCode(**torch.load(path, weights_only=True))


def _patches(pictures: Tensor) -> Tensor:
    batch, colours, height, width = pictures.shape
    grid = pictures.reshape(batch, colours, height // PATCH, PATCH, width // PATCH, PATCH)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, height // PATCH, width // PATCH, PATCH * PATCH * colours)


def _set_unshuffle(conv: nn.Conv2d, channels: int) -> None:
    for row in range(2):
        for column in range(2):
            for channel in range(channels):
                conv.weight[(row * 2 + column) * channels + channel, channel, row + 1, column + 1] = 1


def _carrier_order() -> Tensor:
    """For each of the 48 channels after two unshuffles: which value of a (row, column, colour) patch it carries."""
    numbers = torch.arange(WIDTH).reshape(PATCH, PATCH, 3)
    order = torch.empty(WIDTH, dtype=torch.long)
    for outer in range(4):
        for inner in range(4):
            row, column = outer // 2 * 2 + inner // 2, outer % 2 * 2 + inner % 2
            order[(outer * 4 + inner) * 3 : (outer * 4 + inner) * 3 + 3] = numbers[row, column]
    return order


def main() -> None:
    """Fit the linear code, train the decoder, report the errors on held-out garments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=BUILD_FOLDER)
    parser.add_argument("--images", type=int, default=60_000)
    arguments = parser.parse_args()
    start_workers()
    parts = split_garments()
    code = load_or_fit_code(arguments.build, parts["generator"])
    torch.manual_seed(0)
    model = build_autoencoder(code)
    model.to(memory_format=torch.channels_last)
    plan = TrainingPlan(arguments.images, batch_size=32, ema_decay=0.995, log_steps=100)
    encoder = list(model.encoder.parameters())

    def losses_of(_: int, generator: Generator) -> dict[str, Tensor]:
        unit = to_unit(draw_pictures(parts["generator"], plan.local_batch, generator))
        unit = unit.contiguous(memory_format=torch.channels_last)
        latents = model.encoder(unit)
        noise = torch.randn(latents.shape, generator=generator) * _LATENT_NOISE
        return {
            "l1": F.l1_loss(model.decoder(latents + noise), unit),
            "size": 0.01 * (latents.pow(2).mean() - 1).abs(),
        }

    hidden = [parameter for parameter in model.decoder.layers[1:-1].parameters() if parameter.ndim == 4]
    ends = [*model.decoder.layers[0].parameters(), *model.decoder.layers[-1].parameters()]
    biases = [parameter for parameter in model.decoder.layers[1:-1].parameters() if parameter.ndim == 1]
    optimizer = MuonAdamW(hidden, [*ends, *biases], muon_rate=0.02, adam_rate=2e-3)
    optimizer.add_param_group({"params": encoder, "lr": 3e-4, "muon": False})
    train(plan, arguments.build / "autoencoder", model, losses_of, optimizer)
    model.load_state_dict(load_average(arguments.build / "autoencoder"))
    pictures = draw_pictures(parts["held_out"], 1000, torch.Generator().manual_seed(2))
    logger.info("held out: %s", mean_errors(model, code, pictures))


if __name__ == "__main__":
    main()
