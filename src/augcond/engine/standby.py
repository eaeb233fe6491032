"""A worker process that loads the generator before there is a plan: what it says of it is all that a plan needs.

So a process that makes no images itself never has the weights in its memory, and nobody loads them twice.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, cast

from augcond.config import GeneratorConfig
from augcond.errors import RunError
from augcond.generators.base import Traits
from augcond.processes import start_process

_LEAVING = 10.0
"""Seconds that a process which is not needed has to end by itself."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a child is to load before it is told what to do.

    Attributes:
        run: the run folder.
        generator: which generator, and how it samples.
        images: how many it is to make.
        environment: variables that differ from the parent's: which device it sees.
    """

    run: Path
    generator: GeneratorConfig
    images: int
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """`python -m augcond.engine.child`, started; it is told over standard input, and tells over a pipe."""

    process: subprocess.Popen[bytes]
    pipe: Connection

    def tell(self, what: Any) -> None:
        """Send it something to do.

        Raises:
            BrokenPipeError: it has ended.
        """
        file = cast(IO[bytes], self.process.stdin)
        pickle.dump(what, file)
        file.flush()

    def end(self, seconds: float) -> None:
        """End it, and wait for that; kill it after so many seconds."""
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.close()

    def close(self) -> None:
        """Close both ways to it; it has ended."""
        self.pipe.close()
        with suppress(BrokenPipeError):  # of what it never read
            cast(IO[bytes], self.process.stdin).close()


def start_child() -> ChildProcess:
    """Return a child that waits to be told what to do."""
    ours, theirs = Pipe(duplex=False)
    process = start_process(
        "augcond.engine.child", str(theirs.fileno()), stdin=subprocess.PIPE, pass_fds=[theirs.fileno()]
    )
    theirs.close()
    child = ChildProcess(process, ours)
    # Where modules are looked for comes first: a config may be of a class of one's own.
    child.tell(tuple(sys.path))
    return child


class Standby:
    """A child that loads a generator, and waits.

    Args:
        preparation: what it is to load.
    """

    def __init__(self, preparation: Preparation) -> None:
        self._child: ChildProcess | None = start_child()
        self._child.tell(preparation)

    def traits(self) -> Traits:
        """Return what the generator says of itself, once it is loaded.

        Raises:
            RunError: the process died.
            AugcondError: the generator cannot be loaded.
        """
        child = self._child
        if child is None:
            raise RuntimeError("it was taken, or ended")
        try:
            what, of = child.pipe.recv()
        except (EOFError, OSError):
            code = child.process.wait()
            raise RunError(
                f"the process that loads the generator has ended with {code}: see the run's log.txt; a signal (-9) is "
                "mostly want of memory"
            ) from None
        if what == "error":
            raise of
        traits: Traits = of
        return traits

    def take(self) -> ChildProcess | None:
        """Return the child, which is the caller's now; None where it was taken already."""
        child, self._child = self._child, None
        return child

    def close(self) -> None:
        """End the child, if nobody took it."""
        child = self.take()
        if child is not None:
            child.end(_LEAVING)
