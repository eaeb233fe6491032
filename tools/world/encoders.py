"""The two encoders: a CLIP vision model and a CLIP text model, trained together from nothing.

    python -m tools.world.encoders --build ../world-build

Losses on two views (same colours; other rotation, size, brightness) of each garment: class, the answers and features of
a small convolutional teacher, captions against pictures (every true caption is a positive), the other view among the
batch, the colours, and a map of the cloth from the patch tokens. The embedding so keeps class, instance and style.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from tools.world.captions import MAX_TOKENS, build_tokenizer, caption_table, consistent, draw_captions, name_colours
from tools.world.classifiers import Judge, load_judge
from tools.world.data import split_garments
from tools.world.garments import CLASS_NAMES, Garments
from tools.world.optimizer import MuonAdamW
from tools.world.styles import SIZE, draw_broad, jitter, place, render, to_unit
from tools.world.training import BUILD_FOLDER, TrainingPlan, train
from tools.world.workers import start_workers
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

EMBEDDING = 128
TEXT_WIDTH = 128
CAPTION_RATES = (0.35, 1.0, 0.35)  # colour, garment, backdrop: the encoders always hear the garment
TEACHER_FEATURES = 96
_PATCH = 4
_TEMPERATURE = 0.1
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """Two views of B garments.

    Attributes:
        pictures: (2B, 3, 32, 32) in [-1, 1].
        cloth: (2B, 64, 16) brightness of the cloth in every patch.
        labels: (2B,) class.
        colours: (2B, 6) garment and backdrop, RGB in [0, 1].
        captions: (B,) caption numbers.
        true: (2B, B) whether a caption is true of a picture.
        answers: (2B, 10) the teacher's logits.
        features: (2B, F) the teacher's features.
    """

    pictures: Tensor
    cloth: Tensor
    labels: Tensor
    colours: Tensor
    captions: Tensor
    true: Tensor
    answers: Tensor
    features: Tensor


class Encoders(nn.Module):
    """Both encoders and the heads that only training needs."""

    def __init__(self, tokens: Tensor, eos_token: int) -> None:
        super().__init__()
        self.vision = CLIPVisionModelWithProjection(vision_config())
        self.text = CLIPTextModel(text_config(int(tokens.max()) + 1, eos_token))
        self.text_projection = nn.Linear(TEXT_WIDTH, EMBEDDING, bias=False)
        width = self.vision.config.hidden_size
        self.class_head = nn.Linear(EMBEDDING, len(CLASS_NAMES))
        self.colour_head = nn.Linear(EMBEDDING, 6)
        self.feature_head = nn.Linear(EMBEDDING, TEACHER_FEATURES)
        self.cloth_head = nn.Linear(width, _PATCH * _PATCH)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.register_buffer("tokens", tokens, persistent=False)

    def see(self, pictures: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embed pictures, all of their patches or those in `keep`.

        Args:
            pictures: (B, 3, 32, 32) in [-1, 1].
            keep: (B, K) patch numbers to look at; leaving some out makes training cheaper (FLIP, Li et al. 2023).

        Returns:
            (B, D) embeddings and (B, K, W) patch states.
        """
        model = self.vision.vision_model
        states = model.embeddings(pictures)
        if keep is not None:
            rows = torch.arange(len(states))[:, None]
            states = torch.cat([states[:, :1], states[rows, keep + 1]], dim=1)
        states = model.encoder(inputs_embeds=model.pre_layrnorm(states)).last_hidden_state
        return self.vision.visual_projection(model.post_layernorm(states[:, 0])), states[:, 1:]

    def read(self, captions: Tensor) -> Tensor:
        """(B,) caption numbers as (B, D) embeddings."""
        return self.text_projection(self.text(self.tokens[captions]).pooler_output)

    def losses(self, batch: Batch, keep: Tensor | None) -> dict[str, Tensor]:
        """The named losses, weighted."""
        embeddings, states = self.see(batch.pictures, keep)
        cloth = batch.cloth if keep is None else batch.cloth[torch.arange(len(keep))[:, None], keep]
        unit = F.normalize(embeddings, dim=1)
        similarity = unit @ F.normalize(self.read(batch.captions), dim=1).T * self.log_scale.exp().clamp(max=50)
        answers = self.class_head(embeddings)
        features = (batch.features - batch.features.mean(0)) / (batch.features.std(0) + 1e-3)
        return {
            "class": 0.3 * F.cross_entropy(answers, batch.labels),
            "answers": 0.7 * F.cross_entropy(answers, batch.answers.softmax(1)),
            "features": F.mse_loss(self.feature_head(embeddings), features),
            "captions": 0.2 * _many_positives(similarity, batch.true),
            "instance": 0.05 * _instance_loss(unit),
            "colour": F.smooth_l1_loss(self.colour_head(embeddings), batch.colours, beta=0.1) * 2,
            "cloth": F.mse_loss(self.cloth_head(states), cloth) * 4,
        }


def vision_config() -> CLIPVisionConfig:
    """The image encoder's shape: 64 patches of 4x4 pixels."""
    return CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=_PATCH,
        projection_dim=EMBEDDING,
        hidden_act="gelu_pytorch_tanh",
    )


def text_config(vocabulary: int, eos_token: int) -> CLIPTextConfig:
    """The text encoder's shape."""
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=TEXT_WIDTH,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=EMBEDDING,
        bos_token_id=eos_token - 1,
        eos_token_id=eos_token,
        pad_token_id=eos_token,
    )


def draw_batch(garments: Garments, teacher: Judge, count: int, generator: Generator) -> Batch:
    """Draw `count` garments in broad styles, two views each, and one caption for each garment."""
    rows = torch.randint(len(garments), (count,), generator=generator)
    grey, labels = garments.images[rows], garments.labels[rows]
    style = draw_broad(count, generator)
    views = [jitter(style, generator), jitter(style, generator)]
    facts = name_colours(style.garment), labels, name_colours(style.backdrop)
    captions = draw_captions(*facts, CAPTION_RATES, generator)
    cloth = torch.cat([place(grey, view) for view in views])
    pictures = to_unit(torch.cat([render(grey, view) for view in views]))
    with torch.no_grad():
        features = teacher.features(pictures)
        answers = teacher.head(features)
    return Batch(
        pictures=pictures,
        cloth=F.unfold(cloth, _PATCH, stride=_PATCH).transpose(1, 2),
        labels=labels.repeat(2),
        colours=torch.cat([style.garment, style.backdrop], dim=1).repeat(2, 1),
        captions=captions,
        true=consistent(captions, *facts).repeat(2, 1),
        answers=answers,
        features=features,
    )


def draw_patches(count: int, kept: int, generator: Generator) -> Tensor:
    """(count, kept) distinct patch numbers."""
    return torch.rand(count, (SIZE // _PATCH) ** 2, generator=generator).topk(kept, dim=1).indices


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weight matrices inside the transformers, and all other parameters."""
    hidden, others = [], []
    for name, parameter in model.named_parameters():
        inside = ".encoder.layers." in name and parameter.ndim == 2
        (hidden if inside else others).append(parameter)
    return hidden, others


def build(folder: Path) -> Encoders:
    """Untrained encoders with the captions' tokenizer, which is written to the build folder."""
    tokenizer = build_tokenizer(folder / "tokenizer")
    return Encoders(caption_table(tokenizer), tokenizer.eos_token_id)


def _many_positives(similarity: Tensor, true: Tensor) -> Tensor:
    target = true.float()
    pictures = F.cross_entropy(similarity, target / target.sum(1, keepdim=True).clamp(min=1))
    captions = F.cross_entropy(similarity.T, target.T / target.sum(0)[:, None])
    return (pictures + captions) / 2


def _instance_loss(unit: Tensor) -> Tensor:
    count = len(unit) // 2
    similarity = (unit @ unit.T / _TEMPERATURE).fill_diagonal_(-torch.inf)
    return F.cross_entropy(similarity, (torch.arange(2 * count) + count) % (2 * count))


def main() -> None:
    """Train both encoders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=BUILD_FOLDER)
    parser.add_argument("--images", type=int, default=350_000, help="pictures seen, two views each counted")
    parser.add_argument("--kept", type=int, default=40, help="patches of the 64 that are looked at")
    parser.add_argument("--whole", type=float, default=0.2, help="last share of the training that sees all patches")
    arguments = parser.parse_args()
    start_workers()
    garments = split_garments()["generator"]
    teacher = load_judge(arguments.build, "teacher")
    torch.manual_seed(0)
    model = build(arguments.build)
    plan = TrainingPlan(arguments.images, batch_size=256, ema_decay=0.995, log_steps=25)
    optimizer = MuonAdamW(*split_parameters(model), muon_rate=0.01, adam_rate=1e-3, weight_decay=0.02)
    masked_steps = round(plan.steps * (1 - arguments.whole))

    def losses_of(step: int, generator: Generator) -> dict[str, Tensor]:
        batch = draw_batch(garments, teacher, plan.local_batch // 2, generator)
        keep = draw_patches(plan.local_batch, arguments.kept, generator) if step < masked_steps else None
        return model.losses(batch, keep)

    train(plan, arguments.build / "encoders", model, losses_of, optimizer)


if __name__ == "__main__":
    main()
