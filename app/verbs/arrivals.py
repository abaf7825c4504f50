"""What has come whole: checked in the background, one after another, and what became of it noted with its upload."""

import logging
import math
import threading
import time
import traceback
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property
from typing import Any, cast

from sqlalchemy import Table, select, update
from sqlalchemy.orm import Session

from voxelight.app.problem import describe_problem
from voxelight.app.schemas_uploads import DropAnswer, Place, ReadPlace, RefusedPart
from voxelight.app.verbs.drops import Dropped, Drops, stands_alone
from voxelight.models.errors import VoxelightError
from voxelight.storage.formats.names import find_suffix
from voxelight.storage.schema import Scan, Upload, utc_now
from voxelight.storage.stores import Stores
from voxelight.storage.uploads import Gone, Locked, UploadFiles

_AT_ONCE = 2
_SWEEP_EVERY_S = 3600.0
REFUSALS_EXPIRE_AFTER = timedelta(days=1)
_log = logging.getLogger(__name__)


class Arrivals:
    """Uploads that are whole.

    Parameters
    ----------
    stores : where rows are kept
    drops : which takes in files
    files : where the bytes of uploads lie
    """

    def __init__(self, stores: Stores, drops: Drops, files: UploadFiles) -> None:
        self._stores = stores
        self._drops = drops
        self._files = files
        self._swept = -math.inf
        self._checking: set[uuid.UUID] = set()
        self._lock = threading.Lock()

    def is_sweep_due(self) -> bool:
        """Return whether it is time to look for uploads whose time is over, and take that as done."""
        with self._lock:
            due = time.monotonic() - self._swept > _SWEEP_EVERY_S
            self._swept = time.monotonic() if due else self._swept
        return due

    def check_soon(self, upload: Upload) -> None:
        """Check an upload in the background, unless that is under way."""
        place = find_place(upload)
        with self._lock:
            if upload.id in self._checking:
                return
            self._checking.add(upload.id)
        self._pool.submit(self._check, upload.id, upload.name, place)

    def _check(self, upload_id: uuid.UUID, name: str, place: Place) -> None:
        try:
            with self._files.held(upload_id):
                self.take_in([(upload_id, name)], place)
        except (Locked, Gone):
            pass  # another process is at it, or was
        except Exception as error:  # else it would be checked again and again, and nobody would know
            # Without its text, which may repeat a name.
            where = "".join(traceback.format_tb(error.__traceback__))
            _log.error("The check of an upload ended by %s, which nobody foresaw\n%s", type(error).__name__, where)
            self._note([(upload_id, name)], DropAnswer(scans=[], problems=[_unforeseen(name, error)]))
            self._files.remove(upload_id)
        finally:
            with self._lock:
                self._checking.discard(upload_id)

    def take_in(self, uploads: Sequence[tuple[uuid.UUID, str]], place: Place) -> None:
        """Take in files that are whole, and note with each what became of them."""
        files = [Dropped(self._files.path(upload_id), name) for upload_id, name in uploads]
        self._note(uploads, self._drops.take_in(files, place))
        for upload_id, _ in uploads:
            self._files.remove(upload_id)

    def _note(self, uploads: Sequence[tuple[uuid.UUID, str]], outcome: DropAnswer) -> None:
        """Note what became of files; a series belongs to all that are not refused by their own name.

        What became scans of other names loses its own, which may name a person; what is refused is soon forgotten.
        """
        scans = [str(scan.id) for scan in outcome.scans]
        names = {name for _, name in uploads}
        alone = len(uploads) == 1
        shared = [part.model_dump() for part in outcome.problems if alone or part.name not in names]
        own = {part.name: [part.model_dump()] for part in outcome.problems if not alone and part.name in names}
        with self._stores.sessions.begin() as session:
            for upload_id, name in uploads:
                became = {"scans": [], "problems": own[name]} if name in own else {"scans": scans, "problems": shared}
                fate: dict[str, Any] = {"status": "refused", "expires_at": utc_now() + REFUSALS_EXPIRE_AFTER}
                if became["scans"]:
                    own_them(session, upload_id, [scan.id for scan in outcome.scans])
                    fate = {"status": "done", "name": name if stands_alone(name) else f"file{find_suffix(name)}"}
                session.execute(update(Upload).where(Upload.id == upload_id).values(**fate, **became))

    def close(self) -> None:
        """Wait for the checks that run."""
        if "_pool" in self.__dict__:
            self._pool.shutdown(cancel_futures=True)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="intake")


def find_place(upload: Upload) -> ReadPlace:
    """Return where an upload belongs and how it is read."""
    return ReadPlace(
        dataset=upload.dataset.name,
        subject=upload.subject,
        session=upload.session,
        prefer=upload.prefer,  # type: ignore[arg-type]  # only known words are written
        volume=upload.volume,
    )


def own_them(session: Session, upload_id: uuid.UUID, scans: Sequence[uuid.UUID]) -> None:
    """Note who brought scans that came by an upload."""
    owner = session.scalar(select(Upload.owner).where(Upload.id == upload_id))
    if owner:
        # By the table, which the audit log does not follow: a column that the door keeps up is nobody's deed.
        table = cast(Table, Scan.__table__)
        session.execute(update(table).where(table.c.id.in_(scans)).values(owner=owner))


def _unforeseen(name: str, error: Exception) -> RefusedPart:
    found = f"an error that nobody foresaw ({type(error).__name__})"
    problem = VoxelightError(found, "an answer", "Report it with the server's log of this minute.")
    return RefusedPart(name=name, problem=describe_problem(problem))
