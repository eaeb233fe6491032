"""The paper's benchmarks by name, read from the user's own copy in its official layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from augcond import registry
from augcond.datasets.base import Role
from augcond.datasets.benchmarks.base import Benchmark
from augcond.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.datasets.base import Listing
    from augcond.datasets.benchmarks.base import Found

__all__ = ["BENCHMARK_NAMES", "Benchmark", "Role", "find_role", "get_benchmark", "list_benchmark"]

BENCHMARK_NAMES = ("imagenet-lt", "places-lt", "pascal-voc", "coco", "caltech101", "flowers102")
"""Those of the paper; each is a data set reader of its own."""


def get_benchmark(name: str) -> Benchmark:
    """Return the benchmark of this name.

    Raises:
        ConfigError: there is none.
    """
    found = registry.datasets.load(name) if name in registry.datasets else None
    if not isinstance(found, Benchmark):
        raise ConfigError(f"no benchmark {name!r}; known: {', '.join(BENCHMARK_NAMES)}")
    return found


def list_benchmark(name: str, root: Path, role: Role = "train") -> Listing | None:
    """Return the images of one role of a benchmark, none of them opened; None where it has no such role.

    Where sizes differ from the official ones, a warning is logged that says how.

    Args:
        name: one of `BENCHMARK_NAMES`.
        root: the folder that holds the user's copy.
        role: which role.

    Raises:
        DatasetError: a file or folder is missing, or is not the official one; the message says how the benchmark
            must lie and where to get it.
        MissingExtraError: reading it needs a package that is not installed.
    """
    benchmark = get_benchmark(name)
    return benchmark.list_below(root, role) if role in benchmark.roles else None


def find_role(name: str, root: Path, role: Role) -> Found | None:
    """Return one role of a benchmark and what differs from the official one; see `list_benchmark`."""
    benchmark = get_benchmark(name)
    return benchmark.find_role(root, role) if role in benchmark.roles else None
