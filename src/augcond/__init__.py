"""Synthetic training images by augmented conditioning of pretrained diffusion models.

The public names below are imported when they are first used, so that `import augcond` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from augcond.config import RunConfig, load_config, parse_config
    from augcond.datasets import (
        Dataset,
        DatasetSummary,
        Split,
        few_shot,
        load_dataset,
        long_tail,
        make_split,
        subset,
        summarize,
    )
    from augcond.engine import Summary
    from augcond.errors import AugcondError
    from augcond.evaluation import Results, read_results
    from augcond.experiments.forecast import Forecast, forecast
    from augcond.experiments.preview import contact_sheet, preview
    from augcond.experiments.sweep import Axis, parse_axis, sweep
    from augcond.generators import Generator, load_generator, register_generator
    from augcond.pipeline import evaluate, generate, load_training_images, plan_for, run, train
    from augcond.planning import Plan, PlanRow, make_plan
    from augcond.report import ReportSettings, write_report
    from augcond.store import RunFolder, RunStatus, audit_run, export_run, run_status
    from augcond.training.cards import ModelCard

_MODULES = {
    "AugcondError": "augcond.errors",
    "Axis": "augcond.experiments.sweep",
    "Dataset": "augcond.datasets",
    "DatasetSummary": "augcond.datasets",
    "Forecast": "augcond.experiments.forecast",
    "Generator": "augcond.generators",
    "ModelCard": "augcond.training.cards",
    "Plan": "augcond.planning",
    "PlanRow": "augcond.planning",
    "ReportSettings": "augcond.report",
    "Results": "augcond.evaluation",
    "RunConfig": "augcond.config",
    "RunFolder": "augcond.store",
    "RunStatus": "augcond.store",
    "Split": "augcond.datasets",
    "Summary": "augcond.engine",
    "audit_run": "augcond.store",
    "contact_sheet": "augcond.experiments.preview",
    "evaluate": "augcond.pipeline",
    "export_run": "augcond.store",
    "few_shot": "augcond.datasets",
    "forecast": "augcond.experiments.forecast",
    "generate": "augcond.pipeline",
    "load_config": "augcond.config",
    "load_dataset": "augcond.datasets",
    "load_generator": "augcond.generators",
    "load_training_images": "augcond.pipeline",
    "long_tail": "augcond.datasets",
    "make_plan": "augcond.planning",
    "make_split": "augcond.datasets",
    "parse_axis": "augcond.experiments.sweep",
    "parse_config": "augcond.config",
    "plan_for": "augcond.pipeline",
    "preview": "augcond.experiments.preview",
    "read_results": "augcond.evaluation",
    "register_generator": "augcond.generators",
    "run": "augcond.pipeline",
    "run_status": "augcond.store",
    "subset": "augcond.datasets",
    "summarize": "augcond.datasets",
    "sweep": "augcond.experiments.sweep",
    "train": "augcond.pipeline",
    "write_report": "augcond.report",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'augcond' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
