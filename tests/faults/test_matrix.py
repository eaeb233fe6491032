"""No fault of any file of a run is accepted in silence by any command: it is refused by name, mended, or not read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from augcond.cli import app
from augcond.store.names import FILES, RUNS
from tests.faults.matrix import APART, COMMANDS, FAULTS, Cell, call, damage, files_of, lay_out
from tests.faults.matrix_folders import HERE, build, ended
from tests.faults.matrix_system import plain_name
from tests.faults.matrix_ways import WAYS, judged

IN_PROCESS = [fault for fault in FAULTS if fault != "read error"]
FORMS = {name for name in COMMANDS if name in ("generate", "generate --overwrite", "generate --reuse", "train")}
"""Of commands that are walked in another state, or another form; the slow suite walks these too."""
FORMS |= {"check --repair", "reject, list", "reject --undo", "export --format webdataset", "evaluate --on validation"}
FORMS |= {"generate --retry-failed", "power --on validation", "report of two", "report --tex of a sweep"}
QUICK = [name for name, command in COMMANDS.items() if name not in FORMS and not command.slow]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Where the folders are kept; none is changed by any command."""
    root = tmp_path_factory.mktemp("matrix").resolve()
    build(root)
    before = contents_of(root)
    yield root
    assert contents_of(root) == before


def contents_of(root):
    return {path: path.read_bytes() for path in (root / "kept").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def references(root):
    """How each command ends where nothing is wrong."""

    class References(dict):
        def __missing__(self, name):
            lay_out(root, COMMANDS[name])
            self[name] = call(root, COMMANDS[name])
            return self[name]

    return References()


def walked(cell: Cell, references) -> str:
    """Return how a cell ended."""
    reference = references[cell.command.name]  # which lays the folder out for itself
    lay_out(cell.root, cell.command)
    damage(cell)
    return judged(cell, reference, call(cell.root, cell.command))


def cells_of(root, name, references):
    """Return the cells of a command in the normal suite: each file that it opens once, the faults in turn."""
    command, place = COMMANDS[name], QUICK.index(name)
    opened = [each for each in files_of(root, command.folder) if each.path.as_posix() in references[name].opened]
    if command.folder != "run":
        opened = [each for each in opened if not each.inner]  # runs are walked as runs
    if name == "run":
        opened = opened[::6]  # it is the commands before it, one after the other
    for number, file in enumerate(opened):
        for turn in range(len(IN_PROCESS)):
            cell = Cell(root, command, file, IN_PROCESS[(place + number + turn) % len(IN_PROCESS)])
            if cell.is_one:
                yield cell
                break


def bad(ends: dict[str, str]) -> list[str]:
    return [f"{cell} -> {way}" for cell, way in ends.items() if way not in WAYS]


def test_every_command_and_every_kind_of_file_is_walked(root):
    commands = {command.callback.__name__ for command in app.registered_commands}
    assert {command.argv[0] for command in COMMANDS.values()} | APART.keys() == commands
    kinds = {file.kind for folder in ("run", "sweep", "tuning") for file in files_of(root, folder)}
    # What the cheap judge found is written and read as trainings are.
    assert kinds == FILES.keys() - {*RUNS, "probed"}


@pytest.mark.parametrize("name", QUICK)
def test_a_fault_of_what_a_command_reads_is_refused_or_mended(root, references, name):
    assert bad({str(cell): walked(cell, references) for cell in cells_of(root, name, references)}) == []


@pytest.mark.parametrize("name", QUICK)
def test_what_a_command_does_not_open_does_not_matter(root, references, name):
    """All of it is damaged at once; sizes and times stay."""
    command, expected = COMMANDS[name], references[name]
    here = lay_out(root, command)
    unread = [file for file in files_of(root, command.folder) if file.path.as_posix() not in expected.opened]
    for number, file in enumerate(unread):
        cell = Cell(root, command, file, ("flipped", "zeroed")[number % 2])
        if cell.is_one:
            damage(cell)
    assert unread or name.startswith("check")
    found = call(root, command)
    assert found.code == expected.code, found.said
    own = {f"{here.name}/{plain_name(file.path.as_posix())}" for file in unread}
    assert {name: text for name, text in found.tree.items() if name not in own} == {
        name: text for name, text in expected.tree.items() if name not in own
    }


def test_all_faults_have_their_turn(root, references):
    found = {cell.fault for name in QUICK for cell in cells_of(root, name, references)}
    assert found == set(IN_PROCESS)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", IN_PROCESS)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_cell(root, references, name, fault):
    command = COMMANDS[name]
    files = files_of(root, command.folder)
    if command.slow:  # half a minute each
        files = [file for file in files if file.path.as_posix() in references[name].opened]
    cells = [Cell(root, command, file, fault) for file in files]
    assert bad({str(cell): walked(cell, references) for cell in cells if cell.is_one}) == []


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    """What is preloaded to have reading fail."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("reading") / "reading.so"
    source = Path(__file__).with_name("reading.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def read_errors(root, library, commands, every):
    asked = json.dumps({"root": str(root), "commands": commands, "every": every})
    host = [sys.executable, "-m", "tests.faults.matrix_host"]
    environment = os.environ | {"LD_PRELOAD": str(library)}
    found = subprocess.run(host, input=asked, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_a_disk_that_fails_is_named(root, failing):
    ends = read_errors(root, failing, ["status", "export"], 2)
    assert len(ends) >= 6 and "refused" in ends.values()
    assert bad(ends) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_disk_that_fails_is_named_by_every_command(root, failing):
    assert bad(read_errors(root, failing, [name for name, each in COMMANDS.items() if not each.slow], 1)) == []


PROVED = [
    ("status", "plan", "flipped"),
    ("reject, list", "rejected", "truncated"),
    pytest.param("plan", "config", "empty", marks=pytest.mark.slow),
    pytest.param("evaluate", "weights", "flipped", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "kind", "fault"), PROVED)
def test_a_process_of_its_own_ends_alike(root, name, kind, fault):
    command = COMMANDS[name]
    file = next(file for file in files_of(root, "run") if file.kind == kind)
    argv = [word.format(here=root / HERE) for word in command.argv]

    def damaged() -> None:
        lay_out(root, command)
        damage(Cell(root, command, file, fault))

    damaged()
    process = subprocess.run([sys.executable, "-m", "augcond", *argv], capture_output=True, text=True)
    damaged()
    code, out, said = ended(*argv)
    assert (process.returncode, process.stdout) == (code, out)
    assert process.stderr.splitlines()[-1] == said.splitlines()[-1]
