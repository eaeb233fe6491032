"""What a caller has set in his process changes no number, and stays as he set it."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import warnings
from contextlib import ExitStack, contextmanager

import accelerate
import matplotlib as mpl
import numpy as np
import pytest
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState

from augcond import guest
from augcond.errors import ConfigError
from augcond.experiments.preview import PreviewLine, contact_sheet
from augcond.guest import as_guest
from augcond.pipeline import evaluate, generate, train
from tests.training.toys import toy_run


@contextmanager
def put_back(setter, before, *values):
    """Call `setter` with each of `values`, and with `before` in the end."""
    for value in values:
        setter(value)
    yield
    setter(before)


@contextmanager
def variables(**named):
    before = dict(os.environ)
    os.environ.update(named)
    yield
    os.environ.clear()
    os.environ.update(before)


@contextmanager
def an_accelerator():
    """One of the caller's own, whose loop syncs gradients every fourth step."""
    Accelerator(gradient_accumulation_steps=4, cpu=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@contextmanager
def a_handler_of_logs():
    log, handler = logging.getLogger("augcond"), logging.NullHandler()
    log.addHandler(handler)
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(logging.NOTSET)
    log.removeHandler(handler)


def handlers():
    log = logging.getLogger("augcond")
    return log.level, log.propagate, log.handlers, logging.getLogger().level, logging.getLogger().handlers


def on_signal(number, frame):
    """Handle a signal as a caller's own program does."""


def numbers_to_come():
    """Return the states of all global generators, without drawing."""
    numpy = np.random.get_state()
    return random.getstate(), (numpy[1].tolist(), *numpy[2:]), torch.get_rng_state().tolist()


def precision():
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # the newer interface says otherwise
        return None


@contextmanager
def put_precision():
    """Ask for less precision as PyTorch's documentation does, where it can be asked so."""
    before = precisions()
    if before:
        torch.backends.fp32_precision, torch.backends.mkldnn.conv.fp32_precision = "tf32", "bf16"
        torch.backends.cuda.matmul.fp32_precision = "tf32"  # from here on the older interface cannot be read
    yield
    if before:
        torch.backends.mkldnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision = before[1:]
        torch.backends.fp32_precision = before[0]


def precisions():
    backends = torch.backends
    if not hasattr(backends, "fp32_precision"):
        return ()
    places = (backends, backends.mkldnn.conv, backends.cuda.matmul)
    return tuple(place.fp32_precision for place in places)


STATES = {
    "gradients": (lambda: torch.no_grad(), torch.is_grad_enabled),
    "inference": (lambda: torch.inference_mode(), torch.is_inference_mode_enabled),
    "dtype": (lambda: put_back(torch.set_default_dtype, torch.float32, torch.bfloat16), torch.get_default_dtype),
    "device": (lambda: torch.device("meta"), torch.get_default_device),
    "autocast": (lambda: torch.autocast("cpu", torch.bfloat16), lambda: torch.is_autocast_enabled("cpu")),
    "precision": (
        lambda: put_back(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision(), "medium"),
        precision,
    ),
    "newer precision": (put_precision, precisions),
    "attention": (
        lambda: put_back(torch.backends.cuda.enable_flash_sdp, True, False),
        torch.backends.cuda.flash_sdp_enabled,
    ),
    "cudnn": (
        lambda: put_back(lambda on: setattr(torch.backends.cudnn, "benchmark", on), False, True),
        lambda: torch.backends.cudnn.benchmark,
    ),
    "NumPy's errors": (lambda: np.errstate(all="raise"), np.geterr),
    "algorithms": (
        lambda: put_back(lambda on: torch.use_deterministic_algorithms(mode=on), False, True),
        torch.are_deterministic_algorithms_enabled,
    ),
    "random numbers": (lambda: put_back(random.seed, None, 3), numbers_to_come),
    "warnings": (lambda: warnings.catch_warnings(), lambda: list(warnings.filters)),
    "matplotlib": (lambda: mpl.rc_context({"figure.dpi": 30}), lambda: (mpl.get_backend(), dict(mpl.rcParams))),
    "Accelerate": (
        an_accelerator,
        lambda: (
            dict(PartialState._shared_state),
            dict(AcceleratorState._shared_state),
            dict(GradientState._shared_state),
        ),
    ),
    "signals": (
        lambda: put_back(lambda handler: signal.signal(signal.SIGTERM, handler), signal.SIG_DFL, on_signal),
        lambda: [signal.getsignal(number) for number in guest._SIGNALS],
    ),
    "environment": (
        lambda: variables(
            ACCELERATE_GRADIENT_ACCUMULATION_STEPS="4",
            ACCELERATE_MIXED_PRECISION="bf16",
            ACCELERATE_DYNAMO_BACKEND="EAGER",
            ACCELERATE_DOWNCAST_BF16="1",
            ACCELERATE_USE_DEEPSPEED="true",
        ),
        lambda: dict(os.environ),
    ),
    "logging": (a_handler_of_logs, handlers),
    "threads": (lambda: put_back(torch.set_num_threads, torch.get_num_threads()), torch.get_num_threads),
}
"""What a caller may set, and what reads it; of two that exclude each other, one at a time."""


def numbers(root):
    """Return the weights' bytes and the accuracies of a small run."""
    sections = {"plan": {"per_class": 2}, "conditioning": {"recipe": "mixup"}, "training": {"seeds": 1, "steps": 2}}
    config = toy_run(root, **sections, engine={"threads": torch.get_num_threads()})
    generate(config)
    train(config)
    results = evaluate(config)
    weights = {path.parent.parent.name: path.read_bytes() for path in root.glob("run/models/*/*/model.safetensors")}
    predictions = {path.name: path.read_bytes() for path in root.glob("run/predictions/**/*.parquet")}
    return weights, predictions, [arm.mean for arm in results.arms]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return numbers(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "without", [("Accelerate", "inference", "precision"), ("device", "gradients", "newer precision")], ids="+".join
)
def test_the_callers_state_changes_no_number_and_stays(plain, tmp_path, without):
    with ExitStack() as stack:
        for name, (setting, _) in STATES.items():
            if name not in without:
                stack.enter_context(setting())
        before = {name: read() for name, (_, read) in STATES.items()}
        found = numbers(tmp_path)
        after = {name: read() for name, (_, read) in STATES.items()}
    assert found == plain
    assert after == before


@pytest.mark.parametrize("raised", [False, True])
def test_whatever_a_library_sets_is_as_before(raised):
    @as_guest
    def meddling():
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(torch.get_num_threads() + 1)
        random.random(), np.random.random(), torch.rand(1)
        warnings.simplefilter("ignore")
        PartialState(cpu=True)
        os.environ["OF_A_LIBRARY"] = "1"
        del os.environ["PATH"]
        signal.signal(signal.SIGTERM, on_signal)
        logging.getLogger().setLevel(logging.DEBUG)
        logging.getLogger("augcond").addHandler(logging.NullHandler())
        as_guest(lambda: None)()  # another stage ends nothing of this one
        assert os.environ["OF_A_LIBRARY"] == "1"
        assert PartialState._shared_state
        if raised:
            json.loads("")

    before = {name: read() for name, (_, read) in STATES.items()}
    with pytest.raises(json.JSONDecodeError) if raised else ExitStack():
        meddling()
    assert before == {name: read() for name, (_, read) in STATES.items()}
    assert accelerate.PartialState._shared_state == {}


def test_a_callers_style_changes_no_figure():
    line = PreviewLine("cat", (), None, {})
    plain = contact_sheet([line], ["image"])
    with mpl.rc_context({"figure.facecolor": "black", "font.size": 30}):
        assert contact_sheet([line], ["image"]) == plain


@pytest.mark.parametrize(
    ("backend", "kept"), [("of-a-notebook-elsewhere", "agg"), ("svg", "svg")], ids=["elsewhere", "there"]
)
def test_a_notebooks_backend_is_nobodys_business(backend, kept):
    code = "import augcond.report, matplotlib as m, os; print(m.rcParams['backend'].lower(), os.environ['MPLBACKEND'])"
    environment = os.environ | {"MPLBACKEND": backend}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [kept, backend]


def test_another_launchers_variables_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCAL_RANK", "first")
    with pytest.raises(ConfigError, match=r"as the environment says \(LOCAL_RANK\).*Unset these variables"):
        train(toy_run(tmp_path, training={"arms": [{"name": "real-only"}], "device": "auto"}))
