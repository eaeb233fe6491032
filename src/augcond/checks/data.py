"""Real images: there, enough for split and plan, and held-out ones of the same classes."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import partial
from typing import get_args

from augcond.checks.look import Look, Problem, raised, tried
from augcond.datasets import Dataset
from augcond.datasets.base import HeldOut
from augcond.datasets.benchmarks import BENCHMARK_NAMES, get_benchmark
from augcond.datasets.contents import NOT_FOUND
from augcond.datasets.loading import check_classes, classes_with_files, has_held_out, no_held_out
from augcond.datasets.suspicions import comparable
from augcond.datasets.verification import check_share
from augcond.errors import AugcondError, MissingExtraError
from augcond.tracking import require_tracker
from augcond.training.guards import check_files_apart


def check_extras(look: Look) -> Iterator[Problem]:
    """Packages that trackers, and reading a benchmark, need."""
    for tracker in look.config.tracking:
        yield from raised("extra", tried(partial(require_tracker, tracker)))
    if look.config.data.source in BENCHMARK_NAMES:
        for name in get_benchmark(look.config.data.source).modules:
            if importlib.util.find_spec(name) is None:
                detail = f"{name} is not installed: pip install 'augcond[benchmarks]'"
                yield Problem("extra", detail, MissingExtraError)


def check_real_images(look: Look) -> Iterator[Problem]:
    """Images to learn from: listed, there, named, and enough for the split."""
    real = look.real
    if isinstance(real, AugcondError):
        yield from raised("data", real)
    else:
        yield from _check_there(look, "data", real.pool)


def _check_there(look: Look, what: str, images: Dataset) -> Iterator[Problem]:
    total = len(images.images) + len(images.rejected)
    found = tried(partial(check_share, images.rejected, total, look.config.data.max_bad_share))
    gone = [file.key for file in images.rejected if file.reason == NOT_FOUND]
    for warning in images.warnings:
        yield Problem(what, warning)
    yield from raised(what, found)
    if gone and not isinstance(found, AugcondError):
        yield Problem(what, f"{len(gone):,} of {total:,} listed images, such as {', '.join(gone[:3])}")


def check_plan(look: Look) -> Iterator[Problem]:
    """Numbers of images: of classes that there are, with something to be conditioned on."""
    if "generate" in look.work and not isinstance(look.real, AugcondError):
        yield from raised("plan", look.amounts)


def check_held_out(look: Look) -> Iterator[Problem]:
    """Images to judge on: there where they are needed, and of the classes that are trained on."""
    data, real = look.config.data, look.real
    for on in get_args(HeldOut):
        drawn = on == "validation" and data.validation is None and (data.split and data.split.validation_per_class)
        if drawn:
            continue
        if not has_held_out(data, on):
            if _needs(look, on):
                yield from raised(f"{on} images", no_held_out(data, on))
        elif look.trains or "evaluate" in look.work or getattr(data, on) is not None:
            found = look.held_out(on)
            if isinstance(real, AugcondError) and data.source in BENCHMARK_NAMES:
                continue  # a missing benchmark is reported with its training images
            yield from raised(f"{on} images", found)
            if isinstance(found, Dataset):
                yield from _check_there(look, f"{on} images", found)
                if not isinstance(real, AugcondError):
                    yield from _check_lacking(real.pool, found, on)
                    apart = tried(partial(check_files_apart, real.training, found, on))
                    yield from raised(f"{on} images", apart)
                    fit = tried(partial(check_classes, classes_with_files(found), real.pool.classes, on))
                    yield from raised(f"{on} images", fit)


def _check_lacking(pool: Dataset, found: Dataset, on: HeldOut) -> Iterator[Problem]:
    """Yield that classes have no image to be judged on."""
    held = set(map(comparable, classes_with_files(found)))
    lacking = [name for name in classes_with_files(pool) if comparable(name) not in held]
    if lacking:
        shown = ", ".join(map(repr, lacking[:3]))
        detail = f"no image of {len(lacking)} of the classes, such as {shown}: their accuracy cannot be measured"
        yield Problem(f"{on} images", detail)


def _needs(look: Look, on: HeldOut) -> bool:
    leaky = "fixed-training-subset" in look.config.leaks
    judged = "evaluate" in look.work and on == look.on and not leaky
    # What is kept of an oversampled plan, a ranking says.
    thresholded = look.screens and look.config.plan.oversample == 1
    return judged or (on == "validation" and thresholded)
