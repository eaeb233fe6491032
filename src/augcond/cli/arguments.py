"""What commands are given: their common arguments, and the configs and runs that these stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from augcond.errors import ConfigError, RunError

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.store import RunFolder
    from augcond.training.arms import HeldOut

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML config of one run.")]
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
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def load_run_config(path: Path, overrides: list[str] | None) -> RunConfig:
    """Return the config in the file `path`, with `overrides` from --set."""
    from augcond.config import load_config

    return load_config(path, tuple(overrides or ()))


def data_config(data: str, overrides: Any) -> RunConfig:
    """Return the config that a DATA argument stands for; its run folder is never used."""
    from augcond.config import load_config, parse_config

    overrides = tuple(overrides or ())
    path = Path(data)
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return load_config(path, overrides)
    if data == "builtin" and not path.exists():
        section: dict[str, Any] = {"source": "builtin"}
    elif path.is_dir():
        section = {"source": "folder", "path": data}
    elif path.is_file():
        section = {"source": "list", "path": data}
    else:
        raise ConfigError(
            f"no folder or file at {data}: expected a folder with one sub-folder per class, a list file "
            "(.txt, .csv), a config (.yaml), or 'builtin'"
        )
    return parse_config({"data": section, "run": "unused"}, overrides)


def config_of_run(path: Path, overrides: list[str] | None) -> RunConfig:
    """Return the config that a RUN argument stands for: the one given, or the one that the run keeps."""
    if path.suffix.lower() in (".yaml", ".yml"):
        return load_run_config(path, overrides)
    kept = path / "config.yaml"
    if not kept.is_file():
        raise RunError(f"{path} is no run: it has no config.yaml (augcond generate CONFIG makes it)")
    return load_run_config(kept, overrides)


def run_folder(path: Path) -> RunFolder:
    """Return the run folder that a RUN argument stands for."""
    from augcond.store import RunFolder

    if path.suffix.lower() in (".yaml", ".yml") and path.is_file() and path.name != "config.yaml":
        return RunFolder(load_run_config(path, None).run)
    return RunFolder(path.parent if path.name == "config.yaml" and path.is_file() else path)


def held_out_of(text: str) -> HeldOut:
    """Return what --on names."""
    if text == "test":
        return "test"
    if text == "validation":
        return "validation"
    raise ConfigError(f"--on {text!r}: expected test or validation")
