"""What becomes of faults: every file of a run, damaged in every way, before every command; and of what befalls those.

    python -m benchmarks.faults                 # every cell, every call: hours; resumes wherever it was stopped
    python -m benchmarks.faults --parts matrix  # of two: matrix (of files) and system (of what befalls commands)
    python -m benchmarks.faults --opened        # of the matrix only the cells whose file the command opens
    python -m benchmarks.faults --times 10      # of the system ten calls at random, not every one

Each command of the matrix and each stage of the system is a unit: what was found of it lies in `--work` as soon as it
is done, and the sums, with all that is wrong, in benchmarks/results/faults.json. Several processes share the work.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.evidence.locks import exclusive
from benchmarks.writing import write_result
from tests.faults.matrix import COMMANDS, FAULTS, Cell, Ended, call, damage, files_of, lay_out
from tests.faults.matrix_folders import build
from tests.faults.matrix_ways import WAYS, judged
from tests.faults.project import BEFALLS, DEAR, STAGES, Project, project

from augcond.errors import RunLockedError

WORK = Path(__file__).parents[1] / "runs" / "faults"
EACH = 8
"""Calls of each stage that takes seconds."""
OF_FILES = [fault for fault in FAULTS if fault != "read error"]
Found = dict[str, Any]
"""How often each fault ended in which way, by fault; and in words what is wrong."""

logger = logging.getLogger("benchmarks.faults")


@contextmanager
def matrix(opened: bool) -> Iterator[Callable[[str], Found]]:
    """Give what walks the cells of a command; where `opened`, only those whose file it opens."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        build(root)

        def walk(name: str) -> Found:
            command = COMMANDS[name]
            lay_out(root, command)
            reference = call(root, command)
            files = [
                one for one in files_of(root, command.folder) if not opened or one.path.as_posix() in reference.opened
            ]
            cells = [Cell(root, command, file, fault) for file in files for fault in OF_FILES]
            ended = {cell: _walk(cell, reference) for cell in cells if cell.is_one}
            return {
                "files": len(files),
                "ways": counted((cell.fault, way if way in WAYS else "wrong") for cell, way in ended.items()),
                "wrong": [f"{cell}: {way[-600:]}" for cell, way in ended.items() if way not in WAYS],
            }

        yield walk


def _walk(cell: Cell, reference: Ended) -> str:
    lay_out(cell.root, cell.command)
    damage(cell)
    return judged(cell, reference, call(cell.root, cell.command))


@contextmanager
def system(times: int | None) -> Iterator[Callable[[str], Found]]:
    """Give what lets each thing befall a stage, and the same command go on to the same bytes.

    Args:
        times: at so many random calls that change files; None: at every one, and at `EACH` of stages that take seconds.
    """
    with tempfile.TemporaryDirectory() as folder, project(Path(folder) / "small", *STAGES) as small:
        yield lambda stage: _befall(small, stage, times)


def _befall(small: Project, stage: str, times: int | None) -> Found:
    rng, calls = random.Random(stage), small.calls[stage]
    ended: list[tuple[str, str]] = []
    wrong = []
    for what in BEFALLS:
        every = range(1, calls + 1, calls // EACH if stage in DEAR else 1)
        for nth in every if times is None else [rng.randint(1, calls) for _ in range(times)]:
            small.reset(stage)
            try:
                code = small.befall(stage, what, nth)
                small.check_goes_on(stage, done=code == 0)
            except AssertionError as error:
                wrong.append(f"{stage}, {what} at call {nth}: {str(error)[:600]}")
                ended.append((what, "wrong"))
            else:
                ended.append((what, f"exit code {code}"))
    return {"calls": calls, "ways": counted(ended), "wrong": wrong}


def counted(ended: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Return how often each fault ended in which way."""
    counts: dict[str, Counter[str]] = {}
    for fault, way in ended:
        counts.setdefault(fault, Counter())[way] += 1
    return {fault: dict(sorted(found.items())) for fault, found in counts.items()}


def summed(units: dict[str, Found]) -> dict[str, Any]:
    """Return the sums of all units, and all that is wrong."""
    ways: dict[str, Counter[str]] = {}
    for found in units.values():
        for fault, counts in found["ways"].items():
            ways.setdefault(fault, Counter()).update(counts)
    return {
        "cells": sum(counts.total() for counts in ways.values()),
        "ways": {fault: dict(sorted(counts.items())) for fault, counts in ways.items()},
        "wrong": [one for found in units.values() for one in found["wrong"]],
        "units": {
            name: {"cells": _total(found)} | {key: found[key] for key in sorted(found.keys() - {"ways", "wrong"})}
            for name, found in units.items()
        },
    }


def _total(found: Found) -> int:
    return sum(sum(counts.values()) for counts in found["ways"].values())


def main() -> None:
    """Do what is not done yet, and write the sums."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=("matrix", "system"), default=("matrix", "system"))
    parser.add_argument("--opened", action="store_true", help="only cells whose file the command opens")
    parser.add_argument("--times", type=int, help="random calls, not every one")
    parser.add_argument("--work", type=Path, default=WORK, help="where what was found of each unit is kept")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logger.setLevel(logging.INFO)
    named = {"matrix": (matrix(options.opened), [name for name, one in COMMANDS.items() if not one.slow])}
    named["system"] = (system(options.times), list(STAGES))
    for part in options.parts:
        opening, names = named[part]
        paths = {name: options.work / part / f"{name.replace(' ', '_')}.json" for name in names}
        if not all(path.exists() for path in paths.values()):
            with opening as walk:
                for name, path in paths.items():
                    do(walk, name, path)
    parts = {part: summed(read(options.work / part)) for part in ("matrix", "system")}
    write_result("faults", {"faults": len(FAULTS), "befalls": len(BEFALLS), **parts})


def do(walk: Callable[[str], Found], name: str, path: Path) -> None:
    """Walk a unit that is not done and that nobody else is at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(path.with_suffix(".lock"), "another process is at it"):
            if path.exists():
                return
            started = time.monotonic()
            found = {"unit": name, **walk(name), "seconds": 0}
            found["seconds"] = round(time.monotonic() - started)
            path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    except RunLockedError:
        return
    logger.info("%s: %d cells in %d s", name, _total(found), found["seconds"])
    for each in found["wrong"]:
        logger.info("WRONG %s", each)


def read(folder: Path) -> dict[str, Found]:
    """Return what was found of each unit that is done."""
    units = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json")))
    return {unit.pop("unit"): unit for unit in units}


if __name__ == "__main__":
    main()
