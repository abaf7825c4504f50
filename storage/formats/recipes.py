"""Segmentation recipes as TOML files that a person reads and edits."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError

from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.models.errors import BadInput
from voxelight.storage.formats.streams import replacing

_SCALED = {"method", "percentiles"}
_SHOWN = {"zscore": _SCALED, "minmax": _SCALED, "fixed": {"method", "clip", "mean", "deviation"}}


def read_recipe(path: Path) -> SegmentationRecipe:
    """Read a recipe.

    Raises
    ------
    BadInput
        There is no such file, it is no TOML, or an option is unknown or has no use.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise BadInput(f"no recipe file {path}", "a TOML file", "Check the path, or name a packaged recipe.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name}, which is no TOML ({error})", "a recipe in TOML", "Correct the file.") from None
    return check_recipe(told, path.name)


def check_recipe(told: Mapping[str, Any], name: str) -> SegmentationRecipe:
    """Return what a file or a request says as a recipe.

    Raises
    ------
    BadInput
        An option is unknown or has no use.
    """
    try:
        return SegmentationRecipe.model_validate(dict(told))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the recipe"
        raise BadInput(f"{place} in {name}: {first['msg'].lower()}", "options that a recipe has, with values of use",
                       "Correct it; docs/training.md names every option.") from None  # fmt: skip


def write_recipe(path: Path, recipe: SegmentationRecipe, reasons: Mapping[str, str]) -> None:
    """Write a recipe, with the reason of a choice behind its line.

    Parameters
    ----------
    path : made or replaced, whole
    recipe : everything that differs from what a recipe says by itself is written, training options all
    reasons : field -> words
    """
    told = recipe.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    told["normalisation"] = recipe.normalisation.model_dump(mode="json", include=_SHOWN[recipe.normalisation.method])
    if recipe.training is not None:
        told["training"] = recipe.training.model_dump(mode="json", exclude_none=True)
    with replacing(path) as file:
        file.write(tomlkit.dumps(_fill(tomlkit.document(), told, reasons)).encode())


def _fill(table: Any, told: Mapping[str, Any], reasons: Mapping[str, str]) -> Any:
    plain = {key: value for key, value in told.items() if not isinstance(value, Mapping)}
    nested = {key: value for key, value in told.items() if isinstance(value, Mapping)}
    for key, value in plain.items():
        table.add(key, value)
        if key in reasons:
            table[key].comment(reasons[key])
    for key, value in nested.items():
        inner = _fill(tomlkit.table(), {str(name): each for name, each in value.items()}, reasons)
        if key in reasons:
            inner.comment(reasons[key])
        table.add(key, inner)
    return table
