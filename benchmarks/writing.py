"""Where the numbers of a benchmark go: to a file, and to the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def write_result(name: str, result: Mapping[str, object]) -> None:
    """Write `result` to benchmarks/results/NAME.json and print it."""
    text = json.dumps(result, indent=1) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
