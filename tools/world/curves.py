"""Keep the training logs, thinned, in the repository, and draw the loss curves.

    python -m tools.world.curves --build ../world-build

Writes `benchmarks/results/world-training.json` and `docs/world/curves.png`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from tools.world.training import BUILD_FOLDER, read_log

STAGES = ("autoencoder", "teacher", "encoders", "unet", "oracle", "domain")
REPOSITORY = Path(__file__).parents[2]
_POINTS = 60


def thinned(folder: Path) -> list[dict[str, float]]:
    """At most about `_POINTS` records of a stage's log, the last one always among them."""
    last: dict[float, dict[str, float]] = {record["step"]: record for record in read_log(folder)}
    records = [last[step] for step in sorted(last)]  # a resumed run repeats some steps: the later record counts
    stride = -(-len(records) // _POINTS)
    return records[::-1][::stride][::-1]


def draw(logs: dict[str, list[dict[str, float]]], path: Path) -> None:
    """One panel a stage: every loss over the pictures seen."""
    mpl.use("Agg")
    figure, panels = plt.subplots(2, 3, figsize=(12, 6))
    for panel, (stage, records) in zip(panels.flat, logs.items(), strict=False):
        for name in [key for key in records[-1] if key not in ("step", "images", "seconds")]:
            shown = [(record["images"] / 1000, record[name]) for record in records if name in record]
            panel.plot(*zip(*shown, strict=True), label=name)
        panel.set(title=stage, xlabel="thousand pictures", yscale="log")
        panel.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Write the record and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=BUILD_FOLDER)
    arguments = parser.parse_args()
    logs = {
        stage: thinned(arguments.build / stage) for stage in STAGES if (arguments.build / stage / "log.jsonl").exists()
    }
    record = REPOSITORY / "benchmarks/results/world-training.json"
    lines = [f'"{stage}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for stage, rows in logs.items()]
    record.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    draw(logs, REPOSITORY / "docs/world/curves.png")


if __name__ == "__main__":
    main()
