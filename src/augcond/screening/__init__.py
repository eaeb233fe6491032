"""Screening: a judge keeps or drops generated images before anything is trained on them."""
