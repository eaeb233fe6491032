"""The configured generator on its device: what runs rely on, tried with a few images of noise as sources."""

from __future__ import annotations

import copy
import gc
import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from augcond.checks import Look
from augcond.checks.generation import check_weights
from augcond.conditioning import check_conditioning
from augcond.config import PlanConfig
from augcond.datasets import Dataset, ImageRecord
from augcond.engine import BatchSize, Materials, generate_rows
from augcond.errors import GeneratorError
from augcond.experiments.doctor.findings import Finding, Subject
from augcond.generators import Generator, check_recipes, load_generator
from augcond.generators.devices import resolve_device
from augcond.planning import PlanRow, make_plan
from augcond.progress import format_bytes, format_seconds
from augcond.store.images import ImageFormat, decode_stored
from augcond.store.shards import ShardRow

if TYPE_CHECKING:
    from augcond.config import RunConfig

_FEW = 4
"""Rows of a small batch."""
_SOURCES = 4
_SOURCE_EDGE = 512
_MOST_ROWS = 1024
_PATIENCE = 120.0
"""Seconds that measuring the rate may take; on a slower device one image is what is measured."""
_LEAK = 8.0
"""Mean levels, of 255, between an image and the same alone: rounding is far below, another row's influence above."""
_ROOM = 200 * 2**20
"""Bytes of the GPU by which a batch must differ from one row, so that a limit between them can be set."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A generator with rows for it.

    Attributes:
        materials: what rows are made with.
        rows: of all recipes of the config.
        batch: rows per batch, as configured.
        device: where the generator runs.
        seconds: that loading took.
    """

    materials: Materials
    rows: tuple[PlanRow, ...]
    batch: int
    device: torch.device
    seconds: float

    def make(self, rows: Sequence[PlanRow], size: BatchSize | int, generator: Generator | None = None) -> list[bytes]:
        """Return the stored images of `rows`, made by the engine.

        Raises:
            GeneratorError: one of them failed.
        """
        materials = self.materials if generator is None else replace(self.materials, generator=generator)
        made = generate_rows(rows, materials, BatchSize(size) if isinstance(size, int) else size)
        return [_image(row) for row in made]

    def wait(self) -> None:
        """Return once the GPU has done what it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def load_bench(config: RunConfig, *, compiled: bool = False) -> Bench:
    """Load the generator of `config`, and plan rows for it.

    Raises:
        AugcondError: it cannot be loaded, or does not go with the recipes.
    """
    started = time.perf_counter()
    check_conditioning(config.conditioning)
    settings = config.generator.model_copy(update={"compile": compiled})
    generator = load_generator(settings)
    seconds = time.perf_counter() - started
    check_recipes(settings, config.conditioning, generator.traits)
    dataset = _noise()
    amount = min(_MOST_ROWS, 16 * config.engine.batch_size) + 2 * _FEW
    plan = make_plan(dataset, PlanConfig(per_class=amount), config.conditioning, prompts=config.prompt)
    image_format = ImageFormat.resolve(config.output, generator.image_size)
    return Bench(
        Materials(dataset.reader, dataset.decoding, config.conditioning, generator, image_format),
        tuple(plan.rows()),
        config.engine.batch_size,
        resolve_device(config.generator.device),
        seconds,
    )


class _Memory:
    """Serves images from memory."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def read(self, key: str) -> bytes:
        return self._files[key]


def _noise() -> Dataset:
    """Return a class of coarse noise, in colours as photographs have them."""
    files = {}
    for number in range(_SOURCES):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((_SOURCE_EDGE, _SOURCE_EDGE)).save(buffer, "PNG")
        files[f"thing/{number}.png"] = buffer.getvalue()
    images = tuple(
        ImageRecord(key, 0, _SOURCE_EDGE, _SOURCE_EDGE, hashlib.sha256(data).hexdigest()) for key, data in files.items()
    )
    return Dataset(("thing",), ("thing",), images, (), _Memory(files))


def _image(row: ShardRow) -> bytes:
    if row.image is None:
        raise GeneratorError(f"an image could not be made: {row.error}")
    return row.image


def _levels(one: bytes, other: bytes) -> float:
    """Return the mean difference of two stored images, in levels of 255."""
    first, second = (np.asarray(decode_stored(data), dtype=np.float64) for data in (one, other))
    return float(np.abs(first - second).mean())


def look_at_generator(subject: Subject) -> Finding:
    """Whether the generator loads and makes an image, and how long both take."""
    for problem in check_weights(Look(subject.config, {"generate"})):
        if problem.what == "weights" and problem.error is None:
            return Finding("not possible here", "its weights are not on this machine", problem.detail)
    bench = subject.bench
    generator, started = bench.materials.generator, time.perf_counter()
    bench.make(bench.rows[:1], 1)
    bench.wait()
    identity, seconds = generator.identity, time.perf_counter() - started
    height, width = generator.image_size
    return Finding(
        "ok",
        f"{identity.name} {identity.model} on {bench.device}, {width} x {height} pixels: loaded in "
        f"{format_seconds(bench.seconds)}, first image in {seconds:.1f} s",
        measured={
            "name": identity.name,
            "model": identity.model,
            "revision": identity.revision,
            "device": str(bench.device),
            "size": [height, width],
            "load_seconds": bench.seconds,
            "first_image_seconds": seconds,
        },
    )


def look_at_rows(subject: Subject) -> Finding:
    """Whether an image depends on its own row alone, and is the same each time."""
    bench = subject.bench
    rows, others = bench.rows[:_FEW], bench.rows[_FEW : 2 * _FEW]
    together = bench.make(rows, _FEW)
    again = bench.make(rows, _FEW)
    mixed = bench.make([rows[0], *others[1:]], _FEW)
    alone = bench.make(rows, 1)
    single = max(_levels(one, other) for one, other in zip(together, alone, strict=True))
    measured = {"repeated": together == again, "neighbours": together[0] == mixed[0], "alone_levels": single}
    advice = "the generator mixes up the rows of a batch, or draws from what they share: do not use it for runs"
    if single > _LEAK or _levels(together[0], mixed[0]) > _LEAK:
        detail = f"an image changes by {max(single, _levels(together[0], mixed[0])):.1f} levels with its batch"
        return Finding("failed", detail, advice, measured)
    if together != again or together[0] != mixed[0]:
        what = "made twice" if together != again else "with other rows beside it"
        return Finding(
            "failed",
            f"an image {what} has other bytes, though it looks the same",
            "runs work; but a shard made anew will not have the bytes that it had. Look for settings that trade "
            "exactness for speed (cudnn.benchmark, attention kernels)",
            measured,
        )
    return Finding(
        "ok", f"equal bytes made twice and beside other rows; alone within {single:.2g} of 255 levels", "", measured
    )


def look_at_second_try(subject: Subject) -> Finding:
    """Whether a row that is not finite is made once more in float32, and leaves its neighbours as they are."""
    bench = subject.bench
    denoiser = getattr(bench.materials.generator, "denoiser", None)
    if not isinstance(denoiser, torch.nn.Module):
        return Finding("not possible here", "this family has no denoiser that numbers could be put into")
    if next(denoiser.parameters()).dtype == torch.float32:
        return Finding("not possible here", "the generator runs in float32: there is no second try")
    rows = bench.rows[:2]
    expected = bench.make(rows, 2)
    poisoned = 0

    def poison(module: torch.nn.Module, inputs: Any, output: tuple[torch.Tensor, ...]) -> Any:
        nonlocal poisoned
        if next(module.parameters()).dtype == torch.float32:
            return None
        poisoned += 1
        sample = output[0].clone()
        sample[1] = torch.nan
        return (sample, *output[1:])

    hook = denoiser.register_forward_hook(poison)
    try:
        made = bench.make(rows, 2)
    finally:
        hook.remove()
    if not poisoned:
        return Finding("not possible here", "the denoiser was not called where numbers could be put into it")
    off = _levels(made[1], expected[1])
    if made[0] != expected[0]:
        return Finding("failed", "a row that is not finite changes its neighbour", "do not use this generator for runs")
    return Finding(
        "ok",
        f"a row of NaN was made again in float32, {off:.2g} of 255 levels from its image; its neighbour kept its bytes",
        measured={"levels": off},
    )


def look_at_memory(subject: Subject) -> Finding:
    """Whether a batch that does not fit is halved, and the next one is whole again once there is room."""
    bench = subject.bench
    if bench.device.type != "cuda":
        size, starving, how = max(2, bench.batch), partial(_raising, bench, max(1, bench.batch // 2)), "an error raised"
    else:
        one = _reserved(bench, 1)
        size, most = bench.batch, 0
        for factor in (1, 4, 16):
            size = min(factor * max(2, bench.batch), len(bench.rows))
            most = _reserved(bench, size)
            if most - one >= _ROOM:
                break
        if most <= one:
            detail = f"{size} rows take no more of the GPU than one: no limit can be set between them"
            return Finding("not possible here", detail)
        starving, how = partial(_limited, bench, (one + most) // 2), format_bytes((one + most) // 2)
    batch_size = BatchSize(size)
    with starving() as generator:
        made = bench.make(bench.rows[:size], batch_size, generator)
    whole = BatchSize(size)
    bench.make(bench.rows[:size], whole)
    measured = {"batch_size": size, "halved_to": batch_size.current, "made": len(made), "limit": how}
    if not batch_size.notes:
        return Finding("failed", f"a batch of {size} was made where it should not fit ({how})", "", measured)
    if whole.notes:
        advice = "memory is not given back: lower engine.batch_size, and stop what else uses this GPU"
        return Finding("failed", f"with all memory: {'; '.join(whole.notes)}", advice, measured)
    limit = "by an error raised, as memory can be limited on CUDA only" if bench.device.type != "cuda" else f"in {how}"
    return Finding(
        "ok",
        f"{size} rows out of memory ({limit}): halved to {batch_size.current}, all made; whole again after",
        "",
        measured,
    )


def _reserved(bench: Bench, size: int) -> int:
    """Return how many bytes of the GPU PyTorch takes for a batch of so many rows."""
    _free()
    torch.cuda.reset_peak_memory_stats()
    bench.make(bench.rows[:size], size)
    return torch.cuda.max_memory_reserved()


@contextmanager
def _limited(bench: Bench, limit: int) -> Iterator[Generator]:
    """Let PyTorch take no more than `limit` bytes of the GPU for a while."""
    _free()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))
    try:
        yield bench.materials.generator
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        _free()


@contextmanager
def _raising(bench: Bench, most: int) -> Iterator[Generator]:
    """Give a generator that raises what CUDA would for batches of more than `most` rows."""
    generator = copy.copy(bench.materials.generator)
    generate = generator.generate

    def limited(conditioning: Any, seeds: Sequence[int]) -> Any:
        if len(seeds) > most:
            raise torch.OutOfMemoryError("raised on purpose")
        return generate(conditioning, seeds)

    generator.generate = limited  # type: ignore[method-assign]
    yield generator


def look_at_rate(subject: Subject) -> Finding:
    """How many images a second, in batches as configured, and which batches fit."""
    bench = subject.bench
    first = _timed(bench, 1)
    size = bench.batch if first * bench.batch * 2 < _PATIENCE else 1
    if bench.device.type == "cuda":
        _free()
        torch.cuda.reset_peak_memory_stats()
    batch_size = BatchSize(size)
    bench.make(bench.rows[:size], batch_size)  # what is compiled or chosen at the first batch of a shape is no rate
    seconds = _timed(bench, batch_size.current)
    rate = batch_size.current / seconds
    measured = {"images_per_second": rate, "batch_size": batch_size.current}
    detail = f"{rate:.3g} images a second in batches of {batch_size.current}"
    if bench.device.type == "cuda":
        measured["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
        _, total = torch.cuda.mem_get_info()
        detail += f", {format_bytes(measured['peak_memory_bytes'])} of {format_bytes(total)} of the GPU at most"
    if batch_size.notes:
        advice = f"set engine.batch_size: {batch_size.current}, which spares every start of a worker the same"
        return Finding("failed", f"{detail}; {'; '.join(batch_size.notes)}", advice, measured)
    return Finding("ok", detail, "", measured)


def _timed(bench: Bench, size: int) -> float:
    """Return the seconds that one batch of so many rows takes."""
    bench.wait()
    started = time.perf_counter()
    bench.make(bench.rows[:size], size)
    bench.wait()
    return time.perf_counter() - started


def look_at_compiling(subject: Subject) -> Finding:
    """Whether the compiled generator makes the same images, how long compiling takes and what it brings."""
    config = subject.config
    device = resolve_device(config.generator.device)
    if device.type != "cuda" and not config.generator.compile:
        return Finding(
            "not possible here", "compiling is for CUDA; with generator.compile: true it is tried on a CPU too"
        )
    bench = load_bench(config)
    if not hasattr(bench.materials.generator, "denoiser"):
        return Finding("not possible here", "this family has nothing that generator.compile compiles")
    size = min(bench.batch, 2 * _FEW)
    make: Callable[[Bench], list[bytes]] = lambda of: of.make(of.rows[:size], size)  # noqa: E731
    expected = make(bench)
    plain = _timed(bench, size)
    del bench
    _free()
    bench = load_bench(config, compiled=True)
    started = time.perf_counter()
    found = make(bench)
    bench.wait()
    compiling = time.perf_counter() - started
    compiled = _timed(bench, size)
    off = max(_levels(one, other) for one, other in zip(found, expected, strict=True))
    measured = {"compile_seconds": compiling, "speed_up": plain / compiled, "levels": off}
    detail = (
        f"{plain / compiled:.2f} times as fast after {format_seconds(compiling)} for the first batch; images within "
        f"{off:.2g} of 255 levels"
    )
    if off > _LEAK:
        return Finding(
            "failed", f"compiled, the generator makes other images: {detail}", "leave generator.compile false", measured
        )
    return Finding("ok", detail, "leave generator.compile false here" if compiled >= plain else "", measured)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
