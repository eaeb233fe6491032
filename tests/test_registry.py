"""Names to objects: augcond's own, registered ones, entry points of installed packages, and `module:object`."""

import importlib.metadata
import sys
from importlib.metadata import EntryPoint

import pytest

from augcond import registry
from augcond.config import GeneratorConfig, parse_config
from augcond.errors import ConfigError, DatasetError
from augcond.generators import generator_names, load_generator, register_generator
from augcond.registry import Registry, short_name
from augcond.testing import FakeGenerator

JOINED = "os.path:join"


class Distribution:
    def __init__(self, name):
        self.name = name


def entry(name, value, package):
    return EntryPoint(name, value, "test.things")._for(Distribution(package))


@pytest.fixture
def things(monkeypatch):
    """A registry with names of every kind, and how often entry points were read."""
    read = []
    offered = [
        entry("offered", "os.path:split", "good-package"),
        entry("broken", "no_such_module:thing", "bad-package"),
        entry("twice", "os:sep", "one-package"),
        entry("twice", "os:name", "other-package"),
        entry("joined", "os:sep", "late-package"),
    ]

    def entry_points(group):
        read.append(group)
        return offered

    monkeypatch.setattr(registry, "entry_points", entry_points)
    found = Registry("thing", "section.thing", "test.things", {"joined": JOINED, "table": "tests.test_registry:TABLE"})
    return found, read


TABLE = {"table": "what the table holds"}


def test_own_names_are_found_without_looking_at_installed_packages(things):
    found, read = things
    assert found.load("joined") is sys.modules["posixpath"].join
    assert found.load("table") == "what the table holds"
    assert "joined" in found
    assert read == []
    assert found.load("offered") is sys.modules["posixpath"].split
    assert found.names() == ("joined", "table", "broken", "offered", "twice")
    assert read == ["test.things"]


def test_an_unknown_name_lists_the_known_ones(things):
    with pytest.raises(
        ConfigError, match=r"section\.thing: no thing 'joind'; did you mean 'joined'\? known: joined, tab"
    ):
        things[0].load("joind")
    with pytest.raises(ConfigError, match=r"no thing 'qqq'; known: joined, .*twice, and module:object"):
        things[0].load("qqq")


def test_a_broken_package_is_named_only_when_its_thing_is_asked_for(things):
    found, _ = things
    assert "broken" in found
    with pytest.raises(
        ConfigError, match=r"'no_such_module' cannot be imported .*installed package bad-package offers it"
    ):
        found.load("broken")
    with pytest.raises(
        ConfigError, match=r"several installed packages \(one-package, other-package\).* such as os:sep"
    ):
        found.load("twice")


def test_registered_names(things):
    found, _ = things
    found.register("mine", JOINED)
    found.register("mine", JOINED)
    assert found.load("mine") is found.load("joined")
    with pytest.raises(
        ConfigError, match=r"thing 'joined' is already registered as os\.path:join; choose another name"
    ):
        found.register("joined", "my.module:thing")
    with pytest.raises(ConfigError, match="must read module:object"):
        found.register("other", "my.module")
    with pytest.raises(ConfigError, match="a name has letters"):
        found.register("a/b", JOINED)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os.path:jion", r"posixpath\.py has no 'jion'; did you mean 'join'\?"),
        ("os.path:qqqqqq", "the module must be installed, or lie in the working directory or beside the config"),
        ("no_such_module:thing", r"'no_such_module' cannot be imported \(ModuleNotFoundError.*beside the config"),
        ("os.path:", "must read module:object"),
        ("os path:join", "must read module:object"),
    ],
)
def test_a_module_and_object_that_cannot_be_imported(things, name, message):
    assert things[0].load(JOINED) is things[0].load("joined")
    with pytest.raises(ConfigError, match=message):
        things[0].load(name)


def test_what_a_module_raises_when_imported(things, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raising_one.py").write_text("1 / 0\n")
    (tmp_path / "raising_two.py").write_text("from augcond.errors import DatasetError\nraise DatasetError('no disk')\n")
    with pytest.raises(ConfigError, match=r"'raising_one' cannot be imported \(ZeroDivisionError: division by zero\)"):
        things[0].load("raising_one:thing")
    with pytest.raises(DatasetError, match="no disk"):
        things[0].load("raising_two:thing")


def test_short_names():
    assert (short_name("my_recipes:blend"), short_name("blend")) == ("blend", "blend")


def test_everything_of_ours_can_be_imported():
    for found in (registry.generators, registry.recipes, registry.datasets):
        for name in found._targets:
            assert found.load(name) is not None


@pytest.fixture
def _registries_as_they_were(monkeypatch):
    for found in (registry.generators, registry.recipes, registry.datasets):
        monkeypatch.setattr(found, "_targets", dict(found._targets))
        monkeypatch.delitem(vars(found), "_installed", raising=False)
    yield
    for found in (registry.generators, registry.recipes, registry.datasets):
        vars(found).pop("_installed", None)


@pytest.mark.usefixtures("_registries_as_they_were")
def test_entry_points_of_installed_packages_are_found_by_group(monkeypatch):
    offers = {
        "augcond.generators": EntryPoint("offered-gan", "augcond.testing:load_fake_generator", "augcond.generators"),
        "augcond.recipes": EntryPoint("offered-mix", "augcond.conditioning:RECIPES", "augcond.recipes"),
        "augcond.datasets": EntryPoint("offered-folder", "augcond.datasets.folder:READER", "augcond.datasets"),
    }
    monkeypatch.setattr(registry, "entry_points", lambda group: [offers[group]._for(Distribution("a-package"))])
    config = parse_config(
        {
            "data": {"source": "offered-folder", "path": "photos"},
            "generator": {"name": "offered-gan"},
            "conditioning": {"recipe": ["offered-mix"]},
            "run": "r",
        }
    )
    assert isinstance(load_generator(config.generator), FakeGenerator)
    assert "offered-gan" in generator_names()
    assert importlib.metadata.entry_points is not registry.entry_points


@pytest.mark.usefixtures("_registries_as_they_were")
def test_a_generator_of_ones_own():
    register_generator("mine", "augcond.testing:load_fake_generator")
    assert isinstance(load_generator(GeneratorConfig(name="mine")), FakeGenerator)
    assert isinstance(load_generator(GeneratorConfig(name="augcond.testing:load_fake_generator")), FakeGenerator)
    with pytest.raises(ConfigError, match="'fake' is already registered as augcond"):
        register_generator("fake", "my.module:thing")
