"""Synthetic training images by augmented conditioning of pretrained diffusion models."""
