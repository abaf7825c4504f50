"""Profiles of the generation pipeline, one TOML file each: sizes and weights, never other code. Imports no torch."""

import tomllib
from importlib.resources import files

from voxelight.models.errors import NotFound
from voxelight.neuro.profiles.options import PARTS_OF_STAGE, GenerationOptions
from voxelight.neuro.profiles.profile import PARTS, Part, Profile, SubjectWeights, check_trials

__all__ = [
    "PARTS",
    "PARTS_OF_STAGE",
    "GenerationOptions",
    "Part",
    "Profile",
    "SubjectWeights",
    "check_trials",
    "find_profile",
    "list_profiles",
]


def list_profiles() -> tuple[str, ...]:
    """Return the names of the packaged profiles, sorted."""
    names = (path.name for path in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def find_profile(name: str) -> Profile:
    """Return a packaged profile.

    Parameters
    ----------
    name : one of `list_profiles`

    Raises
    ------
    NotFound
        No profile has this name.
    """
    if name not in list_profiles():
        raise NotFound(f"the profile {name!r}", f"one of {', '.join(list_profiles())}", "Correct the name.")
    text = (files(__name__) / f"{name}.toml").read_text(encoding="utf-8")
    return Profile(name=name, **tomllib.loads(text))
