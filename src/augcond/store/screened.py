"""What screening kept of a run: RUN/screening.json and the margins of all its images beside it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow.compute as pc

from augcond.errors import ConfigError, RunError
from augcond.sealed import read_json, read_table, typed, unfit
from augcond.store.names import FILES
from augcond.store.rejection import rejected_keys

if TYPE_CHECKING:
    import pyarrow as pa

    from augcond.store.folder import RunFolder

logger = logging.getLogger(__name__)

Screened = Literal["kept", "all"]
"""What is given to others of a run that screens: what training takes, or what screening dropped too."""


@dataclass(frozen=True, slots=True)
class Screening:
    """What screening found.

    Attributes:
        by: which judge.
        threshold: images of a smaller margin are dropped; None where a plan was oversampled.
        rejected_real: share of the real validation images that would be dropped; None likewise.
        validation_accuracy: share of the real validation images that the judge places right; None likewise.
        kept: number of synthetic images that stay.
        dropped: number of those that go.
        fingerprint: of what decided all this; screening is not done twice.
        margins_sha256: of the bytes of `screening.parquet`; empty for screening by 0.1.
    """

    by: str
    threshold: float | None
    rejected_real: float | None
    validation_accuracy: float | None
    kept: int
    dropped: int
    fingerprint: str
    margins_sha256: str = ""


def recorded_screening(folder: RunFolder) -> tuple[Screening, pa.Table]:
    """Return what screening found, and key and `kept` of each image.

    Raises:
        FileNotFoundError: nothing was screened.
        CorruptRunError: what screening wrote is not what lies there.
    """
    path, mend = folder.screening_path, FILES["screening"].mend
    try:
        about = typed(Screening, read_json(path, mend).content)
    except ValueError as error:
        raise unfit(path, error, mend) from error
    sha256 = about.margins_sha256 or None
    return about, read_table(folder.margins_path, mend, ("key", "kept"), sha256=sha256, by=path.name).content


def dropped_keys(table: pa.Table) -> tuple[str, ...]:
    """Return the keys that are not kept."""
    return tuple(table.filter(pc.invert(table["kept"]))["key"].to_pylist())


def screened_keys(folder: RunFolder) -> frozenset[str]:
    """Return the keys of the images that screening dropped; none where the run does not screen.

    Raises:
        RunError: the run screens, and its images were not screened, or others have been made since.
        CorruptRunError: what screening wrote is not what lies there.
    """
    if folder.read_config().screening.by == "none":
        return frozenset()
    plan = folder.read_plan()
    missing = [path.name for path in (folder.screening_path, folder.margins_path) if not path.exists()]
    try:
        _, table = recorded_screening(folder)
        if len(table) == sum(marker.ok for marker in folder.markers(plan) if marker is not None):
            return frozenset(dropped_keys(table))
    except FileNotFoundError:
        logger.debug("%s holds no screening", folder.path)
    raise RunError(
        f"{folder.path} was not screened since its images were made{f' (no {missing[0]})' if missing else ''}: augcond "
        f"train {folder.path} does it, and what it drops is taken too where `screening` is `all`"
    )


def given_screened(folder: RunFolder, screening: Screened) -> frozenset[str]:
    """Return the keys of what screening has left out where a run's images are given to others; see `Screened`.

    Raises:
        ConfigError: `screening` is neither.
        RunError: see `screened_keys`.
    """
    if screening not in ("kept", "all"):
        raise ConfigError(f"screening {screening!r}: expected kept or all")
    dropped = frozenset[str]() if screening == "all" else screened_keys(folder) - rejected_keys(folder)
    if dropped:
        logger.info("%d images that screening dropped are left out", len(dropped))
    return dropped
