"""TOML files that lie beside the code: recipes, profiles. Imports no torch."""

import tomllib
from importlib.resources import files
from typing import Any

from voxelight.models.errors import NotFound


def list_packaged(package: str) -> tuple[str, ...]:
    """Return the names of the TOML files of a package, sorted, without their ending."""
    names = (path.name for path in files(package).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def read_packaged(package: str, name: str, what: str) -> dict[str, Any]:
    """Return what a TOML file of a package holds.

    Parameters
    ----------
    package : e.g. ``voxelight.neuro.recipes``
    name : one of `list_packaged`
    what : such files are, in the words of a refusal, e.g. ``recipe``

    Raises
    ------
    NotFound
        The package has no such file.
    """
    known = list_packaged(package)
    if name not in known:
        raise NotFound(f"the {what} {name!r}", f"one of {', '.join(known)}", "Correct the name.")
    return tomllib.loads((files(package) / f"{name}.toml").read_text(encoding="utf-8"))
