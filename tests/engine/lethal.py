"""Generators of one's own that end their process, for tests of who starts it again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from augcond.testing.fake import FakeGenerator

DEADLY = 3
"""Rows of this remainder of their seed, divided by `EVERY`, kill."""
EVERY = 20


def lethal(config: object) -> FakeGenerator:
    """Return a generator that ends its process at some rows."""
    return Lethal()


class Lethal(FakeGenerator):
    def generate(self, conditioning, seeds):
        if any(seed % EVERY == DEADLY for seed in seeds):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(conditioning, seeds)


def slow(config: object) -> FakeGenerator:
    """Return a generator that takes its time."""
    return Slow()


class Slow(FakeGenerator):
    def generate(self, conditioning, seeds):
        time.sleep(0.2)
        return super().generate(conditioning, seeds)


LOADERS = "AUGCOND_TEST_LOADERS"
"""Names the folder in which `noted` notes down who loads it."""


def noted(config: object) -> FakeGenerator:
    """Return a generator whose weights a process has loaded, which is noted down."""
    (Path(os.environ[LOADERS]) / str(os.getpid())).touch()
    return FakeGenerator()


def missing(config: object) -> FakeGenerator:
    """Load nothing."""
    raise OSError("there are no weights")


FLAKY = "AUGCOND_TEST_FLAKY"
"""Names a file; as long as it is there, `flaky` takes its time, and some rows fail."""


def flaky(config: object) -> FakeGenerator:
    """Return a generator that is slow and fails for some rows until a file is gone."""
    return Flaky(fails=lambda seed: seed % 5 == 0 and _is_flaky())


def _is_flaky() -> bool:
    return Path(os.environ[FLAKY]).exists()


class Flaky(FakeGenerator):
    def generate(self, conditioning, seeds):
        time.sleep(1.5 * _is_flaky())
        return super().generate(conditioning, seeds)
