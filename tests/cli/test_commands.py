"""The command line as a user meets it: output, exit codes, messages."""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import json
import signal
import subprocess
import sys

import pytest
import yaml
from PIL import Image

import augcond.__main__ as program
from tests.toy import png, write_photos


@pytest.fixture
def project(tmp_path, monkeypatch):
    write_photos(tmp_path / "photos", {"cat": 3, "[red]dog": 4})
    config = {
        "data": {"path": "photos"},
        "run": "run",
        "plan": {"per_class": 3},
        "conditioning": {"recipe": ["text", "embed-mixup"]},
        "generator": {"name": "fake"},
        "engine": {"shard_size": 5, "batch_size": 4},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def augcond(monkeypatch, capsys):
    """Run a command; return exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["augcond", *arguments])
        with pytest.raises(SystemExit) as caught:
            program.main()
        captured = capsys.readouterr()
        return caught.value.code or 0, captured.out, captured.err

    return run


def test_inspect_shows_on_one_screen_what_looks_wrong(project, augcond, caplog):
    photos = project / "photos"
    (photos / "cat" / "@eaDir").mkdir()
    (photos / "cat" / "@eaDir" / "0.png").write_bytes((photos / "cat" / "0.png").read_bytes())
    (photos / "_unsorted").mkdir()
    Image.open(photos / "cat" / "1.png").resize((64, 96)).save(photos / "_unsorted" / "again.png")
    Image.new("RGB", (40, 40)).save(photos / "_unsorted" / "black.png")
    (project / "test" / "cat").mkdir(parents=True)
    Image.open(photos / "cat" / "2.png").save(project / "test" / "cat" / "x.bmp")
    code, out, _ = augcond("inspect", "c.yaml", "--set", "data.test=test", "--sheet", "look/sheet.png")
    assert code == 0
    for line in (
        "skipped: cat/@eaDir: thumbnails that a Synology NAS makes",
        "the same picture: cat/2.png and cat/x.bmp (test): take it out of one of the two",
        "nearly the same picture: _unsorted/again.png and cat/1.png: of two classes, so look at both",
        "1 image of nearly one colour, such as _unsorted/black.png",
        "look at this: _unsorted (2 images) is taken for a class, and looks like a folder of images without one",
    ):
        assert line in out
    with Image.open(project / "look" / "sheet.png") as sheet:
        assert min(sheet.size) > 100
    code, out, _ = augcond("inspect", "c.yaml", "--set", "data.test=test", "--json")
    found = json.loads(out)
    assert [(pair["keys"], pair["certain"]) for pair in found["near_duplicates"]] == [
        (["cat/2.png", "cat/x.bmp"], True),
        (["_unsorted/again.png", "cat/1.png"], False),
    ]
    assert [entry["path"] for entry in found["skipped"]] == ["cat/@eaDir"]
    assert found["blank"] == ["_unsorted/black.png"]
    code, _, err = augcond("generate", "c.yaml", "--set", "data.test=test")
    assert code == 1
    assert "1 test images are the same pictures as training images, stored otherwise, such as 'cat/x.bmp'" in err
    assert not list((project / "run").glob("shards/*"))
    caplog.clear()
    code, _, _ = augcond("generate", "c.yaml", "--set", "data.test=test", "--set", "data.near_duplicates=warn")
    assert code == 0
    assert "data: _unsorted (2 images) is taken for a class" in caplog.text
    assert "1 test images are the same pictures as training images" in caplog.text
    assert "one class only" not in caplog.text
    code, out, _ = augcond("plan", "c.yaml", "--no-timing")
    assert "look at this: _unsorted" in out
    augcond("report", "run", "--no-metrics")
    page = (project / "run" / "report" / "index.html").read_text(encoding="utf-8")
    assert "_unsorted (2 images) is taken for a class" in page


@pytest.mark.parametrize("command", ["inspect", "plan", "generate", "status", "check"])
def test_addresses_are_refused(project, augcond, command):
    code, _, err = augcond(command, "s3://bucket/x")
    assert code == 2
    assert "is an address, and only folders and files of this machine" in err
    assert not (project / "s3:").exists()


def test_from_folder_to_export(project, augcond):
    code, out, _ = augcond("inspect", "photos")
    assert code == 0
    assert "[red]dog" in out
    assert "7 images in 2 classes" in out

    code, out, err = augcond("plan", "c.yaml")
    assert code == 0
    assert "7/7 images read" in err
    assert "12 images by text, embed-mixup" in out
    assert "of disk, from 4 images timed" in out
    assert "which is what a job that is stopped loses at most" in out
    assert not (project / "run").exists()

    code, out, err = augcond("generate", "c.yaml")
    assert code == 0
    assert "12 images made, 0 failed" in out
    assert "7/7 images read" in err
    assert "12/12 images," in err
    assert "shard 00002" in (project / "run" / "log.txt").read_text()

    code, out, _ = augcond("status", "run")
    assert (code, out.splitlines()[0]) == (0, "12 of 12 attempted: 12 ok, 0 failed; 0 left")

    code, out, err = augcond("check", "run")
    assert code == 0
    assert "3/3 shards read" in err
    assert "sound: 3 shards read, 12 images" in out

    code, out, err = augcond("export", "run", "--to", "out")
    assert code == 0
    assert "12/12 images written" in err
    assert len(list((project / "out").glob("*/*.png"))) == 12


def test_init_schema_and_version(project, augcond):
    code, out, _ = augcond("init", "photos")
    assert (code, (project / "photos.yaml").exists()) == (0, True)
    assert out.startswith("7 photos in 2 classes, 3 to 4 in each")
    code, _, err = augcond("init", "photos")
    assert (code, "there is one already, which stays" in err) == (2, True)
    assert "2 classes" in augcond("inspect", "photos.yaml")[1]
    assert json.loads(augcond("schema")[1])["required"] == ["data", "run"]
    assert augcond("--version")[1] == f"augcond {importlib.metadata.version('augcond')}\n"


def test_reject_reads_keys_and_lists_them(project, augcond, monkeypatch):
    augcond("generate", "c.yaml")
    (project / "keys.txt").write_text("\ufeffcat/0/text\r\n\r\n%5Bred%5Ddog/2/embed-mixup  \n", encoding="utf-8")
    assert augcond("reject", "run", "keys.txt")[:2] == (0, "2 images rejected, 2 rejected in all\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("cat/1/text\n"))
    assert augcond("reject", "run", "-")[1] == "1 image rejected, 3 rejected in all\n"
    assert augcond("reject", "run")[1].split() == ["%5Bred%5Ddog/2/embed-mixup", "cat/0/text", "cat/1/text"]
    assert "3 of these images are rejected" in augcond("status", "run")[1]
    assert json.loads(augcond("status", "run", "--json")[1])["rejected"] == 3
    assert "12 images (3 rejected)" in augcond("check", "run")[1]
    _, out, err = augcond("export", "run", "--to", "out")
    assert ("9/9 images written" in err, out) == (True, "9 images written to out\n")
    assert augcond("reject", "run", "keys.txt", "--undo")[1] == "2 images back, 1 rejected in all\n"
    assert augcond("reject", "run", "--undo")[1] == "1 image back, 0 rejected in all\n"
    assert augcond("reject", "run", "none.txt")[::2] == (
        2,
        "error: KEYS none.txt cannot be read: No such file or directory\n",
    )


def test_a_run_is_named_by_its_folder_or_its_config(project, augcond):
    augcond("generate", "c.yaml")
    outputs = {augcond("status", name)[1] for name in ("run", "c.yaml", "run/config.yaml")}
    assert len(outputs) == 1


def test_json_for_scripts(project, augcond):
    augcond("generate", "c.yaml")
    assert json.loads(augcond("inspect", "photos", "--json")[1])["images"] == 7
    assert json.loads(augcond("plan", "c.yaml", "--no-timing", "--json")[1])["total"] == 12
    assert json.loads(augcond("status", "run", "--json")[1])["attempted"] == 12
    assert json.loads(augcond("check", "run", "--json")[1])["problems"] == []


def test_check_exits_with_1_where_something_is_wrong(project, augcond):
    augcond("generate", "c.yaml")
    (project / "run" / "shards" / "00000.parquet.tmp").touch()
    code, out, _ = augcond("check", "run")
    assert code == 1
    assert "problem: temporary file" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("generate", "missing.yaml"), 2, "no config file at missing.yaml"),
        (("generate", "c.yaml", "--set", "generator.stepz=3"), 2, "did you mean 'steps'"),
        (("generate", "c.yaml", "--part", "1/2"), 2, "--part is no more: start the same command without it"),
        (("generate", "c.yaml", "--reuse", "nowhere"), 1, "nowhere is no run"),
        (("generate", "c.yaml", "--set", "data.path=nowhere"), 1, "nowhere"),
        (("generate", "c.yaml", "--set", "generator.name=dalle"), 2, "no generator 'dalle'"),
        (("status", "nowhere"), 1, "nowhere is no run"),
        (("check", "photos"), 1, "photos is no run"),
        (("export", "nowhere", "--to", "out"), 1, "nowhere is no run"),
        (("export", "nowhere", "--to", "out", "--format", "zip"), 2, "expected imagefolder or webdataset"),
        (("inspect", "nowhere"), 2, "no folder or file at nowhere"),
        (("preview", "c.yaml", "--class", "unicorn"), 1, "names the class 'unicorn'"),
    ],
)
def test_errors_say_what_where_and_what_to_do(project, augcond, arguments, code, message):
    result, _, err = augcond(*arguments)
    assert result == code
    assert "error: " in err
    assert message in err
    assert "Traceback" not in err


def test_wrong_use_exits_with_2(project, augcond):
    assert augcond("generate")[0] == 2
    assert augcond("frobnicate")[0] == 2


def test_full_disk_is_one_message(project, augcond, monkeypatch):
    from augcond.store import commit

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commit, "write_parquet", full)
    code, _, err = augcond("generate", "c.yaml")
    assert code == 1
    assert "No space left on device" in err
    assert "run the same command again" in err


TEST = ("--set", "data.test=others")


@pytest.mark.parametrize(
    ("arguments", "stage"),
    [
        (("demo", "demo"), "experiments.demo.generate"),
        (("generate", "c.yaml"), "pipeline.generate"),
        (("train", "c.yaml"), "pipeline.train"),
        (("evaluate", "c.yaml"), "pipeline.evaluate"),
        (("run", "c.yaml", *TEST), "pipeline.generate"),
        (("sweep", "c.yaml", "--over", "generator.steps=2,3", "--on", "test", *TEST), "experiments.sweep.train"),
        (("export", "c.yaml", "--to", "out"), "store.export_run"),
    ],
)
def test_interrupt_says_how_to_go_on(project, augcond, monkeypatch, arguments, stage):
    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    for number in range(2):
        path = project / "others" / ("cat", "[red]dog")[number] / "x.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(png(number))
    module, _, name = stage.rpartition(".")
    monkeypatch.setattr(importlib.import_module(f"augcond.{module}"), name, interrupted)
    code, _, err = augcond(*arguments)
    assert code == 75
    assert "stopped by SIGTERM; what was committed is safe, run the same command again to go on" in err
    assert "Traceback" not in err


def test_what_is_made_anew_is_said(project, augcond):
    assert augcond("generate", "c.yaml")[0] == 0
    (project / "run" / "shards" / "00000.done.json").write_text("{")
    code, _, err = augcond("generate", "c.yaml")
    assert (code, err.count("warning: ")) == (0, 1)
    assert "00000.done.json is not a whole marker" in err


def test_preview_draws_every_recipe(project, augcond):
    code, out, _ = augcond("preview", "c.yaml", "--to", "sheet/p.png", "--class", "[red]dog", "--per-class", "2")
    assert (code, out.strip()) == (0, "sheet/p.png")
    image = Image.open(io.BytesIO((project / "sheet" / "p.png").read_bytes()))
    assert image.width > 1500


@pytest.mark.parametrize(
    ("to", "words"),
    [("photos/cat/0.png", "was not drawn by augcond, and stays"), ("c.yaml", "name a .png"), ("photos", "name a .png")],
)
@pytest.mark.parametrize("command", [("preview", "--to"), ("inspect", "--sheet")])
def test_no_sheet_replaces_what_augcond_did_not_draw(project, augcond, monkeypatch, command, to, words):
    monkeypatch.setattr("augcond.datasets.load_dataset", lambda *_: pytest.fail("the place is looked at first"))
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    code, _, err = augcond(command[0], "c.yaml", command[1], to)
    assert (code, words in err) == (2, True)
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_a_sheet_that_was_drawn_is_drawn_again(project, augcond):
    for _ in range(2):
        assert augcond("inspect", "c.yaml", "--sheet", "sheet.png")[0] == 0


def test_a_tilde_is_the_home_folder_and_no_name(project, augcond, monkeypatch):
    """Shells leave that of `--to=~/x` as it is."""
    monkeypatch.setenv("HOME", str(project / "home"))
    assert augcond("generate", "c.yaml", "--set", "run=~/run")[0] == 0
    assert augcond("export", "~/run", "--to=~/out")[0] == 0
    assert (project / "home" / "out" / "classes.json").exists()
    assert not (project / "~").exists()
    code, _, err = augcond("inspect", "~/run")
    assert (code, "is a run, which holds made images" in err) == (2, True)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("as_json", [False, True])
def test_output_that_is_not_utf8_escapes_what_it_cannot_hold(project, monkeypatch, encoding, as_json):
    names = ["café", "猫", "\U0001f600"]
    (project / "names.tsv").write_text("cat\tcafé\n[red]dog\t猫 \U0001f600\n", encoding="utf-8")
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    arguments = ["augcond", "plan", "c.yaml", "--set", "data.class_names=names.tsv", "--no-timing"]
    monkeypatch.setattr(sys, "argv", [*arguments, *(["--json"] if as_json else [])])
    with pytest.raises(SystemExit) as caught:
        program.main()
    assert not caught.value.code
    streams[0].flush()
    text = streams[0].buffer.getvalue().decode(encoding)
    if as_json:
        shown = "".join(entry["class_name"] for entry in json.loads(text)["classes"])
        assert all(name in shown for name in names)
    elif encoding == "utf-8":
        assert all(name in text for name in names)
    else:
        assert "\\u732b" in text


def test_the_package_is_a_program():
    code = [sys.executable, "-m", "augcond.cli", "export", "nowhere", "--to", "out"]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: nowhere is no run" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        *("demo", "inspect", "plan", "generate", "status", "check", "export", "preview", "generators"),
        *("train", "evaluate", "run", "sweep", "report"),
    ],
)
def test_every_command_has_help_with_an_example(augcond, command):
    code, out, _ = augcond(command, "--help")
    assert code == 0
    assert f"Example: augcond {command}" in out
