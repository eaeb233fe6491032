"""The matrix: every file of a run folder x every fault x every command, and how a cell may end.

Nothing is listed by hand that the code lists: kinds of files are those of `FILES`, commands those of the command line.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from augcond.sealed import SEAL
from augcond.store.verifying import kind_of
from tests.faults.matrix_folders import HERE, KEPT, MODEL, OTHER, SWEEP, TUNE, ended, in_haste
from tests.faults.matrix_system import Watch, contents, plain_text, without_override
from tests.tampering import flip_bit, rewrite_json

_LONGEST = 60
"""Seconds that a command may take."""


# Faults.


def _other(path: Path, cell: Cell) -> None:
    """Put the file of the other run there."""
    shutil.copyfile(_others(cell), path)


def _others(cell: Cell) -> Path | None:
    """Return the file of the other run: that of the same name, or else of the same kind; None where it has none."""
    other = cell.root / OTHER / "run"
    if (other / cell.file.name).exists():
        return other / cell.file.name
    paths = (path for path in sorted(other.rglob("*")) if path.is_file())
    return next((path for path in paths if kind_of(path.relative_to(other).as_posix()) == cell.file.kind), None)


def _folder(path: Path, cell: Cell) -> None:
    path.unlink()
    path.mkdir()
    (path / "mine").write_text("mine")


def _pipe(path: Path, cell: Cell) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path, cell: Cell) -> None:
    (cell.root / "outside").mkdir(exist_ok=True)
    path.replace(cell.root / "outside" / path.name)
    path.symlink_to(cell.root / "outside" / path.name)


def _wrong_types(path: Path, cell: Cell) -> None:
    rewrite_json(path, **dict.fromkeys(json.loads(path.read_text()).keys() - {SEAL}, 5))


def _read_only(path: Path, cell: Cell) -> None:
    path.chmod(0o444)
    path.parent.chmod(0o555)


FAULTS: Final[Mapping[str, Callable[[Path, Cell], object]]] = {
    "flipped": lambda path, cell: flip_bit(path),
    "missing": lambda path, cell: path.unlink(),
    "another run's": _other,
    "truncated": lambda path, cell: os.truncate(path, path.stat().st_size // 2),
    "folder": _folder,
    "empty": lambda path, cell: os.truncate(path, 0),
    "link outside": _link,
    "unreadable": lambda path, cell: path.chmod(0),
    "zeroed": lambda path, cell: path.write_bytes(bytes(path.stat().st_size)),
    "pipe": _pipe,
    "read-only": _read_only,
    "wrong types": _wrong_types,
    "read error": lambda path, cell: None,  # of the host of such cells, see `reading.c`
}


# Files.


@dataclass(frozen=True, slots=True)
class File:
    """One file that stands for all of its kind.

    Attributes:
        folder: run, sweep or tuning.
        inner: the run in it that it is of; empty for its own.
        kind: as in `FILES`.
        name: its path in that run.
    """

    folder: str
    inner: str
    kind: str
    name: str

    @property
    def path(self) -> Path:
        """Below the folder of all three."""
        return Path(self.folder) / self.inner / self.name

    def __str__(self) -> str:
        """Return what reports call it."""
        return self.path.as_posix()


def files_of(root: Path, folder: str) -> list[File]:
    """Return one file of every kind that a folder has, and of every kind that a run in it has."""
    found: dict[object, File] = {}
    base = root / KEPT / folder
    inner = {"sweep": "cells/synthetic/plan.per_class=1/seed-0", "tuning": "tuned"}.get(folder)
    for path in sorted(base.rglob("*")):
        name = path.relative_to(base).as_posix()
        inside = bool(inner) and name.startswith(f"{inner}/")
        if not path.is_file() or (not inside and name.startswith(("cells/", "tuned/"))):
            continue
        own = name.removeprefix(f"{inner}/") if inside else name
        kind = kind_of(own)
        assert kind is not None, name
        # Tables are read by some, and written in several forms.
        which = (inside, kind, path.suffix if kind.endswith("table") else "")
        if which not in found or MODEL in name:
            found[which] = File(folder, inner if inside and inner else "", kind, own)
    return list(found.values())


# Commands.


@dataclass(frozen=True, slots=True)
class Command:
    """A command that is given one of the folders.

    Attributes:
        name: its first word is that of the command line.
        folder: which it is given: run, sweep or tuning.
        argv: its words; {here} stands for where the folders are, {out} for where else it may write.
        lacks: files that are gone when it begins.
        prints: whether what it prints is its result.
        slow: whether only the slow suite calls it.
    """

    name: str
    folder: str
    argv: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    prints: bool = False
    slow: bool = False


def _commands() -> Iterator[Command]:
    run, sweep, tuning = "{here}/run", "{here}/sweep", "{here}/tuning"
    yield Command("init", "run", ("init", "{photos}/train", "--to", "{out}/new.yaml"))
    yield Command("inspect", "run", ("inspect", f"{run}/config.yaml", "--json"), prints=True)
    yield Command("plan", "run", ("plan", run, "--no-timing", "--json"), prints=True)
    yield Command("generate", "run", ("generate", run))
    yield Command("generate what is left", "run", ("generate", run), ("run/shards/00000.done.json",))
    yield Command("generate --retry-failed", "run", ("generate", run, "--retry-failed"))
    yield Command("generate --overwrite", "run", ("generate", run, "--overwrite"))
    reuse = (
        "generate",
        "{here}/run.yaml",
        "--set",
        "run={out}/new",
        "--reuse",
        run,
        "--set",
        "plan.rounds={kept}/run/rounds.json",
    )
    yield Command("generate --reuse", "run", reuse)
    yield Command("status", "run", ("status", run, "--json"), prints=True)
    yield Command("check", "run", ("check", run, "--json"), prints=True)
    yield Command("check --repair", "run", ("check", run, "--json", "--repair"), prints=True)
    yield Command("reject", "run", ("reject", run, "{here}/keys.txt"))
    yield Command("reject, list", "run", ("reject", run), prints=True)
    yield Command("reject --undo", "run", ("reject", run, "--undo"))
    yield Command("export", "run", ("export", run, "--to", "{out}/made"))
    yield Command("export --format webdataset", "run", ("export", run, "--to", "{out}/made", "--format", "webdataset"))
    yield Command("push --dry", "run", ("push", run, "me/toys", "--dry"))
    yield Command("clean", "run", ("clean", run))
    yield Command("preview", "run", ("preview", f"{run}/config.yaml", "--to", "{out}/preview.png"), slow=True)
    yield Command("generators", "run", ("generators", "--json"), prints=True)
    yield Command("schema", "run", ("schema",), prints=True)
    yield Command("train", "run", ("train", run))
    yield Command("train what is left", "run", ("train", run), (f"run/{MODEL}/model.json",))
    yield Command("evaluate", "run", ("evaluate", run))
    yield Command("evaluate --on validation", "run", ("evaluate", run, "--on", "validation"))
    yield Command("run", "run", ("run", run))
    yield Command("run --dry", "run", ("run", run, "--dry", "--json"), prints=True)
    yield Command("power", "run", ("power", run, "--json"), prints=True)
    yield Command("power --on validation", "run", ("power", run, "--on", "validation", "--json"), prints=True)
    yield Command("report", "run", ("report", run, "--samples", "8", "--pictures", "6"))
    yield Command("report --tex", "run", ("report", run, "--tex"), prints=True)
    yield Command("report of two", "run", ("report", run, "{kept}/run", "--to", "{out}/comparison"))
    yield Command("launch", "run", ("launch", run, "--slurm"), prints=True)
    yield Command("doctor", "run", ("doctor", run, "--json"), slow=True)
    yield Command("sweep", "sweep", ("sweep", f"{sweep}.yaml", *SWEEP))
    yield Command("sweep --dry", "sweep", ("sweep", f"{sweep}.yaml", *SWEEP, "--dry", "--json"), prints=True)
    yield Command("report of a sweep", "sweep", ("report", sweep))
    yield Command("report --tex of a sweep", "sweep", ("report", sweep, "--tex"), prints=True)
    yield Command("check of a sweep", "sweep", ("check", sweep, "--json"), prints=True)
    yield Command("clean of a sweep", "sweep", ("clean", sweep))
    yield Command("tune", "tuning", ("tune", f"{tuning}.yaml", *TUNE))
    yield Command("tune --dry", "tuning", ("tune", f"{tuning}.yaml", *TUNE, "--dry", "--json"), prints=True)
    yield Command("check of a tuning", "tuning", ("check", tuning, "--json"), prints=True)
    yield Command("generate what was tuned", "tuning", ("generate", f"{tuning}/tuned.yaml"))
    yield Command("report of what was tuned", "tuning", ("report", f"{tuning}/tuned"))


COMMANDS: Final = {command.name: command for command in _commands()}

APART: Final = {"demo": "`run` and `check` on a run of the built-in world, which takes minutes"}
"""Commands that the matrix does not walk, and why."""


# Cells.


@dataclass(frozen=True, slots=True)
class Cell:
    """A command that meets a fault."""

    root: Path
    command: Command
    file: File
    fault: str

    def __str__(self) -> str:
        """Return what reports call it."""
        return f"{self.command.name}: {self.file} {self.fault}"

    @property
    def is_one(self) -> bool:
        """Whether there is such a fault of the file."""
        if self.file.path.as_posix() in self.command.lacks:
            return False
        if self.fault == "another run's":
            return _others(self) is not None
        if self.fault == "wrong types":
            return self.file.name.endswith(".json")
        return self.fault not in ("flipped", "zeroed", "truncated") or _size(self) > 0


def _size(cell: Cell) -> int:
    return (cell.root / KEPT / cell.file.path).stat().st_size


@dataclass(slots=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code; None where an exception left the program.
        out: what it printed.
        said: what it said beside, or the traceback.
        tree: what lies there then, by path, as `contents` sees it.
        opened: paths of the files that it opened, as the system saw it.
    """

    code: int | None
    out: str
    said: str
    tree: dict[str, str] = field(default_factory=dict)
    opened: frozenset[str] = frozenset()


class Hung(BaseException):
    """A command took too long."""


@contextmanager
def _limited() -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        raise Hung(f"no end in {_LONGEST} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def lay_out(root: Path, command: Command) -> Path:
    """Lay the folders out as a command finds them, and return where."""
    here = root / HERE
    clear(here)
    for extra in ("outside", "out"):
        clear(root / extra)
    here.mkdir()
    (root / "out").mkdir()
    for path in (root / KEPT).iterdir():
        if path.is_file():
            shutil.copy2(path, here)
    shutil.copytree(root / KEPT / command.folder, here / command.folder, copy_function=_linked)
    for name in command.lacks:
        (here / name).unlink()
    return here


_WRITTEN_IN_PLACE: Final = ("log.txt", "study.log")


def _linked(source: str, to: str) -> None:
    """Give a file a second name; what is written in place is copied."""
    if Path(source).name in _WRITTEN_IN_PLACE or "/locks/" in source:
        shutil.copy2(source, to)
    else:
        os.link(source, to)


def clear(folder: Path) -> None:
    """Delete a folder, whatever a fault made of it."""
    if folder.is_dir():
        for parent, folders, _ in os.walk(folder):
            for name in folders:
                path = Path(parent, name)
                if not path.is_symlink():
                    path.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)


def damage(cell: Cell) -> Path:
    """Do to a file what the cell says, and return its path; other names of it stay as they are."""
    path = cell.root / HERE / cell.file.path
    own = path.with_name(f"{path.name}.own")
    shutil.copy2(path, own)
    own.replace(path)
    FAULTS[cell.fault](path, cell)
    return path


def call(root: Path, command: Command) -> Ended:
    """Call a command where the folders were laid out."""
    words = {"here": root / HERE, "out": root / "out", "kept": root / KEPT, "photos": root / "photos-0"}
    argv = [word.format(**words) for word in command.argv]
    before = Path.cwd()
    os.chdir(root / "out")
    try:
        with in_haste(), _limited(), without_override(), Watch(root / HERE) as watch:
            code, out, said = ended(*argv)
    except Exception:
        return Ended(None, "", traceback.format_exc())
    except Hung as error:
        return Ended(None, "", f"Hung: {error}\n{traceback.format_exc()}")
    finally:
        os.chdir(before)
    found = Ended(code, out, said, opened=frozenset(watch.opened))
    found.tree = {f"{HERE}/{name}": text for name, text in contents(root / HERE).items()}
    found.tree |= {f"out/{name}": text for name, text in contents(root / "out").items()}
    if command.prints:
        found.tree["printed"] = plain_text(out)
    return found
