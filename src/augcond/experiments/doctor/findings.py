"""What a check of this machine finds, and what it is given to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from augcond.config import RunConfig

if TYPE_CHECKING:
    from augcond.experiments.doctor.generator import Bench

Status = Literal["ok", "failed", "not possible here"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        status: `not possible here` where this machine lacks what the check is about, such as a GPU.
        detail: what was found, in a line.
        advice: what to do about it; empty where nothing is to be done.
        measured: numbers and names for scripts.
        check: name of the check.
        matters: whether runs suffer where it failed.
        seconds: that the check took.
    """

    status: Status
    detail: str
    advice: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)
    check: str = ""
    matters: bool = True
    seconds: float = 0.0

    @property
    def stops(self) -> bool:
        """Whether it is a failure that matters."""
        return self.status == "failed" and self.matters


class Subject:
    """What checks look at.

    Args:
        config: the run; its generator is the one that is tried.
        near: the existing folder in or below which the run is to lie.
        scratch: an empty folder in `near` to try things in; None where none can be made.
    """

    def __init__(self, config: RunConfig, near: Path, scratch: Path | None) -> None:
        self.config, self.near, self.scratch = config, near, scratch
        self._bench: Bench | None = None

    @property
    def has_loaded(self) -> bool:
        """Whether the generator is in the memory of this process."""
        return self._bench is not None

    @property
    def bench(self) -> Bench:
        """The generator with rows for it, loaded at first use.

        Raises:
            AugcondError: it cannot be loaded, or does not go with the recipes.
        """
        from augcond.experiments.doctor.generator import load_bench

        if self._bench is None:
            self._bench = load_bench(self.config)
        return self._bench


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is tried.

    Attributes:
        name: what is tried, in words.
        look: `module:function` that tries it, from a `Subject` to a `Finding`; what it raises is a failure. It is
            imported where it is called, so that a library that cannot be loaded stops nothing else.
        needs: the check that must have come out well before; None where none.
        matters: tells whether runs of a config suffer where it fails.
        advice: what to do where it raises.
        alone: whether it needs a process that did nothing before.
    """

    name: str
    look: str
    needs: str | None = None
    matters: Callable[[RunConfig], bool] = lambda config: True
    advice: str = ""
    alone: bool = False
