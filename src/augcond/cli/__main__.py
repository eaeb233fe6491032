"""`python -m augcond.cli`, which launchers of several processes need."""

from __future__ import annotations

from augcond.cli import main

main()
