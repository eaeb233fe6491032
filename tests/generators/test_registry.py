import pytest

from augcond.config import GeneratorConfig
from augcond.errors import ConfigError
from augcond.generators import generator_names, load_generator, register_generator, registry
from augcond.generators.catalog import CATALOG
from augcond.testing import FakeGenerator


@pytest.fixture(autouse=True)
def _registry_as_it_was(monkeypatch):
    monkeypatch.setattr(registry, "_TARGETS", dict(registry._TARGETS))


def test_known_names():
    assert set(generator_names()) == set(CATALOG)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"no generator 'stable-uncip'; did you mean 'stable-unclip'\?"):
        load_generator(GeneratorConfig(name="stable-uncip"))
    with pytest.raises(ConfigError, match=r"no generator 'qqq'; known: fake, .*stable-unclip"):
        load_generator(GeneratorConfig(name="qqq"))


def test_a_generator_of_ones_own():
    register_generator("mine", "augcond.testing:load_fake_generator")
    register_generator("mine", "augcond.testing:load_fake_generator")
    assert isinstance(load_generator(GeneratorConfig(name="mine")), FakeGenerator)


def test_collisions_and_malformed_targets_are_refused():
    with pytest.raises(ConfigError, match="'fake' is already registered as augcond"):
        register_generator("fake", "my.module:thing")
    with pytest.raises(ConfigError, match="must read module:object"):
        register_generator("other", "my.module")
