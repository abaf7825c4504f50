"""An error in the form of RFC 9457, the same at every door."""

from voxelight.app.errors import find_answer
from voxelight.app.schemas import Problem
from voxelight.models.errors import VoxelightError

KINDS = {
    400: ("bad-request", "Can't be read"),
    401: ("unauthenticated", "Not signed in"),
    403: ("refused", "Not allowed"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    409: ("conflict", "Conflict with what is stored"),
    410: ("gone", "Not there any more"),
    412: ("changed-meanwhile", "Changed meanwhile"),
    413: ("too-large", "Too large"),
    415: ("wrong-media-type", "Of another media type"),
    416: ("no-such-range", "No such range"),
    421: ("wrong-host", "Meant for another host"),
    422: ("bad-input", "Can't be used as it is"),
    423: ("locked", "In use by another request"),
    429: ("too-many-requests", "Too many requests"),
    460: ("wrong-checksum", "Damaged on its way"),
    500: ("internal", "Fault of this software"),
    503: ("unavailable", "Not available now"),
    507: ("quota-reached", "No more room for this"),
}


def describe_problem(error: VoxelightError, status: int | None = None) -> Problem:
    """Return an error as a problem; its HTTP status is that of the table of errors, unless given."""
    status = status or find_answer(error)[0]
    kind, title = KINDS.get(status, ("other", "Refused"))
    return Problem(
        type=f"urn:voxelight:problem:{kind}",
        title=title,
        status=status,
        detail=str(error),
        found=error.found,
        expected=error.expected,
        remedy=error.remedy,
    )
