"""A generator with own settings, a recipe and a data set reader from a user's own modules, beside the config."""

import sys

import pyarrow.parquet as pq
import pytest
import yaml

import augcond.__main__ as program
from augcond import load_config, registry
from augcond.conditioning import register_recipe
from augcond.datasets import load_dataset, register_reader
from augcond.errors import ConfigError
from augcond.generators import load_generator, register_generator
from augcond.pipeline import generate
from augcond.store import RunFolder, audit_run

GENERATORS = """
from typing import Annotated

from augcond.config import Section, Setting
from augcond.generators import Family, own_settings
from augcond.testing import FakeGenerator


class TintSettings(Section, decides="images"):
    tint: int = 7
    cache: Annotated[int, Setting("nothing")] = 1


class Tinted(FakeGenerator):
    def __init__(self, tint):
        super().__init__()
        self._tint = tint

    def generate(self, conditioning, seeds):
        made = super().generate(conditioning, seeds)
        made.images[..., 0] = self._tint
        return made


tinted = Family(
    load=lambda config: Tinted(own_settings(config, TintSettings).tint),
    settings=TintSettings,
    inputs=frozenset({"image"}),
)
"""

RECIPES = """
from augcond.conditioning import Draws, Recipe
from augcond.conditioning.streams import numpy_stream


def towards_the_mean(embeddings, settings, seed):
    weight = float(numpy_stream(seed, "towards-the-mean").random())
    weights = (weight, *[(1 - weight) / (len(embeddings) - 1)] * (len(embeddings) - 1))
    return sum(w * e for w, e in zip(weights, embeddings)), Draws(weight, weight, weights)


def mirror(views, settings, seed):
    return views[0].flip(-1), Draws(weights=(1.0,))


blend = Recipe("any name", embeddings="mixup", dropout=True)
middle = Recipe("middle", embeddings=towards_the_mean, sources=3)
mirrored = Recipe("mirrored", pixels=mirror, sources=1)
dropout = Recipe("dropout", dropout=True)
number = 5
"""

READERS = """
import io
from dataclasses import dataclass

from PIL import Image

from augcond.datasets import DatasetReader, Listing


@dataclass(frozen=True)
class Colours:
    role: str

    def read(self, key):
        name, number = key.split("/")
        shade = 40 * int(number) + (5 if self.role == "train" else 0)
        colour = (200, 20, shade) if name == "red" else (20, 200, shade)
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), colour).save(buffer, "png")
        return buffer.getvalue()


class ColourReader(DatasetReader):
    takes = frozenset()

    def list_images(self, config, role):
        keys = tuple(f"{name}/{number}" for name in ("green", "red") for number in range(4))
        return Listing(("green", "red"), ("green", "red"), keys, (0,) * 4 + (1,) * 4, Colours(role))

    def held_out(self, config):
        return ("test",)


colours = ColourReader()
"""

CONFIG = {
    "data": {"source": "own_readers:colours"},
    "run": "run",
    "plan": {"per_class": 2},
    "conditioning": {
        "recipe": ["own_recipes:blend", "embed-mixup-dropout", "own_recipes:middle", "own_recipes:mirrored"]
    },
    "generator": {"name": "own_generators:tinted", "own": {"tint": 99}},
    "training": {"steps": 2, "batch_size": 4, "seeds": 1, "device": "cpu", "checkpoint_every": 2},
}
SHORT = {"blend", "embed-mixup-dropout", "middle", "mirrored"}
MODULES = {"own_generators": GENERATORS, "own_recipes": RECIPES, "own_readers": READERS}


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for found in (registry.generators, registry.recipes, registry.datasets):
        monkeypatch.setattr(found, "_targets", dict(found._targets))
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


def rows_of(run):
    return [row for path in sorted((run / "shards").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def images_by_recipe(rows):
    found = {}
    for row in rows:
        found.setdefault(row["recipe"], {})[row["key"].rpartition("/")[0]] = row["image"]["bytes"]
    return found


def test_through_the_command_line(project, monkeypatch, capsys):
    def augcond(*arguments):
        monkeypatch.setattr(sys, "argv", ["augcond", *arguments])
        with pytest.raises(SystemExit) as caught:
            program.main()
        assert not caught.value.code, capsys.readouterr()
        return capsys.readouterr().out

    augcond("generate", "c.yaml")
    rows = rows_of(project / "run")
    images = images_by_recipe(rows)
    assert len(rows) == 2 * 2 * 4
    assert {row["status"] for row in rows} == {"ok"}
    assert set(images) == {row["key"].rpartition("/")[2] for row in rows} == SHORT
    assert images["blend"] == images["embed-mixup-dropout"] != images["middle"]
    assert {len(row["source_keys"]) for row in rows if row["recipe"] == "middle"} == {3}
    for row in rows:
        if row["recipe"] == "middle":
            assert row["weights"][0] == row["lam"] == row["share"]
    assert not audit_run(RunFolder(project / "run")).problems
    kept = yaml.safe_load((project / "run" / "config.yaml").read_text())
    assert kept["generator"]["own"] == {"tint": 99, "cache": 1}

    augcond("train", "c.yaml")
    augcond("evaluate", "c.yaml")
    trained = {path.name for path in (project / "run" / "models").iterdir()}
    assert trained == SHORT | {"real-only"}
    augcond("preview", "c.yaml", "--to", "sheet.png")
    assert (project / "sheet.png").stat().st_size > 0
    assert "nothing left to do" in augcond("generate", "c.yaml", "--set", "generator.own.cache=2")


def test_through_the_python_api_and_registered_names(project, monkeypatch):
    monkeypatch.syspath_prepend(project)
    config = load_config("c.yaml")
    generate(config)
    register_generator("tinted", "own_generators:tinted")
    register_recipe("blended", "own_recipes:blend")
    register_reader("colours", "own_readers:colours")
    named = load_config(
        "c.yaml",
        (
            *("run=other", "data.source=colours", "generator.name=tinted"),
            "conditioning.recipe=[blended, own_recipes:middle]",
        ),
    )
    assert load_generator(named.generator)._tint == 99
    assert len(load_dataset(named.data).images) == 8
    assert named.conditioning.recipe_names == ("blended", "middle")
    generate(named)
    one, other = (images_by_recipe(rows_of(project / run)) for run in ("run", "other"))
    assert one["middle"] == other["middle"]
    assert one["blend"] == other["blended"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("generator.own.tnt=3", "generator.own.tnt: unknown key; did you mean 'tint'? (allowed: cache, tint)"),
        ("generator.name=own_generators:tintd", "own_generators.py has no 'tintd'; did you mean 'tinted'?"),
        ("conditioning.recipe=own_recipes:blnd", "own_recipes.py has no 'blnd'; did you mean 'blend'?"),
        ("conditioning.recipe=blend", "conditioning.recipe: no recipe 'blend'; known: text, "),
        ("conditioning.recipe=nowhere:blend", "'nowhere' cannot be imported"),
        ("conditioning.recipe=[own_recipes:blend, other:blend]", "name each recipe once"),
        ("conditioning.recipe=own_recipes:dropout", "would be called 'dropout', as another recipe is: rename it"),
        ("data.source=own_readers:colors", "own_readers.py has no 'colors'; did you mean 'colours'?"),
        ("data.source=qqq", "data.source: no data set reader 'qqq'; known: folder, list, "),
        ("data.path=photos", "source 'own_readers:colours' takes no path"),
    ],
)
def test_wrong_names_are_refused_as_the_config_is_read(project, monkeypatch, override, message):
    monkeypatch.syspath_prepend(project)
    with pytest.raises(ConfigError) as caught:
        load_config("c.yaml", (override,))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("conditioning.recipe=own_recipes:number", "'own_recipes:number' is of type int, not a Recipe"),
        ("conditioning.recipe=text", "does not take a prompt alone"),
        ("data.source=own_recipes:number", "neither a DatasetReader nor a function that lists images"),
        ("generator={name: own_recipes:number}", "neither a Family nor a callable that loads a generator"),
    ],
)
def test_wrong_objects_are_refused(project, monkeypatch, override, message):
    monkeypatch.syspath_prepend(project)
    with pytest.raises(ConfigError, match=message):
        generate(load_config("c.yaml", (override,)))
