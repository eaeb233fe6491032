"""Batches: exact halves, whole rounds, and nothing but the seed and the step decides."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from augcond.config import DataConfig
from augcond.config.training import AugmentConfig
from augcond.datasets import load_dataset
from augcond.datasets.contents import open_image
from augcond.errors import DatasetError, TrainingError
from augcond.training import ahead
from augcond.training.augmentation import BatchAugmentation, read_crops
from augcond.training.batches import BatchSampler, BatchSettings, ImageInputs
from augcond.training.devices import Rank
from augcond.training.image_sets import ImageSet, real_images
from augcond.training.orders import Tilted, effective_counts
from augcond.training.pixels import DecodedPixels, MemoryPixels


def sampler(real=50, synthetic=80, size=16, share=0.5, mix="exact", seed=0, steps=40):
    return BatchSampler(real, synthetic, BatchSettings(size, share, mix), seed, steps)


def test_half_of_every_batch_is_synthetic():
    batches = [sampler()(step) for step in range(40)]
    assert {len(batch.real) for batch in batches} == {8}
    assert {len(batch.synthetic) for batch in batches} == {8}


@given(size=st.integers(1, 33), share=st.floats(0, 1), steps=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_exact_shares_are_exact_over_the_steps(size, share, steps):
    batches = [sampler(size=size, share=share, steps=steps)(step) for step in range(steps)]
    assert all(len(batch.real) + len(batch.synthetic) == size for batch in batches)
    assert abs(sum(len(batch.synthetic) for batch in batches) - steps * size * share) < 1 + 1e-6
    assert all(abs(len(batch.synthetic) - size * share) < 1 + 1e-6 for batch in batches)


def test_bernoulli_shares_vary_around_the_probability():
    batches = [sampler(mix="bernoulli", steps=400, size=16)(step) for step in range(400)]
    counts = np.array([len(batch.synthetic) for batch in batches])
    assert counts.std() > 1
    assert abs(counts.mean() - 8) < 0.5
    assert all(len(batch.real) + len(batch.synthetic) == 16 for batch in batches)


@pytest.mark.parametrize("mix", ["exact", "bernoulli"])
def test_images_come_in_whole_rounds(mix):
    made = sampler(mix=mix)
    seen = np.concatenate([made(step).real for step in range(40)])
    for start in range(0, len(seen) - 50, 50):
        assert sorted(seen[start : start + 50]) == list(range(50))


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.lists(st.integers(1, 30), min_size=4, max_size=4),
    st.floats(0, 2),
    st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_synthetic_images_are_drawn_as_often_as_their_class_is_due(counts, real, tilt, seed):
    labels = tuple(label for label, count in enumerate(counts) for _ in range(count))
    tilted = BatchSettings(7, 1.0, "exact", tilted=Tilted(labels, tuple(real), tilt))
    # By hand: how often an image of each class is drawn, beside one of the class that is drawn most often.
    often = np.array([real[label] ** -tilt for label in range(len(counts))])
    often /= often.max()
    rounds = 5
    length = int(sum(np.floor(rounds * often * counts + 1e-9)))
    steps = -(-length // 7)
    batches = BatchSampler(0, len(labels), tilted, seed, steps)
    drawn = np.concatenate([batches(step).synthetic for step in range(steps)])[:length]
    seen = np.bincount(np.array(labels)[drawn], minlength=len(counts))
    # Whatever is due a fraction of a place has it over several rounds: none is a place off.
    assert np.all(np.abs(seen - rounds * often * counts) < 1 + 1e-6)
    for label in range(len(counts)):
        uses = np.bincount(drawn, minlength=len(labels))[np.array(labels) == label]
        assert uses.max() - uses.min() <= 1
    again = BatchSampler(0, len(labels), tilted, seed, steps)(steps - 1)
    assert np.array_equal(batches(steps - 1).synthetic, again.synthetic)


@pytest.mark.parametrize("mix", ["exact", "bernoulli"])
def test_the_last_steps_may_be_of_real_images_alone(mix):
    whole = BatchSampler(50, 80, BatchSettings(16, 0.5, mix), 0, 40)
    phased = BatchSampler(50, 80, BatchSettings(16, 0.5, mix, real_steps=10), 0, 40)
    for step in range(30):
        assert np.array_equal(whole(step).synthetic, phased(step).synthetic)
        assert np.array_equal(whole(step).real, phased(step).real)
    assert {(len(phased(step).real), len(phased(step).synthetic)) for step in range(30, 40)} == {(16, 0)}
    seen = np.concatenate([phased(step).real for step in range(40)])
    assert sorted(seen[:50]) == list(range(50))


def test_a_batch_depends_on_seed_and_step_alone():
    in_order = [sampler(mix="bernoulli")(step) for step in range(40)]
    backwards = [sampler(mix="bernoulli")(step) for step in reversed(range(40))][::-1]
    for one, other in zip(in_order, backwards, strict=True):
        assert np.array_equal(one.real, other.real)
        assert np.array_equal(one.synthetic, other.synthetic)
    assert not np.array_equal(sampler(seed=1)(0).real, sampler()(0).real)


def test_processes_share_a_batch():
    batch = sampler()(3)
    parts = [batch.share_of(Rank(rank, 2, torch.device("cpu"))) for rank in range(2)]
    assert sorted(np.concatenate([real for real, _ in parts])) == sorted(batch.real)
    assert sorted(np.concatenate([synthetic for _, synthetic in parts])) == sorted(batch.synthetic)
    assert [len(real) + len(synthetic) for real, synthetic in parts] == [8, 8]


def test_missing_images_are_an_error():
    with pytest.raises(TrainingError, match="no synthetic images"):
        sampler(synthetic=0)
    with pytest.raises(TrainingError, match="no real images"):
        sampler(real=0)
    assert len(sampler(synthetic=0, share=0.0)(0).real) == 16


def test_effective_counts():
    assert effective_counts([90, 10], [0, 40], 0.5) == [45.0, 55.0]
    assert effective_counts([90, 10], [1, 1], 0.0) == [90.0, 10.0]


def test_class_balanced_sampling_shows_every_class_equally_often():
    labels = [0] * 20 + [1] * 5 + [2]
    balanced = BatchSampler(26, 0, BatchSettings(16, 0.0, "exact"), 0, 30, labels)
    drawn = np.concatenate([balanced(step).real for step in range(30)])
    assert np.bincount(np.array(labels)[drawn]).tolist() == [160, 160, 160]
    # Within a class in rounds: none is seen twice before all are seen once.
    for label, count in ((0, 20), (1, 5)):
        own = drawn[np.array(labels)[drawn] == label]
        assert set(np.bincount(own[: 4 * count], minlength=26)[np.array(labels) == label]) == {4}
    # What a step shows does not depend on the steps before it.
    assert balanced(17).real.tolist() == balanced(17).real.tolist()
    other = BatchSampler(26, 0, BatchSettings(16, 0.0, "exact"), 0, 30, labels)
    assert other(17).real.tolist() == drawn[17 * 16 : 18 * 16].tolist()
    with pytest.raises(ValueError, match="2 labels"):
        BatchSampler(26, 0, BatchSettings(16, 0.0, "exact"), 0, 30, [0, 1])


def test_effective_counts_of_class_balanced_batches():
    assert effective_counts([90, 10], [0, 0], 0.0, balanced=True) == [50.0, 50.0]
    assert effective_counts([90, 10, 0], [0, 0, 40], 0.5, balanced=True) == [25.0, 25.0, 50.0]


ALONE = Rank(0, 1, torch.device("cpu"))


def a_photo(position):
    if position == 13:
        raise DatasetError("real image a/13.jpg was found whole, and now cannot be read: file not found")
    pixels = np.random.default_rng(position).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def photos(count, *, kept, whole=False):
    pixels = DecodedPixels(count, a_photo, 18, max_bytes=1e6 if kept else 0)
    names = tuple(f"{count}/{position}" for position in range(count))
    labels = torch.arange(count) % 3
    return ImageSet(names, labels, MemoryPixels(pixels.batch(range(count))) if kept and not whole else pixels)


def inputs(augment, counts=(9, 12), *, kept=False):
    config = AugmentConfig.model_validate(augment)
    size = 16 if config.crop == "resized" else 18
    made = BatchSampler(*counts, BatchSettings(8, 0.5, "exact"), 0, 6)
    sets = tuple(photos(count, kept=kept, whole=config.crop == "photo") for count in counts)
    return ImageInputs(sets, made, config, size, 3, seed=5)


def test_crops_of_large_photographs_are_taken_from_as_few_pixels_as_they_need(tmp_path):
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((1200, 900))
    (tmp_path / "a").mkdir()
    for name, orientation in (("as-it-lies.jpg", 1), ("turned.jpg", 6)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        smooth.save(tmp_path / "a" / name, quality=95, exif=exif)
    dataset = load_dataset(DataConfig(path=tmp_path))
    pixels = real_images(dataset, 64, 1e9, photos=True).pixels
    crops = np.array([[0.9, 1.0, 0.3, 0.6], [0.04, 1.2, 0.7, 0.1]])  # at a quarter of the size, and whole
    for position in range(2):
        taken, of_all = np.empty((2, 2, 3, 64, 64), np.uint8)
        read_crops(pixels, np.array([position, position]), crops, taken)
        decoded = DecodedPixels(1, lambda _, key=dataset.images[position].key: open_image(dataset, key), 64)
        read_crops(decoded, np.array([0, 0]), crops, of_all)
        assert abs(taken[0].astype(int) - of_all[0]).mean() < 1.5
        assert not np.array_equal(taken[0], of_all[0])
        assert np.array_equal(taken[1], of_all[1])


class InThisThread(ThreadPoolExecutor):
    def map(self, call, *things):
        return map(call, *things)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "augment",
    [
        {"crop": "resized", "mix": "cutmix"},
        {"crop": "pad", "transforms": [{"name": "RandAugment"}]},
        {"crop": "photo", "transforms": [{"name": "RandAugment"}]},
        {"crop": "photo"},
    ],
)
def test_batches_are_those_of_seed_and_step_with_any_number_of_workers(monkeypatch, augment, kept):
    config = AugmentConfig.model_validate(augment | {"mix": "none"})
    plain = inputs(augment | {"mix": "none"}, kept=True)
    batch = BatchSampler(9, 12, BatchSettings(8, 0.5, "exact"), 0, 6)(4)
    augmentation = BatchAugmentation(config, plain(0, ALONE)[0].shape[-1])
    parts = ((photos(9, kept=False).pixels, batch.real), (photos(12, kept=False).pixels, batch.synthetic))
    if config.crop == "photo":
        crops = augmentation.draw(8, 18, 5, "augment-4-0").crops
        by_hand = torch.zeros(8, 3, 18, 18, dtype=torch.uint8)
        for (pixels, places), some in zip(parts, (slice(0, 4), slice(4, 8)), strict=True):
            read_crops(pixels, places, crops[some], by_hand[some].numpy())
    else:
        by_hand = torch.cat([pixels.batch(places) for pixels, places in parts])
    expected = augmentation(by_hand, 5, "augment-4-0")
    assert torch.equal(plain(4, ALONE)[0], expected)
    plain.close()
    seen = []
    for count in (0, 1, 2):
        pool = ThreadPoolExecutor(count) if count else InThisThread()
        for module in ("ahead", "augmentation", "image_sets", "pixels"):
            monkeypatch.setattr(f"augcond.training.{module}.workers", lambda pool=pool: pool)
        source = inputs(augment, kept=kept)
        # A resumed training begins anywhere.
        order = range(6) if count else (3, 4, 0, 1, 2, 5)
        made = {step: source(step, ALONE) for step in order}
        seen.append([made[step] for step in range(6)])
        source.close()
    for run in seen[1:]:
        for (images, targets), (other, others) in zip(seen[0], run, strict=True):
            assert torch.equal(images, other)
            assert torch.equal(targets, others)


def test_processes_transform_batches_to_the_same_bytes(monkeypatch):
    augment = {"crop": "photo", "transforms": [{"name": "RandAugment"}, {"name": "GaussianBlur", "kernel_size": 3}]}
    alone, apart = inputs(augment), inputs(augment)
    expected = [alone(step, ALONE)[0] for step in (4, 5)]
    alone.close()
    monkeypatch.setattr("augcond.training.transforming._PAY_FROM", 0)
    monkeypatch.setattr("augcond.training.transforming.available_cores", lambda: 2)
    assert all(torch.equal(apart(step, ALONE)[0], images) for step, images in zip((4, 5), expected, strict=True))
    (process, *_) = apart._transforming._helpers._started
    process.kill()
    with pytest.raises(TrainingError, match=r"transforms images has ended \(SIGKILL\)"):
        for step in range(6):
            apart(step, ALONE)
    apart.close()
    assert process.returncode


def test_what_cannot_be_read_surfaces_by_its_name_and_leaves_no_thread_at_work():
    source = inputs({"crop": "resized"}, (9, 40))
    with pytest.raises(DatasetError, match=r"a/13\.jpg was found whole"):
        for step in range(6):
            source(step, ALONE)
    source.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_closing_waits_for_what_is_in_hand_and_no_longer():
    begun, go_on, made = threading.Semaphore(0), threading.Event(), []

    def make(number, going_on):
        if number:
            begun.release()
            go_on.wait(60)
            going_on()
            made.append(number)
        return number

    things = ahead.Ahead(make, 10)
    assert things(0) == 0
    for _ in range(ahead.AHEAD):
        begun.acquire()
    closing = threading.Thread(target=things.close)
    closing.start()
    while not things._closed.is_set():
        pass
    go_on.set()
    closing.join(60)
    assert not made


TRAINS = """
import signal, threading, time
from contextlib import closing
import torch
from PIL import Image
from augcond.interruption import Stopped, stop as _stop
from augcond.config.training import AugmentConfig
from augcond.training.batches import BatchSampler, BatchSettings, ImageInputs
from augcond.training.devices import Rank
from augcond.training.image_sets import ImageSet
from augcond.training.pixels import DecodedPixels

def opener(position):
    time.sleep(0.01)
    return Image.new("RGB", (20, 20))

images = ImageSet(("a",) * 10_000, torch.zeros(10_000, dtype=torch.int64), DecodedPixels(10_000, opener, 18))
sampler = BatchSampler(10_000, 0, BatchSettings(5_000, 0.0, "exact"), 0, 9)
inputs = ImageInputs((images, images.take([])), sampler, AugmentConfig(crop="resized"), 16, 1, 0)
signal.signal(signal.SIGTERM, _stop)
threading.Timer(0.5, lambda: print("decoding", flush=True)).start()
try:
    with closing(inputs):
        inputs(0, Rank(0, 1, torch.device("cpu")))
except Stopped:
    print("stopped", len([t for t in threading.enumerate() if t.name.startswith("ahead")]), flush=True)
"""


@pytest.mark.slow
def test_a_signal_in_the_middle_of_decoding_ahead_ends_the_program():
    program = subprocess.Popen([sys.executable, "-c", TRAINS], stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "decoding\n"
    program.send_signal(signal.SIGTERM)
    # The batches that have begun would take a minute on two cores.
    assert program.communicate(timeout=20)[0] == "stopped 0\n"
    assert program.returncode == 0
