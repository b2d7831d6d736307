"""Recipes as a command line makes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pvt_train.recipe.keys import Recipe
from pvt_train.recipe.read import make_recipe, read_values


def load_recipe(path: Path | None, keys: Mapping[str, Any]) -> Recipe:
    """The recipe of a file, with what is given in place of its own values."""
    return make_recipe(read_values(path, keys), str(path or "recipe"))
