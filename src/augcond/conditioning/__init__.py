"""Recipes that turn source images into a conditioning."""
