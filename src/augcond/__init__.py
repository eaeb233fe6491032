"""Synthetic training images by augmented conditioning of pretrained diffusion models.

The public names below are imported when they are first used, so that `import augcond` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from augcond.config import RunConfig, load_config, parse_config
    from augcond.datasets import Dataset, load_dataset
    from augcond.engine import Summary
    from augcond.errors import AugcondError
    from augcond.generators import Generator, load_generator, register_generator
    from augcond.pipeline import generate, plan_for
    from augcond.planning import Plan, PlanRow, make_plan
    from augcond.preview import contact_sheet, preview
    from augcond.report import ReportSettings, write_report
    from augcond.store import RunFolder, RunStatus, audit_run, export_run, run_status

_MODULES = {
    "AugcondError": "augcond.errors",
    "Dataset": "augcond.datasets",
    "Generator": "augcond.generators",
    "Plan": "augcond.planning",
    "PlanRow": "augcond.planning",
    "ReportSettings": "augcond.report",
    "RunConfig": "augcond.config",
    "RunFolder": "augcond.store",
    "RunStatus": "augcond.store",
    "Summary": "augcond.engine",
    "audit_run": "augcond.store",
    "contact_sheet": "augcond.preview",
    "export_run": "augcond.store",
    "generate": "augcond.pipeline",
    "load_config": "augcond.config",
    "load_dataset": "augcond.datasets",
    "load_generator": "augcond.generators",
    "make_plan": "augcond.planning",
    "parse_config": "augcond.config",
    "plan_for": "augcond.pipeline",
    "preview": "augcond.preview",
    "register_generator": "augcond.generators",
    "run_status": "augcond.store",
    "write_report": "augcond.report",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'augcond' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
