"""Pushing a run: what lies in the folder that is sent, and what arrives at a hub on this machine."""

from __future__ import annotations

import datasets
import huggingface_hub.constants
import pyarrow.parquet as pq
import pytest
import yaml

from augcond.config import parse_config
from augcond.errors import ConfigError, RunError
from augcond.experiments.push import PushSettings, objections, prepare_push, push_run
from augcond.generators.families import weights_licence
from augcond.pipeline import generate
from augcond.report.dataset_card import COLUMN_WORDS
from augcond.store import RunFolder, reject_images
from augcond.store.export import finished_rows
from augcond.store.shards import COLUMNS, FURTHER_COLUMNS
from tests.experiments.fake_hub import fake_hub
from tests.toy import toy_config

# How huggingface_hub itself hands large files to its HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")

NAME = "me/my-toys"
MARKDOWN = "a|b *c* `d` <script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of six shards: some lack failed rows or a rejected one, one lacks every row."""
    root = tmp_path_factory.mktemp("push")
    config = toy_config(
        root,
        {"cat": 3, MARKDOWN: 2},
        plan={"per_class": 6},
        generator={"model": "fail_every=9"},
        conditioning={"recipe": ["text", "mixup"]},
        engine={"shard_size": 4, "batch_size": 4},
    )
    generate(config)
    folder = RunFolder(config.run)
    reject_images(folder, [next(values["key"] for _, values in finished_rows(folder, folder.read_plan()))])
    return folder


@pytest.fixture(scope="module")
def ready(run):
    """What would be pushed of it, under a licence."""
    return prepare_push(run, NAME, PushSettings(licence="cc-by-4.0"))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with fake_hub() as found:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", found.url)
        # Its other way to send large files asks a server of its own kind.
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", found.token)
        yield found


def rows_of(folder):
    return [values for _, values in finished_rows(folder, folder.read_plan())]


def load(path, cache):
    found = datasets.load_dataset(str(path), cache_dir=str(cache))
    assert list(found) == ["train"]
    return found["train"]


def test_what_would_be_pushed_opens_and_lacks_what_is_left_out(run, ready, tmp_path):
    expected = rows_of(run)
    assert ready.left_out.failed + ready.left_out.rejected + len(expected) == len(run.read_plan().plan)
    assert ready.left_out.rejected == 1
    assert ready.left_out.failed > 0

    loaded = load(ready.folder, tmp_path)
    assert loaded.features["label"].names == ["a|b *c* `d` <script>", "cat"] == list(run.read_plan().classes)
    assert isinstance(loaded.features["image"], datasets.Image)
    assert [row["key"] for row in loaded] == [row["key"] for row in expected]
    assert [row["seed"] for row in loaded] == [row["seed"] for row in expected]
    plain = loaded.cast_column("image", datasets.Image(decode=False))
    assert [row["image"]["bytes"] for row in plain] == [row["image"]["bytes"] for row in expected]


def test_a_shard_of_which_every_row_stays_is_that_very_file(run, ready):
    whole = []
    for number, marker in enumerate(run.markers(run.read_plan())):
        pushed = ready.folder / "data" / f"train-{number:05d}.parquet"
        assert pushed.exists() == (marker.ok > 0)
        if not pushed.exists():
            continue
        whole.append(pq.read_metadata(pushed).num_rows == marker.rows)
        assert pushed.samefile(run.shards / marker.file) == whole[-1]
    assert set(whole) == {True, False}


def test_the_card_says_what_it_is_and_shows_every_text_as_text(run, ready):
    text = (ready.folder / "README.md").read_text(encoding="utf-8")
    head, body = text.split("---\n", 2)[1:]
    about = yaml.safe_load(head)
    assert about["license"] == "cc-by-4.0"
    assert {"augcond", "synthetic"} < set(about["tags"])
    assert "Every image here is generated" in body
    assert 'load_dataset("me/my-toys", split="train")' in body
    assert "Apache-2.0 (no weights)" in body
    assert "<script>" not in body.split("```yaml")[0]
    counts = [
        line.split(" | ")[-1].rstrip(" |") for line in body.splitlines() if line.startswith(("| a&#124;b ", "| cat "))
    ]
    labels = [row["label"] for row in rows_of(run)]
    assert [int(count) for count in counts] == [labels.count(0), labels.count(1)]


def test_every_column_that_a_shard_may_have_is_explained():
    assert COLUMN_WORDS.keys() == {*COLUMNS, *FURTHER_COLUMNS}


@pytest.mark.parametrize("large", [True, False])
def test_a_push_is_private_and_holds_what_was_prepared(run, hub, monkeypatch, large):
    hub.large = large
    # With it, files go by huggingface_hub's pipeline of several commits.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", large)
    pushed = push_run(run, NAME)
    assert pushed.url == f"{hub.url}/datasets/{NAME}"
    assert hub.private == {NAME: True}
    sent = {path.relative_to(pushed.folder).as_posix(): path for path in pushed.folder.rglob("*") if path.is_file()}
    del sent[".augcond-files.txt"]
    assert hub.contents(NAME) == {name: path.read_bytes() for name, path in sent.items()}


def test_a_push_that_was_stopped_goes_on_where_it_was(run, hub):
    hub.room = 2
    with pytest.raises(RunError, match=r"cannot be pushed.*run the same command again"):
        push_run(run, NAME)
    assert len(hub.uploads) == 2
    hub.room = None
    push_run(run, NAME)
    assert len(hub.uploads) == len(set(hub.uploads)) == 6
    assert len(hub.contents(NAME)) == 7


def test_a_second_push_replaces_the_first_and_takes_away_what_is_gone(run, hub):
    push_run(run, NAME)
    hub.files[NAME]["data/train-00099.parquet"] = b"of a larger run"
    hub.files[NAME]["notes.txt"] = b"somebody's"
    push_run(run, NAME)
    assert "data/train-00099.parquet" not in hub.files[NAME]
    assert hub.files[NAME]["notes.txt"] == b"somebody's"


def test_a_dataset_of_somebody_s_is_left_alone(run, hub):
    hub.private[NAME], hub.files[NAME] = True, {"data/train-00000.parquet": b"photos"}
    with pytest.raises(RunError, match="augcond did not push"):
        push_run(run, NAME)
    assert hub.files[NAME] == {"data/train-00000.parquet": b"photos"}


def test_a_public_dataset_takes_no_private_push(run, hub):
    push_run(run, NAME, PushSettings(private=False))
    assert hub.private == {NAME: False}
    with pytest.raises(RunError, match="is public: push with --public"):
        push_run(run, NAME)


def test_a_token_that_may_not_write_is_said_plainly(run, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(RunError, match=r"does not let you write me/my-toys \(HTTP 401\): log in with `hf auth login`"):
        push_run(run, NAME)


@pytest.mark.parametrize("name", ["no spaces/x", "a/b/c", "x..y"])
def test_a_wrong_name_is_an_error_before_the_work(run, name):
    with pytest.raises(ConfigError, match="is no name of a dataset"):
        prepare_push(run, name)


def test_licences_that_restrict_are_said_before(tmp_path):
    values = {"data": {"source": "imagenet-lt", "path": "x"}, "run": "run", "generator": {"name": "fake"}}
    assert "non-commercial research" in objections(parse_config(values))[0]
    values["data"] = {"source": "builtin"}
    assert objections(parse_config(values)) == []
    values["generator"] = {"name": "flux-redux"}
    assert "flux-redux comes under FLUX.1 [dev] Non-Commercial License" in objections(parse_config(values))[0]
    values["generator"] = {"name": "flux2-klein", "model": "black-forest-labs/FLUX.2-klein-9B"}
    assert weights_licence(parse_config(values).generator).startswith("Apache-2.0 (of the family's usual weights;")


def test_restricted_images_are_pushed_only_if_told_to(run, monkeypatch):
    monkeypatch.setattr("augcond.experiments.push.objections", lambda config: ["the generator comes under X"])
    with pytest.raises(ConfigError, match="may not be allowed:\nthe generator comes under X\npush with --anyway"):
        prepare_push(run, NAME)
    assert prepare_push(run, NAME, PushSettings(anyway=True)).left_out.rejected == 1
