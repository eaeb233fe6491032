"""`python -m augcond.cli`: the same as `python -m augcond`, for scripts of 0.1."""

from __future__ import annotations

from augcond.__main__ import main

main()
