"""Classifiers trained on real and synthetic images. Importing this package imports no PyTorch."""
