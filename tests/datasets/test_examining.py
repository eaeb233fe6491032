"""Images examined by processes of their own."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from augcond.datasets import verification
from augcond.datasets.base import DecodeSettings
from augcond.datasets.examining import Examiners, outcome_of
from augcond.datasets.folder import list_folder
from augcond.datasets.verification import verify
from augcond.errors import ConfigError, RunError
from tests.datasets.photos import encode, make_photo_folder, picture

PLAIN = DecodeSettings()
GOOD = encode(picture(np.random.default_rng(1), 20, 30), "PNG")

KILLED = """
import os, signal
from augcond.datasets import examiner
known = examiner.outcome_of
def outcome_of(data, settings):
    if data.startswith(b"kills"):
        os.kill(os.getpid(), signal.SIGSEGV)
    print("what a library prints")
    return known(data, settings)
examiner.outcome_of = outcome_of
examiner.serve(examiner.examiner)
"""


@pytest.fixture
def examiners():
    made = Examiners(PLAIN, 1)
    yield made
    made.close()


def test_processes_find_what_threads_find(tmp_path, monkeypatch):
    photos = make_photo_folder(tmp_path / "photos")
    # So large that a process of many leaves it.
    Image.new("1", (5200, 5000)).save(photos.root / next(iter(photos.sizes)).split("/")[0] / "large.png")
    listing = list_folder(photos.root)
    alone = verify(listing, PLAIN, max_bad_share=1.0, workers=1)
    monkeypatch.setattr(verification, "_PROCESSES_PAY_FROM", 1)
    started = []
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(start(*a, **k)) or started[-1])
    apart = verify(listing, PLAIN, max_bad_share=1.0, workers=2, cache=tmp_path / "cache.parquet")
    assert (apart.images, apart.rejected) == (alone.images, alone.rejected)
    assert 1 <= len(started) <= 2
    assert all(process.returncode is not None for process in started)


def test_an_image_that_ends_its_process_is_one_that_cannot_be_used(examiners, monkeypatch):
    code = lambda module, **options: subprocess.Popen([sys.executable, "-c", KILLED], **options)  # noqa: E731
    monkeypatch.setattr("augcond.processes.start_process", code)
    found = list(examiners.examine([GOOD, b"kills", GOOD, b"rubbish"]))
    assert [outcome.reason for outcome in found] == [
        None,
        "ends the process that decodes it (SIGSEGV)",
        None,
        "not an image of a known format",
    ]
    assert found[0] == found[2] == outcome_of(GOOD, PLAIN)


def test_a_process_that_something_else_killed_costs_no_image(examiners):
    (first,) = examiners.examine([GOOD])
    os.kill(examiners._helpers._started[0].pid, signal.SIGKILL)
    assert list(examiners.examine([GOOD])) == [first] == [outcome_of(GOOD, PLAIN)]
    assert len(examiners._helpers._started) == 2


def test_what_is_wrong_with_the_settings_is_raised_here():
    wrong = Examiners(DecodeSettings(background="no colour"), 1)
    with pytest.raises(ConfigError, match=r"data\.background: 'no colour'"):
        list(wrong.examine([GOOD]))
    wrong.close()


def test_a_process_that_cannot_start_is_said_and_blames_no_image(examiners, monkeypatch):
    code = lambda module, **options: subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], **options)  # noqa: E731
    monkeypatch.setattr("augcond.processes.start_process", code)
    with pytest.raises(RunError, match=r"augcond\.datasets\.examiner\) ended as it started, with code 3"):
        list(examiners.examine([GOOD]))
