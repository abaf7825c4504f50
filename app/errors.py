"""The one table from an error to an answer: its HTTP status and its exit code."""

from voxelight.models.errors import (
    BadInput,
    Conflict,
    NotFound,
    NotInstalled,
    Refused,
    Unauthenticated,
    Unavailable,
    VoxelightError,
)
from voxelight.storage.uploads import Gone, Locked, OverQuota, TooLarge, WrongChecksum

ANSWERS: dict[type[VoxelightError], tuple[int, int]] = {
    BadInput: (422, 2),
    NotFound: (404, 3),
    Conflict: (409, 4),
    Refused: (403, 5),
    Unauthenticated: (401, 5),
    Unavailable: (503, 6),
    NotInstalled: (422, 6),  # asked again later, it would be refused again: no fault of the server, and no outage
    Gone: (410, 3),
    TooLarge: (413, 2),
    OverQuota: (507, 5),
    Locked: (423, 4),
    WrongChecksum: (460, 2),
}


def find_answer(error: VoxelightError) -> tuple[int, int]:
    """Return (HTTP status, exit code), looked up along the class's ancestry."""
    return next((ANSWERS[cls] for cls in type(error).__mro__ if cls in ANSWERS), (500, 1))
