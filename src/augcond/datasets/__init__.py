"""Labelled real images: listed, decoded once, found whole, or recorded with the reason why not."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from augcond.datasets.base import (
        Dataset,
        DatasetReader,
        DecodeSettings,
        ImageRecord,
        Listing,
        Reader,
        RejectedFile,
        StatReader,
    )
    from augcond.datasets.benchmarks import list_benchmark
    from augcond.datasets.builtin import list_builtin
    from augcond.datasets.class_names import read_class_names
    from augcond.datasets.decoding import decode, probe
    from augcond.datasets.folder import list_folder
    from augcond.datasets.huggingface import list_huggingface
    from augcond.datasets.listfile import list_from_file
    from augcond.datasets.loading import list_images, load_dataset, load_held_out, register_reader
    from augcond.datasets.splits import Split, few_shot, long_tail, make_split, subset
    from augcond.datasets.summary import DatasetSummary, shot_group, summarize
    from augcond.datasets.verification import verify
    from augcond.datasets.webdataset import list_webdataset

__all__ = [
    "Dataset",
    "DatasetReader",
    "DatasetSummary",
    "DecodeSettings",
    "ImageRecord",
    "Listing",
    "Reader",
    "RejectedFile",
    "Split",
    "StatReader",
    "decode",
    "few_shot",
    "list_benchmark",
    "list_builtin",
    "list_folder",
    "list_from_file",
    "list_huggingface",
    "list_images",
    "list_webdataset",
    "load_dataset",
    "load_held_out",
    "long_tail",
    "make_split",
    "probe",
    "read_class_names",
    "register_reader",
    "shot_group",
    "subset",
    "summarize",
    "verify",
]

# Loaded at first use: Pillow and pyarrow take longer to import than `augcond --help` may take.
_MODULES = {
    "base": (
        "Dataset",
        "DatasetReader",
        "DecodeSettings",
        "ImageRecord",
        "Listing",
        "Reader",
        "RejectedFile",
        "StatReader",
    ),
    "benchmarks": ("list_benchmark",),
    "builtin": ("list_builtin",),
    "class_names": ("read_class_names",),
    "decoding": ("decode", "probe"),
    "folder": ("list_folder",),
    "huggingface": ("list_huggingface",),
    "listfile": ("list_from_file",),
    "loading": ("list_images", "load_dataset", "load_held_out", "register_reader"),
    "splits": ("Split", "few_shot", "long_tail", "make_split", "subset"),
    "summary": ("DatasetSummary", "shot_group", "summarize"),
    "verification": ("verify",),
    "webdataset": ("list_webdataset",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
