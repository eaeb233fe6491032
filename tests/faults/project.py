"""A small project whose every command is run once undisturbed, to be compared with when something befalls it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.experiments.fake_hub import FakeHub, fake_hub
from tests.faults.commands import Circumstances, Host, Running
from tests.training.toys import toy_run

STAGES = {
    "generate": ("generate", "small.yaml"),
    "grow": ("generate", "c.yaml"),
    "retry": ("generate", "c.yaml", "--retry-failed"),
    "reuse": ("generate", "c.yaml", "--set", "run=reused", "--reuse", "run"),
    "reject": ("reject", "run", "keys.txt"),
    "train": ("train", "run"),
    "evaluate": ("evaluate", "run"),
    "export": ("export", "run", "--to", "out"),
    "push": ("push", "run", "me/toys"),
    "report": ("report", "run"),
    "sweep": ("sweep", "c.yaml", "--over", "plan.per_class=2", "--seeds", "1", "--set", "run=sweep"),
    "tune": ("tune", "c.yaml", "--budget", "60", "--set", "run=tune", "--set", "data.validation=null"),
}
"""What is done, in this order, by name."""
DEAR = ("report", "sweep", "tune")
"""Those that take seconds."""

DAY = 86_400
BEFALLS = {
    "SIGKILL": ("s", signal.SIGKILL),
    "SIGTERM": ("s", signal.SIGTERM),
    "SIGINT": ("s", signal.SIGINT),
    "one write finds no room": ("o", errno.ENOSPC),
    "one write fails": ("o", errno.EIO),
    "the disk is full": ("f", errno.ENOSPC),
    "the disk is broken": ("f", errno.EIO),
    "the disk becomes read-only": ("f", errno.EROFS),
    "the folder vanishes": ("v", 0),
    "the clock goes forward by a day": ("c", DAY),
    "the clock goes back by a day": ("c", -DAY),
}
"""What may befall a command, and how `preload.c` calls it."""

FEW_FILES = Circumstances(("-", 0, 0), limits={"RLIMIT_NOFILE": 40})

_UNLIKE = ("log.txt", "index.html", "study.log", "config.yaml")
"""Files that tell when they were written, or what by."""
_TIMES = re.compile(r"seconds|seal|date|commit|file|notes|study_sha256")


@dataclass
class Project:
    """The folder in which all of it happens, and how it was before and after each stage.

    Attributes:
        root: of the test.
        host: runs the commands.
        hub: gets what is pushed.
        calls: that change files, of each stage.
    """

    root: Path
    host: Host
    hub: FakeHub
    calls: dict[str, int] = field(default_factory=dict)
    _expected: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where commands run."""
        return self.root / "project"

    def build(self, *stages: str) -> None:
        """Do the stages for the first time, with 40 open files at most, and keep how it was before each."""
        config = toy_run(
            self.folder,
            plan={"per_class": 6},
            conditioning={"recipe": ["mixup"]},
            generator={"name": "fake", "model": "fail_every=7"},
            engine={"shard_size": 4, "batch_size": 4, "threads": 1},
            training={"seeds": 1, "steps": 4, "checkpoint_every": 2},
        )
        values = config.model_dump(mode="json")
        (self.folder / "c.yaml").write_text(yaml.safe_dump(values))
        (self.folder / "small.yaml").write_text(yaml.safe_dump({**values, "plan": {"per_class": 4}}))
        (self.folder / "keys.txt").write_text("a/0/mixup\n")
        for name in stages:
            shutil.copytree(self.folder, self.root / "before" / name)
            done = self.run(name, FEW_FILES)
            assert done.code == 0, done.said
            self.calls[name], self._expected[name] = done.calls, self.contents()
            self._forget_pushed()

    def run(self, stage: str, under: Circumstances | None = None) -> Running:
        """Run a stage to its end, whatever that is."""
        return self.host.run(self.folder, *STAGES[stage], under=under or Circumstances())

    def reset(self, stage: str) -> None:
        """Let everything be as before a stage."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.root / "before" / stage, self.folder)
        self._forget_pushed()

    def _forget_pushed(self) -> None:
        for known in (self.hub.private, self.hub.files, self.hub.blobs):
            known.clear()

    def bring_back(self) -> bool:
        """Bring the folder back that went away, and return whether it did; nothing was written in its place."""
        away = self.folder.with_name(f"{self.folder.name}.away")
        if not away.exists():
            return False
        instead = [path for path in self.folder.rglob("*") if not path.is_dir()] if self.folder.exists() else []
        shutil.rmtree(self.folder, ignore_errors=True)
        away.rename(self.folder)
        assert not instead, instead
        return True

    def befall(self, stage: str, what: str, nth: int) -> int:
        """Run a stage under what befalls it at its `nth` call, check how it ends, and return its exit code."""
        kind, value = BEFALLS[what]
        if kind == "v":
            nth += 16 if stage == "tune" else 8  # until then a new run is made, wherever that is
        done = self.run(stage, Circumstances((kind, nth, value)))
        self.bring_back()
        *_, last = ["", *filter(None, done.said.splitlines())]
        where = f"{stage}, {what} at call {nth}: {done.code}, {done.said}"
        assert "Traceback" not in done.said, where
        if what == "SIGKILL":
            assert done.code in (0, -signal.SIGKILL), where
        elif kind == "s":
            assert done.code in (0, 75), where
            assert (done.code == 75) == last.startswith(f"stopped by {what}; "), where
        elif kind == "c":
            assert done.code == 0, where
        else:
            assert done.code in (0, 1), where
            if done.code:
                # It names a file or a folder.
                assert len(re.findall("^error: ", done.said, re.MULTILINE)) == 1, where
                last = done.said.partition("\nerror: ")[2] or done.said
                assert re.search(rf"{re.escape(str(self.root))}|\b(run|reused|out|sweep|tune)\b", last), where
        return done.code

    def check_goes_on(self, stage: str, *, done: bool = False) -> None:
        """Run a stage again, undisturbed: everything is as if it had never been disturbed.

        Args:
            stage: which.
            done: whether it has ended well already; an export is not made twice.
        """
        for path in self._half_written():
            os.utime(path, (0, 0))  # as the next day, when nobody can be writing it any more
        if not done or stage != "export":
            again = self.run(stage)
            assert again.code == 0, again.said
        found, expected = self.contents(), self._expected[stage]
        # What was found of the images of a cell that is done need not be kept, if there was no room for it.
        spared = {name for name in expected.keys() - found.keys() if Path(name).name.startswith("decoded")}
        unequal = [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]
        assert spared.issuperset(unequal), unequal
        for top in {path.relative_to(self.folder).parts[0] for path in self._left()}:
            # Of a file that is not written again, such as the config of a run; claims of a cell that is done.
            assert self.host.run(self.folder, "clean", top).code == 0
        assert not (left := self._left()), left

    def _left(self) -> list[Path]:
        return [*self._half_written(), *self.folder.glob("**/locks/*")]

    def _half_written(self) -> list[Path]:
        return [
            *self.folder.rglob("*.tmp"),
            *self.folder.rglob(".augcond-partial"),
            *self.folder.rglob(".augcond-unfinished"),
        ]

    def contents(self) -> dict[str, str]:
        """Return a digest of every file, without times; and of what was pushed."""
        found = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        # A shard that was made again has another name.
        plain = {re.sub(r"(shards/\d+)\.\w{12,}\.", r"\1.", name): path for name, path in found.items()}
        assert len(plain) == len(found)
        digests = {name: _digest(path) for name, path in plain.items() if not path.name.endswith((*_UNLIKE, ".tmp"))}
        pushed = {name: self.hub.contents(name) for name in self.hub.private}
        return digests | {
            f"{repository}:{name}": hashlib.sha256(data).hexdigest()
            for repository, files in pushed.items()
            for name, data in files.items()
        }


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".json":
        data = json.dumps(_without_times(json.loads(data))).encode()
    return hashlib.sha256(data).hexdigest()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(entry) for key, entry in value.items() if not _TIMES.search(key)}
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value


@contextmanager
def project(root: Path, *stages: str) -> Iterator[Project]:
    """Give a project whose stages were all done once."""
    with fake_hub() as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HUB_DISABLE_XET": "1"}
        with Host(root / "said", environment) as host:
            made = Project(root, host, hub)
            made.build(*stages)
            yield made
