import random
import subprocess
import sys
import threading
from hashlib import blake2b

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from augcond.conditioning import streams

seeds = st.integers(min_value=0, max_value=2**63 - 1)


def reference_row_seed(plan_seed: int, class_id: str, index: int) -> int:
    data = f"{plan_seed}/{class_id}".encode("utf-8", "surrogateescape") + index.to_bytes(8, "little")
    return int.from_bytes(blake2b(data, digest_size=8, person=b"augcond-row").digest(), "little") % 2**63


@given(seeds, st.text(max_size=20).filter(lambda text: text.isprintable()), st.integers(0, 2**40))
def test_row_seed_is_the_documented_hash(plan_seed, class_id, index):
    assert streams.row_seed(plan_seed, class_id, index) == reference_row_seed(plan_seed, class_id, index)


@given(seeds, st.sampled_from(["a", "n01440764", "Größe 3", "a/b", "1", "\udcff"]), st.integers(0, 50))
def test_row_seeds_equal_row_seed_one_by_one(plan_seed, class_id, count):
    many = streams.row_seeds(plan_seed, class_id, count)
    assert many.dtype == np.int64
    assert many.shape == (count,)
    assert many.tolist() == [streams.row_seed(plan_seed, class_id, index) for index in range(count)]


def test_row_seeds_of_a_larger_plan_start_with_those_of_the_smaller():
    assert streams.row_seeds(3, "cat", 100)[:40].tolist() == streams.row_seeds(3, "cat", 40).tolist()


def test_row_seeds_differ_between_plans_classes_and_indices():
    drawn = [
        seed
        for plan_seed, class_id in [(0, "a"), (1, "a"), (0, "b"), (0, "1/a"), (1, "1/a"), (11, "a")]
        for seed in streams.row_seeds(plan_seed, class_id, 2000).tolist()
    ]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= seed < 2**63 for seed in drawn)


def test_streams_never_change_between_versions():
    # Runs on disk were made with these: a change of any is a change of every user's images.
    assert streams.row_seed(0, "tench", 0) == 7027691914447009218
    assert streams.stream_seed(42, streams.LAMBDA) == 1708146221541011552
    assert streams.numpy_stream(42, streams.LAMBDA).random() == 0.9188643026067864
    purposes = [streams.SOURCES, streams.LAMBDA, streams.BOX, streams.RUN, streams.DROPOUT, streams.EMBEDDING_NOISE]
    purposes += [
        streams.INITIAL_NOISE,
        streams.MIX,
        streams.PROMPT,
        streams.crop_purpose(1),
        streams.augment_purpose(2),
    ]
    assert purposes == [
        *("sources", "lambda", "box", "run", "dropout", "embedding-noise", "initial-noise", "mix", "prompt"),
        *("crop-1", "augment-2"),
    ]
    assert len({streams.stream_seed(42, purpose) for purpose in purposes}) == len(purposes)


@pytest.mark.parametrize("call", [lambda: streams.row_seed(-1, "a", 0), lambda: streams.stream_seed(-1, "box")])
def test_negative_seeds_are_refused(call):
    with pytest.raises(ValueError, match="must not be negative"):
        call()


@given(seeds, st.integers(1, 20))
@settings(max_examples=30)
def test_streams_of_one_purpose_repeat_and_of_two_purposes_differ(seed, length):
    assert (streams.numpy_stream(seed, "box").random(length) == streams.numpy_stream(seed, "box").random(length)).all()
    assert (streams.numpy_stream(seed, "box").random(length) != streams.numpy_stream(seed, "run").random(length)).any()
    one, again = (torch.randn(length, generator=streams.torch_stream(seed, "initial-noise")) for _ in range(2))
    other = torch.randn(length, generator=streams.torch_stream(seed, "embedding-noise"))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_seeded_draws_its_stream_and_leaves_no_trace():
    torch.manual_seed(7)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    with streams.seeded(5, "crop-1"):
        drawn = torch.rand(4)
        with streams.seeded(6, "crop-1"):
            torch.rand(1)
        continued = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    stream = streams.torch_stream(5, "crop-1")
    assert torch.equal(torch.rand(4, generator=stream), drawn)
    assert torch.equal(torch.rand(4, generator=stream), continued)


def test_seeded_restores_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(KeyError), streams.seeded(5, "crop-1"):
        torch.rand(1)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_take_turns_in_seeded():
    before = torch.get_rng_state()
    results: dict[int, torch.Tensor] = {}
    barrier = threading.Barrier(8)

    def work(seed):
        barrier.wait()
        for _ in range(20):
            with streams.seeded(seed, "crop-1"):
                results[seed] = torch.stack([torch.rand(3) for _ in range(5)])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, result in results.items():
        stream = streams.torch_stream(seed, "crop-1")
        assert torch.equal(result, torch.stack([torch.rand(3, generator=stream) for _ in range(5)]))
    assert torch.equal(torch.get_rng_state(), before)


def test_importing_conditioning_does_not_import_torch():
    code = "import sys, augcond.conditioning, augcond.conditioning.streams; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
