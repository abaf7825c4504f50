"""A problem of the server as the exception that the same refusal raises everywhere else: found, expected, remedy."""

import httpx
from pydantic import ValidationError

from voxelight.app.schemas import Problem
from voxelight.models.errors import BadInput, Conflict, NotFound, Refused, Unauthenticated, Unavailable, VoxelightError


class ChangedMeanwhile(Conflict):
    """Somebody changed it since the version that was named (412)."""


class Gone(NotFound):
    """An upload whose time is over (410)."""


_KINDS: dict[int, type[VoxelightError]] = {
    401: Unauthenticated,
    403: Refused,
    404: NotFound,
    409: Conflict,
    410: Gone,
    412: ChangedMeanwhile,
    423: Conflict,
    503: Unavailable,
}


def read_error(answer: httpx.Response) -> VoxelightError:
    """Return what an answer of 400 or more says as an exception; its body must have been read.

    `status` of the exception is that of the answer.
    """
    status = answer.status_code
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        error: VoxelightError = Unavailable(
            f"{status} {answer.reason_phrase} from {answer.url} without a word of Voxelight",
            "an answer of a Voxelight server",
            "Check the address; a proxy between may have answered in its place.",
        )
    else:
        error = make_error(problem)
    error.status = status  # type: ignore[attr-defined]  # for who needs the number
    return error


def make_error(problem: Problem) -> VoxelightError:
    """Return a problem as an exception."""
    default = BadInput if problem.status < 500 else VoxelightError
    return _KINDS.get(problem.status, default)(problem.found, problem.expected, problem.remedy)


def say_no_answer(error: httpx.TransportError, url: object) -> Unavailable:
    """Return that a server does not answer as an exception."""
    return Unavailable(
        f"no answer from {url} ({type(error).__name__}: {error})",
        "a Voxelight server",
        "Check that it runs (voxelight serve) and that the address is its own.",
    )
