"""An answer with the version that it had."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Tagged(Generic[T]):
    """What the server showed, and the `ETag` to send back so that nobody changes what they have not seen.

    Parameters
    ----------
    value : the answer
    etag : its version, with the quotation marks
    """

    value: T
    etag: str


def tag_version(version: int | None) -> str | None:
    """Return the `ETag` of a row that counts its changes; None: whichever version there is."""
    return None if version is None else f'"{version}"'
