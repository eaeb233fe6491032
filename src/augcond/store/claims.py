"""Claims: how any number of processes, on any machines, share one run folder.

A *worker* is a process that takes part in a run. It claims a pending shard, makes it, commits it, gives the claim back,
and takes the next. Workers come and go at any time, by SIGKILL too. Below, N is a shard's number, W a worker, and A an
*attempt*: one claim of one shard, by a name that is never used again.

    file                    who writes it, and when                      who removes it
    locks/W.worker          W, before its first claim; every             W, after its last claim;
                            `Pace.beat` seconds it counts up in it       who finds W dead, after all claims of W
    locks/N.claim           W publishes it: of several, one succeeds     W, when the shard is committed or dropped;
                                                                         who finds W dead
    shards/N.parquet.A.tmp  W, while it holds the claim A                W; who finds W dead
    shards/N.parquet        W publishes one of them once it is whole,    W, if it loses; who publishes the marker
      or shards/N.A.parquet synced and read back                         of another; `tidy`, if no marker names it
    shards/N.done.json      W publishes it after the file that it names  who judged that it does not hold good

**Claims save work, markers decide.** A claim keeps two workers from making one shard, as well as a file system and a
guess about the dead allow. Nothing else rests on it: whatever two workers do who both believe that a shard is theirs,
exactly one marker stands in the end, and the file that it names is the one that it was written for. To *publish* is to
give a finished file a name that must not be taken (`FileOperations.publish`): a hard link, which needs no lock and is
there whole or not at all; exclusive creation where there are no links.

**Who is dead.** A worker of this very machine, boot and process namespace is dead once the system has no such process
(number and start time): its process table needs no lock. Any other, and one that is stopped, is dead when the bytes of
its worker file have stood still for `Pace.stale` seconds of *our own* monotonic clock, because clocks of machines
differ. No `flock` is asked: on many network file systems it fails, and on some it succeeds on every node separately. To
judge wrongly costs work only. Whoever finds a worker dead removes what its attempts left half-made, then its claims,
then its worker file; if that one dies over it, the next begins anew. A claim whose worker has no file is treated as a
worker file that stands still.

**A worker that wakes up** (after SIGSTOP, or a network that was away) finds its worker file gone and writes it anew.
Either the marker of its shard is published already: it loses, and removes its own file. Or it is not: it may win. If
its half-written file was removed, it has lost.

**Markers** (`publish_shard` in `store/commit.py`) name the very file that they vouch for, with its sha256. Each attempt
has a file name of its own, so that whoever removes a file by name, however late it wakes up, removes that file and no
other. The plain name N.parquet is taken by publishing too, and only for a shard without a marker, new or set aside;
whose bytes are those that lie there already vouches for these. A marker that holds good (its file is there, its
fingerprint is the plan's) is left alone. One that does not (the plan was made anew, `--retry-failed`, its file was
deleted) is renamed away and compared with what was judged; if it had become another meanwhile, it is put back. What the
plan says is asked *after* the marker was read: a worker whose plan is old and who finds a newer marker finds the newer
plan then, too.

**Readers** take the file's name from the marker. A file that a marker names goes only once another marker stands in its
place; and none goes while the claim `training` stands, because a training reads for hours.

**The plan** is written under the claim `plan`. Should two write it in spite of that, the last one stays: at its end,
`generate` looks whether the plan still has its rows, and plans them again where it has not.

`tests/store/test_interleavings.py` lets two and three workers take turns at these operations in every order, crash at
every point, and believe each other dead at any time.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

from augcond.errors import RunLockedError
from augcond.files import TEMPORARY, naming
from augcond.store.operations import REAL, FileOperations
from augcond.store.workers import WORKER, Place, WorkerRecord, workers_in

logger = logging.getLogger(__name__)

CLAIM = ".claim"
"""How the name of a claim's file ends."""

PLAN, TRAINING = "plan", "training"
"""What can be claimed beside shards."""


def training_claim(rank: int) -> str:
    """Return what the process of that rank claims in a training; the first one stands for all of them."""
    return f"{TRAINING}-{rank}" if rank else TRAINING


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast workers show that they live, in seconds.

    Attributes:
        beat: between two beats of a worker.
        stale: so long a worker must have stood still to be dead.
        poll: between two looks at what others hold.
    """

    beat: float = 5.0
    stale: float = 60.0
    poll: float = 0.5


PACE = Pace()


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on something.

    Attributes:
        name: what is claimed: a shard's number in five digits, `plan`, `training`.
        worker: who holds it.
        attempt: names this hold, and no other.
    """

    name: str
    worker: str
    attempt: str

    def to_bytes(self) -> bytes:
        """Return the contents of its file."""
        return f"{self.worker} {self.attempt}\n".encode()

    @classmethod
    def from_bytes(cls, name: str, data: bytes) -> Claim:
        """Return what a claim file says; worker and attempt are empty where it is not whole."""
        words = data.decode(errors="replace").split()
        return cls(name, *words) if len(words) == 2 and all(word.isalnum() for word in words) else cls(name, "", "")


@dataclass(slots=True)
class _Seen:
    """What was last read of something that should change, and since when it has been so."""

    data: bytes | None
    since: float
    changed: bool = False


@dataclass(slots=True)
class Tally:
    """What a worker has done so far; see `WorkerRecord`."""

    images: int = 0
    seconds: float = 0.0
    device: str = ""


class Claims:
    """A worker's part in the run whose locks lie in `folder`; inside the context it is registered and beats.

    Args:
        folder: where claims and worker files lie.
        leftovers: removes what a dead worker left half-made, given the name of a claim of it and its attempt.
        pace: see `Pace`.
        operations: see `FileOperations`.

    Attributes:
        worker: the name of this worker.
        tally: what it has done so far; shown by its file from the next beat on.
    """

    def __init__(
        self,
        folder: Path,
        leftovers: Callable[[str, str], None] = lambda name, attempt: None,
        pace: Pace | None = None,
        operations: FileOperations = REAL,
    ) -> None:
        self.worker = uuid4().hex[:12]
        self.tally = Tally()
        self._folder, self._leftovers, self._operations = folder, leftovers, operations
        self._pace = pace or PACE
        self._record = WorkerRecord(self.worker, Place.here(), time.time())
        self._path = folder / f"{self.worker}{WORKER}"
        self._seen: dict[str, _Seen] = {}
        self._held: dict[str, Claim] = {}
        self._buried = -self._pace.beat
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="beating", daemon=True)

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._register()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        # A disk that is away is said of the file that it was first missed for. What stands is that of a dead worker.
        with suppress(OSError) if kind else nullcontext():
            for claim in list(self._held.values()):
                self.give_back(claim)
            self._remove_temporary(self.worker)  # a signal comes between any two operations
            self._operations.remove(self._path)

    def _register(self) -> None:
        self._operations.write(self._path, self._record.to_bytes(), durable=False)

    def _beat_on(self) -> None:
        while not self._ended.wait(self._pace.beat):
            # A disk that is away for a while ends no work: the others may believe us dead meanwhile.
            with suppress(OSError):
                self.beat()

    def beat(self) -> None:
        """Show that this worker lives."""
        old = self._record
        self._record = WorkerRecord(self.worker, old.place, old.since, old.beats + 1, **asdict(self.tally))
        try:
            descriptor = os.open(self._path, os.O_WRONLY)
        except FileNotFoundError:
            self._register()  # somebody believed us dead
            return
        with naming(self._path), os.fdopen(descriptor, "wb") as file:
            file.write(self._record.to_bytes())

    def _claim_path(self, name: str) -> Path:
        return self._folder / f"{name}{CLAIM}"

    def take(self, name: str) -> Claim | None:
        """Claim `name`; None where it is claimed already."""
        claim = Claim(name, self.worker, uuid4().hex[:12])
        path = self._claim_path(name)
        temporary = path.with_name(f"{path.name}.{claim.attempt}.{self.worker}{TEMPORARY}")
        try:
            self._operations.write(temporary, claim.to_bytes(), durable=False)
            # Given back at the end, whether a signal comes before or after it is one.
            self._held.setdefault(name, claim)
            taken = self._operations.publish(temporary, path)
        except FileNotFoundError:
            if not self._operations.is_there(self._folder):
                raise  # the disk is gone
            taken = False  # somebody believed us dead, and cleared up
        finally:
            self._operations.remove(temporary)
        if taken:
            self._held[name] = claim
        elif self._held.get(name) == claim:
            del self._held[name]
        return claim if taken else None

    def holds(self, claim: Claim) -> bool:
        """Return whether `claim` still stands."""
        return self._operations.read(self._claim_path(claim.name)) == claim.to_bytes()

    def give_back(self, claim: Claim) -> None:
        """Give `claim` back; nothing happens where somebody believed us dead, and took it."""
        self._take_back(claim)
        self._held.pop(claim.name, None)

    def _take_back(self, claim: Claim) -> None:
        """Remove this claim, and none that another worker has made since."""
        path = self._claim_path(claim.name)
        data = self._operations.read(path)
        if data is not None and Claim.from_bytes(claim.name, data) == claim:
            aside = path.with_name(f"{path.name}.{uuid4().hex[:12]}.{self.worker}{TEMPORARY}")
            self._operations.take_away(path, data, aside)
            self._operations.remove(aside)

    def names(self) -> set[str]:
        """Return the names of what is claimed now, by whomever."""
        names = self._operations.names(self._folder)
        return {name.removesuffix(CLAIM) for name in names if name.endswith(CLAIM)}

    def claimed(self) -> dict[str, Claim]:
        """Return what is claimed now, by name, by whomever."""
        found = {name: self._operations.read(self._claim_path(name)) for name in self.names()}
        return {name: Claim.from_bytes(name, data) for name, data in found.items() if data is not None}

    def bury_dead(self, *, at_once: bool = False) -> None:
        """Remove what the dead hold; what is looked at no more often than workers beat, unless `at_once`."""
        now = time.monotonic()
        if not at_once and now - self._buried < self._pace.beat:
            return
        self._buried = now
        claims, names = self.claimed(), self._operations.names(self._folder)
        workers = {name.removesuffix(WORKER) for name in names if name.endswith(WORKER)}
        busy = {claim.worker for claim in claims.values()}
        for worker in workers - {self.worker}:
            # A file that is not whole is of one that died as it came; should it be on its way, it writes it again.
            if self.is_dead(worker) or (worker not in busy and self._record_of(worker) is None):
                self._bury(worker, claims)
        for claim in claims.values():
            lost = claim.worker not in workers and claim.worker != self.worker
            if lost and self._stands_still(f"{claim.name} {claim.attempt}", claim.to_bytes()):
                self._remove(claim)
        for name in names:
            if name.endswith(TEMPORARY) and name.split(".")[-2] not in workers and self._stands_still(name, b""):
                self._operations.remove(self._folder / name)

    def _bury(self, worker: str, claims: dict[str, Claim]) -> None:
        for claim in claims.values():
            if claim.worker == worker:
                self._remove(claim)
        self._remove_temporary(worker)
        self._operations.remove(self._folder / f"{worker}{WORKER}")

    def _remove_temporary(self, worker: str) -> None:
        for name in self._operations.names(self._folder):
            if name.endswith(f".{worker}{TEMPORARY}"):
                self._operations.remove(self._folder / name)

    def _remove(self, claim: Claim) -> None:
        logger.info("the worker that claimed %s is gone: its claim is removed", claim.name)
        if claim.attempt:
            self._leftovers(claim.name, claim.attempt)
        self._take_back(claim)

    def is_dead(self, worker: str) -> bool:
        """Return whether `worker` has gone without a word; see the top of this module."""
        data = self._operations.read(self._folder / f"{worker}{WORKER}")
        record = WorkerRecord.from_bytes(data or b"")
        gone = record is not None and record.place.is_alive() is False
        return gone or self._stands_still(worker, data)

    def _record_of(self, worker: str) -> WorkerRecord | None:
        return WorkerRecord.from_bytes(self._operations.read(self._folder / f"{worker}{WORKER}") or b"")

    def _stands_still(self, what: str, data: bytes | None) -> bool:
        now = time.monotonic()
        seen = self._seen.get(what)
        if seen is None or seen.data != data:
            self._seen[what] = _Seen(data, now, changed=seen is not None)
            return False
        return now - seen.since >= self._pace.stale

    def others(self) -> list[WorkerRecord]:
        """Return the other workers that live, having waited until that is sure: as long as one stands still."""
        while True:
            self.bury_dead(at_once=True)
            others = [record for record in workers_in(self._folder) if record.worker != self.worker]
            alive = [record for record in others if self._is_alive(record)]
            if alive or not others:
                return alive
            time.sleep(self._pace.poll)

    def refuse_others(self, complaint: str) -> None:
        """Wait until it is sure that no other worker lives.

        Raises:
            RunLockedError: one does.
        """
        others = self.others()
        if others:
            places = ", ".join(f"process {other.place.pid} on {other.place.host}" for other in others)
            raise RunLockedError(f"{complaint} ({places})")

    def _is_alive(self, record: WorkerRecord) -> bool:
        """Return whether `record` is known to be of a worker that lives, stopped or not."""
        seen = self._seen.get(record.worker)
        return record.place.is_alive() is True or (seen is not None and seen.changed)

    @contextmanager
    def held(self, name: str, complaint: str | None = None) -> Iterator[None]:
        """Hold the claim `name`.

        Args:
            name: what is claimed.
            complaint: message of the error where another worker that lives holds it; where None, wait for it.

        Raises:
            RunLockedError: another worker holds it, and `complaint` is given.
        """
        self.bury_dead()
        while (claim := self.take(name)) is None:
            self.bury_dead(at_once=True)
            if complaint and (holder := self.claimed().get(name)) is not None:
                record = next((each for each in workers_in(self._folder) if each.worker == holder.worker), None)
                if record is not None and self._is_alive(record):
                    raise RunLockedError(f"{complaint} (process {record.place.pid} on {record.place.host})")
            time.sleep(self._pace.poll)
        with self.giving_back(claim):
            yield

    @contextmanager
    def giving_back(self, claim: Claim) -> Iterator[None]:
        """Give `claim` back at the end; what ends it otherwise is what is raised, not that the disk is away."""
        try:
            yield
        except BaseException:
            with suppress(OSError):
                self.give_back(claim)
            raise
        self.give_back(claim)
