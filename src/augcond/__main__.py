"""The program, `augcond` or `python -m augcond`: signals and errors become one line and an exit code.

    0   done
    1   failed, or problems were found
    2   wrong use: an argument, a config, an extra that is not installed
    75  interrupted: run the same command again (EX_TEMPFAIL of sysexits.h)

Nothing dear is imported before the signals are caught, so that Ctrl-C is answered from the first moment.
"""

from __future__ import annotations

import signal
import sys

from augcond.interruption import GO_ON, INTERRUPTED, catch, farewell, names, received, say

FAILED = 1

MEND_AND_GO_ON = "what was committed is safe: mend the cause, and run the same command again to go on"

_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory", "bad_alloc", "can't start new thread")

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
"""SIGUSR1 is what Slurm is asked to send ahead of its SIGTERM (`--signal=B:USR1@120`)."""


def main() -> None:
    """Run the command line."""
    before = catch(names(*_SIGNALS))
    try:
        code = _run()
    except BaseException:
        # Whatever a library made of it: the signal is the reason.
        if not received():
            raise
        say(farewell())
        code = INTERRUPTED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
    sys.exit(code)


def _run() -> int:
    from pathlib import Path

    from augcond.cli import app
    from augcond.cli.output import print_anything
    from augcond.errors import AugcondError
    from augcond.guest import no_warning_is_an_error

    # Generators, recipes and readers of one's own lie beside the config; at the end, so that they shadow nothing.
    sys.path.append(str(Path.cwd()))
    print_anything()
    try:
        with no_warning_is_an_error():
            app()
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except AugcondError as error:
        say(f"error: {error}")
        return error.exit_code
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        if not isinstance(error, MemoryError) and not any(text in str(error) for text in _MEMORY):
            if not isinstance(error, OSError):
                raise
            # A full disk, a lost mount, no permission: nothing half-done was committed.
            say(f"error: {error}; {MEND_AND_GO_ON}")
            return FAILED
        say(
            f"error: out of memory ({str(error) or 'the machine has no more'}): lower engine.batch_size, "
            f"training.batch_size or training.max_memory_gb; {GO_ON}"
        )
    return FAILED


if __name__ == "__main__":
    main()
