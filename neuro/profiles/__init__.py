"""Profiles of the generation pipeline, one TOML file each: sizes and weights, never other code. Imports no torch."""

from voxelight.models.packaged import list_packaged, read_packaged
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
    return list_packaged(__name__)


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
    return Profile(name=name, **read_packaged(__name__, name, "profile"))
