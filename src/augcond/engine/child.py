"""A worker in a process of its own: `python -m augcond.engine.child FD`, started by `engine/workers.py`.

It is told what to do over standard input, and tells over the pipe FD what it has done: rows that are made, markers of
shards that are committed, never images. It ends when its parent does, because nobody reads the pipe then.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from augcond.engine.rescue import make_row_by_row
from augcond.engine.standby import Preparation
from augcond.engine.work import Work, do_work, load
from augcond.errors import AugcondError
from augcond.generators import Generator, load_generator
from augcond.guest import as_guest
from augcond.interruption import INTERRUPTED, catch, names, received
from augcond.progress import log_to
from augcond.store.commit import ShardMarker
from augcond.store.folder import RunFolder
from augcond.store.pending import ClaimedShard

FAILED = 1


@dataclass(frozen=True, slots=True)
class Order:
    """What a child is to do.

    Attributes:
        work: see `Work`.
        environment: variables that differ from the parent's: which device it sees.
        alone: the shard that killed others, claimed by the parent, which is to be made row by row; None for all others.
        fatal: keys of its rows that are known to kill.
    """

    work: Work
    environment: tuple[tuple[str, str], ...] = ()
    alone: ClaimedShard | None = None
    fatal: tuple[str, ...] = ()


class Told:
    """What a child tells its parent, as pairs of what it is and what of it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def tell(self, what: str, of: Any = None) -> None:
        """Send it."""
        self._pipe.send((what, of))

    def start(self, total: int, what: str | None = None) -> None:
        """Say nothing: the parent knows how many there are. See `augcond.progress.Progress`."""

    def advance(self, made: int, failed: int) -> None:
        """Tell of rows; see `augcond.progress.Progress`."""
        self.tell("rows", (made, failed))

    def shard(self, number: int, marker: ShardMarker) -> None:
        """Tell of a shard that is committed."""
        self.tell("shard", (number, marker))


@as_guest
def _prepared(preparation: Preparation, told: Told) -> Generator:
    generator = load_generator(preparation.generator, images=preparation.images)
    told.tell("traits", generator.traits)
    return generator


@as_guest
def _work(order: Order, told: Told, generator: Generator | None) -> None:
    loaded = load(order.work, generator)
    told.tell("ready")
    if order.alone is not None:
        marker = make_row_by_row(order.work, order.alone, order.fatal, lambda key: told.tell("at", key), loaded)
        if marker is not None:
            told.advance(marker.rows, marker.failed)
            told.shard(order.alone.number, marker)
        return
    do_work(
        order.work,
        told.shard,
        loaded=loaded,
        progress=told,
        on_begin=lambda number: told.tell("at", number),
        count_others=False,
    )


def main() -> int:
    """Do what is ordered over standard input, and return the exit code."""
    told = Told(Connection(int(sys.argv[1])))
    # The parent hears from the terminal, and tells us; Slurm tells us both.
    for number in names("SIGINT", "SIGHUP", "SIGUSR1"):
        signal.signal(number, signal.SIG_IGN)
    catch([signal.SIGTERM], insistent=False)
    sys.path[:] = pickle.load(sys.stdin.buffer)  # noqa: S301 - of our parent
    first: Preparation | Order = pickle.load(sys.stdin.buffer)  # noqa: S301
    os.environ.update(first.environment)
    run = first.run if isinstance(first, Preparation) else first.work.run
    try:
        with log_to(RunFolder(run).log_path):
            if not isinstance(first, Preparation):  # an `Order` is of this module, which has another name here
                _work(first, told, None)
                return 0
            generator = _prepared(first, told)
            try:
                order: Order = pickle.load(sys.stdin.buffer)  # noqa: S301
            except EOFError:  # there is nothing to do
                return 0
            _work(order, told, generator)
    except (AugcondError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        told.tell("error", error)
        return FAILED
    return 0


if __name__ == "__main__":
    code = INTERRUPTED
    try:
        code = main()
    except BrokenPipeError:
        # The parent is gone; what was committed is safe.
        os._exit(INTERRUPTED)
    except BaseException:
        # Whatever a library made of it: the signal is the reason.
        if not received():
            raise
    sys.exit(code)
