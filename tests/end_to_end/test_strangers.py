"""Runs, checkpoints and configs of strangers: nothing of them is run, leads outside, or takes unbounded memory."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import sys
import zlib
from html.parser import HTMLParser
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import augcond.__main__ as program
from augcond import registry
from augcond.config import GeneratorConfig, load_config
from augcond.errors import ConfigError, CorruptRunError, GeneratorError, ImageError, RunError
from augcond.evaluation.results import write_results
from augcond.generators import load_generator
from augcond.pipeline import generate
from augcond.report import ReportSettings, write_report
from augcond.sealed import read_table, write_table
from augcond.store import RunFolder, audit_run
from augcond.store.export import export_run
from augcond.store.images import decode_stored
from augcond.testing import save_tiny_stable_unclip
from augcond.training.arms import Seeds
from augcond.training.cards import ModelCard, read_cards, save_model
from tests.report.runs import make_results
from tests.tampering import rewrite_json, vouch_for_shard
from tests.toy import png, toy_config

EVIL = "</script><img src=x onerror=alert(1)><svg onload=alert(2)>\"'"


class Bomb:
    """Touches a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    generate(toy_config(root))
    save_tiny_stable_unclip(root / "checkpoint")
    return root


@pytest.fixture
def run(made, tmp_path):
    for name in ("photos", "run"):
        shutil.copytree(made / name, tmp_path / name)
    return RunFolder(tmp_path / "run")


@pytest.fixture
def checkpoint(made, tmp_path):
    return shutil.copytree(made / "checkpoint", tmp_path / "checkpoint")


def rewrite_plan(folder, change):
    table = pq.read_table(folder.plan_path)
    about = json.loads(table.schema.metadata[b"augcond"])
    columns = change(table.to_pydict(), about)
    changed = pa.table(columns, schema=table.schema.remove_metadata())
    write_table(folder.plan_path, changed.replace_schema_metadata({b"augcond": json.dumps(about).encode()}))


# Code.


def test_no_pickle_of_a_checkpoint_is_read(tmp_path, checkpoint):
    sign = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(sign))
    beside = [checkpoint / "unet" / "diffusion_pytorch_model.bin", checkpoint / "text_encoder" / "pytorch_model.bin"]
    for path in (*beside, checkpoint / "model.ckpt", checkpoint / "unet" / "diffusion_pytorch_model.pt"):
        path.write_bytes(bomb)
    config = GeneratorConfig(model=str(checkpoint), device="cpu")
    load_generator(config)
    weights = next((checkpoint / "unet").glob("*.safetensors"))
    weights.write_bytes(bomb)
    with pytest.raises(GeneratorError, match="renamed pickles are not loaded"):
        load_generator(config)
    weights.unlink()
    with pytest.raises(GeneratorError, match=r"pickled weights .* are not loaded"):
        load_generator(config)
    assert not sign.exists()


@pytest.mark.parametrize(
    ("component", "value", "words"),
    [
        ("../outside", ["diffusers", "AutoencoderKL"], "no name of a sub-folder"),
        ("/tmp", ["diffusers", "AutoencoderKL"], "no name of a sub-folder"),  # noqa: S108 - is not opened
        ("extra", ["my_code", "Evil"], "code other than diffusers' and transformers' is not run"),
    ],
)
def test_a_checkpoint_names_no_code_and_no_folder_outside(checkpoint, component, value, words):
    path = checkpoint / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {component: value}))
    with pytest.raises(GeneratorError, match=words):
        load_generator(GeneratorConfig(model=str(checkpoint)))


@pytest.mark.parametrize("index", ["[" * 10**6, '{"_class_name": [1]}', "null"])
def test_an_index_that_is_none_is_refused(checkpoint, index):
    (checkpoint / "model_index.json").write_text(index)
    with pytest.raises(GeneratorError, match=r"generator\.model"):
        load_generator(GeneratorConfig(model=str(checkpoint)))


@pytest.mark.parametrize("header", [2**62, 2**31, 90])
def test_safetensors_whose_header_lies_are_refused(checkpoint, header):
    about = json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode().ljust(90)
    next((checkpoint / "unet").glob("*.safetensors")).write_bytes(struct.pack("<Q", header) + about)
    with pytest.raises(GeneratorError, match="no whole safetensors file"):
        load_generator(GeneratorConfig(model=str(checkpoint)))


@pytest.mark.parametrize("name", ["evil:made", "run.evil:made", "run.inner.evil:made"])
@pytest.mark.parametrize("given", [".", "config.yaml", ".."])
def test_no_module_that_lies_in_a_run_is_imported(tmp_path, monkeypatch, capsys, run, name, given):
    for inner in (run.path, run.path / "inner"):
        inner.mkdir(exist_ok=True)
        (inner / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'exploded')!r})\nmade = None\n")
    values = yaml.safe_load(run.config_path.read_text())
    values["generator"]["name"] = name
    run.config_path.write_text(yaml.safe_dump(values))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(registry, "_untrusted", set())
    monkeypatch.chdir(tmp_path if given == ".." else run.path)
    monkeypatch.setattr(sys, "argv", ["augcond", "report", "run" if given == ".." else given])
    with pytest.raises(SystemExit) as caught:
        program.main()
    assert caught.value.code == 2
    assert "evil" in capsys.readouterr().err
    assert not (tmp_path / "exploded").exists()


def test_the_config_of_a_run_makes_no_objects(run, tmp_path):
    sign = tmp_path / "exploded"
    run.config_path.write_text(f"run: !!python/object/apply:os.mkdir ['{sign}']\n")
    with pytest.raises(CorruptRunError, match="cannot be read"):
        run.read_config()
    assert not sign.exists()


# Memory.


def aliases(levels):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    return "\n".join(lines + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)])


def merges(levels):
    lines = ["a0: &a0 {" + ", ".join(f"k{n}: x" for n in range(10)) + "}"]
    return "\n".join(lines + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, levels)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (aliases(12), "aliases .* stand for more than"),
        (merges(12), "unknown key|does not say where its run was"),
        ("a: &a [*a]", "aliases .* stand for more than"),
        ("a: " + "[" * 500 + "]" * 500, "nested too deeply"),
        ("# " + "x" * 2**24, "more than 16,777,216 bytes"),
    ],
)
def test_a_config_that_unpacks_without_bound_is_refused(tmp_path, run, text, words):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_config(path)
    shutil.copy(path, run.config_path)
    with pytest.raises(CorruptRunError, match=words):
        run.read_config()


def lying_png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [
        lying_png(9000, 9000),
        lying_png(12_000, 12_000),
        lying_png(60_000, 60_000),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        b"P6 4 4 255\n" + bytes(48),
    ],
    ids=["large", "larger", "huge", "eps", "ppm"],
)
def test_an_image_of_a_shard_that_no_generator_makes_is_not_decoded(data):
    with pytest.raises(ImageError, match="does not decode"):
        decode_stored(data)


def test_a_table_that_says_it_unpacks_to_more_than_is_written_is_not_unpacked(run):
    rows = pa.table({"key": pa.DictionaryArray.from_arrays(pa.array([0] * (2**20 + 1), pa.int32()), ["x" * 1000])})
    pq.write_table(rows, run.sources_path, row_group_size=2**21)
    assert run.sources_path.stat().st_size < 10**6
    with pytest.raises(CorruptRunError, match="says that it unpacks to 1,048,577 rows"):
        read_table(run.sources_path, "")


# Paths.


@pytest.mark.parametrize("place", ["log.txt", "locks/plan.lock", "shards", "models", "models/real/seed-0", "report"])
def test_a_link_in_a_run_that_leads_out_of_it_is_refused_and_nothing_is_written_there(tmp_path, run, place):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    link = run.path / place
    target = outside / "mine" if link.suffix else outside
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    config = toy_config(tmp_path)
    for command in (
        lambda: generate(config),
        lambda: write_report(run, ReportSettings(metrics=False)),
        lambda: export_run(run, tmp_path / "export", "imagefolder"),
    ):
        with pytest.raises(RunError, match="is a link that leads out of the run folder"):
            command()
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("mine", "mine")]
    assert not (tmp_path / "export").exists()


def test_links_within_a_run_and_to_a_run_are_fine(tmp_path, run):
    (run.path / "latest").symlink_to("shards")
    (tmp_path / "elsewhere").symlink_to(run.path)
    assert generate(toy_config(tmp_path, run=tmp_path / "elsewhere")).shards == 0
    assert export_run(RunFolder(tmp_path / "elsewhere"), tmp_path / "export", "imagefolder") == 40


def test_sources_of_a_run_that_are_none_of_its_images_are_not_opened(tmp_path, run):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(77))
    for path in run.shards.glob("*.parquet"):
        table = pq.read_table(path)
        keys = [["../secret.png"] * len(found) for found in table["source_keys"].to_pylist()]
        place = table.schema.get_field_index("source_keys")
        pq.write_table(table.set_column(place, table.schema.field(place), pa.array(keys)), path)
        vouch_for_shard(run, int(path.stem))
    page = write_report(run, ReportSettings(metrics=False))
    written = [path.read_bytes() for path in (page.parent / "images").iterdir()]
    assert written and not any(decode_stored(data).tobytes() == decode_stored(png(77)).tobytes() for data in written)
    assert audit_run(run).problems


def test_a_recipe_of_a_plan_leads_no_export_outside(tmp_path, run):
    name = "../../../escaped"

    def change(columns, about):
        columns["recipe"] = [name] * len(columns["recipe"])
        return columns

    rewrite_plan(run, change)
    for path in run.shards.glob("*.parquet"):
        table = pq.read_table(path)
        place = table.schema.get_field_index("recipe")
        pq.write_table(table.set_column(place, table.schema.field(place), pa.array([name] * len(table))), path)
        vouch_for_shard(run, int(path.stem))
    assert export_run(run, tmp_path / "a" / "export", "imagefolder") > 0
    assert all(path.parent.parent == tmp_path / "a" / "export" for path in tmp_path.glob("**/*escaped*"))


@pytest.mark.parametrize(
    "change",
    [
        lambda columns, about: columns | {"label": [9] * len(columns["label"])},
        lambda columns, about: columns | {"label": [-1] * len(columns["label"])},
        lambda columns, about: columns | {"key": [None] * len(columns["key"])},
        lambda columns, about: (about["classes"].append("third"), columns)[1],
        lambda columns, about: (about["fingerprints"].append("0"), columns)[1],
    ],
)
def test_a_plan_whose_rows_do_not_fit_its_classes_is_refused(run, change):
    rewrite_plan(run, change)
    with pytest.raises(CorruptRunError, match=r"do not fit its classes and shards|rows lack values"):
        run.read_plan()


@pytest.mark.parametrize("arm", ["../../outside", "other", "/tmp"])  # noqa: S108 - is not opened
def test_the_card_of_a_model_names_no_place_outside(tmp_path, arm):
    card = ModelCard(arm, "real-only", None, Seeds(0, 0, 0), "f", ("a",), (1,), 1, "s", 0, 0, (0.0,), (), (), {})
    save_model(tmp_path / "models" / "real" / "seed-0", card, torch.nn.Linear(1, 1))
    with pytest.raises(CorruptRunError, match="is the card of another model"):
        read_cards(tmp_path)


# Markup.


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, sorted(name for name, _ in attributes)))


def poisoned(value):
    if isinstance(value, str):
        return value + EVIL
    if isinstance(value, list):
        return [poisoned(each) for each in value]
    return value


def test_no_text_of_a_run_is_markup_in_its_report(tmp_path, run):
    results = make_results(protocol=EVIL, leaky=True, leaks=(EVIL,), model=EVIL, class_names=(EVIL, "b", EVIL))
    write_results(run.results_path(), results)
    for marker in run.shards.glob("*.json"):
        values = json.loads(marker.read_text())
        failed = {"ok": values["rows"] - 1, "failed": 1, "reasons": {EVIL: 1}}
        rewrite_json(marker, notes=[EVIL], versions={EVIL: EVIL}, **failed)

    def change(columns, about):
        about["class_names"] = [EVIL + name for name in about["class_names"]]
        about["columns"] = {name: poisoned(value) for name, value in about["columns"].items()}
        for name in ("prompt", "class_name"):
            columns[name] = poisoned(columns[name])
        return columns

    rewrite_plan(run, change)
    evil = tmp_path / EVIL.replace("/", "\\")
    run.path.rename(evil)
    page = write_report(RunFolder(evil), ReportSettings(metrics=False))
    found = Elements(page.read_text()).found
    kinds = {tag for tag, _ in found}
    attributes = {name for _, names in found for name in names}
    assert not kinds & {"img", "iframe", "object", "embed", "foreignobject"}
    assert not {name for name in attributes if name.startswith("on")}
    assert sum(tag == "script" for tag, _ in found) == 3  # two islands of data, and our own
    for figure in (page.parent / "figures").glob("*.svg"):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(figure).iter()}  # noqa: S314 - ours
        assert not tags & {"script", "img", "foreignObject"}
