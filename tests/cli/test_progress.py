from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from augcond import engine, progress
from augcond.cli import progress as console_progress
from augcond.cli.progress import ConsoleProgress
from augcond.progress import Interrupted, format_bytes, format_seconds, log_to


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3600, "1 h 00 min"), (90061, "1 d 1 h")],
)
def test_seconds(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e13, "25.0 TB")])
def test_bytes(count, text):
    assert format_bytes(count) == text


def test_plain_lines_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(console_progress, "PLAIN_INTERVAL", 0.0)
    stream = io.StringIO()
    with ConsoleProgress(Console(file=stream)) as shown:
        shown.start(10)
        shown.advance(4, 1)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("4/10 images, ")
    assert lines[0].endswith("left, 1 failed")
    assert "\x1b" not in stream.getvalue()


def test_a_bar_on_a_terminal():
    stream = io.StringIO()
    with ConsoleProgress(Console(file=stream, force_terminal=True, width=100), "pictures") as shown:
        shown.start(8)
        shown.advance(8, 0)
    assert "pictures" in stream.getvalue()
    assert "8/8" in stream.getvalue()


def test_what_was_made_ready_before_the_first_item_does_not_count_as_its_time(monkeypatch):
    """It said that a day was left while features were computed for ten minutes."""
    now = [0.0]
    monkeypatch.setattr(console_progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with ConsoleProgress(Console(file=stream), "training steps") as shown:
        shown.start(100)
        for now[0] in (600.0, 602.0, 611.0):
            shown.advance(1, 0)
    assert stream.getvalue().splitlines()[-1] == "3/100 training steps, 0.2/s, 8 min 54 s left"


def test_a_stage_may_count_other_items_before_its_own():
    stream = io.StringIO()
    with ConsoleProgress(Console(file=stream)) as shown:
        shown.start(5, "images read")
        shown.advance(5, 2)
        assert stream.getvalue().startswith("5/5 images read, ")
        shown.start(3)
        shown.advance(1, 0)
    lines = stream.getvalue().splitlines()
    assert [line.split(", ")[0] for line in lines] == ["5/5 images read", "1/3 images"]
    assert lines[0].endswith("2 failed")
    assert "failed" not in lines[1]


def test_there_is_one_progress():
    assert engine.Progress is progress.Progress
    assert engine.NoProgress is progress.NoProgress


def test_log_file_gets_what_augcond_logs_and_is_released(tmp_path):
    path = tmp_path / "log.txt"
    with log_to(path):
        logging.getLogger("augcond.engine").info("shard 1")
    logging.getLogger("augcond.engine").info("not here")
    text = path.read_text()
    assert "shard 1" in text
    assert "not here" not in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_that_has_no_room_stops_nothing_and_says_nothing(capfd):
    with log_to(Path("/dev/full")):
        logging.getLogger("augcond").warning("a line that does not fit")
    assert capfd.readouterr() == ("", "")


def test_work_in_between_is_told_and_what_is_left_begins_anew():
    told = []

    class Told:
        def start(self, total, what=None):
            told.append((total, what))

        def advance(self, made, failed):
            told.append(made)

    steps = Interrupted(Told())
    steps.start(10)
    steps.advance(4, 0)
    steps.between.start(3, "images decoded")
    steps.between.advance(2, 0)
    steps.between.advance(1, 0)
    steps.advance(6, 0)
    assert told == [(10, None), 4, (3, "images decoded"), 2, 1, (6, None), 6]
    del told[:]
    steps.start(2, "steps of the judge")
    steps.between.start(1, "features computed")
    steps.between.advance(1, 0)
    assert told[-1] == (2, "steps of the judge")
