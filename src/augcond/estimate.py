"""What a plan will cost: time and disk, from a few images that are really made."""

from __future__ import annotations

import time
from dataclasses import dataclass

from augcond.engine import BatchSize, Materials, generate_rows
from augcond.errors import GeneratorError
from augcond.planning import Plan


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan will cost on this machine.

    Attributes:
        images: number of images.
        timed_images: number of images that were made to find out.
        seconds_per_image: in batches of the configured size, without loading.
        bytes_per_image: as stored, without provenance columns.
    """

    images: int
    timed_images: int
    seconds_per_image: float
    bytes_per_image: float

    @property
    def seconds(self) -> float:
        """Seconds for the whole plan with one process."""
        return self.images * self.seconds_per_image

    @property
    def bytes(self) -> float:
        """Bytes for the whole plan."""
        return self.images * self.bytes_per_image


def estimate_cost(plan: Plan, materials: Materials, batch_size: int) -> Estimate:
    """Make the first batch of the plan twice, time the second, and scale it up to the whole plan.

    Raises:
        GeneratorError: none of these images could be made.
    """
    rows = [row for _, row in zip(range(batch_size), plan.rows(), strict=False)]
    generate_rows(rows, materials, BatchSize(batch_size))
    started = time.perf_counter()
    made = generate_rows(rows, materials, BatchSize(batch_size))
    seconds = time.perf_counter() - started
    sizes = [len(row.image) for row in made if row.image is not None]
    if not sizes:
        raise GeneratorError(f"none of the first {len(rows)} images could be made: {made[0].error}")
    return Estimate(len(plan), len(rows), seconds / len(rows), sum(sizes) / len(sizes))
