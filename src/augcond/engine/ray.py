"""The Ray engine: workers as actors over a cluster, one per GPU. What travels is a folder and a config, never images.

An actor does what `augcond generate` does with one worker (`engine/workers.py`): a child process claims shards in the
run folder, which all nodes see, and commits them there; where it dies, of a GPU's fault or for want of memory, the
actor starts it again. So the driver knows nothing that matters. It starts actors, hears what they committed and how far
they are, and replaces those that are lost; if it is killed, Ray ends its actors, their children end with them, and the
next driver goes on where the folder stands.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from augcond.engine.base import Engine, Job
from augcond.engine.work import Work
from augcond.engine.workers import MOST_FEEDING, Workers
from augcond.errors import AugcondError, MissingExtraError, RunError
from augcond.progress import log_to
from augcond.store.commit import ShardMarker
from augcond.store.folder import RunFolder

if TYPE_CHECKING:
    from augcond.config import EngineConfig, RunConfig

logger = logging.getLogger(__name__)

MOST_LOSSES = 3
"""So often a worker may be lost without having committed a shard in between, until it is given up."""

_NEWS = 1.0
"""Seconds for which an actor waits for something to tell before it answers that there is nothing."""
_LOOK = 5.0
"""Seconds between two looks at how large the cluster is."""
_ANSWERING = 10.0
"""Seconds that a cluster has to answer at its address."""
_LEAVING = 20.0
"""Seconds that actors have to end by themselves."""
_RESTARTING = 0.5
"""Seconds until an actor that is being started anew is asked again."""


@dataclass(frozen=True, slots=True)
class News:
    """What an actor tells.

    Attributes:
        life: names the process; an actor that was started anew has another.
        made: rows that it has made since it told last.
        failed: those of them without an image.
        shards: those that it has committed since.
        ended: whether its work is over: every shard is done, or it failed.
        error: what it failed with.
    """

    life: str
    made: int
    failed: int
    shards: tuple[tuple[int, ShardMarker], ...]
    ended: bool
    error: AugcondError | None


class Worker:
    """What an actor is: a worker in a child process, listened to by a thread, and what it has to tell.

    Args:
        work: what is to be done.
        paths: where the driver finds modules: generators and recipes of one's own.
    """

    def __init__(self, work: Work, paths: tuple[str, ...]) -> None:
        sys.path.extend(path for path in paths if path not in sys.path)
        self._work = work
        self._life = uuid4().hex
        self._ended = False
        self._dropped = threading.Event()
        self._error: AugcondError | None = None
        self._told: queue.SimpleQueue[tuple[int, int] | tuple[int, ShardMarker] | AugcondError | None] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._do, name="listening", daemon=True).start()

    def _do(self) -> None:
        work, end = self._work, None
        folder, host = RunFolder(work.run), socket.gethostname()
        try:
            with log_to(folder.log_path):
                job = Job(work.config, folder, folder.read_plan(), None, work.retry_failed, work.reuse, self)
                Workers(job, work, 1, self._shard, count_others=False, is_dropped=self._dropped.is_set).run()
        except AugcondError as error:
            end = type(error)(f"{error} (a worker on {host})")
        except BaseException as error:  # a folder that this node does not see, a library that it lacks
            end = RunError(f"{type(error).__name__} of a worker on {host}: {error}")
        self._told.put(end)

    def _shard(self, number: int, marker: ShardMarker) -> None:
        self._told.put((number, marker))

    def start(self, total: int, what: str | None = None) -> None:
        """Do nothing: the driver knows how much there is to do."""

    def advance(self, made: int, failed: int) -> None:
        """Tell that `made` more rows are made."""
        self._told.put((made, failed))

    def drop(self) -> None:
        """Have what is in hand dropped, and claims given back."""
        self._dropped.set()

    def news(self) -> News:
        """Return what is to be told, as soon as there is something."""
        made = failed = 0
        shards: list[tuple[int, ShardMarker]] = []
        wait = _NEWS
        with suppress(queue.Empty):
            while not self._ended:
                told = self._told.get(timeout=wait) if wait else self._told.get_nowait()
                wait = 0.0
                if not isinstance(told, tuple):
                    self._ended, self._error = True, told
                elif isinstance(told[1], ShardMarker):
                    shards.append((told[0], told[1]))
                else:
                    made, failed = made + told[0], failed + told[1]
        return News(self._life, made, failed, tuple(shards), self._ended, self._error)


class RayEngine(Engine):
    """Has workers run as actors: one per GPU of the cluster; where it has none, one per `engine.threads` cores."""

    def makes_here(self, config: RunConfig) -> bool:
        """Return that the driver makes nothing."""
        return False

    def threads(self, config: RunConfig) -> int | None:
        """Return the cores that each worker is given."""
        return config.engine.threads or 1

    def schedule(self, job: Job, work: Work, on_shard: Callable[[int, ShardMarker], None]) -> None:
        """Start actors, and hear of what they commit, until all is done.

        Raises:
            MissingExtraError: Ray is not installed.
            RunError: there is no cluster at `engine.address`, or every worker was given up.
        """
        markers = list(enumerate(job.folder.markers(job.plan)))
        bounds = job.plan.plan.bounds()
        left = [number for number, marker in markers if marker is None or (job.retry_failed and marker.failed)]
        job.progress.start(sum(bounds[number][1] - bounds[number][0] for number in left))
        if not left:
            return
        with _connected(job.config.engine) as ray:
            crew = _Crew(ray, job, work, on_shard)
            try:
                crew.run()
            finally:
                crew.leave()


@contextmanager
def _connected(config: EngineConfig) -> Iterator[Any]:
    """Give Ray, connected to a cluster, or to one on this machine that is started for as long."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("engine.name: ray needs Ray: pip install 'augcond[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _knock(config.address or os.environ.get("RAY_ADDRESS", ""))
        ray.init(address=config.address, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(
            f"engine.address: no Ray cluster at {config.address!r} ({str(error).strip().splitlines()[0]}): start one "
            "with ray start --head, or leave the key out for one on this machine"
        ) from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)  # Ray's own ends the program without a word
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise where nobody listens at an address with a port: Ray would wait for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERING).close()


@dataclass(slots=True)
class _Member:
    """An actor, as the driver knows it.

    Attributes:
        actor: its handle.
        life: of its process, once it is known.
        losses: how often it was lost since it last committed a shard.
    """

    actor: Any
    life: str | None = None
    losses: int = 0


@dataclass(slots=True)
class _Crew:
    """All actors of a driver.

    Attributes:
        ray: the library, connected.
        job: the work of this call.
        work: what actors are sent.
        on_shard: told of what they commit.
    """

    ray: Any
    job: Job
    work: Work
    on_shard: Callable[[int, ShardMarker], None]
    _asked: dict[Any, _Member] = field(default_factory=dict)
    _resting: list[_Member] = field(default_factory=list)
    _started: int = 0
    _looked: float = -_LOOK
    _error: AugcondError | None = None

    def run(self) -> None:
        """Return once all shards are done.

        Raises:
            AugcondError: what the last worker that was given up failed with; or what `on_shard` raises.
        """
        while True:
            self._grow()
            for member in self._resting:
                self._ask(member)
            self._resting.clear()
            if not self._asked:
                if self._error is not None:
                    raise self._error
                logger.warning("the cluster has no node for a worker yet: waiting for one")
                time.sleep(_LOOK)
                continue
            ready, _ = self.ray.wait(list(self._asked), timeout=_LOOK)
            if any([self._hear(self._asked.pop(answer), answer) for answer in ready]):
                return
            if self._resting:
                time.sleep(_RESTARTING)

    def leave(self) -> None:
        """Have the actors drop what they have in hand, and end them."""
        members = [*self._asked.values(), *self._resting]
        self._resting.clear()
        for member in members:
            member.actor.drop.remote()
        # What never told anything is still being started, or waits for a node.
        self._asked = {answer: member for answer, member in self._asked.items() if member.life is not None}
        deadline = time.monotonic() + _LEAVING
        while self._asked and (left := deadline - time.monotonic()) > 0:
            for answer in self.ray.wait(list(self._asked), timeout=left)[0]:
                member = self._asked.pop(answer)
                with suppress(self.ray.exceptions.RayError):
                    if not self.ray.get(answer).ended:
                        self._ask(member)
        for member in members:
            self.ray.kill(member.actor)

    def _grow(self) -> None:
        """Start actors for what the cluster has that none was started for: nodes come and go."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        wanted = self._wanted()
        if wanted > self._started:
            logger.info("%d workers on Ray", wanted)
        for _ in range(wanted - self._started):
            self._started += 1
            self._ask(_Member(self._start()))

    def _wanted(self) -> int:
        engine, resources = self.job.config.engine, self.ray.cluster_resources()
        if engine.workers != "auto":
            return engine.workers
        return int(resources.get("GPU", 0) if self._on_gpus() else resources.get("CPU", 0) // (engine.threads or 1))

    def _on_gpus(self) -> bool:
        device = self.job.config.generator.device
        return device.startswith("cuda") or (device == "auto" and self.ray.cluster_resources().get("GPU", 0) > 0)

    def _cores(self) -> int:
        """Return how many cores of its node a worker has."""
        threads = self.job.config.engine.threads or 1
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
        if not nodes or not self._on_gpus():
            return threads
        return max(threads, int(min(node.get("CPU", 1) // node["GPU"] for node in nodes)))

    def _start(self) -> Any:
        engine = self.job.config.engine
        options = {
            "num_gpus": int(self._on_gpus()),
            "num_cpus": engine.threads or 1,
            "max_restarts": -1,  # the driver counts
            "scheduling_strategy": "SPREAD",
        }
        paths = tuple(str(Path(path).resolve()) for path in sys.path if Path(path).is_dir())
        # An actor may use all cores of its node, as if it were alone there.
        fed = engine.model_copy(update={"feeding_threads": engine.feeding_threads or min(MOST_FEEDING, self._cores())})
        work = replace(self.work, config=self.work.config.model_copy(update={"engine": fed}))
        return self.ray.remote(Worker).options(**options).remote(work, paths)

    def _ask(self, member: _Member) -> None:
        self._asked[member.actor.news.remote()] = member

    def _hear(self, member: _Member, answer: Any) -> bool:
        """Take note of what an actor tells; return whether all shards are done."""
        errors = self.ray.exceptions
        try:
            news: News = self.ray.get(answer)
        except errors.ActorUnavailableError:
            self._resting.append(member)
            return False
        except errors.RayError as error:
            said = str(error).strip().splitlines()[0]
            self._lose(member, RunError(f"a worker is lost: {said}"), anew=isinstance(error, errors.ActorDiedError))
            return False
        if news.made:
            self.job.progress.advance(news.made, news.failed)
        for number, marker in news.shards:
            member.losses = 0
            self.on_shard(number, marker)
        before, member.life = member.life, news.life
        if news.error is not None:
            # The actor has tried again what another try may mend.
            member.losses = MOST_LOSSES
            self._lose(member, news.error, anew=False)
        elif before not in (None, news.life):
            self._lose(member, RunError("a worker was lost, and Ray started it anew"), anew=False)
        elif not news.ended:
            self._ask(member)
        return news.ended and news.error is None

    def _lose(self, member: _Member, error: AugcondError, *, anew: bool) -> None:
        """Count that a worker was lost; give it up, or let it go on: `anew` where Ray does not start it itself."""
        member.losses += 1
        self._error = error
        if member.losses >= MOST_LOSSES:
            logger.warning("a worker is given up: %s", error)
            with suppress(self.ray.exceptions.RayError):
                self.ray.kill(member.actor)
            return
        logger.warning("%s", error)
        if anew:
            member.actor, member.life = self._start(), None
        self._resting.append(member)
