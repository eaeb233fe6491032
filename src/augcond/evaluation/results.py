"""What a run measured: the schema of `results.json`, which reports and sweeps read.

    Results
    ├── arms: ArmResult              real-only, then one per recipe or baseline
    │   └── seeds: SeedResult        one per trained model
    └── differences: Difference      paired, every arm against the baselines

Accuracies and calibration errors are shares in [0, 1]; differences are in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from augcond.errors import CorruptRunError, RunError
from augcond.sealed import read_json, write_json
from augcond.store.names import FILES
from augcond.training.arms import REAL_ONLY, ArmKind, HeldOut, Seeds

if TYPE_CHECKING:
    from pathlib import Path


__all__ = [
    "FORMAT",
    "METRICS",
    "REAL_ONLY",
    "ArmKind",
    "ArmResult",
    "Difference",
    "MetricName",
    "Metrics",
    "Results",
    "SeedResult",
    "Seeds",
    "Spread",
    "Verdict",
    "read_results",
    "share_text",
    "write_results",
]

FORMAT = 3
"""Goes up with every change of the schema that an older reader would misunderstand. Up to 1, `on` was called `part`; up
to 2, intervals were those of a bootstrap, which are too narrow: they are left out where such results are read."""

FEWEST_SEEDS = 3
"""There is no interval from fewer: what two seeds say of the spread over seeds is next to nothing."""

LEVEL = 0.95
"""Of all intervals."""

MetricName = Literal["overall", "class_mean", "many", "medium", "few", "calibration_error"]
METRICS: tuple[MetricName, ...] = get_args(MetricName)

Verdict = Literal["gain", "loss", "undecided", "exploratory", "too few seeds", "not judged"]


@dataclass(frozen=True, slots=True)
class Metrics:
    """How good predictions are.

    Attributes:
        overall: share of the test images that are classified right.
        class_mean: mean over the classes of each class's accuracy; classes without a test image do not count.
        many: the same over the classes with many real training images; None where there is no such class.
        medium: the same over the medium classes.
        few: the same over the few-shot classes.
        calibration_error: expected calibration error of the highest probability, 15 bins of equal width.
    """

    overall: float
    class_mean: float
    many: float | None
    medium: float | None
    few: float | None
    calibration_error: float


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One trained model on the whole test set, each image once.

    Attributes:
        seeds: which draw it is.
        metrics: how good its predictions are.
        per_class: accuracy per class in label order; None for a class without a test image.
        confusion: number of test images by [true label][predicted label].
        real_counts: real training images per class.
        predictions: path of its predictions (parquet), relative to the run folder.
        training_seconds: wall-clock time of its training.
        evaluation_seconds: the same of judging it.
        predictions_sha256: of that file's bytes; empty in results of 0.1.
        fingerprint: of the model that was judged; empty in results of 0.1.
    """

    seeds: Seeds
    metrics: Metrics
    per_class: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    real_counts: tuple[int, ...]
    predictions: str
    # Two runs are alike whatever time they took.
    training_seconds: float = field(compare=False)
    evaluation_seconds: float = field(compare=False)
    predictions_sha256: str = field(default="", compare=False)
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One setting, over its seeds.

    Attributes:
        name: unique in the results, such as `real-only` or `embed-mixup-dropout`.
        kind: what its training images are.
        recipe: of the synthetic images, several as `text + dropout`; None where there are none.
        real_images: real training images.
        synthetic_images: synthetic ones (of a ceiling: unused real ones), after screening.
        screened_out: synthetic ones that screening dropped.
        steps: optimiser steps; the same for every arm.
        leaky: the numbers come from a protocol with leaks, and must be shown as such.
        seeds: one entry per model.
        mean: of the metrics over the seeds.
        spread: their standard deviation over the seeds (n - 1); None with a single seed.
        settings: what a sweep set for it, by key of the config; empty in a run.
        interval: 95 % interval of its mean overall accuracy, over seeds and test images; None for fewer than three
            seeds.
    """

    name: str
    kind: ArmKind
    recipe: str | None
    real_images: int
    synthetic_images: int
    screened_out: int
    steps: int
    leaky: bool
    seeds: tuple[SeedResult, ...]
    mean: Metrics
    spread: Metrics | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """What makes a paired difference uncertain; variances are of shares in [0, 1].

    Attributes:
        seeds: how many there are.
        between: variance of the differences from seed to seed (n - 1); test images are a part of it.
        own: variance of one seed's difference from test images, as far as other seeds do not share it.
        shared: variance from test images that all seeds have alike.
    """

    seeds: int
    between: float
    own: float
    shared: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric of one arm minus the same of another, paired over seeds and test images.

    Attributes:
        arm: name of the arm.
        baseline: name of the arm that is subtracted.
        metric: which metric.
        mean: the difference, as a mean over the seeds that both have.
        per_seed: each seed's difference.
        spread: what makes the mean uncertain; None in results of augcond 0.1.
        low: lower end of its 95 % interval; None for fewer than three seeds.
        high: upper end of its 95 % interval.
        p: how likely a mean so far from 0 is where there is no difference; None for fewer than three seeds.
        family: number of comparisons whose verdicts are corrected together (Holm); 0 where it is exploratory.
        verdict: what is decided; see `augcond.evaluation.verdicts`.
    """

    arm: str
    baseline: str
    metric: MetricName
    mean: float
    per_seed: tuple[float, ...]
    spread: Spread | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    family: int = 0
    verdict: Verdict = "exploratory"

    @property
    def seeds(self) -> int:
        """How many seeds both have."""
        return len(self.per_seed)

    @property
    def interval(self) -> str:
        """Its interval in points, such as `+0.8 to +3.4`; where there is none, why, and what each seed gained."""
        if self.low is not None and self.high is not None:
            return f"{100 * self.low:+.1f} to {100 * self.high:+.1f}"
        if self.verdict == "not judged":
            return "no interval: run augcond evaluate again"
        each = ", ".join(f"{100 * value:+.1f}" for value in self.per_seed)
        return f"too few seeds for an interval: {each}"

    @property
    def text(self) -> str:
        """In points, with its interval, such as `+2.1 (+0.8 to +3.4)`."""
        return f"{100 * self.mean:+.1f} ({self.interval})"


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that a run measured.

    Attributes:
        protocol: name of the protocol; None where the config spells its own.
        leaky: the protocol leaks; true as soon as one arm is leaky.
        leaks: which leaks were planted, by name; empty for an honest run.
        classes: class ids in label order.
        class_names: the words that prompts use.
        real_counts: real training images per class, of the first seed.
        test_images: number of images that were judged.
        many: classes with more real training images count as many.
        few: classes with fewer count as few.
        model: name of the classifier's network.
        arms: one entry per arm; the first is the baseline.
        differences: every arm against the first, and against `text` where that is an arm.
        on: which real images were judged: `test`, or `validation`, where choices are made.
        missing: images of that set that could not be used, by name, with the reason; no accuracy counts them.
        format: see `FORMAT`.
    """

    protocol: str | None
    leaky: bool
    leaks: tuple[str, ...]
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    real_counts: tuple[int, ...]
    test_images: int
    many: int
    few: int
    model: str
    arms: tuple[ArmResult, ...]
    differences: tuple[Difference, ...]
    on: HeldOut = "test"
    missing: tuple[str, ...] = ()
    format: int = FORMAT

    def arm(self, name: str) -> ArmResult:
        """Return the arm called `name`.

        Raises:
            KeyError: there is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(f"no arm {name!r}; the results have {', '.join(arm.name for arm in self.arms)}")

    def gain(self, arm: str, baseline: str | None = None) -> Difference | None:
        """Return what `arm` gains in overall accuracy; None where it was not compared.

        Args:
            arm: its name.
            baseline: over which arm; the one that it was compared with first where None.
        """
        for found in self.differences:
            if (found.arm, found.metric) == (arm, "overall") and baseline in (None, found.baseline):
                return found
        return None


def share_text(mean: float | None, spread: float | None = None) -> str:
    """Return a share in percent, with its spread where it has one, such as `61.5 ± 0.8`; `-` for None."""
    if mean is None:
        return "-"
    return f"{100 * mean:.1f}" + (f" ± {100 * spread:.1f}" if spread is not None else "")


def write_results(path: Path, results: Results) -> None:
    """Write `results` to `path`, at once."""
    write_json(path, asdict(results))


def read_results(path: Path, mend: str = FILES["results"].mend) -> Results:
    """Return the results that `path` (a `results.json`) holds.

    Args:
        path: the file.
        mend: what makes it anew.

    Raises:
        RunError: there is no such file, or it is of another version of augcond.
        CorruptRunError: it is not what augcond wrote.
    """
    try:
        values = read_json(path, mend).content
    except FileNotFoundError:
        raise RunError(f"no results at {path}: run augcond evaluate first") from None
    if values.get("format") not in range(1, FORMAT + 1):
        raise RunError(f"{path} is not of format {FORMAT}: {mend}")
    if "part" in values:
        values["on"] = values.pop("part")
    try:
        arms = tuple(_arm(arm) for arm in values["arms"])
        read = _difference if values["format"] == FORMAT else _without_interval(arms)
        differences = tuple(map(read, values["differences"]))
        return Results(**(_tuples(Results, values) | {"arms": arms, "differences": differences}))
    except (KeyError, TypeError) as error:
        raise CorruptRunError(f"{path} was not written by augcond: {error}") from error


def _difference(values: dict[str, Any]) -> Difference:
    spread = Spread(**values["spread"]) if values["spread"] is not None else None
    return Difference(**(_tuples(Difference, values) | {"spread": spread}))


def _without_interval(arms: Sequence[ArmResult]) -> Callable[[dict[str, Any]], Difference]:
    """Return what reads a difference of format 2 or 1: it keeps what each seed gained, from the accuracies."""
    measured = {(arm.name, seed.seeds): seed.metrics for arm in arms for seed in arm.seeds}

    def read(values: dict[str, Any]) -> Difference:
        arm, baseline, metric = values["arm"], values["baseline"], values["metric"]
        common = [seeds for name, seeds in measured if name == arm and (baseline, seeds) in measured]
        gains = [getattr(measured[arm, seeds], metric) - getattr(measured[baseline, seeds], metric) for seeds in common]
        return Difference(arm, baseline, metric, values["mean"], tuple(gains), verdict="not judged")

    return read


def _arm(values: dict[str, Any]) -> ArmResult:
    seeds = tuple(
        SeedResult(
            **(
                _tuples(SeedResult, seed)
                | {"seeds": Seeds(**seed["seeds"]), "metrics": Metrics(**seed["metrics"])}
                | {"confusion": tuple(tuple(row) for row in seed["confusion"])}
            )
        )
        for seed in values["seeds"]
    )
    spread = Metrics(**values["spread"]) if values["spread"] is not None else None
    measured = {"seeds": seeds, "mean": Metrics(**values["mean"]), "spread": spread}
    return ArmResult(**(_tuples(ArmResult, values) | measured))


def _tuples(schema: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `schema` in `values`, lists as tuples; all must be there that have no default."""
    if unknown := sorted(values.keys() - {known.name for known in fields(schema)}):
        raise TypeError(f"unknown key {unknown[0]!r}")
    named = {
        known.name: values[known.name]
        for known in fields(schema)
        if known.name in values or (known.default is MISSING and known.default_factory is MISSING)
    }
    return {name: tuple(value) if isinstance(value, list) else value for name, value in named.items()}
