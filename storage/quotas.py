"""How much people may store: bytes of scans, and of uploads under way, of a project and of who brought them."""

from dataclasses import dataclass

from sqlalchemy import Connection, Select, func, select, text
from sqlalchemy.orm import Session

from voxelight.storage.schema import Blob, Dataset, ImagingSession, Scan, Subject, Upload, utc_now
from voxelight.storage.uploads import OverQuota

_LOCK = 0x71756F74  # one number that all processes of this application share


@dataclass(frozen=True)
class Quotas:
    """Limits in bytes; None: none.

    Parameters
    ----------
    project : of all data sets of a project
    principal : of all that one account has brought; what comes from the shell counts for the project alone
    """

    project: int | None = None
    principal: int | None = None

    def reserve(self, session: Session, dataset: Dataset, owner: str, size: int) -> None:
        """Refuse what does not fit; until the transaction ends, nothing else is let in.

        Parameters
        ----------
        session : in whose transaction the row of it is written next
        dataset : where it belongs
        owner : who brings it; empty: the shell
        size : bytes

        Raises
        ------
        OverQuota
            It would be more than is allowed.
        """
        if self.project is None and (self.principal is None or not owner):
            return
        # Not through the session, which may not see everything on behalf of somebody.
        connection = session.connection()
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        else:
            connection.execute(text("DELETE FROM upload WHERE size < 0"))  # takes the lock of writers
        if self.project is not None:
            used = _sum(connection, project=dataset.project)
            _refuse(f"the project {dataset.project}", used, size, self.project)
        if self.principal is not None and owner:
            _refuse(owner, _sum(connection, owner=owner), size, self.principal)


def _refuse(whose: str, used: int, size: int, limit: int) -> None:
    if used + size > limit:
        raise OverQuota(
            f"{size} bytes more for {whose}, with {used} of {limit} bytes in use",
            f"at most {max(0, limit - used)} bytes",
            "Delete what is not needed, cancel uploads that wait, or ask an administrator for more room.",
        )


def _sum(connection: Connection, project: str | None = None, owner: str | None = None) -> int:
    """Return the bytes of scans, and those that uploads under way have announced."""
    stored = (
        select(func.coalesce(func.sum(Blob.size), 0))
        .select_from(Scan)
        .join(Blob, Blob.sha256 == Scan.blob_sha256)
        .join(ImagingSession, ImagingSession.id == Scan.imaging_session_id)
        .join(Subject, Subject.id == ImagingSession.subject_id)
        .join(Dataset, Dataset.id == Subject.dataset_id)
    )
    coming = (
        select(func.coalesce(func.sum(Upload.size), 0))
        .select_from(Upload)
        .join(Dataset, Dataset.id == Upload.dataset_id)
        .where(Upload.status == "open", Upload.expires_at > utc_now())
    )

    def narrow(query: Select[int], table: type[Scan] | type[Upload]) -> Select[int]:
        return query.where(Dataset.project == project) if owner is None else query.where(table.owner == owner)

    return int(connection.scalar(narrow(stored, Scan)) or 0) + int(connection.scalar(narrow(coming, Upload)) or 0)
