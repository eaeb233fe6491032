from __future__ import annotations

import subprocess
import sys

import pytest

import augcond

PUBLIC = [
    "AugcondError",
    "Dataset",
    "Generator",
    "Plan",
    "PlanRow",
    "ReportSettings",
    "RunConfig",
    "RunFolder",
    "RunStatus",
    "Summary",
    "audit_run",
    "contact_sheet",
    "export_run",
    "generate",
    "load_config",
    "load_dataset",
    "load_generator",
    "make_plan",
    "parse_config",
    "plan_for",
    "preview",
    "register_generator",
    "run_status",
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


@pytest.mark.parametrize(
    "statement",
    [
        "import augcond",
        "import augcond.cli",
        "import augcond.config, augcond.planning, augcond.datasets, augcond.conditioning, augcond.generators",
    ],
)
def test_importing_does_not_import_torch(statement):
    heavy = "{'torch', 'diffusers', 'transformers', 'matplotlib', 'datasets'}"
    code = f"import sys\n{statement}\nprint(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
