"""Build sdist and wheel, and try them outside of the repository: python -m tools.try_release [PYTHON].

The wheel is built from the sdist, and installed with its own dependencies into an environment of its own, whose working
directory is an empty folder: what the repository has and the wheel lacks is missed here. Needs the package index.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = """\
data: {source: builtin, split: {name: few-shot, k: 2}}
plan: {per_class: 1}
generator: {steps: 2}
training: {steps: 2, seeds: 1}
run: run
"""
COMMANDS = (
    ("--help",),
    ("generators",),
    ("run", "small.yaml", "--dry"),
    ("run", "small.yaml"),
    ("check", "run"),
    ("export", "run", "--to", "out"),
    ("push", "run", "me/small", "--dry"),
)
"""What reads files that the wheel has to bring: the built-in world, templates, data of benchmarks."""


def run(*command: str | Path, at: Path) -> None:
    """Run a command in a folder, as a person would: nothing of this process's environment leads into the repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    print(f"$ {' '.join(map(str, command))}", flush=True)  # noqa: T201 - a tool
    subprocess.run([str(word) for word in command], cwd=at, env=kept, check=True)  # noqa: S603 - our own words


def pinned() -> list[str]:
    """Return what the Makefile installs first: PyTorch and torchvision as a pair that fits."""
    return re.findall(r'"(torch(?:vision)?==[^"]+)"', (ROOT / "Makefile").read_text(encoding="utf-8"))


def built_as_in_the_dockerfile(at: Path) -> set[str]:
    """Return what lies in the wheel that the Dockerfile's first stage builds of what it copies."""
    stage = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("FROM ")[1]
    at.mkdir()
    for name in " ".join(re.findall(r"^COPY (.*) \S+$", stage, re.MULTILINE)).split():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, at / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, at)
    (command,) = re.findall(r"^RUN pip (wheel .*)$", stage, re.MULTILINE)
    run(sys.executable, "-m", "pip", *command.replace("/dist", "dist").split(), at=at)
    return contents(*(at / "dist").glob("*.whl"))


def contents(wheel: Path) -> set[str]:
    """Return the names of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def main(python: str) -> None:
    """Build, install and try."""
    with tempfile.TemporaryDirectory() as text:
        at = Path(text)
        run(sys.executable, "-m", "build", "--outdir", at / "dist", ROOT, at=at)
        (wheel,), (sdist,) = (at / "dist").glob("*.whl"), (at / "dist").glob("*.tar.gz")
        with tarfile.open(sdist) as tar:
            names = {name.partition("/")[2] for name in tar.getnames()}
        if missing := {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "src/augcond/py.typed"} - names:
            sys.exit(f"{sdist.name} lacks {', '.join(sorted(missing))}")
        if other := built_as_in_the_dockerfile(at / "docker") ^ contents(wheel):
            sys.exit(f"the Dockerfile builds another wheel: {', '.join(sorted(other))}")
        run(python, "-m", "venv", "env", at=at)
        inside = at / "env" / "bin"
        run(inside / "pip", "install", "--quiet", *pinned(), at=at)
        run(inside / "pip", "install", "--quiet", wheel, at=at)
        run(inside / "pip", "check", at=at)
        elsewhere = at / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "small.yaml").write_text(CONFIG, encoding="utf-8")
        for words in COMMANDS:
            run(inside / "augcond", *words, at=elsewhere)
        run(inside / "python", "-c", "import augcond; [getattr(augcond, name) for name in augcond.__all__]", at=at)
        # What the wheel says of its types, as strictly as can be asked, to a script of somebody's.
        shutil.copy(ROOT / "docs" / "examples" / "in_memory.py", elsewhere)
        run(inside / "pip", "install", "--quiet", "mypy", at=at)
        run(inside / "mypy", "--strict", "in_memory.py", at=elsewhere)
        run(inside / "python", "in_memory.py", at=elsewhere)
        print(f"{wheel.name} and {sdist.name} work")  # noqa: T201 - a tool


if __name__ == "__main__":
    main(*(sys.argv[1:] or [sys.executable]))
