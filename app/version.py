"""Which version of this software runs."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def find_version() -> str:
    """Return the version of this software."""
    try:
        return version("voxelight")
    except PackageNotFoundError:
        return "unknown"
