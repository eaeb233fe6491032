"""How a cell of the matrix may end, and how one ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from augcond.store.names import FILES
from tests.faults.matrix import Cell, Ended, File
from tests.faults.matrix_folders import HERE, KEPT
from tests.faults.matrix_system import plain_name

REFUSED = "refused"
MENDED = "mended"
UNREAD = "not read"
GOOD = "same result"
SAID = "goes on, and says so"
UNMADE = "as before it was made"
EDIT = "taken as an edit"
"""The seven ways in which a cell may end; whatever else it is, is its own description."""
WAYS: Final = (REFUSED, MENDED, UNREAD, GOOD, SAID, UNMADE, EDIT)

_TO_DO = (
    "augcond ",
    "delete",
    "remove",
    "mend",
    "anew",
    "again",
    "name another",
    "did you mean",
    "expected",
    "must hold",
    "update",
    "--overwrite",
)
"""Words of what to do."""

_SAME_BYTES: Final = ("link outside", "unreadable", "read-only", "read error")
_STATES: Final = frozenset(
    {
        "plan",
        "rounds",
        "rejected",
        "results",
        "validation",
        "marker",
        "card",
        "tuning",
        "sweep",
        "sweep table",
        "list of the report",
    }
)
"""Kinds without which a run is one that has not come as far: nothing is rejected, made, trained, judged or tuned."""
_INPUT: Final = ("config", "rounds", "tuned config")
"""Kinds that a person may write: what they say is what is asked for."""
_VOUCHED_FOR: Final = ("shard", "shard made again", "sources", "weights", "study")
"""Kinds without a seal that another file vouches for."""
_OF_ITS_RUN: Final = (
    "plan",
    "sources",
    "shard",
    "shard made again",
    "marker",
    "weights",
    "card",
    "rejected",
    "margins",
)
"""Kinds of which `check` tells those of another run; for the others, who uses them does."""


def judged(cell: Cell, reference: Ended, found: Ended) -> str:
    """Return which of `WAYS` a cell ended in, or what is wrong with it.

    Args:
        cell: what was done.
        reference: how the command ends where nothing is wrong.
        found: how it ended.
    """
    if found.code is None:
        return found.said
    if (harm := _harm(cell)) is not None:
        return harm
    text = f"{found.said}\n{found.out}"
    if "Traceback" in text:
        return f"it shows a traceback: {text}"
    if found.code not in (0, 1, 2):
        return f"exit code {found.code}: {text}"
    named, unmade = _names(cell, text), cell.fault == "missing" and _is_a_state(cell)
    edit = cell.file.kind in _INPUT and cell.fault not in _SAME_BYTES
    if found.code != reference.code and found.code:
        if not any(word in text for word in _TO_DO):
            return f"refused without advice: {text}"
        if named:
            return REFUSED
        return UNMADE if unmade else EDIT if edit else f"refused without a name: {text}"
    differs = [name for name in found.tree.keys() | reference.tree.keys() if not _is_at(cell, name)]
    differs = [name for name in differs if found.tree.get(name) != reference.tree.get(name)]
    if cell.command.name.startswith("check") and _is_to_be_found(cell) and (not differs or not named):
        return f"check passes it over: {text}"
    if differs:
        # A page says it itself.
        if named or any(_names(cell, found.tree.get(name, "")) for name in differs):
            return SAID
        return UNMADE if unmade else EDIT if edit else f"silently accepted: {_listed(differs)}: {text[-1000:]}"
    key = _key(cell.file)
    if cell.fault not in _SAME_BYTES and key in found.tree and found.tree[key] == reference.tree.get(key):
        return MENDED
    return GOOD if cell.file.path.as_posix() in found.opened else UNREAD


def _listed(differs: Sequence[str]) -> str:
    return f"{', '.join(sorted(differs)[:4])} are others"


def _is_a_state(cell: Cell) -> bool:
    """Return whether a run without the file is one that has not come as far, or has come without it."""
    return cell.file.kind in _STATES or cell.command.name.startswith("check")


def _key(file: File) -> str:
    return f"{HERE}/" + plain_name(file.path.as_posix())


def _is_at(cell: Cell, name: str) -> bool:
    return name == _key(cell.file) or name.startswith(f"{_key(cell.file)}/")


def _is_to_be_found(cell: Cell) -> bool:
    """Return whether `check` is to find the fault."""
    if cell.fault in ("missing", "wrong types", *_SAME_BYTES):
        return False
    if cell.fault == "another run's":
        return cell.file.kind in _OF_ITS_RUN
    return FILES[cell.file.kind].seal is not None or cell.file.kind in _VOUCHED_FOR


def _names(cell: Cell, text: str) -> bool:
    """Return whether a text names a file: a shard by its number too, what is of a model, or shut, by its folder."""
    path = Path(cell.file.name)
    names = [path.name]
    if path.parent.name == "shards":
        number = path.name.partition(".")[0]
        names += [f"shard {number}", f"{number}.parquet"]
    if path.parts[0] == "models":
        names.append(path.parent.as_posix())
    if cell.fault == "read-only":
        names.append(cell.file.path.parent.as_posix())
    return any(name in text for name in names)


def _harm(cell: Cell) -> str | None:
    """Return what was done to what is not augcond's."""
    if cell.fault == "folder" and not (cell.root / HERE / cell.file.path / "mine").exists():
        return "the folder that was in its place is gone"
    outside = cell.root / "outside" / Path(cell.file.name).name
    if cell.fault == "link outside" and outside.read_bytes() != (cell.root / KEPT / cell.file.path).read_bytes():
        return "the file outside, which a link led to, was written"
    return None
