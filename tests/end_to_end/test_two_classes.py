"""Runs that lead away from another class, mix near images, or mix two classes: from plan to training."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from augcond import Augmenter
from augcond.engine.looking import embed_sources, similar_other_classes
from augcond.errors import ConfigError, RunMismatchError
from augcond.experiments.push import prepare_push
from augcond.generators import load_generator
from augcond.pipeline import generate, load_training_images, train
from augcond.store import RunFolder, audit_run, reject_images
from augcond.store.export import export_run
from augcond.store.shards import COLUMNS, FURTHER_COLUMNS, shard_rows
from augcond.testing import FakeGenerator
from augcond.torch import RealDataset, RunDataset
from augcond.training.arm_images import RunImages
from augcond.training.arms import arms_of
from augcond.training.cards import read_card
from augcond.training.devices import find_rank
from augcond.training.experiment import load_experiment
from augcond.training.models import prepare_training
from augcond.training.trainer import _objective
from tests.toy import shard_bytes
from tests.training.toys import toy_run

RECIPES = ["text", "image", "embed-mixup-across"]


def config_in(root, **sections):
    given = {"generator": {"away_from": "similar-class"}, "conditioning": {"recipe": RECIPES, "neighbours": 2}}
    arms = [{"name": "across", "recipe": "embed-mixup-across"}, {"name": "image", "recipe": "image"}]
    training = {"arms": arms, "seeds": 1, "steps": 3, "counts": "effective"}
    return toy_run(root, **{**given, "training": training, **sections})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    config = config_in(tmp_path_factory.mktemp("done"))
    generate(config)
    return config


def rows_of(folder):
    plan = folder.read_plan()
    columns = (*COLUMNS, *plan.further_columns)
    return [row for n in range(len(plan.fingerprints)) for row in shard_rows(folder.shard_path(n), columns)]


def test_the_classes_led_away_from_are_those_of_a_slow_search(done):
    dataset = load_training_images(done)
    generator = load_generator(done.generator)
    means = []
    for label in range(3):
        own = [image for image in dataset.images if image.label == label]
        views = [generator.view(Image.open(done.data.path / image.key)) for image in own]
        means.append(torch.stack([generator.encode_images(view[None])[0].double() for view in views]).mean(dim=0))
    found = similar_other_classes(dataset, embed_sources(dataset, generator))
    for label, class_id in enumerate(dataset.classes):
        others = [other for other in range(3) if other != label]
        best = max(others, key=lambda other: torch.cosine_similarity(means[label], means[other], dim=0).item())
        assert found[class_id][0] == dataset.classes[best]
        own = tuple(image for image in dataset.images if image.label == best)
        assert found[class_id][1] == replace(dataset, images=own).contents_sha256()
    assert RunFolder(done.run).read_plan().columns.away_from == {name: other for name, (other, _) in found.items()}


def test_each_row_is_led_away_from_the_mean_of_that_class(done, tmp_path, monkeypatch):
    asked = []
    original = FakeGenerator.generate

    def noted(self, conditioning, seeds):
        asked.extend(zip(seeds, conditioning.with_image.tolist(), conditioning.away, strict=True))
        return original(self, conditioning, seeds)

    monkeypatch.setattr(FakeGenerator, "generate", noted)
    again = done.model_copy(update={"run": tmp_path / "again"})
    generate(again)
    assert shard_bytes(again.run) == shard_bytes(done.run)
    dataset, generator = load_training_images(done), load_generator(done.generator)
    away_from = RunFolder(done.run).read_plan().columns.away_from
    means = {}
    for class_id in away_from.values():
        views = [generator.view(Image.open(path)) for path in (done.data.path / class_id).iterdir()]
        means[class_id] = torch.stack([generator.encode_images(view[None])[0] for view in views]).mean(dim=0)
    rows = {(row["seed"], row["recipe"] != "text"): row for row in rows_of(RunFolder(done.run))}
    assert len(asked) == len(dataset.classes) * 4 * 3
    for seed, with_image, away in asked:
        row = rows[seed, with_image]
        name = dataset.classes[row["label"]]
        expected = means[away_from[name]] if with_image else torch.zeros(12)
        torch.testing.assert_close(away, expected, rtol=0, atol=1e-5)


def test_shards_say_what_was_mixed_and_led_away_from(done, tmp_path):
    folder = RunFolder(done.run)
    plan = folder.read_plan()
    assert plan.further_columns == ("other_label", "label_share", "away_from")
    labels = {key: label for key, (label, _) in folder.read_sources().items()}
    for row in rows_of(folder):
        if row["recipe"] == "embed-mixup-across":
            assert labels[row["source_keys"][1]] == row["other_label"] != row["label"]
            assert row["label_share"] == row["share"] >= 0.5
        else:
            assert (row["other_label"], row["label_share"]) == (None, None)
        expected = None if row["recipe"] == "text" else plan.columns.away_from[plan.classes[row["label"]]]
        assert row["away_from"] == expected
    assert not audit_run(folder).problems
    export_run(folder, tmp_path / "out", "imagefolder")
    table = pq.read_table(tmp_path / "out" / "metadata.parquet")
    assert {"other_label", "label_share", "away_from"} <= set(table.column_names)
    assert table["other_label"].null_count == 24


def test_what_is_pushed_says_it_too(done, tmp_path):
    folder = RunFolder(shutil.copytree(done.run, tmp_path / "run"))
    rows = rows_of(folder)
    reject_images(folder, [rows[0]["key"]])  # one shard is written anew, others go as they are
    ready = prepare_push(folder, "me/toys")
    pushed = datasets.load_dataset(str(ready.folder), cache_dir=str(tmp_path / "cache"), split="train")
    assert pushed.column_names == [*COLUMNS, "other_label", "label_share", "away_from"]
    assert pushed.features["other_label"].names == ["a", "b", "c"]
    for name in ("key", "other_label", "label_share", "away_from"):
        assert pushed[name][:] == [row[name] for row in rows[1:]]
    card = (ready.folder / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^- `(\w+)`", card, re.MULTILINE) == pushed.column_names


def test_data_sets_give_the_shares_of_classes(done):
    with pytest.raises(ConfigError, match=r"images of embed-mixup-across mix two classes, .* soft_labels=True"):
        RunDataset(done.run)
    images, real = RunDataset(done.run, soft_labels=True), RealDataset(done.run, soft_labels=True)
    rows = {row["key"]: row for row in rows_of(RunFolder(done.run))}
    for index, key in enumerate(images.keys):
        row, shares = rows[key], [0.0, 0.0, 0.0]
        shares[row["label"]] += 1 if row["label_share"] is None else row["label_share"]
        if row["other_label"] is not None:
            shares[row["other_label"]] += 1 - row["label_share"]
        assert images[index][1].tolist() == pytest.approx(shares)
        origin = images.provenance(index)
        assert (origin.other_label, origin.label_share, origin.away_from) == tuple(row[n] for n in FURTHER_COLUMNS)
    assert real[20][1].tolist() == [0.0, 0.0, 1.0] == torch.eye(3)[real.labels[20]].tolist()
    (batch, labels), *_ = DataLoader(real + images, batch_size=50, collate_fn=lambda items: zip(*items, strict=True))
    assert (len(batch), torch.stack(labels).sum().item()) == (50, pytest.approx(50))
    assert isinstance(RunDataset(done.run, recipe="image")[0][1], int)


def test_in_memory_they_are_those_of_a_run(done):
    config = done.model_dump(mode="json")
    generator = {"name": "fake", "away_from": "similar-class"}
    augmenter = Augmenter(generator, RECIPES, conditioning={"neighbours": 2}, engine=config["engine"])
    made = augmenter(load_training_images(done), per_class=4)
    run = RunDataset(done.run, soft_labels=True)
    assert [each.provenance for each in made] == [run.provenance(index) for index in range(len(run))]
    assert all(np.array_equal(each.image, run.image(index)) for index, each in enumerate(made))


def test_a_run_of_them_resumes_grows_and_is_reused(done, tmp_path):
    shutil.copytree(done.run, tmp_path / "run")
    config = done.model_copy(update={"run": tmp_path / "run"})
    before = shard_bytes(config.run)
    assert generate(config).shards == 0
    larger = config.model_copy(update={"plan": config.plan.model_copy(update={"per_class": 5})})
    generate(larger)
    assert before.items() <= shard_bytes(config.run).items()
    assert not audit_run(RunFolder(config.run)).problems
    other = done.model_copy(update={"run": tmp_path / "other"})
    generate(other, reuse=[done.run])
    assert rows_of(RunFolder(other.run)) == rows_of(RunFolder(done.run))


def test_what_a_mean_was_made_of_is_part_of_what_defines_the_images(done, tmp_path):
    for name in ("train", "validation", "test", "run"):
        shutil.copytree(done.run.parent / name, tmp_path / name)
    config = config_in(tmp_path)
    assert generate(config).shards == 0
    plan = RunFolder(config.run).read_plan()
    rivals = set(plan.columns.away_from.values())
    used = {key for row in plan.plan.rows() for key in row.source_keys}
    unused = sorted(path for name in rivals for path in (tmp_path / "train" / name).iterdir())
    changed = next(path for path in unused if f"{path.parent.name}/{path.name}" not in used)
    pixels = np.random.default_rng(77).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(changed)
    with pytest.raises(RunMismatchError, match=r"away_from\.[abc]: the run has"):
        generate(config)
    plain = config_in(tmp_path, generator={})
    with pytest.raises(RunMismatchError, match=r"generator\.away_from: the run has 'similar-class', this config None"):
        generate(plain)


def test_soft_labels_are_learnt_and_counted(done):
    images = RunImages(load_experiment(done))
    across, plain = arms_of(done)
    rows = [row for row in rows_of(RunFolder(done.run)) if row["recipe"] == "embed-mixup-across"]
    expected = torch.zeros(len(rows), 3)
    for place, row in enumerate(rows):
        expected[place, row["label"]] += row["label_share"]
        expected[place, row["other_label"]] += 1 - row["label_share"]
    assert images.added_counts(across) == pytest.approx(expected.sum(dim=0).tolist())
    added = images.added(across, 16)
    torch.testing.assert_close(added.targets(np.arange(len(rows)), 3), expected)
    assert torch.equal(images.added(plain, 16).targets(np.arange(12), 3).argmax(dim=1), images.added(plain, 16).labels)
    _, inputs = prepare_training(images, across, seed=0)
    _, targets = inputs(0, find_rank(across.config))
    inputs.close()
    drawn = inputs._sampler(0)
    torch.testing.assert_close(targets[4:], expected[drawn.synthetic])
    assert torch.equal(targets[:4].argmax(dim=1), images.real(16).labels[drawn.real])
    probe = replace(across, config=across.config.model_copy(update={"model": "generator", "mode": "linear-probe"}))
    _, features = prepare_training(images, probe, seed=0)
    torch.testing.assert_close(features(0, find_rank(across.config))[1], targets)
    shown = torch.tensor(images.added_counts(across)) / 12 + torch.tensor([12, 8, 6]) / 26
    torch.testing.assert_close(_objective(images, across).training_shift, (shown / 2).log())
    train(done)
    assert read_card(RunFolder(done.run).model_path("across", 0)).synthetic_images == 12


def test_one_class_has_none_to_lead_away_from(tmp_path):
    config = config_in(tmp_path, conditioning={"recipe": "image"}, training={})
    for name in "bc":
        for part in ("train", "validation", "test"):
            shutil.rmtree(tmp_path / part / name)
    with pytest.raises(ConfigError, match="similar-class needs a second class"):
        generate(config)


def test_a_run_without_them_is_written_as_before(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "image"})
    generate(config)
    folder = RunFolder(config.run)
    about = json.loads(pq.read_schema(folder.plan_path).metadata[b"augcond"])
    assert (about["format"], "away_from" in about["columns"], "away_from" in about["settings"]) == (2, False, False)
    assert pq.read_schema(folder.shard_path(0)).names == list(COLUMNS)
