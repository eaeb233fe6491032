"""What this machine, its device and its file system can do: `augcond doctor`.

Checks run one after the other in another process. Where one raises, crashes, is killed for want of memory or hangs,
that process ends, and the next check is made in a new one. Weights that are not on this machine are not fetched, and
nothing is left behind.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from augcond.errors import AugcondError
from augcond.experiments.doctor.findings import Check, Finding, Subject

if TYPE_CHECKING:
    from augcond.config import RunConfig

__all__ = ["CHECKS", "Check", "Finding", "examine"]

PATIENCE = 1800.0
"""Seconds after which a check is taken to hang: compiling a large model takes minutes."""

_UNWRITABLE = "name a folder that can be written to (run: in the config), on a file system of this kind or another"
_GENERATOR = "generator"
_LEAVING = 5.0
"""Seconds that the other process has to end by itself."""
_LONGEST = 500
"""Characters of what an exception says."""

CHECKS: tuple[Check, ...] = (
    Check("system", ".machine:look_at_system"),
    Check("libraries", ".machine:look_at_libraries"),
    Check("devices", ".machine:look_at_devices"),
    Check("run folder", ".disk:look_at_folder", advice=_UNWRITABLE),
    Check("rename is atomic", ".disk:look_at_renames", needs="run folder"),
    Check("publishing", ".disk:look_at_publishing", needs="run folder"),
    # Claims do without it.
    Check("flock", ".disk:look_at_flock", needs="run folder", matters=lambda config: False),
    Check(_GENERATOR, ".generator:look_at_generator"),
    Check("rows are independent", ".generator:look_at_rows", needs=_GENERATOR),
    Check("non-finite rows", ".generator:look_at_second_try", needs=_GENERATOR),
    Check("out of memory", ".generator:look_at_memory", needs=_GENERATOR),
    Check("images per second", ".generator:look_at_rate", needs=_GENERATOR),
    Check("workers", ".machine:propose_workers"),
    Check("training together", ".together:look_at_training", matters=lambda config: False),
    Check(
        "compile",
        ".generator:look_at_compiling",
        needs=_GENERATOR,
        matters=lambda config: config.generator.compile is not False,
        advice="leave generator.compile false, or install what it needs (a C++ compiler; on CUDA Triton)",
        alone=True,
    ),
)
"""In the order in which they are made."""


def examine(config: RunConfig, checks: Sequence[Check] | None = None, patience: float = PATIENCE) -> Iterator[Finding]:
    """Yield what each check finds, as soon as it is known.

    Args:
        config: the run; its generator and its folder are tried, its data are not read.
        checks: which, in this order; all where None.
        patience: seconds for each.
    """
    found: dict[str, Finding] = {}
    near = next(path for path in (config.run, *config.run.absolute().parents) if path.is_dir())
    with ExitStack() as stack:
        scratch = stack.enter_context(_scratch_in(near))
        cache = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="augcond-doctor-")))
        examiner = stack.enter_context(_Examiner(config, near, scratch, cache))
        for check in CHECKS if checks is None else checks:
            if check.needs is not None and found[check.needs].status != "ok":
                finding = Finding("not possible here", f"the check of the {check.needs} did not come out well")
            else:
                finding = examiner.ask(check, patience)
            finding = found[check.name] = replace(finding, check=check.name, matters=check.matters(config))
            yield finding


@contextmanager
def _scratch_in(folder: Path) -> Iterator[Path | None]:
    try:
        made = Path(tempfile.mkdtemp(prefix=".augcond-doctor-", dir=folder))
    except OSError:
        yield None  # the check of the folder says so
        return
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


class _Examiner:
    """The other process, started when there is something to ask it."""

    def __init__(self, config: RunConfig, near: Path, scratch: Path | None, cache: Path) -> None:
        self._about = config, near, scratch, cache
        self._process: BaseProcess | None = None
        self._line: Connection | None = None

    def __enter__(self) -> _Examiner:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, check: Check, patience: float) -> Finding:
        """Return what the other process finds, or that it died or hung over it."""
        if check.alone:
            self._end()
        started = time.monotonic()
        finding, sound = Finding("failed", f"no end after {patience:.0f} s"), False
        try:
            line = self._line or self._start()
            line.send(check.look)
            if line.poll(patience):
                finding, sound = line.recv()
        except (EOFError, ConnectionError):
            finding = Finding("failed", self._death())
        if not sound:
            self._end()
        advice = finding.advice or (check.advice if finding.status == "failed" else "")
        return replace(finding, advice=advice, seconds=round(time.monotonic() - started, 3))

    def _death(self) -> str:
        if self._process is None:
            return "the process that tried it is gone"
        self._process.join(10)
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"the process that tried it ended with exit code {code}"
        hint = ": out of memory, most likely" if -code == signal.SIGKILL else ""
        return f"the process that tried it was killed by {signal.Signals(-code).name}{hint}"

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs, *self._about), daemon=True)
        self._process.start()
        theirs.close()
        return self._line

    def _end(self) -> None:
        if self._line is not None:
            self._line.close()  # it ends by itself, with the processes that compiled for it
            self._line = None
        if self._process is not None:
            self._process.join(_LEAVING)
            self._process.kill()
            self._process.join()
            self._process = None


def _answer(line: Connection, config: RunConfig, near: Path, scratch: Path | None, cache: Path) -> None:
    """Make the checks that are asked for, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks says what is to end
    # Where compilers keep what they make; and what libraries warn of is no finding.
    for name in ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        os.environ[name] = str(cache)
    tempfile.tempdir = None
    warnings.simplefilter("ignore")
    subject = Subject(config, near, scratch)
    with suppress(EOFError, ConnectionError):
        while True:
            line.send(_made(line.recv(), subject))


def _made(look: str, subject: Subject) -> tuple[Finding, bool]:
    """Return what the check `look` finds, and whether this process is good for another one."""
    module, _, name = look.partition(":")
    try:
        finding: Finding = getattr(import_module(module, __name__), name)(subject)
    except Exception as error:  # whatever a library raises is a finding
        kind = "" if isinstance(error, AugcondError) else f"{type(error).__name__}: "
        return Finding("failed", kind + " ".join(str(error).split())[:_LONGEST]), False
    return finding, True
