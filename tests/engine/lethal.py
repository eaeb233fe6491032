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
