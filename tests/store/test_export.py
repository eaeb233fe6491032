from __future__ import annotations

import csv
import errno
import json
import shutil
import tarfile
import warnings
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
import timm.data
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from augcond.errors import RunError
from augcond.pipeline import generate
from augcond.store import RunFolder, export_run
from augcond.store.export import finished_rows, folder_names
from augcond.store.marks import marked
from tests.toy import Counted, png, toy_config

COUNTS = {"cat": 2, "<b>..x": 2, "x..": 1, "50% off": 1, "Äpfel & Birnen": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = toy_config(tmp_path_factory.mktemp("export"), COUNTS, plan={"per_class": 3})
    generate(config)
    return RunFolder(config.run)


EXPORTED = {
    "numbers": {str(number): 1 for number in range(12)},
    "names of splits": dict.fromkeys(("train", "test", "validation", "bus"), 2),
    "names with splits in them": dict.fromkeys(
        ("test tube", "dev-kit", "%train", "steam train", "val2", "training_shoe"), 1
    ),
    "names without": dict.fromkeys(("trainer", "contest", "Train", "intestine", "devil"), 1),
    "words for nothing": dict.fromkeys(("null", "NA", "nan", "None", "true", "1e3", "-"), 1),
    "devices": dict.fromkeys(("con", "AUX", "nul.x", "com1", "lpt¹ ", "console", "nullify"), 1),
    "both forms of accents": dict.fromkeys(("café", "cafe\u0301", "CAFÉ"), 1),
    "hidden": dict.fromkeys(("__init__", "_x", ".y", "z"), 1),
    "a class that needs nothing": {"ant": 1, "bee": 4, "cat": 2},
    "names that file systems and globs read otherwise": dict.fromkeys(
        (
            *(
                "a/b",
                "a\\b",
                "..",
                "C:",
                "100%",
                "%41",
                "#1",
                "[x]",
                "{a,b}",
                "~",
                "$HOME",
                "*",
                "a?",
                "say 'hi'",
                '"',
                "<b>",
            ),
            *(
                "x.",
                "data",
                "metadata.parquet",
                "classes.json",
                "cat.jpg",
                "x" * 300,
                "y" * 199 + "é",
                "😀",
                "猫",
                "مرحبا",
            ),
            *("-rf", "a;b", "logs.eval", "task.toml", "|"),
        ),
        1,
    ),
}

MORE = {
    "one class": {"only": 1},
    "one image in all": {"a": 2, "b": 3},
    "most need nothing": {"a": 3, "b": 5, "c": 3, "d": 1, "e": 9},
    "first and last need nothing": {"a": 4, "b": 1, "c": 1, "d": 4},
    "words of splits that need nothing": {"train": 3, "test": 1, "validation": 4},
    "splits only": dict.fromkeys(("train", "test", "validation", "val", "dev", "eval"), 1),
    "splits in capitals": dict.fromkeys(("TRAIN", "Test", "VALIDATION"), 1),
    "splits with numbers": dict.fromkeys(("train-00000-of-00001", "test_1", "val 2"), 1),
    "numbers that start with nought": dict.fromkeys(("00", "01", "10", "2"), 1),
    "numbers with signs": dict.fromkeys(("+1", "+2", "10"), 1),
    "decimals": dict.fromkeys(("1.0", "1.5", "10.0", "2"), 1),
    "numbers of other scripts": dict.fromkeys(("\u0661", "\uff12", "三"), 1),
    "numbers in words": dict.fromkeys(("two", "one", "three"), 1),
    "dates": dict.fromkeys(("2026-01-02", "01.02.2026", "1/2/26"), 1),
    "truths": dict.fromkeys(("yes", "no", "on", "off", "True", "false"), 1),
    "missing values": dict.fromkeys(("N/A", "#N/A", "<NA>", "nil", "none", "undefined"), 1),
    "spaces": dict.fromkeys(("a b", "a  b", "ab", "b"), 1),
    "kinds of spaces": dict.fromkeys(("a\u00a0b", "a\u2003b", "a\u200bb", "ab"), 1),
    "right to left": dict.fromkeys(("\u202eabc", "abc", "עברית"), 1),
    "ligatures": dict.fromkeys(("ﬁsh", "fish", "FISH", "straße", "STRASSE"), 1),
    "joined faces": dict.fromkeys(("👩‍🔬", "👩", "🔬"), 1),
    "commas and quotes": dict.fromkeys(("a,b", "a;b", "'a'", "a\tb".replace("\t", " "), "=1+1"), 1),
    "ends in dots": dict.fromkeys(("a.", "a..", "a", "..a"), 1),
    "long and alike": dict.fromkeys(("x" * 200 + "1", "x" * 200 + "2", "x" * 200), 1),
    "files of exports": dict.fromkeys(("metadata", "metadata.csv", "classes.txt", ".augcond-files.txt"), 1),
    "suffixes of images": dict.fromkeys(("a.png", "b.jpg", "c.parquet", "d.tar"), 1),
}
"""Classes by how many real images they have: each gets three in all."""


@pytest.mark.parametrize("case", [*EXPORTED, *(pytest.param(case, marks=pytest.mark.slow) for case in MORE)])
def test_every_reader_finds_every_image_and_its_label(case, tmp_path, monkeypatch, caplog):
    """By name, by number or by a map that the reader itself takes."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    counts = (EXPORTED | MORE)[case]
    listed = [
        (f"{number}.png", name) for number, name in enumerate(name for name in counts for _ in range(counts[name]))
    ]
    for number, (name, _) in enumerate(listed):
        (tmp_path / name).write_bytes(png(number))
    with (tmp_path / "list.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *listed])
    data = {"source": "list", "path": tmp_path / "list.csv"}
    config = toy_config(
        tmp_path, {}, plan={"per_class": None, "fill_to": 3}, conditioning={"recipe": "image"}, data=data
    )
    generate(config)
    run = RunFolder(config.run)
    classes = run.read_plan().classes
    made = export_run(run, tmp_path / "out", "imagefolder")
    assert made == sum(max(0, 3 - count) for count in counts.values())

    entries = json.loads((tmp_path / "out" / "classes.json").read_text("utf-8"))
    assert [(entry["label"], entry["class_id"]) for entry in entries] == list(enumerate(classes))
    labels = {entry["folder"]: entry["label"] for entry in entries}
    rows = {row["file_name"]: row for row in pq.read_table(tmp_path / "out" / "metadata.parquet").to_pylist()}
    assert all(labels[name.split("/")[0]] == row["label"] for name, row in rows.items())

    folder = ImageFolder(str(tmp_path / "out"))
    found = {str(Path(path).relative_to(tmp_path / "out")): index for path, index in folder.samples}
    assert found.keys() == rows.keys()
    moved = any(rows[name]["label"] != index for name, index in found.items())
    assert ("get another number from readers" in caplog.text) == moved
    assert all(labels[folder.classes[index]] == rows[name]["label"] for name, index in found.items())

    timms = timm.data.create_dataset("", tmp_path / "out", class_map=str(tmp_path / "out" / "classes.txt"))
    timms = {Path(path).relative_to(tmp_path / "out").as_posix(): label for path, label in timms.reader.samples}
    assert timms == {name: row["label"] for name, row in rows.items()}

    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"))
    assert {split: len(images) for split, images in loaded.items()} == {"train": made}
    assert loaded["train"].features["label"].names == list(classes)
    assert [(row["label"], row["class_id"]) for row in loaded["train"]] == [
        (row["label"], row["class_id"]) for row in rows.values()
    ]


@pytest.mark.parametrize("layout", ["imagefolder", "webdataset"])
def test_progress_counts_every_image(run, tmp_path, layout):
    told = Counted()
    count = export_run(run, tmp_path / "out", layout, progress=told)
    assert told.total == told.done == count


def test_image_folder_opens_in_torchvision(run, tmp_path):
    count = export_run(run, tmp_path / "out", "imagefolder")
    folder = ImageFolder(str(tmp_path / "out"))
    assert (len(folder), len(folder.classes)) == (count, len(COUNTS))
    assert count == 3 * 4 * len(COUNTS)
    image, _ = folder[0]
    assert image.size == (16, 16)


def test_metadata_names_every_images_origin(run, tmp_path):
    export_run(run, tmp_path / "out", "imagefolder")
    rows = pq.read_table(tmp_path / "out" / "metadata.parquet").to_pylist()
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").glob("*/*.png")}
    assert {row["file_name"] for row in rows} == files
    plan = {row.key: row for row in run.read_plan().plan.rows()}
    for row in rows:
        assert tuple(row["source_keys"]) == plan[row["key"]].source_keys
        assert row["class_id"] == plan[row["key"]].class_id
        assert row["seed"] == plan[row["key"]].seed


def test_web_dataset_opens_and_is_the_same_every_time(run, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # webdataset's own
        import webdataset

        for name in ("a", "b"):
            export_run(run, tmp_path / name, "webdataset")
        tars = sorted((tmp_path / "a").glob("*.tar"))
        assert [path.read_bytes() for path in tars] == [(tmp_path / "b" / path.name).read_bytes() for path in tars]
        samples = list(webdataset.WebDataset([str(path) for path in tars], shardshuffle=False).decode("pil"))
    assert len(samples) == 3 * 4 * len(COUNTS)
    for sample in samples:
        assert sample["png"].size == (16, 16)
        assert run.read_plan().classes[sample["cls"]] == sample["json"]["class_id"]


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_export_is_neither_deleted_nor_mixed_with_one(run, tmp_path, overwrite):
    (tmp_path / "out" / "cat").mkdir(parents=True)
    (tmp_path / "out" / "cat" / "photo.jpg").write_text("keep")
    with pytest.raises(RunError, match=r"holds what this export did not write \(cat\), and which stays"):
        export_run(run, tmp_path / "out", "imagefolder", overwrite=overwrite)
    assert files_in(tmp_path / "out") == {"cat/photo.jpg"}


def test_a_photo_put_into_an_export_stays(run, tmp_path):
    export_run(run, tmp_path / "out", "imagefolder")
    (tmp_path / "out" / "cat" / "photo.jpg").write_text("keep")
    before = files_in(tmp_path / "out")
    with pytest.raises(RunError, match=r"\(cat/photo\.jpg\)"):
        export_run(run, tmp_path / "out", "webdataset", overwrite=True)
    assert files_in(tmp_path / "out") == before


def test_an_export_is_replaced_if_asked_for(run, tmp_path):
    export_run(run, tmp_path / "out", "imagefolder")
    with pytest.raises(RunError, match="is not empty"):
        export_run(run, tmp_path / "out", "webdataset")
    export_run(run, tmp_path / "out", "webdataset", overwrite=True)
    export_run(run, tmp_path / "alone", "webdataset")
    assert files_in(tmp_path / "out") == files_in(tmp_path / "alone")
    assert not any(path.is_dir() for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("place", [".", "train", "train/cat", "test/new/folder", "validation"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_real_images_are_no_place_for_an_export(run, tmp_path, place, overwrite):
    """Whether the place is there or not, and however it is reached."""
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    for part in ("train/cat", "test", "validation"):
        (tmp_path / "photos" / part).mkdir(parents=True)
    (tmp_path / "photos" / "train" / "cat" / "1.png").touch()
    values = yaml.safe_load(copy.config_path.read_text())
    values["run"] = str(copy.path)
    values["data"] |= {part: str(tmp_path / "photos" / part) for part in ("test", "validation")}
    values["data"] |= {"path": str(tmp_path / "photos" / "train")}
    copy.config_path.write_text(yaml.safe_dump(values))
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    before = files_in(tmp_path / "photos")
    for base in ("photos", "link"):
        with pytest.raises(RunError, match=r"which holds real images|holds what this export did not write"):
            export_run(copy, tmp_path / base / place, "imagefolder", overwrite=overwrite)
    assert files_in(tmp_path / "photos") == before


def test_an_empty_folder_is_written_into_wherever_it_is(run, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    export_run(run, tmp_path / "link", "imagefolder")
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export_run(run, Path(), "imagefolder")
    assert files_in(tmp_path / "disk") == files_in(tmp_path / "here") > {"metadata.parquet"}
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "link", "here"}


def test_an_export_that_fails_leaves_what_was_there(run, tmp_path, monkeypatch):
    export_run(run, tmp_path / "out", "webdataset")
    before = files_in(tmp_path / "out")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    for to in ("out", "new"):
        with pytest.raises(OSError, match="No space"):
            export_run(run, tmp_path / to, "webdataset", overwrite=True)
    assert files_in(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_nothing_to_export_is_an_error(tmp_path):
    with pytest.raises(RunError, match=r"no plan\.parquet"):
        export_run(RunFolder(tmp_path), tmp_path / "out", "imagefolder")


@given(st.lists(st.text(max_size=300), min_size=1, max_size=6, unique=True))
def test_folder_names_are_safe_and_different(classes):
    encodable = tuple(name.encode("utf-8", "ignore").decode() for name in classes)
    names = folder_names(encodable)
    assert len({name.casefold() for name in names}) == len(classes)
    for name in names:
        assert name
        assert len(name.encode()) <= 255
        assert not set(name) & set('/\\:*?"<>|\0\n\r')
        assert name[0] not in ". "
        assert name[-1] not in ". "


def test_harmless_folder_names_stay():
    assert folder_names(("cat", "ein Baum", "n01440764", "猫")) == ["cat", "ein Baum", "n01440764", "猫"]


def test_an_export_of_an_unfinished_run_says_so(tmp_path, caplog):
    config = toy_config(tmp_path, plan={"per_class": 3}, engine={"shard_size": 12})
    generate(config)
    run = RunFolder(config.run)
    assert export_run(run, tmp_path / "whole", "imagefolder") == 24
    assert not caplog.records
    run.marker_path(1).unlink()
    assert export_run(run, tmp_path / "half", "imagefolder") == 12
    assert "1 of 2 shards are not generated yet, and their images are not in this export" in caplog.text


@pytest.mark.parametrize("layout", ["imagefolder", "webdataset"])
def test_exported_images_say_that_they_are_generated_unless_told_not_to(run, tmp_path, layout):
    stored = {values["key"]: values["image"]["bytes"] for _, values in finished_rows(run, run.read_plan())}
    for mark in (True, False):
        out = tmp_path / f"{mark}"
        export_run(run, out, layout, mark=mark)
        assert images_in(out) == sorted(marked(data) if mark else data for data in stored.values())


def images_in(folder):
    tars = [*folder.glob("*.tar")]
    for path in tars:
        with tarfile.open(path) as tar:
            tar.extractall(folder, filter="data")
    return sorted(path.read_bytes() for path in folder.rglob("*.png"))
