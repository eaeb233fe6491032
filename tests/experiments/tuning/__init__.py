"""Tests of `augcond tune`."""
