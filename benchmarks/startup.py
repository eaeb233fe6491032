"""How long a command takes to start: `augcond --help`, `import augcond` and `load_config`, beside an empty Python.

Run `python -m benchmarks.startup`: it prints JSON and writes benchmarks/results/startup.json.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from benchmarks.writing import write_result

RUNS = 15
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import augcond": [sys.executable, "-c", "import augcond"],
    "load_config": [
        sys.executable,
        "-c",
        "from augcond import load_config; load_config('configs/imagenet-lt.yaml', ('data.path=.',))",
    ],
    "augcond --help": [sys.executable, "-m", "augcond.cli", "--help"],
}


def main() -> None:
    """Measure and report; the commands take turns, so that a busy moment hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(RUNS + 1):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own commands
            if run:  # the first warms the disk cache
                seconds[name].append(time.perf_counter() - started)
    result = {
        "runs": RUNS,
        "seconds": {
            name: {
                "min": round(min(values), 3),
                "median": round(statistics.median(values), 3),
                "max": round(max(values), 3),
            }
            for name, values in seconds.items()
        },
        "load_average": round(os.getloadavg()[0], 2),
        "limit": {"augcond --help": 0.5, "load_config": 0.5},
    }
    write_result("startup", result)


if __name__ == "__main__":
    main()
