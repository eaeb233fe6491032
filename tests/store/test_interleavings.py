"""Workers take turns at the file operations of claims and commits, in every order, and crash at every point.

The code that runs is that of `store/claims.py` and `store/commit.py`, on files in memory. Each operation is a turn. All
orders are tried: what has happened so far is a list of choices, which is played again from the start for each of them;
a state (the files, and what each worker has been answered) that was there before is not looked at again. Where that
would take minutes, a worker is left in mid-work for another one at most so many times (`switches`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace

import greenlet
import pytest

from augcond.sealed import sealed_json
from augcond.store import claims as claims_module
from augcond.store.claims import Claims, Pace
from augcond.store.commit import ShardFiles, ShardMarker, discard, publish_shard
from augcond.store.operations import FileOperations
from augcond.store.pending import tidy_shards
from augcond.store.workers import Place, WorkerRecord

LOCKS, SHARDS = Path("locks"), Path("shards")
STILL = Pace(beat=1e9, stale=1e9, poll=0)
UNBOUNDED = 99
CRASHED: set[str] = set()
"""Names of the workers that have, in what is being played."""
AT_WORK: set[str] = set()
"""Those that make the shard."""
NOW, OLDER = "of the plan", "of an older plan"


class Crashed(BaseException):
    """The worker is no more."""


@dataclass
class Disk:
    """Files in memory, and whether there are hard links."""

    files: dict[Path, bytes] = field(default_factory=dict)
    links: bool = True


class Turns(FileOperations):
    """The operations of one worker, each of which waits for its turn; `known` stands for what it was answered."""

    def __init__(self, disk: Disk, wait: Callable[[], None]) -> None:
        self.disk, self._wait, self.known = disk, wait, 0

    def _turn(self, operate: Callable[[dict[Path, bytes]], object]):
        self._wait()
        answer = operate(self.disk.files)
        self.known = hash((self.known, answer))
        return answer

    def publish(self, temporary, path):
        def link(files):
            if temporary not in files:
                return FileNotFoundError
            if path in files:
                return False
            files[path] = files[temporary] if self.disk.links else b""
            return True

        created = self._turn(link)
        if created is FileNotFoundError:
            raise FileNotFoundError(temporary)
        if not created or self.disk.links:
            return created
        data = self._turn(lambda files: files.get(temporary))
        # What is written goes to the file that was created: whoever found it empty may have moved it away.
        return self._turn(lambda files: files.get(path) == b"" and not files.update({path: data}))

    def link(self, temporary, path):
        return self.disk.links and self.publish(temporary, path)

    def write(self, path, data, *, durable=True):
        self._turn(lambda files: files.update({path: data}))

    def read(self, path):
        return self._turn(lambda files: files.get(path))

    def sha256(self, path):
        data = self.read(path)
        return None if data is None else hashlib.sha256(data).hexdigest()

    def size(self, path):
        data = self.read(path)
        return None if data is None else len(data)

    def move(self, path, to):
        return self._turn(lambda files: path in files and not files.update({to: files.pop(path)}))

    def rename(self, path, to):
        if not self.move(path, to):
            raise FileNotFoundError(path)

    def sync(self, folder):
        pass

    def remove(self, path):
        self._turn(lambda files: files.pop(path, None) and None)

    def is_there(self, folder):
        return True

    def names(self, folder):
        return list(self._turn(lambda files: tuple(sorted(path.name for path in files if path.parent == folder))))


class Worker:
    """Runs `program`; each of its operations waits until `step` is called."""

    def __init__(self, program: Callable[[Turns], None], disk: Disk, name: str) -> None:
        self.name = name
        self.ended = self.crashed = False
        self.failure: BaseException | None = None
        self._main = greenlet.getcurrent()
        self._program = program
        self.turns = Turns(disk, self._wait)
        self._own = greenlet.greenlet(self._run)
        self._own.worker = name
        self.step()

    def _run(self) -> None:
        try:
            self._program(self.turns)
        except Crashed:
            pass
        except BaseException as error:
            self.failure = error
        self.ended = True

    def _wait(self) -> None:
        if not self.crashed:
            self._main.switch()
        if self.crashed:
            raise Crashed

    def step(self) -> None:
        """Let it do what it waits to do, until it wants to do the next thing."""
        self._own.switch()

    def crash(self) -> None:
        self.crashed = True
        CRASHED.add(self.name)
        AT_WORK.discard(self.name)
        self.step()


@pytest.fixture(autouse=True)
def attempts(monkeypatch):
    """Attempts are called as their workers: equal states have to be equal."""
    name = lambda: getattr(greenlet.getcurrent(), "worker", "last")  # noqa: E731
    monkeypatch.setattr(claims_module, "uuid4", lambda: SimpleNamespace(hex=f"{name():x<12}"))


@dataclass
class Scene:
    """What is played: who takes part, what lies there, and what must hold at every moment."""

    programs: tuple[Callable[[Turns], None], ...]
    files: dict[Path, bytes] = field(default_factory=dict)
    links: bool = True
    crashes: int = 1
    switches: int = UNBOUNDED
    holds: Callable[[Disk, Disk | None], None] = lambda now, before: None


def play(scene: Scene, choices: list[tuple[str, int]]) -> tuple[list[Worker], Disk, Disk | None]:
    disk, before = Disk(dict(scene.files), scene.links), None
    CRASHED.clear()
    AT_WORK.clear()
    workers = [Worker(program, disk, f"w{number}") for number, program in enumerate(scene.programs)]
    for what, who in choices:
        before = Disk(dict(disk.files))
        getattr(workers[who], what)()
    return workers, disk, before


def explore(scene: Scene) -> int:
    """Play `scene` in every order; after each, a last worker comes, alone. Return the number of states."""
    seen: dict[object, int] = {}
    left: list[tuple[list[tuple[str, int]], int]] = [([], scene.switches)]
    while left:
        choices, switches = left.pop()
        workers, disk, before = play(scene, choices)
        while True:
            for worker in workers:
                if worker.failure is not None:
                    raise AssertionError(choices) from worker.failure
            last = choices[-1][1] if choices else 0
            state = (
                frozenset(disk.files.items()),
                tuple((worker.turns.known, worker.ended, worker.crashed) for worker in workers),
                last if scene.switches < UNBOUNDED else None,
            )
            if seen.get(state, -1) >= switches:
                break
            seen[state] = switches
            try:
                scene.holds(disk, before)
            except AssertionError as error:
                raise AssertionError(choices) from error
            going = [number for number, worker in enumerate(workers) if not worker.ended]
            if not going:
                after_all(disk, choices)
                break
            if sum(worker.crashed for worker in workers) < scene.crashes:
                left += [([*choices, ("crash", number)], switches) for number in going]
            # To leave a worker in mid-work for another one is a switch.
            cost = int(last in going)
            first = last if last in going else going[0]
            if switches >= cost:
                left += [([*choices, ("step", n)], switches - cost) for n in going if n != first]
            before = Disk(dict(disk.files))
            choices = [*choices, ("step", first)]
            workers[first].step()
        for worker in workers:
            if not worker.ended:
                worker.crash()
    return len(seen)


# What a worker does with the one shard there is.


def files_of(attempt: str) -> ShardFiles:
    return ShardFiles(SHARDS / "00000.parquet", SHARDS / "00000.done.json", SHARDS / "00000.unfit.json", attempt)


def marker_of(data: bytes, fingerprint: str = NOW, file: str = "00000.parquet") -> ShardMarker:
    sha256 = hashlib.sha256(data).hexdigest()
    return ShardMarker(fingerprint, file, sha256, len(data), 1, 1, 0, {}, 1, 1, (), 0.0, {})


def judged(read: Callable[[Path], bytes | None], data: bytes) -> bool:
    """Return whether a marker holds good."""
    try:
        marker = json.loads(data)
    except ValueError:
        return False
    return marker["fingerprint"] == NOW and read(SHARDS / marker["file"]) is not None


def is_done(files: dict[Path, bytes]) -> bool:
    marker = files.get(SHARDS / "00000.done.json")
    return marker is not None and judged(files.get, marker)


class Believing(Claims):
    """Claims of a worker of a fixed name, that believes who is in `dead` dead, and everybody where that is None."""

    def __init__(self, name: str, turns: Turns, dead: set[str] | None) -> None:
        super().__init__(LOCKS, self._clear_up, STILL, turns)
        self.worker, self._turns, self._dead = name, turns, dead

    def _clear_up(self, name: str, attempt: str) -> None:
        discard(files_of(attempt), self._turns)

    def is_dead(self, worker: str) -> bool:
        return self._dead is None or worker in self._dead

    def _stands_still(self, what: str, data: bytes | None) -> bool:
        return self._dead is None


def worker(name: str, pixels: bytes, dead: set[str] | None):
    """Return a program that claims the shard, makes it of `pixels`, and commits it."""

    def program(turns: Turns) -> None:
        claims = Believing(name, turns, dead)
        turns.write(LOCKS / f"{name}.worker", WorkerRecord(name, Place.here(), 0.0).to_bytes())
        claims.bury_dead(at_once=True)
        claim = claims.take("00000")
        if claim is not None:
            found = turns.read(files_of("").marker)
            if found is None or not judged(turns.read, found):
                AT_WORK.add(name)
                make(turns, claim.attempt, pixels)
                AT_WORK.discard(name)
            claims.give_back(claim)
        turns.remove(LOCKS / f"{name}.worker")

    return program


def make(turns: Turns, attempt: str, pixels: bytes) -> None:
    files = files_of(attempt)
    turns.write(files.temporary, pixels)
    try:
        publish_shard(files, marker_of(pixels), lambda data: judged(turns.read, data), operations=turns)
    except FileNotFoundError:
        pass  # somebody believed this worker dead
    finally:
        discard(files, turns)


def after_all(disk: Disk, choices: list[tuple[str, int]]) -> None:
    """Let a last worker come, alone, and check what is left."""
    turns = Turns(disk, lambda: None)
    worker("last", b"last", None)(turns)
    tidy_shards(SHARDS, lambda number: files_of(""), Believing("tidy", turns, None), turns, finished=True)
    left = sorted(disk.files)
    assert is_done(disk.files), (choices, left)
    named = SHARDS / json.loads(disk.files[files_of("").marker])["file"]
    assert left == sorted([files_of("").marker, named]), (choices, left)


def tells_the_truth(now: Disk, before: Disk | None) -> None:
    """What a marker says of a file that is there is so."""
    if is_done(now.files):
        marker = json.loads(now.files[files_of("").marker])
        assert hashlib.sha256(now.files[SHARDS / marker["file"]]).hexdigest() == marker["sha256"]


def stays_done(now: Disk, before: Disk | None) -> None:
    """And a shard that is done stays so at every moment."""
    tells_the_truth(now, before)
    assert is_done(now.files) or before is None or not is_done(before.files)


ONE, TWO, THREE = b"one", b"two", b"three"


def maker(name: str, pixels: bytes):
    """Return a program that makes the shard of `pixels` and commits it, without asking for a claim."""
    return lambda turns: make(turns, name, pixels)


def alone_at_work(now: Disk, before: Disk | None) -> None:
    """Nobody makes what another one makes."""
    stays_done(now, before)
    assert len(AT_WORK) <= 1


def burier(name: str):
    """Return a program that believes the worker of the attempt `name` dead."""
    return lambda turns: discard(files_of(name), turns)


def before(fingerprint: str, file: str = "00000.parquet") -> dict[Path, bytes]:
    """Return the files of a shard that was committed before."""
    marker = sealed_json(asdict(marker_of(b"old", fingerprint, file)))
    return {SHARDS / file: b"old", files_of("").marker: marker}


FEW_OR_ALL = pytest.mark.parametrize("switches", [2, pytest.param(UNBOUNDED, marks=pytest.mark.slow)])
FEW_OR_MORE = pytest.mark.parametrize("switches", [1, pytest.param(3, marks=pytest.mark.slow)])


@pytest.mark.parametrize("pixels", [(ONE, ONE), (ONE, TWO)], ids=["equal bytes", "other bytes"])
def test_a_shard_that_two_make_is_done_once_and_stays_done(pixels):
    makers = tuple(maker(f"w{number}", data) for number, data in enumerate(pixels))
    assert explore(Scene(makers, holds=stays_done)) > 1000


@FEW_OR_ALL
def test_a_shard_that_three_make_is_done_once_and_stays_done(switches):
    makers = (maker("w0", ONE), maker("w1", TWO), maker("w2", ONE))
    assert explore(Scene(makers, crashes=0, switches=switches, holds=stays_done)) > 100


@FEW_OR_ALL
def test_a_worker_that_is_believed_dead_at_any_moment_harms_nothing(switches):
    who = (maker("w0", ONE), maker("w1", TWO), burier("w0"))
    assert explore(Scene(who, crashes=0, switches=switches, holds=stays_done)) > 100


@FEW_OR_ALL
@pytest.mark.parametrize("file", ["00000.parquet", "00000.w9.parquet"])
def test_of_two_that_replace_an_old_marker_one_wins(file, switches):
    makers = (maker("w0", ONE), maker("w1", TWO))
    assert explore(Scene(makers, before(OLDER, file), switches=switches, holds=tells_the_truth)) > 100


@pytest.mark.parametrize("switches", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_where_there_are_no_links_one_wins_too(switches):
    # There two may move each other's empty marker away for ever.
    makers = (maker("w0", ONE), maker("w1", TWO))
    assert explore(Scene(makers, links=False, switches=switches, holds=tells_the_truth)) > 100


@FEW_OR_ALL
def test_a_shard_that_is_set_aside_meanwhile_is_made_again(switches):
    def aside(turns: Turns) -> None:
        data = turns.read(files_of("").marker)
        files = files_of("audit")
        if data is not None and turns.take_away(files.marker, data, files.old_marker) is not None:
            turns.move(files.old_marker, files.unfit)

    who = (maker("w0", ONE), maker("w1", TWO), aside)
    assert explore(Scene(who, crashes=0, switches=switches, holds=tells_the_truth)) > 100


@FEW_OR_MORE
def test_claims_keep_two_from_making_one_shard_and_those_of_the_dead_are_taken_over(switches):
    who = (worker("w0", ONE, CRASHED), worker("w1", TWO, CRASHED))
    assert explore(Scene(who, switches=switches, holds=alone_at_work)) > 100


@pytest.mark.slow
@pytest.mark.parametrize("switches", [1])
def test_claims_keep_three_from_making_one_shard(switches):
    who = tuple(worker(f"w{number}", pixels, CRASHED) for number, pixels in enumerate((ONE, TWO, ONE)))
    assert explore(Scene(who, switches=switches, holds=alone_at_work)) > 100


@FEW_OR_MORE
def test_two_who_believe_each_other_dead_at_every_moment_harm_nothing(switches):
    who = (worker("w0", ONE, None), worker("w1", TWO, None))
    assert explore(Scene(who, switches=switches, holds=stays_done)) > 100
