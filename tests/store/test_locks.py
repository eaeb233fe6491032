from __future__ import annotations

import multiprocessing
import time

import pytest

from augcond.errors import RunLockedError
from augcond.store.locks import exclusive, part_lock


def hold(folder, part, parts, ready):
    with part_lock(folder, part, parts):
        ready.set()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """Another process that works on part 1 of 2."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "locks", 1, 2, ready))
    process.start()
    assert ready.wait(30)
    yield process
    # Killed, not told to end by an event: setting one waits for ever for a waiter that was killed.
    process.kill()
    process.join()


def test_parts_exclude_each_other_but_work_side_by_side(tmp_path, holder):
    locks = tmp_path / "locks"
    with pytest.raises(RunLockedError, match=r"another process works on part 1/2 .*--part i/n"), part_lock(locks, 1, 2):
        pass
    with part_lock(locks, 2, 2):
        pass
    with pytest.raises(RunLockedError, match=r"in 2 parts: use --part i/2"), part_lock(locks, 3, 3):
        pass
    holder.kill()
    holder.join()
    with part_lock(locks, 1, 2):
        pass
    with part_lock(locks, 3, 3):
        pass


def test_exclusive_waits_without_a_complaint(tmp_path):
    path = tmp_path / "x.lock"
    with exclusive(path), pytest.raises(RunLockedError, match="busy"), exclusive(path, "busy"):
        pass
    with exclusive(path, "busy"):
        pass
