"""The machine: system, memory, libraries, devices, and how many workers they are for."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from augcond.datasets.decoding import available_cores
from augcond.experiments.doctor.findings import Finding, Subject
from augcond.progress import format_bytes

CORES_PER_WORKER = 2
"""What feeds a GPU that makes an image in 0.3 seconds (docs/performance.md)."""

_IMPORTED = ("torch", "torchvision.ops", "diffusers", "transformers", "accelerate", "timm")
_LIBRARIES = (
    *("augcond", "torch", "torchvision", "diffusers", "transformers", "accelerate", "timm", "pillow", "numpy"),
    *("pyarrow", "datasets", "safetensors", "huggingface-hub", "triton", "xformers", "ray"),
)
_MOST_MEMORY = 0.9
"""Share of the memory that is free which workers may fill."""


def look_at_system(subject: Subject) -> Finding:
    """System, cores and memory."""
    total, free = memory()
    cores = available_cores()
    measured = {"system": platform.platform(), "python": platform.python_version(), "cores": cores}
    return Finding(
        "ok",
        f"{platform.platform()}, Python {platform.python_version()}, {cores} cores for this process, "
        f"{format_bytes(free)} of {format_bytes(total)} of memory free",
        measured=measured | {"memory_bytes": total, "free_memory_bytes": free},
    )


def memory() -> tuple[int, int]:
    """Return all memory and what is free of it in bytes, within the limit of this process's control group."""
    pages = {name: os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES")}
    total, free = pages["SC_PHYS_PAGES"], pages["SC_AVPHYS_PAGES"]
    known = _numbers(Path("/proc/meminfo"))
    free = known.get("MemAvailable:", free // 1024) * 1024
    for limit, used in _groups():
        total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def _numbers(path: Path) -> dict[str, int]:
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _groups() -> Iterator[tuple[int, int]]:
    """Yield limit and use of memory in bytes of the control groups that this process is in."""
    root = own = Path("/sys/fs/cgroup")
    with suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        own = root / next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), "")
    for folder in (own, *own.parents):
        try:
            limit, used = (
                (folder / f"memory.{name}").read_text(encoding="ascii").strip() for name in ("max", "current")
            )
        except OSError:
            continue
        if limit.isdecimal() and used.isdecimal():
            yield int(limit), int(used)


def look_at_libraries(subject: Subject) -> Finding:
    """Versions, and whether what is compiled can be loaded together."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    broken = {}
    for name in _IMPORTED:
        try:
            import_module(name)
        except Exception as error:  # builds that do not fit raise what they like
            broken[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    detail = ", ".join(f"{name} {number}" for name, number in versions.items())
    if broken:
        return Finding(
            "failed",
            "; ".join(f"{name} cannot be imported ({why})" for name, why in broken.items()),
            "install torch and torchvision together, from one index, then augcond",
            measured={"versions": versions, "broken": broken},
        )
    return Finding("ok", detail, measured={"versions": versions})


def look_at_devices(subject: Subject) -> Finding:
    """GPUs: names, memory, driver, and whether each computes what the CPU does."""
    import torch

    driver = _nvidia_driver()
    measured: dict[str, Any] = {"driver": driver, "cuda": torch.version.cuda, "hip": torch.version.hip}
    measured["visible"] = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        if driver and measured["visible"] != "":
            why = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch sees no GPU"
            return Finding(
                "failed",
                f"NVIDIA driver {driver}, but {why} (torch {torch.__version__}, CUDA {torch.version.cuda}, "
                f"CUDA_VISIBLE_DEVICES={measured['visible']})",
                "install the PyTorch build for this driver's CUDA; in a container, start it with its GPUs",
                measured,
            )
        if torch.backends.mps.is_available():
            return Finding("ok", "one Apple GPU (MPS)", measured=measured | {"devices": [{"name": "mps"}]})
        return Finding(
            "not possible here",
            "no GPU: images are made on the CPU, which is for the built-in toy and little else",
            measured=measured | {"devices": []},
        )
    devices, wrong = [], []
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        devices.append(
            {
                "name": about.name,
                "memory_bytes": total,
                "free_memory_bytes": free,
                "capability": f"{about.major}.{about.minor}",
                "bfloat16": torch.cuda.is_bf16_supported(),
            }
        )
        try:
            off = _deviation(torch.device("cuda", number))
        except RuntimeError as error:
            wrong.append(f"cuda:{number} computes nothing ({' '.join(str(error).split())[:200]})")
        else:
            if off > 0.01:
                wrong.append(f"cuda:{number} is off by {off:.2g} in a product of matrices")
    names = ", ".join(
        f"cuda:{number} {device['name']} ({format_bytes(device['free_memory_bytes'])} of "
        f"{format_bytes(device['memory_bytes'])} free)"
        for number, device in enumerate(devices)
    )
    measured["devices"] = devices
    if wrong:
        advice = f"this PyTorch has kernels for {', '.join(torch.cuda.get_arch_list())}: install a build for these GPUs"
        return Finding("failed", f"{names}: {'; '.join(wrong)}", f"{advice}, and look at nvidia-smi", measured)
    return Finding("ok", f"{names}; driver {driver or 'unknown'}, CUDA {torch.version.cuda}", measured=measured)


def _nvidia_driver() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def _deviation(device: Any) -> float:
    """Return by how much a product of float16 matrices on `device` is off, in shares of its largest number."""
    import torch

    first, second = (torch.randn(512, 512, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    expected = first.half().float() @ second.half().float()
    found = (first.half().to(device) @ second.half().to(device)).float().cpu()
    return float((found - expected).abs().max() / expected.abs().max())


def propose_workers(subject: Subject) -> Finding:
    """How many workers the devices, the memory and the cores are for; asked after images were made in this process."""
    import torch

    from augcond.engine.workers import worker_count

    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    needed = own + int(subject.config.engine.max_memory_gb * 1e9)
    _, free = memory()
    asked = worker_count(subject.config)
    # What this process takes is free for a worker; several have a parent, which loads the generator too.
    room = int((free + own) * _MOST_MEMORY) - (own if asked > 1 else 0)
    workers = min(asked, max(1, room // needed))
    cores = max(1, available_cores() // workers)
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    measured = {"workers": workers, "devices": devices, "cores_each": cores, "memory_bytes_each": needed}
    weights = "" if subject.has_loaded else " and what the weights take"
    detail = (
        f"{workers} worker{'s' if workers > 1 else ''} on {devices or 'no'} GPU{'' if devices == 1 else 's'}, "
        f"{format_bytes(needed)} of memory each{weights}, {cores} cores each"
    )
    if workers < asked:
        wanted = format_bytes(own + asked * needed)
        advice = f"for {asked} workers lower engine.max_memory_gb, or give the job {wanted} of memory"
        return Finding("failed", detail, f"{advice}; else set engine.workers: {workers}", measured)
    if devices and cores < CORES_PER_WORKER:
        return Finding(
            "failed",
            f"{detail}: too few to keep a GPU busy with large photographs (docs/performance.md)",
            f"give the job {CORES_PER_WORKER * workers} cores, or smaller source images",
            measured,
        )
    return Finding("ok", detail, measured=measured)
