"""The program, `augcond` or `python -m augcond`: signals and errors become one line and an exit code.

    0   done
    1   failed, or problems were found
    2   wrong use: an argument, a config, an extra that is not installed
    75  interrupted: run the same command again (EX_TEMPFAIL of sysexits.h)

Nothing dear is imported before the signals are caught, so that Ctrl-C is answered from the first moment.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # `typing` is not imported for it: every moment counts
if TYPE_CHECKING:
    from types import FrameType

FAILED, INTERRUPTED = 1, 75

GO_ON = "what was committed is safe, run the same command again to go on"
MEND_AND_GO_ON = "what was committed is safe: mend the cause, and run the same command again to go on"

_MEMORY = ("out of memory", "can't allocate memory")

_received: list[str] = []


class Stopped(BaseException):
    """A signal asks the program to end; not a KeyboardInterrupt, which libraries make other things of."""


def main() -> None:
    """Run the command line."""
    _received.clear()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        numbers.append(signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, handler in before.items():
            # Under nohup, or in the background of a shell, some are ignored on purpose.
            if handler is not signal.SIG_IGN:
                signal.signal(number, _stop)
        code = _run()
    except BaseException:
        # Whatever a library made of it: the signal is the reason.
        if not _received:
            raise
        _say(_farewell())
        code = INTERRUPTED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    sys.exit(code)


def _stop(number: int, frame: FrameType | None) -> None:
    if _received:
        # The second time: at once. What is half-written is removed by the next command.
        os._exit(INTERRUPTED)
    _received.append(signal.Signals(number).name)
    if _is_importing(frame):
        # C++ calls Python while a module is loaded, and aborts where that raises. Nothing is written meanwhile that a
        # kill would not leave whole.
        os.write(2, f"{_farewell()}\n".encode())
        os._exit(INTERRUPTED)
    raise Stopped


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _farewell() -> str:
    return f"stopped by {_received[0]}; {GO_ON}"


def _run() -> int:
    from pathlib import Path

    from augcond.cli import app
    from augcond.cli.output import print_anything
    from augcond.errors import AugcondError

    # Generators, recipes and readers of one's own lie beside the config; at the end, so that they shadow nothing.
    sys.path.append(str(Path.cwd()))
    print_anything()
    try:
        app()
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except AugcondError as error:
        _say(f"error: {error}")
        return error.exit_code
    except OSError as error:
        # A full disk, a lost mount, no permission: nothing half-done was committed.
        _say(f"error: {error}; {MEND_AND_GO_ON}")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(text in str(error) for text in _MEMORY):
            raise
        _say(
            f"error: out of memory ({str(error) or 'the machine has no more'}): lower engine.batch_size, "
            f"training.batch_size or training.max_memory_gb; {GO_ON}"
        )
    return FAILED


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
