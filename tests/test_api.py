from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import augcond

PUBLIC = [
    "AugcondError",
    "Axis",
    "Dataset",
    "DatasetSummary",
    "Forecast",
    "Generator",
    "ModelCard",
    "Plan",
    "PlanRow",
    "ReportSettings",
    "Results",
    "RunConfig",
    "RunFolder",
    "RunStatus",
    "Split",
    "Summary",
    "audit_run",
    "contact_sheet",
    "evaluate",
    "export_run",
    "few_shot",
    "forecast",
    "generate",
    "load_config",
    "load_dataset",
    "load_generator",
    "load_training_images",
    "long_tail",
    "make_plan",
    "make_split",
    "parse_axis",
    "parse_config",
    "plan_for",
    "preview",
    "read_results",
    "register_generator",
    "run",
    "run_status",
    "subset",
    "summarize",
    "sweep",
    "train",
    "write_report",
]


def test_public_names_are_locked():
    assert sorted(PUBLIC) == augcond.__all__ == dir(augcond)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    assert getattr(augcond, name).__doc__


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        augcond.nonsense  # noqa: B018


def test_no_module_hides_a_public_name():
    # Importing a submodule binds its name in the package, over a function of that name.
    package = Path(augcond.__file__).parent
    modules = {path.stem for path in package.glob("*.py")}
    modules |= {path.parent.name for path in package.glob("*/__init__.py")}
    assert not modules & set(PUBLIC)
    assert augcond.preview is importlib.import_module("augcond.experiments.preview").preview


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
