"""What a run tells trackers: TensorBoard, Weights & Biases, MLflow, trackio.

A stage is `tracked`, and what runs within it tells `current()` numbers, pictures and tables; stages within a stage tell
the same trackers. Nothing is told where the config names none. One that fails is left alone from then on, with a
warning: it ends no work.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeVar

from augcond.errors import MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

    from augcond.config import RunConfig
    from augcond.config.run import TrackerName
    from augcond.progress import Progress

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

FOLDER = "tracking"
"""In the run folder: what trackers write that have no place of their own."""

_EVERY = 10.0
"""Seconds between two rates of generation."""


class Tracker(Protocol):
    """One tracker, started for a run and a stage."""

    def numbers(self, values: Mapping[str, float], step: int | None) -> None:
        """Tell numbers by name."""

    def picture(self, name: str, image: Image) -> None:
        """Tell a picture."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Tell a table of texts."""

    def finish(self) -> None:
        """Write what there is."""


class Tracking:
    """Tells the trackers of a run, which are started by what they are told first.

    Args:
        config: names them; nobody is told where it is None.
        stage: what the trackers call this, beside the name of the run folder.
    """

    def __init__(self, config: RunConfig | None = None, stage: str = "") -> None:
        self._config, self._stage = config, stage
        self._waiting: tuple[TrackerName, ...] = () if config is None else config.tracking
        self._trackers: dict[TrackerName, Tracker] = {}

    @property
    def asks(self) -> bool:
        """Whether anybody is told."""
        return bool(self._waiting or self._trackers)

    def numbers(self, values: Mapping[str, float | None], step: int | None = None) -> None:
        """Tell numbers by name; None and what is not finite are left out."""
        told = {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
        if told:
            self._each(lambda tracker: tracker.numbers(told, step))

    def picture(self, name: str, image: Image) -> None:
        """Tell a picture."""
        self._each(lambda tracker: tracker.picture(name, image))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Tell a table of texts."""
        self._each(lambda tracker: tracker.table(name, columns, rows))

    def progress(self, inner: Progress) -> Progress:
        """Return what tells `inner` of rows that are made, and the trackers of their number and rate."""
        return _Told(self, inner) if self.asks else inner

    def finish(self) -> None:
        """Let the trackers write what they have."""
        self._waiting = ()
        self._each(lambda tracker: tracker.finish())

    def _each(self, tell: Callable[[Tracker], object]) -> None:
        if self._config is not None and self._waiting:
            waiting, self._waiting = self._waiting, ()
            for kind in waiting:
                with self._guarded(kind):
                    self._trackers[kind] = _TRACKERS[kind](self._config, self._stage)
        for kind, tracker in list(self._trackers.items()):
            with self._guarded(kind):
                tell(tracker)

    @contextmanager
    def _guarded(self, kind: TrackerName) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a server that is away, a full disk: whatever it raises, the run goes on
            logger.warning("tracking: %s is told nothing more (%s: %s)", kind, type(error).__name__, error)
            self._trackers.pop(kind, None)


class _Told:
    """A progress that trackers hear of, too."""

    def __init__(self, told: Tracking, inner: Progress) -> None:
        self._told, self._inner = told, inner
        self._total = self._made = self._failed = 0
        self._started = self._last = time.monotonic()

    def start(self, total: int, what: str | None = None) -> None:
        self._total, self._made, self._failed = total, 0, 0
        self._started = self._last = time.monotonic()
        self._inner.start(total, what)

    def advance(self, made: int, failed: int) -> None:
        self._made += made
        self._failed += failed
        self._inner.advance(made, failed)
        now = time.monotonic()
        if now - self._last >= _EVERY or self._made == self._total:
            self._last = now
            rate = self._made / max(now - self._started, 1e-9)
            about = {"images_per_second": rate, "attempted": self._made, "failed": self._failed}
            self._told.numbers({f"generation/{name}": value for name, value in about.items()}, self._made)


_NOBODY: Final = Tracking()
_CURRENT: ContextVar[Tracking] = ContextVar("tracking", default=_NOBODY)


def current() -> Tracking:
    """Return what the stage that runs now tells."""
    return _CURRENT.get()


def tracked(stage: Callable[P, R]) -> Callable[P, R]:
    """Return a stage that tells the trackers of its first argument, a config; within another stage, those of that one.

    Of several processes that train together the first one tells.
    """

    @wraps(stage)
    def telling(*args: P.args, **kwargs: P.kwargs) -> R:
        config: Any = args[0] if args else kwargs["config"]
        if not config.tracking or os.environ.get("RANK", "0") != "0" or current() is not _NOBODY:
            return stage(*args, **kwargs)
        told = Tracking(config, stage.__name__)
        token = _CURRENT.set(told)
        try:
            return stage(*args, **kwargs)
        finally:
            _CURRENT.reset(token)
            told.finish()

    return telling


def require_tracker(name: TrackerName) -> None:
    """Check that a tracker is installed; it is not imported.

    Raises:
        MissingExtraError: it is not.
    """
    if importlib.util.find_spec(name) is None:
        raise MissingExtraError(f"tracking: {name} is not installed: pip install 'augcond[{name}]'")


class _TensorBoard:
    def __init__(self, config: RunConfig, stage: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # One place for all commands: TensorBoard shows what lies in a folder as one run.
        self._writer: Any = SummaryWriter(str(config.run / FOLDER / "tensorboard"))

    def numbers(self, values: Mapping[str, float], step: int | None) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def picture(self, name: str, image: Image) -> None:
        import numpy as np

        self._writer.add_image(name, np.asarray(image), dataformats="HWC")

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._writer.add_text(name, _markdown(columns, rows))

    def finish(self) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, config: RunConfig, stage: str) -> None:
        import wandb

        # In its own place (./wandb, or WANDB_DIR): it makes links that lead out, which a run folder must not have.
        self._run = wandb.init(
            project=config.run.resolve().name,
            name=stage,
            # Nothing leaves the machine unless somebody said so.
            mode=os.environ.get("WANDB_MODE", "offline"),
            config=_flat(config.model_dump(mode="json")),
            # A run of the caller's own goes on.
            reinit="create_new",
            settings=wandb.Settings(console="off"),
        )
        # Its own steps must ascend, and each training begins at 1.
        self._run.define_metric("*", step_metric="step")

    def numbers(self, values: Mapping[str, float], step: int | None) -> None:
        self._run.log(dict(values) if step is None else {**values, "step": step})

    def picture(self, name: str, image: Image) -> None:
        import wandb

        self._run.log({name: wandb.Image(image)})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        import wandb

        self._run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def finish(self) -> None:
        self._run.finish()


class _MLflow:
    def __init__(self, config: RunConfig, stage: str) -> None:
        from mlflow import MlflowClient

        folder, project = config.run.resolve() / FOLDER, config.run.resolve().name
        elsewhere = os.environ.get("MLFLOW_TRACKING_URI")
        folder.mkdir(parents=True, exist_ok=True)
        # A client of its own: the functions of the module go by what is active in the process.
        self._client = MlflowClient(elsewhere or f"sqlite:///{folder / 'mlflow.db'}")
        known = self._client.get_experiment_by_name(project)
        place = None if elsewhere else (folder / "mlflow").as_uri()
        experiment = self._client.create_experiment(project, place) if known is None else known.experiment_id
        self._run = self._client.create_run(experiment, run_name=stage).info.run_id
        for key, value in _flat(config.model_dump(mode="json")).items():
            self._client.log_param(self._run, key, str(value)[:_LONGEST])

    def numbers(self, values: Mapping[str, float], step: int | None) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, _plain(name), value, step=step or 0)

    def picture(self, name: str, image: Image) -> None:
        self._client.log_image(self._run, image, f"{_plain(name)}.png")

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._client.log_text(self._run, _markdown(columns, rows), f"{_plain(name)}.md")

    def finish(self) -> None:
        self._client.set_terminated(self._run)


class _Trackio:
    def __init__(self, config: RunConfig, stage: str) -> None:
        import trackio

        about = _flat(config.model_dump(mode="json"))
        name = f"{stage}-{time.strftime('%Y-%m-%d-%H-%M-%S')}"
        self._run = trackio.init(config.run.resolve().name, name=name, config=about, embed=False)

    def numbers(self, values: Mapping[str, float], step: int | None) -> None:
        self._run.log(dict(values), step=step)

    def picture(self, name: str, image: Image) -> None:
        import trackio

        self._run.log({name: trackio.Image(image)})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        import pandas as pd
        import trackio

        self._run.log({name: trackio.Table(dataframe=pd.DataFrame(rows, columns=list(columns)))})

    def finish(self) -> None:
        self._run.finish()


_TRACKERS: Final[Mapping[str, Callable[[RunConfig, str], Tracker]]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WandB,
    "mlflow": _MLflow,
    "trackio": _Trackio,
}

_LONGEST = 500
"""Characters of a parameter that every MLflow server takes."""


def _plain(name: str) -> str:
    """Return a name of characters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", name)


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, str | float | bool | None]:
    """Return nested plain values by their full names; lists as texts."""
    flat: dict[str, str | float | bool | None] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = str(value) if isinstance(value, list) else value
    return flat


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
