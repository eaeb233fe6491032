"""UNets as denoisers, and deep features that are kept from one step to the next.

Source of the keeping: DeepCache (arXiv 2312.00858), here over the layers of diffusers' own blocks.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from augcond.errors import ConfigError
from augcond.generators.denoising import Conditions, Denoiser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from augcond.config.generation import CacheConfig
    from augcond.generators.denoising import Predict

_LAYERS = frozenset({"resnets", "attentions", "downsamplers", "upsamplers"})


def unet_conditions(
    text: Tensor | None = None,
    class_labels: Tensor | None = None,
    added: Mapping[str, Tensor | list[Tensor]] | None = None,
) -> Conditions:
    """Return what a UNet is told about each of B rows.

    Args:
        text: prompt embeddings, (B, L, C), or None for a UNet that takes no prompt.
        class_labels: of the UNet's class embedding, (B, E), or None where it has none.
        added: its `added_cond_kwargs` by name: tensors (B, ...), or lists of them.
    """
    return Conditions({"encoder_hidden_states": text, "class_labels": class_labels, "added_cond_kwargs": added})


class UNetDenoiser(Denoiser):
    """A UNet2DConditionModel behind the denoising loop.

    Args:
        unet: the model.
        cache: how long deep features are kept; None computes everything at every step.

    Raises:
        ConfigError: the UNet has no such branch, or is built of other blocks than are known.
    """

    def __init__(self, unet: Any, cache: CacheConfig | None = None) -> None:
        self.network = unet
        size = unet.config.sample_size
        self.native = (size, size) if isinstance(size, int) else tuple(size)
        self._channels: int = unet.config.in_channels
        self._cache = cache
        self._parts = None if cache is None else _parts_of(unet, cache.branch)

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of one row's latents, (C, height, width)."""
        return self._channels, height, width

    def begin(self) -> Predict:
        """Return what predicts the steps of one loop."""
        if self._cache is None or self._parts is None:
            return lambda sample, timestep, conditions: _predict(self.network, sample, timestep, conditions)
        return _Keeping(self._parts, self._cache.interval)


def _predict(unet: Any, sample: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
    prediction: Tensor = unet(sample.to(unet.dtype), timestep, **conditions.arguments, return_dict=False)[0]
    return prediction.float()


@dataclass(slots=True)
class _Features:
    """Features that enter the up layer where the parts of a UNet meet, (B, C, h, w)."""

    value: Tensor | None = None


@dataclass(frozen=True, slots=True)
class _Parts:
    """Two UNets made of one UNet's own layers, whose weights they share.

    Attributes:
        full: all of it; leaves the deep features in `deep`.
        shallow: its outer layers, between which it takes the deep features from `deep`.
        deep: where both find them.
    """

    full: Any
    shallow: Any
    deep: _Features = field(default_factory=_Features)


class _Keeping:
    """Predicts the steps of one loop, every `interval`th with the whole UNet.

    Also whole is a guided step after one without guidance: nothing is kept of its unconditional rows.
    """

    def __init__(self, parts: _Parts, interval: int) -> None:
        self._parts = parts
        self._interval = interval
        self._kept: Tensor | None = None
        self._uses = 0

    def __call__(self, sample: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        parts, rows = self._parts, len(sample)
        try:
            if self._kept is None or self._uses == self._interval or len(self._kept) < rows:
                prediction = _predict(parts.full, sample, timestep, conditions)
                self._kept, self._uses = parts.deep.value, 1
            else:
                # The conditional rows stand last.
                parts.deep.value = self._kept[-rows:]
                prediction = _predict(parts.shallow, sample, timestep, conditions)
                self._uses += 1
        finally:
            parts.deep.value = None
        return prediction


def _parts_of(unet: Any, branch: int) -> _Parts:
    """Return the parts of `unet` that meet at skip connection `branch`, counted from the outermost, 0."""
    skips = 1 + sum(_outputs(block) for block in unet.down_blocks)
    if not 0 <= branch < skips:
        raise ConfigError(f"generator.cache.branch: this UNet has skip connections 0 to {skips - 1}, not {branch}")
    for block in (*unet.down_blocks, *unet.up_blocks):
        if not {name for name, _ in block.named_children()} <= _LAYERS:
            raise ConfigError(f"generator.cache: it is not known how to keep features of a {type(block).__name__}")
    deep = _Features()
    inner, outer = _split_up(unet.up_blocks, branch + 1)
    outer = [_recording(outer[0], deep), *outer[1:]]
    full = _twin(unet, up_blocks=_module_list([*inner, *outer]))
    shallow = _twin(
        unet,
        down_blocks=_module_list(_outer_down(unet.down_blocks, branch)),
        mid_block=_standing_in(deep),
        up_blocks=_module_list(outer),
    )
    return _Parts(full, shallow, deep)


def _outputs(down_block: Any) -> int:
    """Return how many skip connections start in a block."""
    return len(down_block.resnets) + (down_block.downsamplers is not None)


def _outer_down(blocks: Any, outputs: int) -> list[nn.Module]:
    """Return the first layers of the way down, which give so many outputs."""
    taken = []
    for block in blocks:
        if outputs == 0:
            break
        own = _outputs(block)
        taken.append(block if own <= outputs else _layers(block, slice(outputs), downsamplers=None))
        outputs -= min(own, outputs)
    return taken


def _split_up(blocks: Any, layers: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return the way up without its last so many layers, and these."""
    inner: list[nn.Module] = list(blocks)
    outer: list[nn.Module] = []
    while layers > 0:
        block: Any = inner.pop()
        own = len(block.resnets)
        if own > layers:
            inner.append(_layers(block, slice(own - layers), upsamplers=None))
            block = _layers(block, slice(own - layers, own))
        outer.insert(0, block)
        layers -= own
    return inner, outer


def _layers(block: Any, which: slice, **submodules: Any) -> Any:
    """Return some layers of a block, as a block."""
    if getattr(block, "attentions", None) is not None:
        submodules["attentions"] = block.attentions[which]
    return _twin(block, resnets=block.resnets[which], **submodules)


def _twin(module: Any, **submodules: Any) -> Any:
    """Return a module of the same weights in which some submodules are others."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    for name, submodule in submodules.items():
        setattr(twin, name, submodule)
    return twin


def _recording(block: Any, deep: _Features) -> Any:
    """Return a block that leaves what enters it in `deep`."""
    twin = _twin(block)

    def forward(*, hidden_states: Tensor, **others: Any) -> Any:
        deep.value = hidden_states
        return block(hidden_states=hidden_states, **others)

    twin.forward = forward
    return twin


def _standing_in(deep: _Features) -> nn.Module:
    """Return a middle block that gives what is in `deep`, whatever enters it."""
    from torch import nn

    class StandIn(nn.Module):
        def forward(self, *_: Any, **__: Any) -> Tensor | None:
            return deep.value

    return StandIn()


def _module_list(modules: list[nn.Module]) -> nn.Module:
    from torch import nn

    return nn.ModuleList(modules)
