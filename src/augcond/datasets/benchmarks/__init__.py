"""The paper's benchmarks by name, read from the user's own copy in its official layout."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, cast

from augcond.config.data import BENCHMARK_NAMES
from augcond.datasets.benchmarks.base import Benchmark, MissingDataError, Role
from augcond.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.datasets.base import Listing
    from augcond.datasets.benchmarks.base import Found

__all__ = ["BENCHMARK_NAMES", "Benchmark", "Role", "find_role", "get_benchmark", "list_benchmark"]

logger = logging.getLogger(__name__)


def get_benchmark(name: str) -> Benchmark:
    """Return the benchmark of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in BENCHMARK_NAMES:
        raise ConfigError(f"no benchmark {name!r}; known: {', '.join(BENCHMARK_NAMES)}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return cast("Benchmark", module.BENCHMARK)


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
    found = find_role(name, root, role)
    if found is None:
        return None
    for note in found.notes:
        logger.warning("%s, role %s: %s", name, role, note)
    return found.listing


def find_role(name: str, root: Path, role: Role) -> Found | None:
    """Return one role of a benchmark and what differs from the official one; see `list_benchmark`."""
    benchmark = get_benchmark(name)
    if role not in benchmark.roles:
        return None
    try:
        found = benchmark.list_role(root, role)
    except MissingDataError as error:
        raise DatasetError(f"{benchmark.title}: {error}\n{benchmark.help()}\nmore in docs/benchmarks.md") from None
    if not found.listing.keys:
        raise DatasetError(f"{benchmark.title}: no images for {role} in {root}\n{benchmark.help()}")
    return found
