"""A guest in other people's processes: what a caller has set changes no number of a run, and is as before afterwards.

Every function that is called from anybody's process, and computes, is decorated with `as_guest`. Each state of a
process that augcond or a library that it calls may depend on, or change, is one function below.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import wraps
from operator import attrgetter
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_DEVICES: Final = ("cpu", "cuda")
_CUDNN: Final = {"enabled": True, "benchmark": False, "deterministic": False}
_FLOAT32: Final = (
    *("backends", "backends.cudnn", "backends.cudnn.conv", "backends.cudnn.rnn", "backends.cuda.matmul"),
    *("backends.mkldnn.matmul", "backends.mkldnn.conv", "backends.mkldnn.rnn"),
)
"""Where PyTorch is told how to compute float32; what is told nothing does as what stands before it. (Whoever tells
`backends.mkldnn` tells `backends`.)"""
_SIGNALS: Final = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, n))

warnings_stay_errors = False
"""Whether warnings that the caller made errors are errors here too; set by augcond's own tests."""

_inside = threading.local()


@contextmanager
def guest() -> Iterator[None]:
    """Run the block in the state that a fresh process has, and leave the process in the state in which it was.

    A block within a block, as of a stage that another calls, does nothing of its own.
    """
    if getattr(_inside, "now", False):
        yield
        return
    _inside.now = True
    try:
        with ExitStack() as stack:
            for state in _STATES:
                stack.enter_context(state())
            yield
    finally:
        _inside.now = False


def as_guest(call: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that is called from anybody's process: it runs as a `guest` there."""

    @wraps(call)
    def within(*args: P.args, **kwargs: P.kwargs) -> R:
        with guest():
            return call(*args, **kwargs)

    return within


@contextmanager
def no_warning_is_an_error() -> Iterator[None]:
    """Let warnings be warnings again: a library's own would else end a run, or pass for something that is wrong."""
    with warnings.catch_warnings():
        if not warnings_stay_errors:
            kept = [entry for entry in warnings.filters if entry[0] != "error"]
            # The public way to have Python look at the filters anew.
            warnings.resetwarnings()
            warnings.filters.extend(kept)  # type: ignore[attr-defined]
        yield


@contextmanager
def _torch() -> Iterator[None]:
    """Give PyTorch its own defaults: gradients, dtype, device, autocast and choice of algorithms."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    dtype = torch.get_default_dtype()
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device() != torch.device("cpu"):
            # Only then: under it every single operation passes through Python.
            stack.enter_context(torch.device("cpu"))
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.callback(torch.set_default_dtype, dtype)
        stack.callback(torch.set_num_threads, threads)
        stack.callback(
            torch.use_deterministic_algorithms,
            deterministic,
            warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        torch.set_default_dtype(torch.float32)
        kernels = [kernel for name, kernel in SDPBackend.__members__.items() if name != "ERROR"]
        stack.enter_context(sdpa_kernel(kernels))
        for name, default in _CUDNN.items():
            stack.callback(setattr, torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
            setattr(torch.backends.cudnn, name, default)
        torch.use_deterministic_algorithms(mode=False)
        yield


@contextmanager
def _precision() -> Iterator[None]:
    """Let PyTorch compute float32 as it does by itself, whichever of its two interfaces the caller has set it by.

    What the older one says cannot be read once the newer one says otherwise; it is what nobody can read that is not put
    back then.
    """
    import torch

    backends, matmul, convolutions = torch.backends, None, None
    with suppress(RuntimeError):
        matmul = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        convolutions = backends.cudnn.allow_tf32
    places = [attrgetter(name)(torch) for name in _FLOAT32] if hasattr(backends, "fp32_precision") else []
    before = []
    for place in places:
        before.append(place.fp32_precision)
        place.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul or "highest")
        backends.cudnn.allow_tf32 = convolutions is None or convolutions
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


@contextmanager
def _numpy() -> Iterator[None]:
    """Let NumPy go on where numbers overflow or are none, as it does by itself."""
    import numpy as np

    with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
        yield


@contextmanager
def _random_numbers() -> Iterator[None]:
    """Leave the global generators of random numbers where they are; augcond draws from none of them."""
    import numpy as np
    import torch

    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpu = torch.cuda.is_initialized()
    cuda = torch.cuda.get_rng_state_all() if on_gpu else []
    device = torch.cuda.current_device() if on_gpu else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if on_gpu:
            torch.cuda.set_rng_state_all(cuda)
            torch.cuda.set_device(device)
        elif torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(torch.initial_seed())  # as they come


@contextmanager
def _accelerate() -> Iterator[None]:
    """Forget what Accelerate has found out here, unless the caller has asked it before."""
    before = sys.modules.get("accelerate")
    asked = before is not None and bool(before.PartialState._shared_state)
    try:
        yield
    finally:
        now = sys.modules.get("accelerate")
        if now is not None and not asked:
            now.PartialState._reset_state()


@contextmanager
def _signal_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)


@contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value


@contextmanager
def _logging() -> Iterator[None]:
    loggers = (logging.getLogger(), logging.getLogger("augcond"))
    before = [(log, log.level, log.propagate, log.handlers[:]) for log in loggers]
    off = logging.root.manager.disable
    try:
        yield
    finally:
        logging.disable(off)
        for log, level, propagate, handlers in before:
            log.setLevel(level)
            log.propagate = propagate
            log.handlers[:] = handlers


_STATES: Final[tuple[Callable[[], AbstractContextManager[None]], ...]] = (
    no_warning_is_an_error,
    _environment,
    _logging,
    _signal_handlers,
    _random_numbers,
    _numpy,
    _precision,
    _torch,
    _accelerate,
)


def import_matplotlib() -> None:
    """Import matplotlib, whatever backend MPLBACKEND names: nothing here shows a window or a notebook's picture.

    A notebook sets the variable for the programs that it starts, too, where there may be no such backend. One that
    there is stays the caller's.
    """
    name = os.environ.get("MPLBACKEND")
    if name is None or "matplotlib" in sys.modules:
        return
    with _environment():
        del os.environ["MPLBACKEND"]
        import matplotlib as mpl
    with suppress(ValueError):
        mpl.rcParams["backend"] = name


@contextmanager
def figures_as_they_come() -> Iterator[None]:
    """Let matplotlib draw with its own defaults, whatever style the caller has set."""
    import_matplotlib()
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        yield
