"""Transformers of flow matching as denoisers, and which of their blocks are left out where deep features are kept.

What FLUX.1, FLUX.2 and Stable Diffusion 3 have in common in diffusers: blocks that carry the image's tokens beside the
prompt's, `hidden_states` beside `encoder_hidden_states`, and `norm_out` behind the last of them, which sees the image's
tokens alone.

diffusers' own cache hooks are not used: the first-block cache decides by the mean over a batch whether the other blocks
are computed, so that an image would depend on its batch, and Stable Diffusion 3 has none.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any

from augcond.errors import ConfigError
from augcond.generators.denoising import Denoiser
from augcond.generators.keeping import Features, Keeping, Twins, module_list, twin_of

if TYPE_CHECKING:
    from torch import Tensor

    from augcond.config.generation import CacheConfig
    from augcond.generators.denoising import Conditions, Predict


class TransformerDenoiser(Denoiser):
    """A transformer behind the denoising loop; subclasses say how theirs is called, and of what latents.

    Args:
        transformer: the model.
        native: height and width of the latents that it was trained on.
        cache: how long deep features are kept; None computes everything at every step.

    Raises:
        ConfigError: the transformer has no such block.
    """

    def __init__(self, transformer: Any, native: tuple[int, int], cache: CacheConfig | None = None) -> None:
        self.network = transformer
        self.native = native
        self._cache = cache
        self._twins = None if cache is None else _twins_of(transformer, cache.branch)

    @abstractmethod
    def call(self, network: Any, sample: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """Return what `network` predicts of noisy latents (B, C, h, w) at a time step, float32, of the same shape.

        Args:
            network: the transformer, or a twin of it that leaves blocks out.
            sample: float32.
            timestep: as the scheduler counts, mostly from 1000 to 0.
            conditions: of B rows.
        """

    def begin(self) -> Predict:
        """Return what predicts the steps of one loop."""
        if self._cache is None or self._twins is None:
            return partial(self.call, self.network)
        return Keeping(self._twins, self._cache.interval, self.call)


def even_sigmas(steps: int) -> list[float]:
    """Return the noise levels from 1 to 1 / `steps`, evenly spaced, that FLUX's pipelines shift."""
    return [1.0 - step / steps for step in range(steps)]


def shift_for(scheduler: Any, tokens: int) -> float:
    """Return the shift of the time that goes with so many tokens of an image, by the scheduler's own line."""
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    return float(calculate_shift(tokens, *(scheduler.config[name] for name in names)))


def tokens_of(latents: Tensor) -> Tensor:
    """Return latents (B, C, h, w) as tokens (B, h * w, C), row by row."""
    return latents.flatten(2).transpose(1, 2)


def latents_of(tokens: Tensor, height: int, width: int) -> Tensor:
    """Return tokens (B, h * w, C) as latents (B, C, h, w): the inverse of `tokens_of`."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)


def _twins_of(transformer: Any, branch: int) -> Twins:
    """Return the twins of a transformer that have its first blocks, up to `branch`, in common.

    What the others add to the image's tokens is kept; what they make of the prompt's is read by them alone.
    """
    blocks = list(transformer.transformer_blocks)
    if branch >= len(blocks):
        raise ConfigError(f"generator.cache.branch: this transformer has blocks 0 to {len(blocks) - 1}, not {branch}")
    deep, entered = Features(), Features()
    first = [*blocks[:branch], _recording(blocks[branch], entered)]
    full = twin_of(
        transformer,
        transformer_blocks=module_list([*first, *blocks[branch + 1 :]]),
        norm_out=_subtracting(transformer.norm_out, entered, deep),
    )
    others = {"single_transformer_blocks": module_list([])} if hasattr(full, "single_transformer_blocks") else {}
    shallow = twin_of(
        transformer,
        transformer_blocks=module_list(blocks[: branch + 1]),
        norm_out=_adding(transformer.norm_out, deep),
        **others,
    )
    return Twins(full, shallow, deep)


def _recording(block: Any, entered: Features) -> Any:
    """Return a block that leaves the image's tokens, as they leave it, in `entered`."""
    twin = twin_of(block)

    def forward(*inputs: Any, **named: Any) -> Any:
        made = block(*inputs, **named)
        entered.value = made[1]
        return made

    twin.forward = forward
    return twin


def _subtracting(norm: Any, entered: Features, deep: Features) -> Any:
    """Return a last norm that leaves in `deep` how its input differs from what is in `entered`."""
    twin = twin_of(norm)

    def forward(hidden: Tensor, *others: Any) -> Any:
        deep.value = hidden - entered.take()
        entered.value = None
        return norm(hidden, *others)

    twin.forward = forward
    return twin


def _adding(norm: Any, deep: Features) -> Any:
    """Return a last norm that adds what is in `deep` to its input."""
    twin = twin_of(norm)

    def forward(hidden: Tensor, *others: Any) -> Any:
        return norm(hidden + deep.take(), *others)

    twin.forward = forward
    return twin
