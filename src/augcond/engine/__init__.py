"""Engines that run the shards of a plan."""

from augcond.engine.base import Engine, Job, Summary, load_engine
from augcond.engine.feeding import Materials
from augcond.engine.rows import BatchSize, count_for, generate_rows
from augcond.engine.work import Work, do_work
from augcond.progress import NoProgress, Progress

__all__ = [
    "BatchSize",
    "Engine",
    "Job",
    "Materials",
    "NoProgress",
    "Progress",
    "Summary",
    "Work",
    "count_for",
    "do_work",
    "generate_rows",
    "load_engine",
]
