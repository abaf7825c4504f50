"""What is no fault of an item: a full disk, or an object store that is away for a while."""

import errno
import time
import uuid
from collections.abc import Callable

from voxelight.storage.joblog import add_event
from voxelight.storage.stores import Stores

_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS})
_NETWORK = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})
_CLIENTS = ("botocore", "aiobotocore", "aiohttp")  # of object stores
_FIRST_S, _LONGEST_S, _ASK_S = 0.5, 30.0, 0.5


def is_store_away(problem: BaseException) -> bool:
    """Whether files could not be written or read: a full or failing disk, an object store that does not answer."""
    if isinstance(problem, FileNotFoundError | PermissionError | FileExistsError):
        return False
    if isinstance(problem, OSError) and (problem.errno in _DISK | _NETWORK or isinstance(problem, TimeoutError)):
        return True
    if isinstance(problem, ConnectionError) or type(problem).__module__.partition(".")[0] in _CLIENTS:
        return True
    # Clients wrap what they met; so do writers of files of numbers, whose own error names no number.
    inner = problem.__cause__ or problem.__context__
    return inner is not None and is_store_away(inner)


class Patience:
    """Waits for a store of files to come back, in pauses that grow, for so long and no longer.

    Parameters
    ----------
    seconds : in all
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._pause = _FIRST_S

    def wait(self, go_on: Callable[[], None]) -> bool:
        """Wait a little; False where it was waited for long enough.

        Parameters
        ----------
        go_on : raises where the work is to be left alone
        """
        end = min(time.monotonic() + self._pause, self._until)
        if time.monotonic() >= self._until:
            return False
        self._pause = min(2 * self._pause, _LONGEST_S)
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _ASK_S))
            go_on()
        return True


class Outages:
    """What a worker waits for, item by item.

    Parameters
    ----------
    seconds : that an item waits in all
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[tuple[uuid.UUID, uuid.UUID | None], Patience] = {}

    def wait_for(
        self,
        stores: Stores,
        job_id: uuid.UUID,
        run_id: uuid.UUID | None,
        problem: Exception,
        go_on: Callable[[], None],
    ) -> bool:
        """Wait where files can't be read or written for now; False where that is not it, or lasts too long.

        Parameters
        ----------
        stores : in whose database the log of the job is
        job_id, run_id : the job, and its item where it is about one
        problem : what was met
        go_on : raises where the work is to be left alone
        """
        if not is_store_away(problem):
            return False
        if (job_id, run_id) not in self._waiting:
            self._waiting[job_id, run_id] = Patience(self._seconds)
            with stores.sessions.begin() as session:
                message = f"Files can't be read or written ({type(problem).__name__}: {problem}); it is tried again."
                add_event(session, job_id, message, run_id, "warning")
        waited = self._waiting[job_id, run_id].wait(go_on)
        if not waited:
            del self._waiting[job_id, run_id]
        return waited

    def forget(self, job_id: uuid.UUID) -> None:
        """Begin anew with a job."""
        self._waiting = {key: kept for key, kept in self._waiting.items() if key[0] != job_id}
