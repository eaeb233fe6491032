from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from augcond import audit_run, export_run, reject_images, rejected_keys, restore_images, run_status, train
from augcond.errors import CorruptRunError, RunError, RunLockedError, RunMismatchError
from augcond.pipeline import generate
from augcond.store import RunFolder
from augcond.store.claims import TRAINING
from augcond.training.arm_images import RunImages
from augcond.training.arms import arms_of
from augcond.training.experiment import load_experiment
from tests.tampering import rewrite_json
from tests.toy import toy_config
from tests.training.toys import toy_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    config = toy_run(
        tmp_path_factory.mktemp("rejection"),
        conditioning={"recipe": "mixup"},
        training={"seeds": 1, "steps": 2, "arms": [{"name": "mixup", "recipe": "mixup"}]},
    )
    generate(config)
    return config


@pytest.fixture
def config(made, tmp_path):
    """A copy of the run that a test may change."""
    return made.model_copy(update={"run": Path(shutil.copytree(made.run, tmp_path / "run"))})


def added(config) -> set[str]:
    return set(RunImages(load_experiment(config)).added_keys(arms_of(config)[0]))


def test_rejected_images_are_left_out_and_counted_until_they_are_taken_back(config, tmp_path):
    folder, everything = RunFolder(config.run), added(config)
    shards = {path.name: path.read_bytes() for path in folder.shards.iterdir()}
    out = {"a/0/mixup", "c/3/mixup"}
    assert reject_images(folder, out) == 2
    assert reject_images(folder, ["a/0/mixup"]) == 0
    assert rejected_keys(folder) == out

    assert added(config) == everything - out
    assert export_run(folder, tmp_path / "out", "imagefolder") == 10
    assert (run_status(folder).ok, run_status(folder).rejected) == (12, 2)
    audit = audit_run(folder)
    assert (audit.problems, audit.ok, audit.rejected, audit.verified["rejected"]) == ((), 12, 2, 1)

    assert restore_images(folder, ["c/3/mixup"]) == 1
    assert added(config) == everything - {"a/0/mixup"}
    assert restore_images(folder) == 1
    assert added(config) == everything
    assert {path.name: path.read_bytes() for path in folder.shards.iterdir()} == shards


def test_a_model_of_images_that_are_rejected_since_is_no_model_of_the_run(config):
    train(config)
    reject_images(RunFolder(config.run), ["a/0/mixup"])
    with pytest.raises(RunMismatchError, match="synthetic_images: it has 12, this run 11"):
        train(config)
    assert [card.synthetic_images for card in train(config, overwrite=True)] == [11]


def test_only_images_that_are_there_can_be_rejected(tmp_path):
    config = toy_config(tmp_path, {"cat": 2, "dog": 2}, plan={"per_class": 2})
    with pytest.raises(RunError, match=r"no plan\.parquet"):
        reject_images(RunFolder(config.run), ["cat/0/mixup"])
    generate(config)
    (key, *_) = RunFolder(config.run).read_plan().plan.table["key"].to_pylist()
    folder = RunFolder(config.run)
    with pytest.raises(RunError, match=r"'cat/9/mixup' is no image of .*class/index/recipe"):
        reject_images(folder, [key, "cat/9/mixup"])
    with pytest.raises(RunError, match=f"'{re.escape(key)}' is not rejected"):
        restore_images(folder, [key])
    assert not rejected_keys(folder)
    folder.marker_path(0).unlink()
    with pytest.raises(RunError, match="its row failed, or is not generated yet"):
        reject_images(folder, [key])


def test_a_training_has_read_what_was_rejected(config):
    folder = RunFolder(config.run)
    with (
        folder.claims() as claims,
        claims.held(TRAINING),
        pytest.raises(RunLockedError, match="another process trains"),
    ):
        reject_images(folder, ["a/0/mixup"])


def test_a_list_that_was_changed_is_refused(config):
    folder = RunFolder(config.run)
    reject_images(folder, ["a/0/mixup"])
    whole = folder.rejected_path.read_text()
    folder.rejected_path.write_text(whole.replace("a/0", "b/0"))
    for reader in (load_experiment, lambda config: export_run(folder, config.run.parent / "out", "webdataset")):
        with pytest.raises(CorruptRunError, match=r"rejected\.json is not what augcond wrote"):
            reader(config)
    assert any("rejected.json" in problem for problem in audit_run(folder).problems)
    folder.rejected_path.write_text('{"keys": 3}')
    with pytest.raises(CorruptRunError, match="holds no keys"):
        rejected_keys(folder)
    folder.rejected_path.write_text('{"keys": ["x/0/mixup"]}')
    assert any("'x/0/mixup' is rejected" in problem for problem in audit_run(folder).problems)


def test_images_that_are_made_anew_are_nobody_s_rejects(config):
    reject_images(RunFolder(config.run), ["a/0/mixup"])
    generate(config, overwrite=True)
    assert not rejected_keys(RunFolder(config.run))


def test_a_list_of_another_run_is_refused(config):
    """Keys are alike in all runs: without a word on whose they are, other images would be left out."""
    folder = RunFolder(config.run)
    reject_images(folder, ["a/0/mixup"])
    rewrite_json(folder.rejected_path, of="0" * 64)
    with pytest.raises(CorruptRunError, match=r"rejected\.json is of another run"):
        rejected_keys(folder)
    assert any("is of another run" in problem for problem in audit_run(folder).problems)
