"""Recipes that turn source images into a conditioning.

`mix`, `cut` and `drop` are pure functions on tensors; `composing` composes them as `recipes` say; `streams` gives each
row its random numbers. Importing this package does not import PyTorch.
"""

from augcond.conditioning.base import Conditioning, Draws, InitialImage, Prepared, Viewer
from augcond.conditioning.composing import combine, prepare
from augcond.conditioning.recipes import (
    ACROSS_RECIPES,
    RECIPES,
    Recipe,
    check_conditioning,
    find_recipe,
    recipe_of_row,
    recipes_of,
    register_recipe,
)

__all__ = [
    "ACROSS_RECIPES",
    "RECIPES",
    "Conditioning",
    "Draws",
    "InitialImage",
    "Prepared",
    "Recipe",
    "Viewer",
    "check_conditioning",
    "combine",
    "find_recipe",
    "prepare",
    "recipe_of_row",
    "recipes_of",
    "register_recipe",
]
