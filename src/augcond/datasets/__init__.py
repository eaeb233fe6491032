"""Labelled real images."""
