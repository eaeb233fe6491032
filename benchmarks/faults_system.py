"""What becomes of commands that something befalls: a part of `benchmarks.faults`.

python -m benchmarks.faults_system [N]      # prints JSON; N times each, of every stage (default 10)
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults.project import BEFALLS, DEAR, STAGES, project


def system(times: int = 10) -> dict[str, Any]:
    """Return how commands ended that something befell at random calls, and that each then went on to the same bytes.

    Args:
        times: how often each befalls every stage; a fifth as often those that take seconds.
    """
    ended: dict[str, Counter[str]] = {what: Counter() for what in BEFALLS}
    wrong: list[str] = []
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, project(Path(folder) / "small", *STAGES) as small:
        for stage in STAGES:
            for what, counts in ended.items():
                for _ in range(max(1, times // 5) if stage in DEAR else times):
                    nth = rng.randint(1, small.calls[stage])
                    small.reset(stage)
                    try:
                        counts[str(small.befall(stage, what, nth))] += 1
                        small.check_goes_on(stage)
                    except AssertionError as error:
                        wrong.append(f"{stage}, {what} at call {nth}: {str(error)[:300]}")
        return {
            "stages": len(STAGES),
            "calls that change files": small.calls,
            "exit codes": {what: dict(counts) for what, counts in ended.items()},
            "times": sum(counts.total() for counts in ended.values()),
            "neither said nor gone on": wrong,
        }


if __name__ == "__main__":
    found = system(*map(int, sys.argv[1:2]))
    print(json.dumps(found, indent=1))  # noqa: T201
