"""The one way in which a signal ends what runs: an exception of its own, at the next moment that bears one.

Nothing dear is imported here: signals are to be caught from the first moment.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # `typing` is not imported for it: every moment counts
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

INTERRUPTED = 75
"""EX_TEMPFAIL of sysexits.h: run the same command again."""

GO_ON = "what was committed is safe, run the same command again to go on"

_received: list[str] = []
_insistent = True


class Stopped(BaseException):
    """A signal asks the program to end; not a KeyboardInterrupt, which libraries make other things of."""


def names(*wanted: str) -> list[signal.Signals]:
    """Return those of the signals that the system has."""
    return [getattr(signal, name) for name in wanted if hasattr(signal, name)]


def catch(numbers: Iterable[int], *, insistent: bool = True) -> dict[int, object]:
    """Have `Stopped` raised on these signals, and return how they were handled before.

    Args:
        numbers: the signals; those that are ignored stay so: under nohup, or in the background of a shell, some are.
        insistent: whether the second one ends the program at once.
    """
    global _insistent
    _received.clear()
    _insistent = insistent
    before: dict[int, object] = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    return before


def received() -> bool:
    """Return whether a signal has come."""
    return bool(_received)


def stop(number: int, frame: FrameType | None) -> None:
    """Raise `Stopped`; the handler of the signals."""
    if _received:
        if _insistent:
            # The second time: at once. What is half-written is removed by the next command.
            os._exit(INTERRUPTED)
        return
    _received.append(signal.Signals(number).name)
    if _is_importing(frame):
        # C++ calls Python while a module is loaded, and aborts where that raises. Nothing is written meanwhile that a
        # kill would not leave whole.
        os.write(2, f"{farewell()}\n".encode())
        os._exit(INTERRUPTED)
    raise Stopped


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def farewell() -> str:
    """Return what is said at the end."""
    return f"stopped by {_received[0]}; {GO_ON}"


def say(line: str) -> None:
    """Write a line to the terminal."""
    sys.stderr.write(f"{line}\n")
