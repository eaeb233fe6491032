"""What commands are given: their common arguments, and the configs and runs that these stand for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from augcond.errors import ConfigError

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.store import RunFolder
    from augcond.training.arms import HeldOut

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML config of one run, or a run folder.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or the config that made it.")]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="A folder with one sub-folder per class, a list file (.txt, .csv), a config, or 'builtin'."
    ),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as generator.steps=10.")
]
Reuse = Annotated[list[Path] | None, typer.Option("--reuse", metavar="RUN", help="Take equal images from another run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

_DRAWN, _HEAD = b"Software\0Matplotlib", 512
"""What stands in the first bytes of every sheet that is drawn."""


def local(path: Path, what: str) -> Path:
    """Return `path` with `~` as the home folder, having refused an address such as s3://bucket.

    Both would be made as folders of that name: shells leave `--to=~/x` as it is.
    """
    from augcond.config.loading import refuse_url

    refuse_url(path, what)
    return path.expanduser()


def drawing(path: Path, what: str) -> Path:
    """Return the path of a PNG to write, checked before the work, having refused whatever else lies there.

    Raises:
        ConfigError: it is no name of a PNG, or what lies there was not drawn by augcond.
    """
    path = local(path, what)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{what} {path}: name a .png file")
    if path.exists() and not (path.is_file() and _DRAWN in path.read_bytes()[:_HEAD]):
        raise ConfigError(f"{what} {path}: what lies there was not drawn by augcond, and stays: name another file")
    return path


def load_run_config(path: Path, overrides: list[str] | None) -> RunConfig:
    """Return the config that a CONFIG or RUN argument stands for, with `overrides` from --set."""
    from augcond.store.resolving import resolve_config

    path = local(path, "CONFIG")
    _import_from_beside(path)
    return resolve_config(path, tuple(overrides or ()))


def _import_from_beside(config: Path) -> None:
    """Let a config name generators, recipes and readers of one's own whose modules lie beside it (`module:object`)."""
    folder = str(config.parent.resolve())
    if config.is_file() and folder not in sys.path:
        sys.path.append(folder)


def data_config(data: str, overrides: Any) -> RunConfig:
    """Return the config that a DATA argument stands for; its run folder is never used."""
    from augcond.config import load_config, parse_config
    from augcond.store import RunFolder

    overrides = tuple(overrides or ())
    path = local(Path(data), "DATA")
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        _import_from_beside(path)
        return load_config(path, overrides)
    if data == "builtin" and not path.exists():
        section: dict[str, Any] = {"source": "builtin"}
    elif RunFolder(path).exists:
        raise ConfigError(f"{path} is a run, which holds made images: give the folder of its real ones, or its config")
    elif path.is_dir():
        section = {"source": "folder", "path": str(path)}
    elif path.is_file():
        section = {"source": "list", "path": str(path)}
    else:
        raise ConfigError(
            f"no folder or file at {data}: expected a folder with one sub-folder per class, a list file "
            "(.txt, .csv), a config (.yaml), or 'builtin'"
        )
    return parse_config({"data": section, "run": "unused"}, overrides)


def run_folder(path: Path) -> RunFolder:
    """Return the run folder that a RUN argument stands for."""
    from augcond.store.resolving import resolve_run

    path = local(path, "RUN")
    _import_from_beside(path)
    return resolve_run(path)


def read_keys(path: Path) -> list[str]:
    """Return the keys of images in a file, one a line, or in standard input where it is called `-`.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else local(path, "KEYS").read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"KEYS {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return [line for line in map(str.rstrip, text.splitlines()) if line]


def held_out_of(text: str) -> HeldOut:
    """Return what --on names."""
    if text == "test":
        return "test"
    if text == "validation":
        return "validation"
    raise ConfigError(f"--on {text!r}: expected test or validation")
