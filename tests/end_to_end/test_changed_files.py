"""What is done about files of a run that are not what was written; `tests/faults` has every file, fault and command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from augcond.errors import AugcondError
from augcond.pipeline import evaluate, generate, train
from augcond.report import ReportSettings, write_report
from augcond.store import RunFolder, audit_run
from tests.tampering import flip_bit
from tests.toy import shard_bytes
from tests.training.toys import toy_run

MODEL = "models/mixup/seed-0"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The config of a run that every stage has worked on, and its shards and weights."""
    training = {"seeds": 1, "steps": 2, "arms": [{"name": "mixup", "recipe": "mixup"}]}
    folder = tmp_path_factory.mktemp("original")
    config = toy_run(folder, plan={"per_class": 2}, training=training, screening={"by": "encoder"})
    generate(config)
    train(config)
    evaluate(config)
    return config


@pytest.fixture
def copy(original, tmp_path):
    shutil.copytree(original.run, tmp_path / "run")
    return original.model_copy(update={"run": tmp_path / "run"})


def bytes_of(config):
    return shard_bytes(config.run), (config.run / MODEL / "model.safetensors").read_bytes()


def test_check_repairs_shards_and_models_and_touches_nothing_else(copy, original):
    folder = RunFolder(copy.run)
    (copy.run / "notes.txt").write_text("mine")
    assert audit_run(folder).problems == ()
    for name in ("shards/00000.parquet", f"{MODEL}/model.safetensors", "results.json"):
        flip_bit(copy.run / name)
    before = {path: path.read_bytes() for path in copy.run.rglob("*") if path.is_file()}
    assert len(audit_run(folder).problems) == 3
    assert {path: path.read_bytes() for path in before} == before  # it only reports
    audit = audit_run(folder, repair=True)
    assert [line.split(":")[0].split(" is ")[0] for line in audit.repaired] == [
        "shard 00000 does not count as done any more",
        f"model {MODEL}",
    ]
    moved = {folder.marker_path(0): folder.unfit_path(0)}
    moved[copy.run / MODEL / "model.json"] = copy.run / MODEL / "model.unfit.json"
    assert {path: path.read_bytes() for path in copy.run.rglob("*") if path.is_file()} == {
        moved.get(path, path): data for path, data in before.items()
    }
    assert generate(copy).shards == 1
    assert len(train(copy)) == 1
    evaluate(copy)
    after = audit_run(folder)
    assert (after.problems, after.unknown) == ((), ("notes.txt",))
    assert bytes_of(copy) == bytes_of(original)


def test_check_says_what_it_compared(copy, original):
    audit = audit_run(RunFolder(copy.run))
    assert audit.verified == {
        "card": 1, "weights": 1, "plan": 1, "sources": 1, "split": 1, "screening": 1, "margins": 1, "predictions": 1,
        "results": 1, "decoded": 1, "decoded held-out": 2,
    }  # fmt: skip
    assert set(audit.unverified) == {"config"}
    assert (audit.uncovered, audit.unknown, audit.repaired) == ((), (), ())
    assert audit.sources > 0


def test_check_compares_the_photos(tmp_path):
    config = toy_run(tmp_path, plan={"per_class": 1})
    generate(config)
    folder = RunFolder(config.run)
    key = next(row.source_keys[0] for row in folder.read_plan().plan.rows() if row.source_keys)
    flip_bit(config.data.path / key)
    [problem] = audit_run(folder).problems
    assert problem.startswith(f"source image {key!r}: its contents are not those that were recorded")
    (config.data.path / key).unlink()
    assert audit_run(folder).problems == (
        f"source image {key!r}: file not found; bring it back, or name another folder as `run`",
    )
    shutil.rmtree(config.data.path)
    audit = audit_run(folder)
    assert audit.sources == 0 and audit.uncovered[0].startswith("source images: ")


def test_results_of_models_that_were_trained_anew_are_not_reported(copy):
    train(copy.model_copy(update={"training": copy.training.model_copy(update={"steps": 3})}), overwrite=True)
    with pytest.raises(AugcondError, match=r"results\.json is older than the model models/mixup/seed-0"):
        write_report(RunFolder(copy.run), ReportSettings(metrics=False, pictures=4))


def test_what_cannot_be_read_now_is_not_called_changed(copy, monkeypatch):
    """Permissions, a failing disk: the advice is not to delete it, and nothing is set aside."""
    denied = {copy.run / "shards" / "00000.parquet", copy.run / "results.json"}

    def refusing(call):
        def called(self, *arguments, **named):
            if self in denied:
                raise PermissionError(13, "Permission denied", str(self))
            return call(self, *arguments, **named)

        return called

    for name in ("open", "read_bytes"):
        monkeypatch.setattr(Path, name, refusing(getattr(Path, name)))
    audit = audit_run(RunFolder(copy.run), repair=True)
    assert sorted(audit.problems) == [
        f"{copy.run / 'results.json'} cannot be read: Permission denied; it may be whole: mend that, and run the same "
        "command again",
        "shard 00000: cannot be read: Permission denied; it may be whole: mend that, and run the same command again",
    ]
    assert audit.repaired == ()
