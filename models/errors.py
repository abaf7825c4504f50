"""The one shape of a refusal: what was found, what was expected, what to do."""


class VoxelightError(Exception):
    """Base of every error that a person is meant to read.

    Parameters
    ----------
    found : str
        What is there, with its numbers.
    expected : str
        What would have been accepted.
    remedy : str
        What to do next, as a sentence.
    """

    def __init__(self, found: str, expected: str, remedy: str) -> None:
        super().__init__(found, expected, remedy)
        self.found = found
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        return f"Found {self.found}; expected {self.expected}. {self.remedy}"


class BadInput(VoxelightError, ValueError):
    """What a person handed in can't be used as it is."""


class NotFound(VoxelightError, LookupError):
    """A name or an id that nothing answers to."""


class Conflict(VoxelightError):
    """The request contradicts what is already stored."""


class Refused(VoxelightError):
    """The request is understood and not allowed, consent missing for one."""


class Unauthenticated(Refused):
    """Nobody has said who asks, or nobody believes it."""


class Unavailable(VoxelightError):
    """Something outside this process is missing: a network, a device, a file of weights."""


class NotInstalled(Unavailable):
    """What was asked for needs something that this installation was never given: a graph, weights, a package."""
