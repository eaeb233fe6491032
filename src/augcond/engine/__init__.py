"""Engines that run the shards of a plan."""
