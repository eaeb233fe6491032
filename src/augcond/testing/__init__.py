"""Test tools for users of augcond: a weightless generator and tiny checkpoints of the real formats.

Nothing here makes useful images. `FakeGenerator` stands behind the real interface and tests everything around a
generator in milliseconds; `WaitingGenerator` takes as long as one on a GPU, and tells how long it was kept waiting; the
`save_tiny_...` functions save real pipelines with random weights, small enough to load and run in about a second.
Importing this package imports no PyTorch.
"""

from __future__ import annotations

from augcond.testing.checkpoints import (
    save_tiny_ip_adapter,
    save_tiny_kandinsky,
    save_tiny_kandinsky_prior,
    save_tiny_stable_diffusion,
    save_tiny_stable_diffusion_xl,
    save_tiny_stable_unclip,
)
from augcond.testing.fake import FakeGenerator, load_fake_generator
from augcond.testing.flow import (
    save_tiny_flux,
    save_tiny_flux2_klein,
    save_tiny_redux,
    save_tiny_sd3,
    save_tiny_sd3_ip_adapter,
    save_tiny_siglip,
)
from augcond.testing.networks import TinyShape
from augcond.testing.waiting import WaitingGenerator

__all__ = [
    "FakeGenerator",
    "TinyShape",
    "WaitingGenerator",
    "load_fake_generator",
    "save_tiny_flux",
    "save_tiny_flux2_klein",
    "save_tiny_ip_adapter",
    "save_tiny_kandinsky",
    "save_tiny_kandinsky_prior",
    "save_tiny_redux",
    "save_tiny_sd3",
    "save_tiny_sd3_ip_adapter",
    "save_tiny_siglip",
    "save_tiny_stable_diffusion",
    "save_tiny_stable_diffusion_xl",
    "save_tiny_stable_unclip",
]
