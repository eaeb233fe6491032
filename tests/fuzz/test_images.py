"""Broken image files: each decodes or is refused with a reason, alike by both functions, in bounded time and memory."""

from __future__ import annotations

import random
import resource
import sys
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augcond.datasets import DecodeSettings
from augcond.datasets.decoding import decode, examine
from augcond.errors import ImageError
from tests.fuzz.mutations import mutate, seeds

SMALL = DecodeSettings(max_pixels=300_000)
FILES = seeds()
NAMES = sorted(FILES)


def outcome(function, data: bytes):
    """Return width and height, or the reason; any other exception fails the test."""
    try:
        found = function(data, SMALL)
    except ImageError as error:
        assert 0 < len(str(error)) < 90
        return str(error)
    return found.width, found.height


def broken(name: str, seed: int) -> bytes:
    rng = random.Random(seed)
    return mutate(FILES[name], rng, FILES[rng.choice(NAMES)])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_mutated_is_whole(name):
    assert isinstance(outcome(decode, FILES[name]), tuple)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 2**32))
def test_broken_images(name, seed):
    data = broken(name, seed)
    assert outcome(examine, data) == outcome(decode, data)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([data[:16] for data in FILES.values()]), st.binary(max_size=200))
def test_images_of_a_good_beginning(start, rest):
    assert outcome(examine, start + rest) == outcome(decode, start + rest)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_broken_images():
    counts: Counter[str] = Counter()
    slowest = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(100_000):
        data = broken(NAMES[number % len(NAMES)], number)
        start = time.thread_time()
        found = outcome(decode, data)
        slowest = max(slowest, time.thread_time() - start)
        assert outcome(examine, data) == found, number
        counts["decoded" if isinstance(found, tuple) else found] += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    megabytes = grown / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    print(f"{megabytes:.0f} MB more than before, {slowest:.2f} s for the slowest")  # noqa: T201
    for reason, count in counts.most_common():
        print(f"{count:7} {reason}")  # noqa: T201
    assert sum(counts.values()) == 100_000
    assert megabytes < 256
