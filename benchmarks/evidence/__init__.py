"""The evidence: what synthetic images are worth on the built-in world, measured and written down by two commands."""
