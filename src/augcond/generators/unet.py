"""UNets as denoisers, and which layers of diffusers' own blocks are left out where deep features are kept."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from augcond.errors import ConfigError
from augcond.generators.denoising import Conditions, Denoiser
from augcond.generators.keeping import Features, Keeping, Twins, module_list, twin_of

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
        self._twins = None if cache is None else _twins_of(unet, cache.branch)

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of one row's latents, (C, height, width)."""
        return self._channels, height, width

    def begin(self) -> Predict:
        """Return what predicts the steps of one loop."""
        if self._cache is None or self._twins is None:
            return partial(_predict, self.network)
        return Keeping(self._twins, self._cache.interval, _predict)


def _predict(unet: Any, sample: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
    prediction: Tensor = unet(sample.to(unet.dtype), timestep, **conditions.arguments, return_dict=False)[0]
    return prediction.float()


def _twins_of(unet: Any, branch: int) -> Twins:
    """Return the twins of `unet` that meet at skip connection `branch`, counted from the outermost, 0."""
    skips = 1 + sum(_outputs(block) for block in unet.down_blocks)
    if not 0 <= branch < skips:
        raise ConfigError(f"generator.cache.branch: this UNet has skip connections 0 to {skips - 1}, not {branch}")
    for block in (*unet.down_blocks, *unet.up_blocks):
        if not {name for name, _ in block.named_children()} <= _LAYERS:
            raise ConfigError(f"generator.cache: it is not known how to keep features of a {type(block).__name__}")
    deep = Features()
    inner, outer = _split_up(unet.up_blocks, branch + 1)
    outer = [_recording(outer[0], deep), *outer[1:]]
    full = twin_of(unet, up_blocks=module_list([*inner, *outer]))
    shallow = twin_of(
        unet,
        down_blocks=module_list(_outer_down(unet.down_blocks, branch)),
        mid_block=_standing_in(deep),
        up_blocks=module_list(outer),
    )
    return Twins(full, shallow, deep)


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
    return twin_of(block, resnets=block.resnets[which], **submodules)


def _recording(block: Any, deep: Features) -> Any:
    """Return a block that leaves what enters it in `deep`."""
    twin = twin_of(block)

    def forward(*, hidden_states: Tensor, **others: Any) -> Any:
        deep.value = hidden_states
        return block(hidden_states=hidden_states, **others)

    twin.forward = forward
    return twin


def _standing_in(deep: Features) -> nn.Module:
    """Return a middle block that gives what is in `deep`, whatever enters it."""
    from torch import nn

    class StandIn(nn.Module):
        def forward(self, *_: Any, **__: Any) -> Tensor | None:
            return deep.value

    return StandIn()
