"""What a command is given (a run folder, its config.yaml, a config of one's own) and the run that it stands for."""

from __future__ import annotations

from pathlib import Path

from augcond.config import RunConfig, load_config
from augcond.store.folder import RunFolder


def resolve_run(given: Path) -> RunFolder:
    """Return the folder of the run that `given` stands for: where it lies now, not where it was made.

    Args:
        given: a run folder, the config.yaml in one, or the config that a run is made with.

    Raises:
        ConfigError: the config cannot be read.
    """
    kept = _kept_in(given)
    if kept is not None:
        return kept
    return RunFolder(load_config(given).run if given.is_file() else given)


def resolve_config(given: Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Return the config that `given` stands for, with `overrides`; a run's own says where the run lies now.

    Args:
        given: see `resolve_run`.
        overrides: `dotted.key=value` texts.

    Raises:
        RunError: `given` is a folder without a run, or holds one of a newer augcond.
        ConfigError: the config cannot be read, or an override is wrong.
    """
    kept = _kept_in(given)
    return load_config(given, overrides) if kept is None else kept.read_config(overrides)


def _kept_in(given: Path) -> RunFolder | None:
    """Return the run folder that `given` is (or should be), or that it is the config.yaml of; None for a config."""
    named = given.suffix.lower() in (".yaml", ".yml")
    if given.is_dir() or not (given.exists() or named):
        return RunFolder(given)
    inside = RunFolder(given.parent)
    return inside if inside.exists and given.name == inside.config_path.name else None
