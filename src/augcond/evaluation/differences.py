"""A paired difference between two arms, and what makes it uncertain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

MetricName = Literal["overall", "class_mean", "many", "medium", "few", "calibration_error"]
METRICS: tuple[MetricName, ...] = get_args(MetricName)

Verdict = Literal["gain", "loss", "undecided", "exploratory", "too few seeds", "not judged"]


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
