"""When, where and by what something was measured."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = ("augcond", "torch", "torchvision", "diffusers", "transformers", "timm", "numpy")


@dataclass(frozen=True, slots=True)
class Provenance:
    """When, where and by what a table was measured.

    Attributes:
        date: of the evaluation, in UTC, such as `2026-11-27`.
        device: what computed it.
        commit: of augcond, where it runs from a checkout; `+` behind it: with changes of one's own; else empty.
        versions: of augcond, Python and the libraries.
    """

    date: str
    device: str
    commit: str
    versions: Mapping[str, str] = field(default_factory=dict)


def provenance_now() -> Provenance:
    """Return the provenance of what is measured here and now."""
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return Provenance(date, device_name(), augcond_commit(), versions())


def versions() -> dict[str, str]:
    """Return the versions of Python, augcond and the libraries; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def device_name() -> str:
    """Return what computes here: the first GPU's name, or the processor's."""
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return torch.cuda.get_device_name(0) + (f" ({count} of them here)" if count > 1 else "")
    return f"CPU: {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def augcond_commit() -> str:
    """Return the commit of the checkout that augcond runs from, with a `+` where it was changed; empty without one."""
    source, git = Path(__file__).resolve().parents[3], shutil.which("git")
    if git is None or not (source / ".git").exists():
        return ""

    def ask(*words: str) -> str:
        done = subprocess.run([git, "-C", str(source), *words], capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
        return done.stdout.strip()

    try:
        return ask("rev-parse", "HEAD") + ("+" if ask("status", "--porcelain", "--", "src") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
