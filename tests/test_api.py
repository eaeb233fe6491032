from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import augcond

PACKAGES = ["augcond", "augcond.datasets", "augcond.report"]
"""Packages whose public names stand in a stub, and are imported when they are first used."""


def stub_of(package: str) -> Path:
    return Path(importlib.import_module(package).__file__).with_name("__init__.pyi")


def names_in(package: str) -> list[str]:
    """Return the names that the stub of `package` re-exports, which it does as `from .x import y as y`."""
    tree = ast.parse(stub_of(package).read_text(encoding="utf-8"))
    found = [alias for node in tree.body for alias in node.names]
    assert all(alias.name == alias.asname for alias in found)
    return [alias.name for alias in found]


NAMES = [(package, name) for package in PACKAGES for name in names_in(package)]


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_every_public_name_is_there_and_documented(package, name):
    assert getattr(importlib.import_module(package), name).__doc__


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_the_names_of_its_stub(package):
    module = importlib.import_module(package)
    names = names_in(package)
    assert sorted(set(names)) == sorted(names) == sorted(module.__all__) == sorted(dir(module))


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="nonsense"):
        augcond.nonsense  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_hides_a_public_name(package):
    # Importing a submodule binds its name in the package, over a function of that name.
    folder = stub_of(package).parent
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert not modules & set(names_in(package))


@pytest.mark.parametrize(
    "statement",
    [
        "import augcond",
        "import augcond.cli",
        "import augcond.config, augcond.planning, augcond.datasets, augcond.conditioning, augcond.generators",
        "import augcond.testing",
    ],
)
def test_importing_does_not_import_torch(statement):
    assert heavy_modules(statement) == "[]"


def test_reading_a_config_of_any_family_imports_none_of_it(tmp_path):
    (tmp_path / "c.yaml").write_text("data: {source: builtin}\nrun: run\nconditioning: {recipe: image}\n")
    statement = (
        "from augcond import load_config, registry\n"
        "for name in registry.generators.names():\n"
        f"    load_config({str(tmp_path / 'c.yaml')!r}, (f'generator.name={{name}}',))"
    )
    assert heavy_modules(statement) == "[]"


def heavy_modules(statement):
    heavy = "{'torch', 'diffusers', 'transformers', 'matplotlib', 'datasets'}"
    code = f"import sys\n{statement}\nprint(sorted({heavy} & set(sys.modules)))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
