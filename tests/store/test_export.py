from __future__ import annotations

import csv
import json
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from augcond.errors import RunError
from augcond.pipeline import generate
from augcond.store import RunFolder, export_run
from augcond.store.export import folder_names
from tests.toy import Counted, toy_config

COUNTS = {"cat": 2, "<b>..x": 2, "x..": 1, "50% off": 1, "Äpfel & Birnen": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = toy_config(tmp_path_factory.mktemp("export"), COUNTS, plan={"per_class": 3})
    generate(config)
    return RunFolder(config.run)


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
    with (tmp_path / "out" / "metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").glob("*/*.png")}
    assert {row["file_name"] for row in rows} == files
    plan = {row.key: row for row in run.read_plan().plan.rows()}
    for row in rows:
        assert tuple(json.loads(row["source_keys"])) == plan[row["key"]].source_keys
        assert row["class_id"] == plan[row["key"]].class_id
        assert int(row["seed"]) == plan[row["key"]].seed


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


def test_target_is_never_mixed_with_other_files(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match="is not empty"):
        export_run(run, tmp_path / "out", "imagefolder")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"
    export_run(run, tmp_path / "out", "imagefolder", overwrite=True)
    assert not (tmp_path / "out" / "mine.txt").exists()


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
