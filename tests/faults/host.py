"""Runs augcond's commands in forks of one process that has imported everything: `python -m tests.faults.host`.

A command is there in a moment, with the environment, and so the preloaded libraries, of this process, which runs no
threads. It is told orders, a JSON object to a line of its standard input; it says `started ID PID`, `ended ID CODE`.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main() -> None:
    """Do what is ordered until standard input ends."""
    import_everything()
    # What is there now is never collected: forks share its memory.
    gc.freeze()
    say("ready")
    running: dict[int, str] = {}
    unread = b""
    while True:
        if select.select([0], [], [], 0.01)[0]:
            read = os.read(0, 65536)
            if not read:
                return
            *lines, unread = (unread + read).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if not pid:
                    run(order)
                running[pid] = order["id"]
                say(f"started {order['id']} {pid}")
        while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            say(f"ended {running.pop(ended[0])} {os.waitstatus_to_exitcode(ended[1])}")


def import_everything() -> None:
    """Import what commands import on their way."""
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import huggingface_hub  # noqa: F401
    import optuna.storages.journal  # noqa: F401
    import timm.optim  # noqa: F401
    import torch

    import augcond.__main__
    import augcond.cli
    import augcond.conditioning.views
    import augcond.experiments.push
    import augcond.experiments.sweep
    import augcond.experiments.tuning.tune
    import augcond.pipeline
    import augcond.report
    import augcond.testing
    import augcond.training.networks  # noqa: F401

    torch.set_num_threads(1)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def run(order: dict[str, Any]) -> None:
    """Be the command that is ordered, and end."""
    code = 99
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for stream, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
            os.dup2(descriptor, stream)
        os.closerange(3, 64)
        os.chdir(order["folder"])
        code = as_program(order)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def as_program(order: dict[str, Any]) -> int:
    """Run the command line as `augcond` does, under what is to befall it; return the exit code."""
    import augcond.__main__ as program
    from augcond.store import claims

    claims.PACE = claims.Pace(**order["pace"])
    sys.argv = ["augcond", *order["arguments"]]
    for name, limit in order["limits"].items():
        if name == "RLIMIT_AS":
            limit += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(getattr(resource, name), (limit, limit))
    library = None
    if order["locks"] is not None:
        ctypes.CDLL(None).lock_by(order["locks"])
    if order["befalls"]:
        library = ctypes.CDLL(None)
        kind, nth, value = order["befalls"]
        library.arm(order["folder"].encode(), ctypes.c_char(kind.encode()), ctypes.c_long(nth), ctypes.c_long(value))
    try:
        program.main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # what Python would do
        traceback.print_exc()
        code = 98
    if library is not None:
        library.calls.restype = ctypes.c_long
        os.write(2, f"\ncalls {library.calls()}\n".encode())
    return code


if __name__ == "__main__":
    main()
