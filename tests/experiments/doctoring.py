"""Checks that go wrong, for the doctor's other process to make."""

import os
import signal
import time

from augcond.experiments.doctor.findings import Finding


def raises(subject):
    raise ValueError("a library\nsaid so")


def dies(subject):
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(subject):
    time.sleep(600)


def looks(subject):
    return Finding("ok", str(subject.scratch), measured={"process": os.getpid()})
