"""Engines that run the shards of a plan."""

from augcond.engine.base import Engine, Job, Summary, count_for
from augcond.engine.local import LocalEngine
from augcond.engine.rows import BatchSize, Materials, generate_rows
from augcond.progress import NoProgress, Progress

__all__ = [
    "BatchSize",
    "Engine",
    "Job",
    "LocalEngine",
    "Materials",
    "NoProgress",
    "Progress",
    "Summary",
    "count_for",
    "generate_rows",
]
