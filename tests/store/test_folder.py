"""Every file that any stage writes is in the list of a run's files, and --overwrite leaves only what may stay."""

from __future__ import annotations

import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from augcond.config import parse_config
from augcond.errors import CorruptRunError
from augcond.experiments.axes import parse_axis
from augcond.experiments.push import prepare_push
from augcond.experiments.sweep import sweep
from augcond.pipeline import evaluate, generate, train
from augcond.progress import log_to
from augcond.report import ReportSettings, write_report
from augcond.store import RunFolder, reject_images
from augcond.store.names import FILES
from augcond.torch import RunDataset
from augcond.training.image_sets import synthetic_images
from augcond.training.synthetic import read_synthetic
from tests.training.toys import toy_run

QUICK = ReportSettings(metrics=False, pictures=20)


def kinds_of(path: str) -> list[str]:
    """Return the kinds of file that `path`, relative to a run folder, may be."""
    return [kind for kind, file in FILES.items() if fnmatchcase(path, file.glob) or fnmatchcase(path, f"{file.glob}/*")]


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that every stage has worked on."""
    config = toy_run(
        tmp_path_factory.mktemp("full"),
        screening={"by": "encoder"},
        training={"steps": 4, "seeds": 1, "checkpoint_every": 2},
        plan={"per_class": 3},
    )
    folder = RunFolder(config.run)
    folder.create()
    with log_to(folder.log_path):
        generate(config)
        train(config)
        evaluate(config)
        evaluate(config, on="validation")
        write_report(folder, QUICK)
    RunDataset(folder)[0]
    prepare_push(folder, "me/toys")
    reject_images(folder, ["a/0/mixup"])
    synthetic = read_synthetic(folder)
    synthetic_images(synthetic, synthetic.select("mixup"), 16, max_bytes=0)
    # As an interrupted training leaves it.
    checkpoint = folder.model_path("text", 7) / "checkpoint.safetensors"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    # As TensorBoard does (tests/test_tracking.py).
    events = folder.path / "tracking" / "tensorboard" / "events.out.tfevents.1"
    events.parent.mkdir(parents=True)
    events.touch()
    return config, folder


def test_every_file_of_a_run_is_in_the_list_and_all_of_the_list_is_there(run):
    _, folder = run
    found = {path: kinds_of(path) for path in files_in(folder.path)}
    assert [path for path, kinds in found.items() if not kinds] == []
    missing = set(FILES) - {kind for kinds in found.values() for kind in kinds}
    none_left = {"marker set aside", "card set aside", "shard made again", "claim", "worker", "lock"}
    # Its report measured nothing. No recipe of this run shows whole views; tests/engine/test_embeddings.py audits one.
    # Those of a tuning: tests/experiments/tuning/test_tune.py.
    tuning = {"tuning", "tuned config", "tuned run", "tuning table", "study", "blocks", "folded", "probed"}
    assert missing == {"sweep", "sweep table", "cell", "embeddings", "judged images", "rounds"} | tuning | none_left


def test_overwriting_leaves_log_locks_and_what_decoding_found(run, tmp_path):
    config, folder = run
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(folder.path, copy.path)
    theirs = {"notes.txt", "shards/notes.txt", "models/notes.txt", "report/notes.txt", "models/mine/best.safetensors"}
    for name in (*theirs, "shards/00000.parquet.0123.tmp", "results.json.0123.tmp"):
        (copy.path / name).parent.mkdir(exist_ok=True)
        (copy.path / name).write_text("")
    copy.clear()
    stay = {"log.txt", "decoded.parquet", "decoded-test.parquet", "decoded-validation.parquet"} | theirs
    stay.add("tracking/tensorboard/events.out.tfevents.1")
    assert files_in(copy.path) == stay
    assert copy.shards.is_dir()
    again = parse_config(config.model_dump(mode="json") | {"run": copy.path})
    assert generate(again).ok == 18


def test_every_file_of_a_sweep_is_in_the_list(tmp_path):
    config = toy_run(tmp_path, training={"steps": 2}, plan={"per_class": 1})
    sweep(config, [parse_axis("plan.per_class=1,2")], seeds=1)
    write_report(RunFolder(config.run), QUICK)
    files = files_in(config.run)
    assert [path for path in files if not kinds_of(path)] == []
    assert {"sweep.json", "sweep.csv", "sweep.md", "sweep.tex", "sweep.yaml"} < files
    assert {cell.path.name for cell in RunFolder(config.run).cells()} == {"seed-0"}
    inner = {path.split("/", 4)[4] for path in files if path.startswith("cells/")}
    assert [path for path in inner if not kinds_of(path)] == []


def test_a_file_without_a_place_would_be_noticed():
    assert kinds_of("models/text/seed-0/model.json") == ["card"]
    assert kinds_of("models/text/seed-0/optimizer.bin") == []
    assert kinds_of("extra.json") == []


def test_damaged_sources_are_named(run, tmp_path):
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(run[1].path, copy.path)
    copy.sources_path.write_bytes(b"rubbish")
    for read in (copy.read_sources, copy.read_rejected):
        with pytest.raises(
            CorruptRunError,
            match=r"sources\.parquet is .*augcond generate writes it anew",
        ):
            read()
    copy.sources_path.unlink()
    with pytest.raises(CorruptRunError, match=r"sources\.parquet is .*augcond generate writes it anew"):
        copy.read_sources()


def test_every_file_of_a_run_stands_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert sorted(row for row in rows if row in FILES) == sorted(FILES)
