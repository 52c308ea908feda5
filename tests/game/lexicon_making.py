"""WordNet as it is installed, and the recipe that reads it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

RECIPES = Path(__file__).parents[2] / "recipes"
WORDNET = Path("/usr/share/wordnet")
NOT_INSTALLED = "WordNet's database is not installed (Debian: wordnet-base)"


def recipe(name: str) -> ModuleType:
    """A module of `recipes/`, which is no package; its neighbours are found beside it."""
    if str(RECIPES) not in sys.path:
        sys.path.append(str(RECIPES))
    return importlib.import_module(name)


def is_installed() -> bool:
    return (WORDNET / "data.noun").exists()
