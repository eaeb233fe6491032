"""What a run measured: the schema of `results.json`, which reports and sweeps read.

    Results
    ├── arms: ArmResult              real-only, then one per recipe or baseline
    │   └── seeds: SeedResult        one per trained model
    └── differences: Difference      paired, every arm against the baselines

Accuracies and calibration errors are shares in [0, 1]; differences are in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from augcond.errors import RunError
from augcond.evaluation.differences import METRICS, Difference, MetricName, Spread, Verdict
from augcond.evaluation.provenance import Provenance
from augcond.sealed import read_json, typed, unfit, write_json
from augcond.store.folder import RunFolder
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
    "Provenance",
    "Results",
    "SeedResult",
    "Seeds",
    "Setup",
    "Spread",
    "Verdict",
    "read_results",
    "share_text",
    "write_results",
]

FORMAT = 4
"""Goes up with every change of the schema that an older reader would misunderstand. Up to 1, `on` was called `part`; up
to 2, intervals were those of a bootstrap, which are too narrow: they are left out where such results are read; up to 3,
confusions were written with all their zeros, and arms did not say how they were trained."""
_BOOTSTRAP = 2

FEWEST_SEEDS = 3
"""There is no interval from fewer: what two seeds say of the spread over seeds is next to nothing."""

LEVEL = 0.95
"""Of all intervals."""


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
        confusion: (true label, predicted label, number of test images) wherever there are any, sorted.
        real_counts: real training images per class.
        predictions: path of its predictions (parquet), relative to the run folder.
        training_seconds: wall-clock time of its training.
        evaluation_seconds: the same of judging it.
        predictions_sha256: of that file's bytes; empty in results of 0.1.
        fingerprint: of the model that was judged; empty in results of 0.1.
        added_counts: images per class that it was trained on beside the real ones; empty where that was not recorded.
    """

    seeds: Seeds
    metrics: Metrics
    per_class: tuple[float | None, ...]
    confusion: tuple[tuple[int, int, int], ...]
    real_counts: tuple[int, ...]
    predictions: str
    # Two runs are alike whatever time they took.
    training_seconds: float = field(compare=False)
    evaluation_seconds: float = field(compare=False)
    predictions_sha256: str = field(default="", compare=False)
    fingerprint: str = ""
    added_counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Setup:
    """How the models of an arm were trained; every arm has the same steps and images per step.

    Attributes:
        loss: name of the loss.
        counts: the class counts that the loss uses, `real` or `effective`.
        batch_size: images per step.
        synthetic_share: share of a batch that is not the split's real images; 0 where there are no others.
        overrides: what the arm sets otherwise than the run, as `key=value`.
    """

    loss: str
    counts: str
    batch_size: int
    synthetic_share: float
    overrides: tuple[str, ...] = ()


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
        setup: how it was trained; None in results that did not record it.
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
    setup: Setup | None = None


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
        provenance: when and where it was measured; None where that was not recorded.
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
    # Two runs are alike wherever they were made.
    provenance: Provenance | None = field(default=None, compare=False)

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
        return self.difference(arm, baseline, "overall")

    def difference(self, arm: str, baseline: str | None, metric: MetricName) -> Difference | None:
        """Return what `arm` gains in a metric; see `gain`."""
        for found in self.differences:
            if (found.arm, found.metric) == (arm, metric) and baseline in (None, found.baseline):
                return found
        return None


def share_text(mean: float | None, spread: float | None = None) -> str:
    """Return a share in percent, with its spread where it has one, such as `61.5 ± 0.8`; `-` for None."""
    if mean is None:
        return "-"
    return f"{100 * mean:.1f}" + (f" ± {100 * spread:.1f}" if spread is not None else "")


def write_results(path: Path, results: Results) -> None:
    """Write `results` to `path`, at once."""
    write_json(path, as_written(results))


def as_written(results: Results) -> dict[str, Any]:
    """Return what `results.json` says, but for its seal."""
    values = asdict(results)
    for arm in values["arms"]:
        for seed in arm["seeds"]:
            seed["confusion"] = _rows(seed["confusion"])
    return values


def _rows(confusion: Sequence[tuple[int, int, int]]) -> dict[str, str]:
    """Return confusions as they are written: `predicted:images` by true label; a thousand classes have few each."""
    rows: dict[str, list[str]] = {}
    for true, predicted, images in confusion:
        rows.setdefault(str(true), []).append(f"{predicted}:{images}")
    return {true: " ".join(entries) for true, entries in rows.items()}


def _confusion(written: Any) -> tuple[tuple[int, int, int], ...]:
    if isinstance(written, list):  # up to format 3, all of the matrix
        return tuple((t, p, int(n)) for t, row in enumerate(written) for p, n in enumerate(row) if n)
    pairs = ((true, entry.partition(":")) for true, row in written.items() for entry in row.split(" "))
    return tuple((int(true), int(predicted), int(images)) for true, (predicted, _, images) in pairs)


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
        for arm in values["arms"]:
            for seed in arm["seeds"]:
                seed["confusion"] = _confusion(seed["confusion"])
        if values["format"] <= _BOOTSTRAP:
            arms = tuple(typed(ArmResult, arm) for arm in values["arms"])
            values["differences"] = tuple(map(_without_interval(arms), values["differences"]))
        return typed(Results, values | {"format": FORMAT})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise unfit(path, error, mend) from error


def results_of(folder: RunFolder, on: HeldOut = "test") -> Results:
    """Return what the models of a run are on record for, or those of the runs of a sweep.

    Raises:
        RunError: see `read_results`; or a model that lies there is another one than was judged.
        CorruptRunError: see `read_results`; or a card is not what augcond wrote.
    """
    kind, path = ("sweep", folder.sweep_path) if folder.sweep_path.exists() else ("results", folder.results_path(on))
    results = read_results(path, FILES[kind].mend)
    for arm in results.arms:
        for seed in arm.seeds:
            _refuse_another(folder, seed, path, FILES[kind].mend)
    return results


def _refuse_another(folder: RunFolder, seed: SeedResult, path: Path, mend: str) -> None:
    from augcond.training.cards import read_card  # imports PyTorch

    # Arms of a sweep have longer names in its table.
    place = folder.path / seed.predictions
    if len(place.relative_to(folder.path).parts) < 4 or ".." in place.parts:
        return
    model = RunFolder(place.parents[3]).model_path(place.parent.name, seed.seeds.training)
    card = read_card(model)
    if card is not None and seed.fingerprint not in ("", card.fingerprint):
        raise RunError(f"{path} is older than the model {model.relative_to(folder.path)}: {mend}")


def _without_interval(arms: Sequence[ArmResult]) -> Callable[[dict[str, Any]], Difference]:
    """Return what reads a difference of format 2 or 1: it keeps what each seed gained, from the accuracies."""
    measured = {(arm.name, seed.seeds): seed.metrics for arm in arms for seed in arm.seeds}

    def read(values: dict[str, Any]) -> Difference:
        arm, baseline, metric = values["arm"], values["baseline"], values["metric"]
        common = [seeds for name, seeds in measured if name == arm and (baseline, seeds) in measured]
        gains = [getattr(measured[arm, seeds], metric) - getattr(measured[baseline, seeds], metric) for seeds in common]
        return Difference(arm, baseline, metric, values["mean"], tuple(gains), verdict="not judged")

    return read
