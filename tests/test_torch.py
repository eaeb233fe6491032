"""Images of a run in training scripts of one's own."""

from __future__ import annotations

import pickle
import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from augcond.errors import ConfigError, CorruptRunError, RunError, TrainingError
from augcond.pipeline import generate, train
from augcond.store import RunFolder, reject_images, restore_images
from augcond.store.images import decode_stored
from augcond.store.shards import shard_rows
from augcond.testing import FakeGenerator
from augcond.torch import BatchSettings, MixedBatchSampler, RealDataset, RunDataset
from augcond.training.batches import BatchSampler
from augcond.training.devices import Rank
from tests.training.toys import toy_run

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run at runs/photos, as the examples have it."""
    root = tmp_path_factory.mktemp("torch")
    generate(toy_run(root, run=root / "runs" / "photos"))
    return root


@pytest.fixture
def run(place):
    return RunFolder(place / "runs" / "photos")


def rows_of(folder: RunFolder) -> dict[str, dict]:
    return {row["key"]: row for path in sorted(folder.shards.glob("*.parquet")) for row in shard_rows(path, COLUMNS)}


COLUMNS = ("key", "image", "label", "recipe", "source_keys", "lam", "weights", "seed", "prompt", "steps")


def test_a_run_is_a_data_set_of_its_images_with_their_provenance(run):
    rows = rows_of(run)
    images = RunDataset(run.path)
    assert (len(images), images.classes, images.class_names) == (24, ("a", "b", "c"), ("a", "b", "c"))
    assert images.keys == tuple(rows)
    for index in (0, 9, 23):
        image, label = images[index]
        row, origin = rows[images.keys[index]], images.provenance(index)
        assert label == images.labels[index] == row["label"] == origin.label
        assert np.array_equal(image, decode_stored(row["image"]["bytes"]))
        assert (origin.key, origin.lam, origin.seed) == (row["key"], row["lam"], row["seed"])
        assert (origin.source_keys, origin.error) == (tuple(row["source_keys"]), None)


def test_what_is_left_out(run):
    assert {key.rpartition("/")[2] for key in RunDataset(run, recipe="text").keys} == {"text"}
    assert len(RunDataset(run, recipe=["text", "mixup"])) == 24
    assert len(RunDataset(run, status="failed")) == 0
    with pytest.raises(ConfigError, match=r"recipe 'mixupp': .* has images of text, mixup"):
        RunDataset(run, recipe="mixupp")
    reject_images(run, ["a/0/mixup"])
    assert set(RunDataset(run, recipe="mixup").keys) == {k for k in rows_of(run) if "mixup" in k} - {"a/0/mixup"}
    restore_images(run)


def test_what_screening_dropped_is_left_out_as_in_training(tmp_path):
    config = toy_run(
        tmp_path,
        conditioning={"recipe": "mixup"},
        screening={"by": "encoder", "rejected_real": 0.3},
        training={"steps": 1, "seeds": 1, "arms": [{"name": "mixup", "recipe": "mixup"}]},
    )
    generate(config)
    with pytest.raises(RunError, match="was not screened since its images were made"):
        RunDataset(config.run)
    assert len(RunDataset(config.run, screening="all")) == 12
    (card,) = train(config)
    assert 0 < card.screened_out < 12
    kept, dropped = (RunDataset(config.run, screening=which).keys for which in ("kept", "dropped"))
    assert (len(kept), len(dropped)) == (card.synthetic_images, card.screened_out)
    assert not set(kept) & set(dropped)


def failing(config):
    """Load a generator that fails on a quarter of the rows."""
    return FakeGenerator(fails=lambda seed: seed % 4 == 0)


def test_rows_that_failed_say_why_and_runs_are_whole(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "text"}, generator={"name": "tests.test_torch:failing"})
    generate(config)
    failed, made = RunDataset(config.run, status="failed"), RunDataset(config.run)
    assert len(failed) + len(made) == 12
    assert {failed.provenance(index).seed % 4 for index in range(len(failed))} == {0}
    assert np.array(made[len(made) - 1][0]).any()
    with pytest.raises(RunError, match=f"'{failed.keys[0]}' has no image: "):
        failed[0]
    RunFolder(config.run).marker_path(1).unlink()
    with pytest.raises(RunError, match=r"1 of 2 shards of .* are not generated yet"):
        RunDataset(config.run)


def test_images_are_read_one_by_one_from_files_that_vouch_for_them(place, tmp_path):
    run = RunFolder(place / "runs" / "photos")
    images = RunDataset(run, cache=tmp_path / "cache")
    expected = np.array(images[0][0])
    (file,) = (tmp_path / "cache").iterdir()
    assert file.name == "00000.arrow"
    data = bytearray(file.read_bytes())
    place_of_pixels = data.find(rows_of(run)[images.keys[0]]["image"]["bytes"]) + 40
    data[place_of_pixels] ^= 1
    file.unlink()  # it is mapped: written over, it would change under us
    file.write_bytes(data)
    with pytest.raises(CorruptRunError, match=r"00000\.arrow is not what augcond wrote: delete it"):
        RunDataset(run, cache=tmp_path / "cache")[0]
    file.unlink()
    file.write_bytes(b"rubbish")
    assert np.array_equal(RunDataset(run, cache=tmp_path / "cache")[0][0], expected)
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match=r"cannot be written .*name another folder as `cache`"):
        RunDataset(run, cache=tmp_path / "taken" / "x")[0]


def test_a_shard_that_changed_is_refused(run, tmp_path):
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "run"))
    images = RunDataset(copy, cache=tmp_path / "cache")
    shard = copy.shard_path(0)
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptRunError, match=r"shard 00000 of .* is not what was committed"):
        images[0]


def test_no_copy_is_written_through_a_link_out_of_the_run(run, tmp_path):
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("cache")))
    (tmp_path / "elsewhere").mkdir()
    (copy.path / "cache").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a link that leads out of the run folder"):
        RunDataset(copy, screening="all")
    assert not any((tmp_path / "elsewhere").iterdir())


def to_tensor(image):
    return v2.functional.pil_to_tensor(image)


def test_workers_give_what_the_process_itself_gives(run):
    real, synthetic = RealDataset(run, transform=to_tensor), RunDataset(run, transform=to_tensor)
    assert (len(real), real.classes) == (26, synthetic.classes)
    assert len(pickle.dumps(synthetic)) < 20_000

    def batches(workers: int) -> list[torch.Tensor]:
        half = BatchSettings(size=8, share=0.5, drawing="exact")
        sampler = MixedBatchSampler(len(real), len(synthetic), half, steps=3)
        loader = DataLoader(real + synthetic, batch_sampler=sampler, num_workers=workers)
        return [tensor for _ in range(2) for batch in loader for tensor in batch]

    alone = batches(0)
    assert all(map(torch.equal, alone, batches(2)))
    assert not torch.equal(alone[0], alone[6])


@pytest.mark.parametrize("drawing", ["exact", "bernoulli"])
def test_batches_are_those_of_our_own_training(drawing):
    settings = BatchSettings(size=10, share=0.3, drawing=drawing)
    labels = [0] * 15 + [1] * 5
    ours = BatchSampler(20, 7, settings, seed=3, steps=12, balance=labels)
    sampler = MixedBatchSampler(20, 7, settings, steps=4, seed=3, balance=labels)
    assert len(sampler) == 4
    found = [*sampler, *sampler, *sampler]
    for step, batch in enumerate(found):
        assert batch == [*ours(step).real, *(ours(step).synthetic + 20)]
    sampler.set_epoch(1)
    assert [*sampler] == found[4:8]

    shared = []
    for number in range(2):
        part = MixedBatchSampler(20, 7, settings, steps=4, seed=3, balance=labels)
        part.share(number, 2)
        shared.append([*part])
    for whole, first, second in zip(found, *shared, strict=False):
        assert sorted(chain(first, second)) == sorted(whole)
        assert len(first) == len(second)
    assert Rank(0, 2, torch.device("cpu")).count == 2


def test_batches_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="9 images a batch cannot be shared out over 2 processes"):
        MixedBatchSampler(5, 5, BatchSettings(9, 0.5, "exact"), steps=1).share(0, 2)
    with pytest.raises(TrainingError, match="there are no synthetic images"):
        MixedBatchSampler(5, 0, BatchSettings(8, 0.5, "exact"), steps=1)


def in_small(example: str) -> str:
    """Return an example with small networks' sizes and few steps; all else is the documentation's."""
    few = (
        ("224", "32"),
        ("size=32", "size=4"),
        ("steps=100", "steps=1"),
        ("range(10)", "range(2)"),
        ("num_workers=2", ""),
    )
    for large, small in few:
        assert large in example
        example = example.replace(large, small)
    return example


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_stand_in_the_documentation(path):
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    assert f"```python\n{path.read_text(encoding='utf-8')}```" in pages


@pytest.mark.parametrize("name", ["plain_pytorch", "timm_training"])
def test_examples_train(name, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    text = in_small((DOCS / "examples" / f"{name}.py").read_text(encoding="utf-8"))
    exec(compile(text, name, "exec"), {"__name__": "__main__"})  # noqa: S102 - our own example
    assert re.fullmatch(r"epoch 0: loss \d+\.\d+\nepoch 1: loss \d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.slow
def test_two_processes_of_torchrun_train_together(place):
    script = place / "several.py"
    text = (DOCS / "examples" / "several_processes.py").read_text(encoding="utf-8")
    script.write_text(in_small(text).replace("dist.destroy_process_group()", AGREE))
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    result = subprocess.run(launched, cwd=place, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r"epoch \d, process \d: loss", result.stdout)) == 4
    # Both have the same network in the end, and no image of a batch was both processes' own.
    assert len(set(re.findall(r"weights (\S+)", result.stdout))) == 1


AGREE = """print(f"weights {sum(p.double().sum().item() for p in model.parameters()):.12f}")
    dist.destroy_process_group()"""
