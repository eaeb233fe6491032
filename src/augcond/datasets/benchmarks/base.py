"""What a benchmark is: where its roles lie in a user's own copy, and what to say where they do not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from augcond.datasets.base import DatasetReader, HeldOut, Role, path_of
from augcond.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import DataConfig
    from augcond.datasets.base import Listing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """One role of a benchmark as it lies on disk.

    Attributes:
        listing: its images, none of them opened.
        notes: what differs from the official benchmark, such as its size; empty where nothing does.
    """

    listing: Listing
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Benchmark(DatasetReader):
    """A benchmark by name.

    Attributes:
        name: what `data.source` calls it.
        title: what papers call it.
        classes: official number of classes.
        sizes: official number of images of each role, or what it says of them.
        layout: how it must lie below `data.path`, one line per entry.
        download: where to get it, one line per file.
        list_role: lists one role below a root folder.
        roles: the roles it has of its own.
        modules: Python modules that reading it needs, of the extra `benchmarks`.
        terms: what its terms say against publishing what is made of its images; empty where nothing is known.
    """

    name: str
    title: str
    classes: int
    sizes: str
    layout: tuple[str, ...]
    download: tuple[str, ...]
    list_role: Callable[[Path, Role], Found]
    roles: tuple[Role, ...]
    modules: tuple[str, ...] = ()
    terms: str = ""

    takes = frozenset({"path"})

    def list_images(self, config: DataConfig, role: Role) -> Listing:
        """Return the images of one of the benchmark's roles, none of them opened."""
        return self.list_below(path_of(config), role)

    def held_out(self, config: DataConfig) -> tuple[HeldOut, ...]:
        """Return which of validation and test images the benchmark has."""
        return tuple(role for role in self.roles if role != "train")

    def list_below(self, root: Path, role: Role) -> Listing:
        """Return what `find_role` finds; where sizes differ from the official ones, a warning is logged."""
        found = self.find_role(root, role)
        for note in found.notes:
            logger.warning("%s, role %s: %s", self.name, role, note)
        return found.listing

    def find_role(self, root: Path, role: Role) -> Found:
        """Return one role in the user's copy at `root`, and what differs from the official one.

        Raises:
            DatasetError: a file or folder is missing, or is not the official one; the message says how the benchmark
                must lie and where to get it.
            MissingExtraError: reading it needs a package that is not installed.
        """
        try:
            found = self.list_role(root, role)
        except MissingDataError as error:
            raise DatasetError(f"{self.title}: {error}\n{self.help()}\nmore in docs/benchmarks.md") from None
        if not found.listing.keys:
            raise DatasetError(f"{self.title}: no images for {role} in {root}\n{self.help()}")
        return found

    def help(self) -> str:
        """Return how the benchmark must lie below `data.path`, and where to get it."""
        lines = ("expected below data.path:", *self.layout, "to download:", *self.download)
        return "\n".join(line if line.endswith(":") else f"  {line}" for line in lines)


class MissingDataError(DatasetError):
    """A file or folder of a benchmark is not where it must be; the registry adds how to get it."""


def require(path: Path, kind: Literal["file", "folder"] = "folder") -> Path:
    """Return `path`.

    Raises:
        MissingDataError: it is not there.
    """
    if not (path.is_dir() if kind == "folder" else path.is_file()):
        raise MissingDataError(f"no {kind} at {path}")
    return path


def first_folder(root: Path, candidates: tuple[str, ...], holds: str) -> Path:
    """Return the first of `root / candidate` that holds an entry of the name `holds`.

    Raises:
        MissingDataError: none does.
    """
    for candidate in candidates:
        if (root / candidate / holds).exists():
            return root / candidate
    raise MissingDataError(f"no {holds} in {' or '.join(str(root / candidate) for candidate in candidates)}")


def differs(what: str, found: int, official: int) -> tuple[str, ...]:
    """Return a note where a number is not the official one."""
    return () if found == official else (f"{found:,} {what}, not the official {official:,}",)
