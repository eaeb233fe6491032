"""Try every tracker for real, offline: python -m tools.try_trackers [NAME ...] (make test has set up .venv).

wandb, mlflow and trackio are installed into an environment of their own, which looks into this one for the rest. Each
is told of a small run, and what it wrote is read with its own means. Needs the package index.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ("wandb", "mlflow-skinny", "trackio", "tensorboard")
TRIED = """\
import sys
from pathlib import Path

from augcond.config import parse_config
from augcond.pipeline import evaluate, generate, train
from augcond.tracking import tracked


@tracked
def stages(config):
    generate(config)
    train(config)
    return evaluate(config)


if __name__ == "__main__":
    run = Path("runs") / sys.argv[1]
    data = {"source": "builtin", "split": {"name": "few-shot", "k": 1}}
    training = {"steps": 3, "seeds": 1, "device": "cpu"}
    config = {"data": data, "plan": {"per_class": 1}, "generator": {"name": "fake"}, "training": training}
    stages(parse_config({**config, "run": run, "tracking": sys.argv[1]}))
    if sys.argv[1] == "wandb":
        (log,) = Path("wandb").glob("offline-run-*/run-*.wandb")
        names = (b"test/real-only/overall", b"loss/", b"generation/samples")
        found = [name for name in names if name in log.read_bytes()]
    elif sys.argv[1] == "mlflow":
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{run.resolve()}/tracking/mlflow.db")
        (experiment,) = client.search_experiments(filter_string="name = 'mlflow'")
        (seen,) = client.search_runs([experiment.experiment_id])
        names = ("test/real-only/overall", "loss/real-only/seed-0", "generation/ok")
        found = [name for name in names if name in seen.data.metrics]
        assert seen.info.status == "FINISHED"
        assert {file.path for file in client.list_artifacts(seen.info.run_id)} == {"generation", "test"}
    elif sys.argv[1] == "trackio":
        from trackio.sqlite_storage import SQLiteStorage

        (name,) = SQLiteStorage.get_runs("trackio")
        seen = {key for entry in SQLiteStorage.get_logs("trackio", name) for key in entry}
        names = ("test/real-only/overall", "loss/real-only/seed-0", "generation/samples")
        found = [name for name in names if name in seen]
    else:
        found = [*(run / "tracking" / "tensorboard").glob("events.*")] * 3
    assert len(found) == 3, found
    print(sys.argv[1], "works")
"""


def main(names: list[str]) -> None:
    """Install and try those that are named, or all."""
    with tempfile.TemporaryDirectory() as text:
        at = Path(text)
        subprocess.run([sys.executable, "-m", "venv", at / "env"], check=True)  # noqa: S603 - our own words
        (packages,) = (at / "env" / "lib").glob("python3*/site-packages")
        python = at / "env" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)  # noqa: S603
        # Behind its own: what the trackers brought goes first.
        (packages / "behind.pth").write_text("\n".join(path for path in sys.path if path), encoding="utf-8")
        (at / "tried.py").write_text(TRIED, encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "MLFLOW", "PYTHON"))}
        for name in names or ("tensorboard", "wandb", "mlflow", "trackio"):
            own = kept | {"TRACKIO_DIR": str(at / "trackio")}
            subprocess.run([python, "tried.py", name], cwd=at, env=own, check=True)  # noqa: S603


if __name__ == "__main__":
    main(sys.argv[1:])
