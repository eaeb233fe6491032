"""Compilation of a denoiser: region by region, for batches of one shape, kept on disk.

A UNet's blocks are few kinds of layers many times over: each kind is compiled once for each shape, and what lies
between them stays as it is, kept features (`unet.py`) among it. Batches have two shapes, with guidance and without:
they are filled up to the largest there was, and what is made once more in float32 is not compiled.

Source: regional compilation, `compile_repeated_blocks` of diffusers, which leaves a UNet's convolutions out.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from augcond.files import user_cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from torch import nn

    from augcond.config import GeneratorConfig

_REGIONS = frozenset({"BasicTransformerBlock", "JointTransformerBlock", "ResnetBlock2D"})
_BACKEND = "inductor"
_KEPT_IN = "TORCHINDUCTOR_CACHE_DIR"
_SHAPES = 1024
"""More than all regions have; beyond PyTorch's own limit of 8 none would be compiled any more."""

PAYS_FROM = 1_000
"""Images from which `compile: auto` compiles on a GPU (docs/performance.md has the sum)."""


def compilation_pays(config: GeneratorConfig, images: int | None) -> bool:
    """Return whether `compile: auto` compiles.

    Args:
        config: on which device, and with what.
        images: how many are planned; None where that is not known.
    """
    from augcond.generators.devices import resolve_device

    return images is not None and images >= PAYS_FROM and resolve_device(config.device).type == "cuda"


@contextmanager
def _kept_compiled() -> Iterator[None]:
    """Let what is compiled be kept in the user's own folder, where it is found again after a restart.

    PyTorch's default is a temporary folder, which the mere import of `torch._dynamo` writes into the environment: what
    stands there is a choice only where it is another. It compiles at the first call, not where it is told to.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    before = os.environ.get(_KEPT_IN)
    if before not in (None, default_cache_dir()):
        yield
        return
    os.environ[_KEPT_IN] = str(user_cache() / "compiled")
    try:
        yield
    finally:
        os.environ[_KEPT_IN] = before or default_cache_dir()


class Eager:
    """A denoiser as it is."""

    def filled(self, rows: list[int]) -> list[int]:
        """Return which rows to denoise so that these are made; these come first."""
        return rows

    def running(self) -> AbstractContextManager[object]:
        """Return in what the network runs."""
        return nullcontext()

    def paused(self) -> AbstractContextManager[object]:
        """Return in what the network runs with other weights or shapes for once."""
        return nullcontext()


class Compiled(Eager):
    """A denoiser whose regions are compiled as they are first called.

    Args:
        network: the denoiser's.
        others: networks beside it that are laid out alike, but not compiled.
    """

    def __init__(self, network: nn.Module, *others: nn.Module) -> None:
        import torch

        for module in (network, *others):
            torch.nn.Module.to(module, memory_format=torch.channels_last)
        kinds = _REGIONS.union(getattr(network, "_repeated_blocks", None) or ())
        regions = [module for module in network.modules() if type(module).__name__ in kinds]
        for region in regions or [network]:
            region.compile(backend=_BACKEND, dynamic=False)
        self._rows = 0
        self._paused = False

    def filled(self, rows: list[int]) -> list[int]:
        """Return `rows`, the last of them repeated until there are as many as ever."""
        if self._paused:
            return rows
        self._rows = max(self._rows, len(rows))
        return [*rows, *[rows[-1]] * (self._rows - len(rows))]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let regions have their shapes; after a batch that did not fit, smaller ones are not filled up."""
        import torch
        import torch._dynamo

        known: Any = torch._dynamo.config
        # It was called otherwise before PyTorch 2.7.
        limit = "recompile_limit" if hasattr(known, "recompile_limit") else "cache_size_limit"
        try:
            with _kept_compiled(), known.patch({limit: _SHAPES, f"accumulated_{limit}": _SHAPES}):
                yield
        except torch.OutOfMemoryError:
            self._rows = 0
            raise

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Compute without what was compiled, in any shape, and without compiling anything."""
        import torch

        self._paused = True
        try:
            with torch.compiler.set_stance("force_eager"):
                yield
        finally:
            self._paused = False
