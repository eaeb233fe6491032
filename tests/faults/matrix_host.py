"""A process that walks cells in which reading a file fails: it runs under `reading.c`, and prints how each ended."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.faults.matrix import COMMANDS, Cell, call, damage, files_of, lay_out
from tests.faults.matrix_folders import HERE
from tests.faults.matrix_ways import judged


def main() -> None:
    """Walk the cells that standard input names: a list of names of commands, and the folders' root."""
    about = json.load(sys.stdin)
    root = Path(about["root"])
    ended = {}
    for name in about["commands"]:
        command = COMMANDS[name]
        lay_out(root, command)
        reference = call(root, command)
        for file in files_of(root, command.folder)[:: about["every"]]:
            cell = Cell(root, command, file, "read error")
            if cell.is_one and file.path.as_posix() in reference.opened:
                lay_out(root, command)
                damage(cell)
                os.environ["READ_ERROR_OF"] = str((root / HERE / file.path).resolve())
                try:
                    found = call(root, command)
                finally:
                    del os.environ["READ_ERROR_OF"]
                ended[str(cell)] = judged(cell, reference, found)
    json.dump(ended, sys.stdout)


if __name__ == "__main__":
    main()
