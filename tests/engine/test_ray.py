"""Workers as Ray actors: whatever is killed, the run completes, and its bytes are those of one process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import yaml

from augcond.engine import Work
from augcond.engine import ray as engine
from augcond.errors import ConfigError, MissingExtraError, RunError
from augcond.pipeline import generate
from augcond.store import RunFolder
from augcond.store.workers import workers_in
from tests.toy import Counted, shard_bytes, toy_config

ray = pytest.importorskip("ray", reason="the extra augcond[ray]")


@pytest.fixture(autouse=True)
def _quiet_ray(monkeypatch):
    # No token in the home folder, no news to the makers of Ray, and no colours, of which Ray's own code warns.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


def expected_bytes(tmp_path, per_class=12):
    """Return the shards that one process makes."""
    generate(toy_config(tmp_path, plan={"per_class": per_class}, engine={"threads": 1}, run=tmp_path / "one"))
    return shard_bytes(tmp_path / "one")


def ray_config(tmp_path, address, *, per_class=12, delay=0.3, **keys):
    engine = {"name": "ray", "address": address, "threads": 1, "shard_size": 16, "batch_size": 6, **keys}
    generator = {"name": "fake", "model": f"delay={delay}"}
    return toy_config(tmp_path, plan={"per_class": per_class}, generator=generator, engine=engine)


def pids(folder):
    return [record.place.pid for record in workers_in(folder.locks) if record.place.pid != os.getpid()]


def wait_until(is_so, seconds=300):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid):
    with suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.filterwarnings("ignore")  # of Ray's own code
def test_an_actor_is_killed_and_another_goes_on(tmp_path):
    config = ray_config(tmp_path, "local", workers=2)
    folder = RunFolder(config.run)
    killed = []

    def kill(done):
        if not killed and pids(folder):
            killed.append(pids(folder)[0])
            os.kill(killed[0], signal.SIGKILL)

    progress = Counted(kill)
    before = signal.getsignal(signal.SIGTERM)
    summary = generate(config, progress=progress)
    assert killed
    assert summary.ok == progress.total == 96
    assert shard_bytes(config.run) == expected_bytes(tmp_path)
    assert not list(folder.locks.glob("*.claim"))
    assert not ray.is_initialized() and signal.getsignal(signal.SIGTERM) is before
    assert generate(config).shards == 0  # without a cluster


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_node_an_actor_and_the_driver_are_killed(tmp_path):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        # Long enough that nobody is done before all have started, on a busy machine too.
        config = ray_config(tmp_path, cluster.address, per_class=48, delay=1)
        folder = RunFolder(config.run)
        path = tmp_path / "c.yaml"
        path.write_text(yaml.safe_dump(config.model_dump(mode="json")))

        def drive():
            command = [sys.executable, "-m", "augcond", "generate", str(path)]
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        def done():
            return len(list(folder.shards.glob("*.done.json")))

        driver = drive()
        wait_until(lambda: len(pids(folder)) >= 2 and done() >= 1)
        actors = pids(folder)
        driver.kill()
        driver.communicate()
        wait_until(lambda: not any(map(is_running, actors)))  # Ray ends what nobody listens to
        left = done()
        assert left < 24
        driver = drive()
        # Each node has an actor and its child.
        wait_until(lambda: len(set(pids(folder)) - set(actors)) == 6)
        assert done() < 24
        cluster.remove_node(nodes[0], allow_graceful=False)
        os.kill(next(pid for pid in pids(folder) if pid not in actors and is_running(pid)), signal.SIGKILL)
        told, _ = driver.communicate(timeout=300)
        assert driver.returncode == 0, told
    finally:
        cluster.shutdown()
    assert shard_bytes(config.run) == expected_bytes(tmp_path, per_class=48)
    assert not list(folder.locks.glob("*.claim"))


class Refs:
    """Ray as the driver sees it, with actors that tell what they are given to tell; the last thing for ever."""

    class exceptions:
        RayError = type("RayError", (Exception,), {})
        ActorUnavailableError = type("ActorUnavailableError", (RayError,), {})
        ActorDiedError = type("ActorDiedError", (RayError,), {})

    def __init__(self, *told):
        self.told, self.started, self.killed = list(told), 0, 0

    def remote(self, kind):
        ray = self

        class Actor:
            def remote(self, *_):
                ray.started += 1
                actor = type("Actor", (), {})()
                actor.news = actor.drop = type("Method", (), {"remote": lambda _: object()})()
                return actor

        return type("Options", (), {"options": lambda _, **options: Actor()})()

    def wait(self, answers, timeout):
        return answers, []

    def get(self, answer):
        told = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        if isinstance(told, self.exceptions.RayError):
            raise told
        return told

    def kill(self, actor):
        self.killed += 1

    def cluster_resources(self):
        return {"CPU": 1.0}

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 32.0, "GPU": 4.0}}]


def news(life="a", *, shards=(), ended=False, error=None):
    return engine.News(life, 0, 0, tuple(shards), ended, error)


@pytest.fixture
def crew(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "_RESTARTING", 0)
    monkeypatch.setattr(engine, "_LEAVING", 0.1)
    config = toy_config(tmp_path)

    def make(*told, committed=None):
        job = type("Job", (), {"config": config, "progress": Counted()})()
        committed = [] if committed is None else committed
        return engine._Crew(Refs(*told), job, Work(config.run, config), lambda number, marker: committed.append(number))

    return make


def test_a_worker_that_is_lost_again_and_again_is_given_up(crew):
    died = Refs.exceptions.ActorDiedError("the actor died: SIGSEGV")
    alone = crew(died)
    with pytest.raises(RunError, match="a worker is lost: the actor died"):
        alone.run()
    assert (alone.ray.started, alone.ray.killed) == (engine.MOST_LOSSES, 1)
    # What it commits in between counts for it.
    committed = []
    lives = (died, died, news("b", shards=[(7, None)]), died, died, news("c", ended=True))
    going_on = crew(*lives, committed=committed)
    going_on.run()
    assert going_on.ray.started == 5 and committed == [7]
    # Ray starts it anew by itself, and says so by nothing but another life.
    again = crew(*(news(life) for life in "abc"), Refs.exceptions.ActorUnavailableError("restarting"), news("d"))
    with pytest.raises(RunError, match="Ray started it anew"):
        again.run()
    assert (again.ray.started, again.ray.killed) == (1, 1)


def test_an_error_that_an_actor_ends_with_is_not_tried_again(crew):
    wrong = crew(news(ended=True, error=ConfigError("not on this node")))
    with pytest.raises(ConfigError, match="not on this node"):
        wrong.run()
    assert (wrong.ray.started, wrong.ray.killed) == (1, 1)


def test_leaving_waits_for_actors_that_drop_what_they_have(crew):
    leaving = crew(news(), news(), news(ended=True))
    leaving._grow()
    next(iter(leaving._asked.values())).life = "a"
    leaving.leave()
    assert leaving.ray.told == [news(ended=True)] and leaving.ray.killed == 1
    assert leaving._wanted() == leaving._cores() == 1 and not leaving._on_gpus()
    leaving.ray.cluster_resources = lambda: {"CPU": 64.0, "GPU": 8.0}
    assert leaving._wanted() == leaving._cores() == 8


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_a_cluster_that_is_not_there_is_not_waited_for(tmp_path, address):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = address.format(port=probe.getsockname()[1])
    with pytest.raises(RunError, match=rf"no Ray cluster at '{address}' .*ray start --head"):
        generate(ray_config(tmp_path, address))


def test_ray_that_is_not_there_is_named(tmp_path, monkeypatch):
    config = ray_config(tmp_path, None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'augcond\[ray\]'"):
        generate(config)
