"""Processes of augcond's own code: one that is started, and some that answer what they are asked.

Not by `multiprocessing`: that runs the caller's script anew in each, which a script without a guard of its main part
does not survive.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from queue import LifoQueue
from typing import IO, TYPE_CHECKING, Any, cast

import augcond
from augcond.errors import AugcondError, RunError
from augcond.interruption import names

if TYPE_CHECKING:
    from collections.abc import Callable

_PIPE_BYTES = 1 << 20
"""Small requests fit: writing one waits for nobody."""


_END = 5.0
"""Seconds in which a process whose output has ended has to end."""


class HelperEndedError(Exception):
    """A process has ended instead of answering.

    Attributes:
        how: the signal's name, or the exit code.
    """

    def __init__(self, code: int) -> None:
        self.how = signal.Signals(-code).name if code < 0 else f"code {code}"
        super().__init__(self.how)


def start_process(module: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start `python -m MODULE`, which finds augcond wherever it was imported from.

    Args:
        module: of augcond.
        arguments: behind it.
        options: of `subprocess.Popen`.
    """
    found = [str(Path(augcond.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(  # noqa: S603 - of ourselves
        [sys.executable, "-P", "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(found)},
        **options,
    )


class Helpers:
    """Processes that answer over their standard output what they are asked over their standard input.

    They are started as they are needed, and end with their input, so with their parent. Close them.

    Args:
        module: of augcond, run as a program, which calls `serve`.
        settings: what each is told first.
        most: so many processes; of more threads than these some wait.
    """

    def __init__(self, module: str, settings: object, most: int) -> None:
        self._module, self._settings = module, settings
        self._started: list[subprocess.Popen[bytes]] = []
        self._places: LifoQueue[subprocess.Popen[bytes] | None] = LifoQueue()
        for _ in range(most):
            self._places.put(None)

    def ask(self, request: object) -> Any:
        """Return the answer of a process that nobody else is asking.

        Raises:
            HelperEndedError: the process has ended; another one takes its place.
            RunError: no process can be started.
            AugcondError: what it raised.
            RuntimeError: it raised something else.
        """
        process = self._places.get()
        kept = None  # only one that has answered whole is asked again
        try:
            process = process or self._start()
            answer, error = _exchange(process, request)
            kept = process
        finally:
            self._places.put(kept)
        if error is not None:
            raise error
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        process = start_process(self._module, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=_PIPE_BYTES)
        self._started.append(process)
        try:
            _exchange(process, self._settings)
        except HelperEndedError as ended:
            raise RunError(
                f"a process of augcond ({self._module}) ended as it started, with {ended.how}: what it said is above"
            ) from None
        return process

    def close(self) -> None:
        """End all processes; none is being asked."""
        for process in self._started:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):  # of what one that had ended never read
                    cast("IO[bytes]", pipe).close()


def serve(make: Callable[[Any], Callable[[Any], object]]) -> None:
    """Answer what comes over standard input, until it ends; what a program that `Helpers` start does.

    Args:
        make: returns from the settings what answers requests.
    """
    # The parent hears from the terminal, and closes the pipe.
    for number in names("SIGINT", "SIGHUP", "SIGUSR1", "SIGTERM"):
        signal.signal(number, signal.SIG_IGN)
    requests = sys.stdin.buffer
    # Whatever a library prints is no answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(EOFError, BrokenPipeError):
        settings = pickle.load(requests)  # noqa: S301 - of our parent
        _tell(answers, (None, None))
        call: Callable[[Any], object] | None = None
        while True:
            request = pickle.load(requests)  # noqa: S301
            answer, error = None, cast("Exception | None", None)
            try:
                call = call or make(settings)
                answer = call(request)
            except AugcondError as raised:
                error = raised
            except Exception:
                error = RuntimeError(traceback.format_exc())
            _tell(answers, (answer, error))


def _exchange(process: subprocess.Popen[bytes], request: object) -> tuple[Any, Exception | None]:
    """Return what a process answers, and what it raised.

    Raises:
        HelperEndedError: it has ended.
    """
    try:
        _tell(process.stdin, request)
        found: tuple[Any, Exception | None] = pickle.load(cast("IO[bytes]", process.stdout))  # noqa: S301 - of ourselves
    except (BrokenPipeError, EOFError, pickle.UnpicklingError):
        with suppress(subprocess.TimeoutExpired):
            raise HelperEndedError(process.wait(_END)) from None
        process.kill()  # what it says is no answer, but it goes on
        raise HelperEndedError(process.wait()) from None
    return found


def _tell(pipe: IO[bytes] | None, what: object) -> None:
    file = cast("IO[bytes]", pipe)
    pickle.dump(what, file, protocol=pickle.HIGHEST_PROTOCOL)
    file.flush()
