"""Starts workers for the storm test: `python -m tests.engine.storm_host`, a config to a line of its standard input.

It imports everything once and forks, as it runs no threads: a worker is there in a moment, with the environment, and
so the preloaded libraries, of this process. What it says are lines `started PID` and `ended PID CODE`.
"""

from __future__ import annotations

import os
import select
import signal
import sys

from augcond.config import load_config
from augcond.pipeline import generate

__all__ = ["main"]


def main() -> None:
    """Do what is asked until standard input ends."""
    import datasets  # noqa: F401 - what workers import on their way
    import torch

    import augcond.conditioning.views
    import augcond.testing  # noqa: F401

    torch.set_num_threads(1)
    say("ready")
    while True:
        if select.select([sys.stdin], [], [], 0.02)[0]:
            line = os.read(0, 4096).decode()
            if not line:
                return
            for config in line.split():
                start(config)
        reap()


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def start(config: str) -> None:
    pid = os.fork()
    if pid:
        say(f"started {pid}")
        return
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        generate(load_config(config))
        code = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        say(f"ended {pid} {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
