"""Accuracy by shot group, calibration, paired intervals, and the schema of the results."""

from augcond.evaluation.results import (
    METRICS,
    REAL_ONLY,
    ArmResult,
    Difference,
    Metrics,
    Results,
    SeedResult,
    Seeds,
    read_results,
)

__all__ = [
    "METRICS",
    "REAL_ONLY",
    "ArmResult",
    "Difference",
    "Metrics",
    "Results",
    "SeedResult",
    "Seeds",
    "read_results",
]
