"""What becomes of faults: every file of a run, damaged in every way, before every command that could read it.

    python -m benchmarks.faults              # prints JSON and writes benchmarks/results/faults.json
    python -m benchmarks.faults --every      # every cell, also those whose file the command does not open: an hour

Parts are functions of `PARTS`; each returns what it found, with its sizes.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.writing import write_result
from tests.faults.matrix import COMMANDS, FAULTS, Cell, Ended, call, damage, files_of, lay_out
from tests.faults.matrix_folders import build
from tests.faults.matrix_ways import WAYS, judged


def matrix(every: bool) -> dict[str, Any]:
    """Return how the cells of the fault matrix ended: by fault, and how many there were of everything."""
    ways: dict[str, Counter[str]] = {fault: Counter() for fault in FAULTS if fault != "read error"}
    wrong: list[str] = []
    files = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        build(root)
        files = sum(len(files_of(root, name)) for name in ("run", "sweep", "tuning"))
        for command in COMMANDS.values():
            if command.slow:
                continue
            lay_out(root, command)
            reference = call(root, command)
            for file in files_of(root, command.folder):
                if not every and file.path.as_posix() not in reference.opened:
                    continue
                for fault, found in ways.items():
                    cell = Cell(root, command, file, fault)
                    if cell.is_one:
                        way = _walk(cell, reference)
                        found[way if way in WAYS else "neither"] += 1
                        wrong += [] if way in WAYS else [f"{cell}: {way[:300]}"]
    return {
        "commands": sum(not command.slow for command in COMMANDS.values()),
        "files": files,
        "cells": sum(found.total() for found in ways.values()),
        "ways": {fault: dict(found) for fault, found in ways.items()},
        "neither": wrong,
    }


def _walk(cell: Cell, reference: Ended) -> str:
    lay_out(cell.root, cell.command)
    damage(cell)
    return judged(cell, reference, call(cell.root, cell.command))


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {"matrix": matrix}


def main() -> None:
    """Measure all parts, or those that are named."""
    every = "--every" in sys.argv
    named = [name for name in sys.argv[1:] if name in PARTS] or list(PARTS)
    write_result("faults", {name: PARTS[name](every) for name in named})


if __name__ == "__main__":
    main()
