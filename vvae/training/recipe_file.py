"""Recipes in files: YAML or JSON, one's own or those that ship with vvae."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from vvae.errors import SpecError
from vvae.training.recipe import Recipe

RECIPES = Path(__file__).parent / "recipes"
ENDINGS = (".yaml", ".yml", ".json")


def shipped() -> dict[str, Path]:
    """The recipes that ship with vvae, by name."""
    return {file.stem: file for file in sorted(RECIPES.glob("*.yaml"))}


def read(name: str | Path) -> Recipe:
    """The recipe in a YAML or JSON file, or one that ships with vvae, by its name (`vvae_small`).

    Paths in it are relative to the folder that the command runs in.

    Raises:
        SpecError: no such recipe, no YAML, unknown fields, values of a wrong type, or parts that do not go together.
    """
    known = shipped()
    file = known.get(str(name), Path(name))
    if file.suffix not in ENDINGS:
        raise SpecError(f"no recipe {name}; give a file that ends in {', '.join(ENDINGS)}, or {', '.join(known)}")
    try:
        fields = yaml.safe_load(file.read_text())
    except OSError as error:
        raise SpecError(f"{name}: cannot be read ({error.strerror}); give a recipe, or {', '.join(known)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{name} is no YAML: {' '.join(str(error).split())}; write it as one") from None
    if not isinstance(fields, dict):
        raise SpecError(f"{name} holds {type(fields).__name__}, not fields; give model, data and stages")
    return Recipe(**_plain(fields))


def _plain(fields: Any) -> Any:
    """What YAML read as JSON would be read: dates become text."""
    return json.loads(json.dumps(fields, default=str))
