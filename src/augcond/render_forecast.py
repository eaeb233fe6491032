"""Print a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from augcond.progress import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from augcond.forecasting import Forecast


def print_forecast(found: Forecast, console: Console) -> None:
    """Print what a run will make and take, where each number is from, and what is missing."""

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    _print_plan(found, console)
    for stage in ("generation", "training"):
        costs = [cost for cost in found.costs if cost.stage == stage]
        if not costs:
            continue
        table = Table("GPU")
        table.add_column(f"GPU hours of {stage}", justify="right")
        for cost in costs:
            table.add_row(cost.device, _hours(cost.hours))
        console.print(table)
        say(f"  {costs[0].source}")
        for assumption in costs[0].assumptions:
            say(f"  assumed: {assumption}")
    for stage in found.unrated:
        hint = "; augcond plan CONFIG times a few images on this machine" if stage == "generation" else ""
        say(f"{stage}: no published rate for this model{hint}")
    if found.disk is not None:
        low, high = (format_bytes(size) for size in found.disk)
        say(f"disk: {low} to {high}")
        say(f"  {found.disk_source}")
    say("missing:" if found.missing else "nothing is missing")
    for entry in found.missing:
        lines = entry.detail.splitlines()
        say(f"  {entry.what}: {lines[0]}")
        for line in lines[1:]:
            say(f"    {line}")


def _hours(hours: float) -> str:
    if hours < 0.1:
        return "under 0.1"
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}"


def _print_plan(found: Forecast, console: Console) -> None:
    if not found.images:
        console.print("the plan cannot be told without the data", soft_wrap=True)
        return
    origin = "" if found.counted == "data" else f" (by {found.counted}: the data are missing)"
    real = "an unknown number of" if found.real is None else f"{found.real:,}"
    console.print(f"{real} real training images of {found.classes:,} classes{origin}", soft_wrap=True)
    by_recipe = ", ".join(f"{count:,} by {recipe}" for recipe, count in found.images.items())
    console.print(f"{found.total:,} images to make: {by_recipe}", soft_wrap=True)
    if found.held_out:
        parts = ", ".join(f"{count:,} for {part}" for part, count in found.held_out.items())
        console.print(f"real images that are not trained on: {parts}", soft_wrap=True)
