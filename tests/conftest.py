"""What holds for every test."""

import os
import signal

import pytest
from hypothesis import settings

from augcond import guest

# Test tensors are tiny: threads cost more than they give, and two test processes share two cores. Set before PyTorch
# is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says nothing: other processes share the cores.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# In the background of a shell SIGINT may be ignored, which the programs that tests start and interrupt would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Warnings are errors in tests, of libraries that augcond calls too.
guest.warnings_stay_errors = True


@pytest.fixture(autouse=True)
def _no_cache_of_the_users(tmp_path_factory, monkeypatch):
    """Let nothing be known that another test, or the user, has found out."""
    monkeypatch.setenv("AUGCOND_CACHE", str(tmp_path_factory.getbasetemp() / "no-cache" / os.urandom(8).hex()))
