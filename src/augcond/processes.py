"""Processes of augcond's own code, which find it wherever it was imported from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import augcond


def start_process(module: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start `python -m MODULE`.

    Not by `multiprocessing`: that runs the caller's script anew in the child, which a script without a guard of its
    main part does not survive.

    Args:
        module: of augcond.
        arguments: behind it.
        options: of `subprocess.Popen`.
    """
    found = [str(Path(augcond.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(  # noqa: S603 - of ourselves
        [sys.executable, "-P", "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(found)},
        **options,
    )
