"""Compare the files of a run with what was recorded when they were written."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

from augcond.errors import ConfigError, CorruptRunError, RunError
from augcond.files import TEMPORARY, is_special, known_sha256
from augcond.sealed import SEAL, fits, read_json, read_table
from augcond.store.folder import RunFolder
from augcond.store.names import CARD, FILES, RUNS, UNFIT_CARD, WEIGHTS
from augcond.store.operations import REAL
from augcond.store.plans import sources_sha256

_FOLDERS: Final = (*RUNS, "tracking")
"""Kinds that stand for all that is in a folder."""
_BY_THEMSELVES: Final = ("shard", "marker", "marker set aside", *_FOLDERS)
"""Kinds that an audit looks at shard by shard, or run by run, or not at all."""


@dataclass(frozen=True, slots=True)
class FilesFound:
    """What is known of the files of a run folder.

    Attributes:
        verified: how many are what was recorded, by kind as in `FILES`.
        unverified: how many have nothing recorded: those of 0.1, and those that nothing is read from again.
        problems: one line for each that is not what was recorded.
        unknown: paths in the folder that augcond did not write.
        unfit_models: folders of models that are not what was trained.
    """

    verified: Counter[str] = field(default_factory=Counter)
    unverified: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unfit_models: list[Path] = field(default_factory=list)


def verify_files(folder: RunFolder) -> FilesFound:
    """Compare every file of a run with what was recorded, but shards and their markers; nothing is changed."""
    found = FilesFound()
    recorded = _all_recorded(folder)
    for path in sorted(folder.path.rglob("*")):
        name = path.relative_to(folder.path).as_posix()
        kind = kind_of(name)
        if path.is_dir() and (kind is None or kind in _FOLDERS):
            continue
        if path.parent == folder.shards or kind in _BY_THEMSELVES:
            continue
        if name.endswith(TEMPORARY):
            found.problems.append(f"temporary file {name}: a process was killed or is at work; delete it if none is")
        elif kind is None:
            found.unknown.append(name)
        elif path.is_dir() or not path.is_file():
            found.problems.append(f"{path} is no file: remove it; {FILES[kind].mend or 'augcond writes one there'}")
        else:
            try:
                sealed = _is_verified(folder, path, kind, recorded.get(name))
            except (ConfigError, RunError) as error:
                found.problems.append(str(error))
            else:
                (found.verified if sealed else found.unverified)[kind] += 1
    for card in folder.card_paths():
        if flaw := model_flaw(card.parent):
            found.unfit_models.append(card.parent)
            # Weights that are there, or something else in their place, were looked at above.
            if not os.path.lexists(card.parent / WEIGHTS):
                found.problems.append(flaw)
    return found


_Recorded = tuple[str, str]
"""The sha256 that another file records for a file, and that one's name."""


def _regex(pattern: str) -> str:
    """Return what matches a pattern of `FILES`; numbers are digits, or the file of an attempt were a plain one."""
    parts = re.split(r"(\{.*?\})", pattern)
    return "".join(
        r"\d+" if re.search(r":\d+d\}$", part) else "[^/]+" if part[:1] == "{" else re.escape(part) for part in parts
    )


_PATTERNS: Final = {
    kind: re.compile(_regex(file.pattern) + ("(/.*)?" if kind in _FOLDERS else "")) for kind, file in FILES.items()
}


def kind_of(name: str) -> str | None:
    """Return which of `FILES` a path relative to a run folder is; None for what augcond did not write."""
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(name)), None)


def model_flaw(folder: Path) -> str | None:
    """Return what of the model in `folder` is not what was trained; None where it is whole, or where there is none.

    The weights are read once per process. Those of 0.1, which no card vouches for, need only be whole.
    """
    path, mend = folder / WEIGHTS, FILES["weights"].mend
    try:
        sha256 = _weights_sha256(folder)
        if sha256 is None:
            return None
        if is_special(path):
            raise OSError("it is no file")
        if sha256 and known_sha256(path) != sha256:
            return f"{path} is not what was trained: its sha256 is not that of its card; {mend}"
        with safe_open(path, framework="pt"):
            return None
    except CorruptRunError as error:
        return str(error)
    except FileNotFoundError:
        return f"{path} is missing; {mend}"
    except (OSError, SafetensorError) as error:
        return f"{path} cannot be read: {error}; {mend}"


def set_aside_model(folder: Path) -> None:
    """Keep the card of an unfit model under another name, so that the next training makes the model anew.

    Raises:
        IsADirectoryError: a folder is in its place, which is somebody's.
    """
    REAL.move(folder / CARD, folder / UNFIT_CARD)


def _weights_sha256(folder: Path) -> str | None:
    """Return what the card in `folder` vouches for, nothing where it is of 0.1; None where there is no card."""
    try:
        found: str = read_json(folder / CARD, FILES["card"].mend).content.get("weights_sha256", "")
    except FileNotFoundError:
        return None
    return found


def _is_verified(folder: RunFolder, path: Path, kind: str, recorded: _Recorded | None) -> bool:
    """Return whether a file is what was recorded, or else nothing was.

    Raises:
        RunError: it is not.
        ConfigError: it is a config, and not a valid one.
    """
    file = FILES[kind]
    match file.seal:
        case "json":
            return read_json(path, file.mend).sealed
        case "parquet":
            sha256, by = (None, "") if recorded is None else recorded
            return read_table(path, file.mend, sha256=sha256, by=by).sealed
        case "safetensors":
            return _is_sealed_tensors(path, file.mend)
    if kind == "weights":
        if flaw := model_flaw(path.parent):
            raise CorruptRunError(flaw)
        return bool(_weights_sha256(path.parent))
    if kind == "study" and recorded is not None:
        sha256, by = recorded
        if known_sha256(path) != sha256:
            raise CorruptRunError(f"{path} is not the study that {by} was written of: {file.mend}")
        return True
    if kind == "config":
        # It may be edited; what it decides is compared with plan and cards.
        folder.read_config()
    return False


def _is_sealed_tensors(path: Path, mend: str) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            digest = (file.metadata() or {}).get(SEAL)
        if fits(path.read_bytes(), digest):
            return digest is not None
        reason = "its sha256 is another"
    except (OSError, SafetensorError) as error:
        reason = str(error)
    raise CorruptRunError(f"{path} is not what augcond wrote: {reason}; {mend}")


def _all_recorded(folder: RunFolder) -> dict[str, _Recorded]:
    """Return what other files of the run record for a file, by its path in the run folder."""
    found: dict[str, tuple[object, Path]] = {}
    # What is wrong with a file that records is a problem of its own.
    with suppress(CorruptRunError):
        found[folder.sources_path.name] = sources_sha256(folder.plan_path), folder.plan_path
    for path in (
        folder.results_path("test"),
        folder.results_path("validation"),
        folder.screening_path,
        folder.tuning_path,
    ):
        with suppress(FileNotFoundError, CorruptRunError, KeyError, TypeError, AttributeError):
            values = read_json(path, "").content
            if "margins_sha256" in values:
                found[folder.margins_path.name] = values["margins_sha256"], path
            if "study_sha256" in values:
                found[folder.study_path.relative_to(folder.path).as_posix()] = values["study_sha256"], path
            for arm in values.get("arms", ()):
                found |= {seed["predictions"]: (seed.get("predictions_sha256"), path) for seed in arm["seeds"]}
    return {name: (str(sha256), path.name) for name, (sha256, path) in found.items() if sha256}
