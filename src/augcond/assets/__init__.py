"""Files that ship with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

WORLD = Path(str(files(__name__))) / "world"
"""The built-in world: its pictures, and its generator's weights in `checkpoint`; see docs/world.md."""
