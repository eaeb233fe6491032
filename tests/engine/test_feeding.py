"""What feeds the generator: the same rows with any number of threads, and nothing waits for what it does not need."""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from augcond.config import ConditioningConfig, PlanConfig
from augcond.datasets import DecodeSettings
from augcond.engine import BatchSize, generate_rows, rows, work
from augcond.engine.feeding import BATCHES_AHEAD, Feeding, Materials
from augcond.engine.sources import Kept
from augcond.generators import recipes_for
from augcond.pipeline import generate
from augcond.planning import make_plan
from augcond.store import RunFolder, run_status
from augcond.store.images import ImageFormat
from augcond.testing import FakeGenerator
from tests.toy import Counted, shard_bytes, toy_config, toy_dataset

ALL = ConditioningConfig(recipe=recipes_for("fake"))
DATASET = toy_dataset({"cat": 3, "dog": 1})
ROWS = list(make_plan(DATASET, PlanConfig(per_class=3), ALL, prompts=("{class_name}",)).rows())
LONG = 30.0
"""Seconds that a test waits before it fails."""


def materials(generator=None, reader=DATASET.reader, conditioning=ALL) -> Materials:
    return Materials(reader, DecodeSettings(), conditioning, generator or FakeGenerator(), ImageFormat("png", 90, None))


REFERENCE = generate_rows(ROWS, materials(), BatchSize(len(ROWS)))


class CountingReader:
    def __init__(self):
        self.reads = Counter()

    def read(self, key):
        self.reads[key] += 1
        return DATASET.reader.read(key)


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("memory", [0.0, 6e-6, 1.0])
def test_rows_are_the_same_with_any_number_of_threads_and_any_memory(threads, memory):
    of = materials()
    with Feeding(of, threads, memory) as feeding:
        assert generate_rows(ROWS, of, BatchSize(5), feeding=feeding) == REFERENCE


def test_runs_have_the_same_bytes_with_any_number_of_threads(tmp_path):
    runs = []
    for threads in (1, 2, 8):
        engine = {"shard_size": 7, "batch_size": 3, "feeding_threads": threads}
        config = toy_config(tmp_path, run=tmp_path / f"run-{threads}", engine=engine)
        generate(config)
        runs.append(shard_bytes(config.run))
    assert len(runs[0]) == 6
    assert runs[0] == runs[1] == runs[2]


def test_a_source_is_read_once_and_viewed_once():
    reader, viewed = CountingReader(), []

    class Viewed(FakeGenerator):
        def view(self, image):
            viewed.append(image)
            return super().view(image)

    of = materials(Viewed(), reader)
    with Feeding(of, threads=4) as feeding:
        for _ in range(2):  # two shards
            assert generate_rows(ROWS, of, BatchSize(5), feeding=feeding) == REFERENCE
    assert set(reader.reads.values()) == {1}
    assert len(viewed) == len(reader.reads) == 4


def test_without_memory_sources_are_read_for_every_row():
    reader = CountingReader()
    of = materials(reader=reader)
    with Feeding(of, threads=1, max_memory_gb=0) as feeding:
        generate_rows(ROWS, of, BatchSize(5), feeding=feeding)
    assert sum(reader.reads.values()) >= sum(len(set(row.source_keys)) for row in ROWS)


def test_a_view_of_an_augmented_source_is_its_own():
    conditioning = image_recipe(augment=({"name": "RandomHorizontalFlip", "p": 0.5},))
    of = materials(conditioning=conditioning)
    plan = list(make_plan(DATASET, PlanConfig(per_class=12), conditioning, prompts=("x",)).rows())
    alone = [generate_rows([row], of, BatchSize(1))[0] for row in plan]
    assert generate_rows(plan, of, BatchSize(5)) == alone
    plain = generate_rows(plan, materials(conditioning=image_recipe()), BatchSize(5))
    assert 0 < sum(ours != theirs for ours, theirs in zip(plain, alone, strict=True)) < len(plan)


def image_recipe(**settings):
    return ConditioningConfig(recipe=("image",), **settings)


def test_a_generator_that_changes_the_image_it_views_harms_no_other_row():
    class Careless(FakeGenerator):
        def view(self, image):
            found = super().view(image)
            image.paste((0, 0, 0), (0, 0, *image.size))
            return found

    assert generate_rows(ROWS, materials(Careless()), BatchSize(5)) == REFERENCE


def test_a_source_that_goes_away_fails_only_the_rows_that_need_it_again():
    class Once(CountingReader):
        def read(self, key):
            data = super().read(key)
            if self.reads[key] > 1:
                raise FileNotFoundError(2, "No such file or directory", key)
            return data

    plan = [row for row in ROWS if row.source_keys and row.recipe in ("image", "mixup")]
    of = materials(FakeGenerator(encoder_size=4), Once())
    with Feeding(of, threads=1, max_memory_gb=2.4e-6) as feeding:  # room for views, and for no image
        whole = generate_rows([row for row in plan if row.recipe == "image"], of, BatchSize(2), feeding=feeding)
        mixed = generate_rows([row for row in plan if row.recipe == "mixup"], of, BatchSize(2), feeding=feeding)
    assert {row.error for row in whole} == {None}
    assert {row.error for row in mixed} == {"source image unreadable: No such file or directory"}


def test_rows_are_readied_while_the_generator_works_and_no_further_than_said():
    reader = CountingReader()
    begun = []
    wanted = threading.Event()
    plan = [row for row in ROWS if row.recipe == "image"] * 10

    def counted():
        for number, row in enumerate(plan):
            begun.append(number)
            if number >= 4:
                wanted.set()  # of the second batch
            yield row

    class Waiting(FakeGenerator):
        def generate(self, conditioning, seeds):
            assert wanted.wait(LONG), "no row of the next batch is readied"
            most.append(len(begun))
            return super().generate(conditioning, seeds)

    most = []
    of = materials(Waiting(), reader)
    with Feeding(of, threads=2) as feeding:
        making = rows.Making(len(plan), feeding, feeding.ahead(counted()), BatchSize(4), lambda made: None, bool)
        while not making.complete:
            making.step()
            making.settle(leave=1)
        making.settle(leave=0)
    assert len(making.made) == len(plan)
    assert most[:3] == [4 * (1 + BATCHES_AHEAD + done) for done in range(3)]


def test_rows_are_readied_before_a_generator_works_that_needs_the_same_cores():
    begun, found = [], []

    class OnCPU(FakeGenerator):
        on_cpu = True

        def view(self, image):
            begun.append(image)
            time.sleep(0.01)
            found.append(image)
            return super().view(image)

        def generate(self, conditioning, seeds):
            made.append((taken[0], len(begun) - len(found)))
            return super().generate(conditioning, seeds)

    def counted():
        for row in ROWS:
            taken[0] += 1
            yield row

    made, taken = [], [0]
    of = materials(OnCPU())
    with Feeding(of, threads=2, max_memory_gb=0) as feeding:
        making = rows.Making(len(ROWS), feeding, feeding.ahead(counted()), BatchSize(4), lambda made: None, bool)
        while not making.complete:
            making.step()
            making.settle(leave=1)
        making.settle(leave=0)
    assert making.made == REFERENCE
    assert made == [(min(4 * n, len(ROWS)), 0) for n in range(1, len(made) + 1)]


def test_no_more_is_readied_than_fits(monkeypatch):
    monkeypatch.setattr("augcond.engine.feeding._BYTES_AHEAD", 3 * 3 * 16 * 16 * 4)  # three views
    plan = [row for row in ROWS if row.recipe == "image"]
    with Feeding(materials(), threads=2) as feeding:
        ahead = feeding.ahead(plan)
        ahead.take(1, 1)
        for readied in ahead._begun:
            readied.future.result()  # so that it is known how large a row is
        ahead.take(1, 4)
        assert len(ahead._begun) == 3


def test_images_are_encoded_while_the_generator_works_on_the_next_batch(monkeypatch):
    batches = []
    encode = rows.encode_image

    def slow(pixels, image_format):
        assert first_again.wait(LONG), "the generator waits for images to be encoded"
        return encode(pixels, image_format)

    class Telling(FakeGenerator):
        def generate(self, conditioning, seeds):
            batches.append(seeds)
            if len(batches) == 2:
                first_again.set()
            return super().generate(conditioning, seeds)

    first_again = threading.Event()
    monkeypatch.setattr(rows, "encode_image", slow)
    told = []
    made = generate_rows(ROWS, materials(Telling()), BatchSize(5), lambda batch: told.append((len(batches), batch)))
    assert made == REFERENCE
    assert [row for _, batch in told for row in batch] == REFERENCE
    assert told[0][0] == 2


def test_a_shard_is_committed_while_the_next_one_is_made(tmp_path, monkeypatch):
    commit = work.commit_rows
    batches, committed = [], []
    second_shard = threading.Event()

    def slow(*args):
        assert second_shard.wait(LONG), "the generator waits for a commit"
        committed.append(args)
        return commit(*args)

    def generate_batch(self, conditioning, seeds):
        batches.append(seeds)
        if len(batches) == 4:  # two batches a shard; the first of the next shard may come before the commit begins
            second_shard.set()
        return whole(self, conditioning, seeds)

    whole = FakeGenerator.generate
    monkeypatch.setattr(FakeGenerator, "generate", generate_batch)
    monkeypatch.setattr(work, "commit_rows", slow)
    progress = Counted()
    summary = generate(toy_config(tmp_path, engine={"shard_size": 8, "batch_size": 4}), progress=progress)
    assert len(committed) == summary.shards == 5
    assert (progress.done, summary.ok) == (40, 40)


def test_what_a_commit_raises_ends_the_job(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(work, "commit_rows", full)
    config = toy_config(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        generate(config)
    assert run_status(RunFolder(config.run)).shards_done == 0


class Stop(BaseException):
    pass


def test_a_job_that_is_stopped_leaves_no_thread_behind_and_keeps_what_is_whole(tmp_path):
    def stop(done):
        if done >= 24:
            raise Stop

    config = toy_config(tmp_path)
    with pytest.raises(Stop):
        generate(config, progress=Counted(stop))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("feeding", "committing"))]
    assert run_status(RunFolder(config.run)).shards_done == 1
    generate(config)
    other = toy_config(tmp_path, run=tmp_path / "other")
    generate(other)
    assert shard_bytes(config.run) == shard_bytes(other.run)


def test_threads_leave_the_filters_of_warnings_alone():
    class Quiet(FakeGenerator):
        def generate(self, conditioning, seeds):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return super().generate(conditioning, seeds)

    before = list(warnings.filters)
    generate_rows(ROWS * 3, materials(Quiet(delay=0.002)), BatchSize(3))
    assert list(warnings.filters) == before


def test_a_value_is_computed_by_one_thread_while_others_wait():
    kept = Kept(10, len)
    calls = []
    go = threading.Event()

    def compute():
        calls.append(threading.get_ident())
        assert go.wait(LONG)
        return b"abc"

    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(kept.get, "key", compute) for _ in range(4)]
        go.set()
        assert [each.result() for each in found] == [b"abc"] * 4
    assert len(calls) == 1


def test_kept_values_never_exceed_the_limit_and_what_raised_is_not_kept():
    kept = Kept(10, len)
    for number in range(20):
        kept.get(str(number), lambda: b"abc")
        assert sum(str(each) in kept for each in range(20)) <= 3
    with pytest.raises(ZeroDivisionError):
        kept.get("broken", lambda: 1 / 0)
    assert "broken" not in kept
    assert kept.get("broken", lambda: b"whole") == b"whole"
    assert kept.get("large", lambda: b"x" * 11) == b"x" * 11
    assert "large" not in kept
