"""Pretrained image generators behind one interface."""
