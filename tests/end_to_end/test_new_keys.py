"""Keys that come, defaults that change and computations that change, beside a run that is on disk already."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import pytest
from PIL import Image
from pydantic import Field

from augcond.config import ConditioningConfig, RunConfig, TrainingConfig, generation, loading
from augcond.config.base import Setting
from augcond.errors import RunMismatchError
from augcond.pipeline import generate, train
from augcond.store import RunFolder, audit_run, fingerprint, plans
from tests.datasets.bombs import grey_16
from tests.datasets.photos import P3, SRGB, colour_profile, encode, picture
from tests.toy import shard_bytes, toy_config, toy_dataset
from tests.training.toys import toy_run


class NewConditioning(ConditioningConfig):
    """With a key that came after the run, and means what was before where it is 0."""

    clip_skip: Annotated[int, Setting(neutral=0)] = 2


class NewTraining(TrainingConfig):
    """Likewise."""

    ema: Annotated[float, Setting(neutral=0.0)] = 0.999


class NewRun(RunConfig):
    """A config of a later version, whose defaults make use of the new keys."""

    conditioning: NewConditioning = NewConditioning()
    training: NewTraining = NewTraining()


class ChangedConditioning(ConditioningConfig):
    """With another default for a key of 0.1."""

    alpha: Annotated[float, Field(gt=0)] = 0.7


class ChangedRun(RunConfig):
    """A config of a later version with another default."""

    conditioning: ChangedConditioning = ChangedConditioning()


@pytest.fixture
def done(tmp_path):
    """The config of a run that is generated and trained."""
    training = {"seeds": 1, "steps": 2, "arms": [{"name": "real-only"}, {"name": "mixup", "recipe": "mixup"}]}
    config = toy_run(tmp_path, plan={"per_class": 1}, training=training)
    generate(config)
    train(config)
    return config


def arrives(monkeypatch, version):
    """Put the config of another version in the place of this one's."""
    for module in (loading, fingerprint):
        monkeypatch.setattr(module, "RunConfig", version)


def spelled(config, *overrides):
    """Return a user's config of the same run, which leaves the new keys out, as the version in place reads it."""
    return loading.parse_config(config.model_dump(mode="json"), overrides)


def models(run):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.glob("models/*/*/model.*")}


def test_a_run_knows_nothing_of_a_later_key_and_keeps_its_images_and_models(done, monkeypatch):
    images, trained = shard_bytes(done.run), models(done.run)
    arrives(monkeypatch, NewRun)
    kept = RunFolder(done.run).read_config()
    # Of the run's own config what is missing is neutral; of a user's it is the default.
    assert (kept.conditioning.clip_skip, kept.training.ema) == (0, 0.0)
    assert (spelled(done).conditioning.clip_skip, spelled(done).training.ema) == (2, 0.999)
    for config in (kept, spelled(done, "conditioning.clip_skip=0", "training.ema=0")):
        assert generate(config).shards == 0
        train(config)
    assert (shard_bytes(done.run), models(done.run)) == (images, trained)


def test_another_value_of_a_later_key_is_another_run_and_other_models(done, monkeypatch):
    arrives(monkeypatch, NewRun)
    with pytest.raises(RunMismatchError, match=r"conditioning\.clip_skip: the run has 0, this config 2"):
        generate(spelled(done, "training.ema=0"))
    with pytest.raises(RunMismatchError, match=r"conditioning\.clip_skip"):
        train(spelled(done, "training.ema=0"))
    with pytest.raises(RunMismatchError, match=r"training\.ema: it has 0\.0, this config 0\.999"):
        train(spelled(done, "conditioning.clip_skip=0"))


def test_models_of_another_value_of_a_later_key_are_not_those_without_it(done, monkeypatch):
    arrives(monkeypatch, NewRun)
    train(spelled(done, "conditioning.clip_skip=0"), overwrite=True)
    with pytest.raises(RunMismatchError, match=r"training\.ema: it has 0\.999, this config 0\.0"):
        train(spelled(done, "conditioning.clip_skip=0", "training.ema=0"))


def test_a_changed_default_passes_for_nothing_that_was_before(done, monkeypatch):
    arrives(monkeypatch, ChangedRun)
    values = done.model_dump(mode="json")
    del values["conditioning"]["alpha"]
    with pytest.raises(RunMismatchError, match=r"conditioning\.alpha: the run has 1\.0, this config 0\.7"):
        generate(loading.parse_config(values))
    assert generate(RunFolder(done.run).read_config()).shards == 0


@pytest.fixture
def photos(tmp_path):
    """The config of a run, finished, one of whose five classes has pictures of 16 bits."""
    config = toy_config(
        tmp_path,
        dict.fromkeys("abcde", 2),
        conditioning={"recipe": ["text", "image"]},
        plan={"per_class": 4},
        engine={"shard_size": 2, "batch_size": 2},
    )
    for number in range(2):
        wide = np.full((16, 16), 257 * (40 + number), np.uint16)
        Image.fromarray(wide).save(tmp_path / "photos" / "c" / f"{number}.png")
    generate(config)
    return config


def test_a_path_that_computes_otherwise_counts_for_the_rows_that_take_it(photos, monkeypatch, caplog):
    before = shard_bytes(photos.run)
    folder = RunFolder(photos.run)
    plan = folder.read_plan()
    for module in (fingerprint, plans):
        monkeypatch.setattr(module, "PATH_VERSIONS", {**fingerprint.PATH_VERSIONS, "wide": 2})
    summary = generate(photos)
    # A shard holds the rows of one class and index, by both recipes.
    assert (summary.shards, summary.skipped) == (4, 16)
    assert "4 shards hold images that this version computes otherwise (wide): they are made anew" in caplog.text
    assert shard_bytes(photos.run) == before  # nothing is computed otherwise in this test
    now = folder.read_plan()
    changed = {n for n, (old, new) in enumerate(zip(plan.fingerprints, now.fingerprints, strict=True)) if old != new}
    assert {row.class_id for number in changed for row in now.plan.shard(number)} == {"c"}
    assert len(changed) == 4
    assert not audit_run(folder).problems
    assert generate(photos).shards == 0


def test_of_a_run_of_0_1_the_rows_of_profiles_and_narrow_values_are_made_anew(tmp_path, monkeypatch):
    config = toy_config(
        tmp_path,
        dict.fromkeys("abcde", 2),
        conditioning={"recipe": ["image"]},
        plan={"per_class": 2},
        engine={"shard_size": 1, "batch_size": 1},
    )
    files = {
        "b": encode(Image.new("RGB", (16, 16), (9, 99, 9)), "PNG", icc_profile=colour_profile(SRGB)),
        "c": encode(Image.new("RGB", (16, 16), (9, 99, 9)), "PNG", icc_profile=colour_profile(P3)),
        "d": grey_16(np.full((16, 16), 4095), "PNG"),
        "e": grey_16(np.full((16, 16), 40_000), "PNG"),
    }
    for name, data in files.items():
        for number in range(2):
            (tmp_path / "photos" / name / f"{number}.png").write_bytes(data)
    with monkeypatch.context() as patch:
        for module in (fingerprint, plans):
            patch.setattr(module, "PATH_VERSIONS", dict.fromkeys(fingerprint.PATH_VERSIONS, 1))
        generate(config)
    folder = RunFolder(config.run)
    before = folder.read_plan()
    assert generate(config).shards == 4
    now = folder.read_plan()
    changed = {n for n, (old, new) in enumerate(zip(before.fingerprints, now.fingerprints, strict=True)) if old != new}
    assert {row.class_id for number in changed for row in now.plan.shard(number)} == {"c", "d"}


def test_real_images_whose_pixels_changed_are_others():
    plain = toy_dataset({"a": 2})

    def digest(*paths):
        images = tuple(replace(image, paths=paths) for image in plain.images)
        return replace(plain, images=images).contents_sha256()

    assert digest() == digest("jpeg", "wide") == plain.contents_sha256()
    assert len({digest(), digest("profile"), digest("range")}) == 3


def test_rows_of_an_earlier_version_are_not_taken_over(photos, tmp_path, monkeypatch):
    for module in (fingerprint, plans):
        monkeypatch.setattr(module, "PATH_VERSIONS", {**fingerprint.PATH_VERSIONS, "view": 2})
    again = toy_config(
        tmp_path,
        conditioning={"recipe": ["text", "image"]},
        plan={"per_class": 4},
        engine={"shard_size": 2, "batch_size": 2},
        run=tmp_path / "again",
    )
    summary = generate(again, reuse=[photos.run])
    notes = [marker.notes for marker in RunFolder(again.run).markers(RunFolder(again.run).read_plan()) if marker]
    # `text` shows no image to the encoder: its rows are what they were.
    assert summary.ok == 40
    assert set(notes) == {("1 row reused",)}


def test_a_run_begun_before_large_jpegs_were_reduced_goes_on_as_it_began(tmp_path, monkeypatch):
    def config(run, per_class=2):
        return toy_config(
            tmp_path,
            dict.fromkeys("ab", 2),
            conditioning={"recipe": ["text", "image", "mixup", "real-guidance"]},
            plan={"per_class": per_class},
            engine={"shard_size": 4, "batch_size": 4},
            run=tmp_path / run,
        )

    config("x")  # writes the photos
    for number in range(2):
        large = picture(np.random.default_rng(number), 131, 97 + number)
        (tmp_path / "photos" / "b" / f"{number}.png").write_bytes(encode(large, "JPEG"))
    with monkeypatch.context() as patch:
        for module in (fingerprint, plans):
            patch.setattr(module, "PATH_VERSIONS", {**fingerprint.PATH_VERSIONS, "large": 1})
        generate(config("before"))
        generate(config("all before", 4))
    generate(config("now", 4))
    begun = shard_bytes(config("before").run)
    assert generate(config("before", 4)).skipped == len(begun) > 0
    before, now = (shard_bytes(config(run, 4).run) for run in ("before", "now"))
    assert begun.items() <= before.items()
    assert before == shard_bytes(config("all before", 4).run)
    names = [RunFolder(config(run).run).read_plan().fingerprints for run in ("before", "now")]
    other = [number for number, (old, new) in enumerate(zip(*names, strict=True)) if old != new]
    rows = RunFolder(config("now").run).read_plan().plan
    assert {row.class_id for number in other for row in rows.shard(number) if row.source_keys} == {"b"}
    assert {name for name in now if now[name] != before[name]} == {f"{number:05d}.parquet" for number in other}


def test_a_run_goes_on_in_the_steps_that_it_was_begun_in(tmp_path, monkeypatch):
    def config(per_class, **steps):
        kept = {"generator": {"name": "fake", **steps}, "plan": {"per_class": per_class}}
        return toy_config(tmp_path, {"a": 2}, conditioning={"recipe": ["text"]}, **kept)

    generate(config(1))
    monkeypatch.setattr(generation, "default_steps", lambda values: 5)
    assert generate(config(2)).ok == 1
    assert RunFolder(tmp_path / "run").read_plan().settings["generator"]["steps"] == 20
    with pytest.raises(RunMismatchError, match=r"generator\.steps: the run has 20, this config 5"):
        generate(config(2, steps=5))
    generate(config(2), overwrite=True)
    assert RunFolder(tmp_path / "run").read_plan().settings["generator"]["steps"] == 5


def test_a_run_goes_on_in_the_format_that_it_was_begun_in(tmp_path):
    def config(per_class, **output):
        kept = {"generator": {"name": "fake", "size": 68}, "plan": {"per_class": per_class}}
        return toy_config(tmp_path, {"a": 2}, conditioning={"recipe": ["text"]}, output=output, **kept)

    generate(config(1, format="webp", effort=4))  # what auto stood for, before there were efforts
    assert generate(config(2)).ok == 1
    settings = RunFolder(tmp_path / "run").read_plan().settings["output"]
    assert settings == {"format": "webp", "quality": 90, "size": 68}
    with pytest.raises(RunMismatchError, match=r"output\.format: the run has 'webp', this config 'jpeg'"):
        generate(config(2, format="jpeg"))
    generate(config(2), overwrite=True)
    assert RunFolder(tmp_path / "run").read_plan().settings["output"] == {**settings, "format": "jpeg"}
    assert generate(config(2)).shards == 0
