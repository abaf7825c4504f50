"""What was taken out of headers, sealed: by the new UID of a series, in the database."""

import uuid
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from voxelight.models.errors import NotFound
from voxelight.storage.identity import IdentityKey, SeriesIdentity
from voxelight.storage.schema import IdentityLink, ImagingSession, Scan, Subject

_KIND = "series"


def has_links(session: Session) -> bool:
    """Whether anything was sealed with the key of this installation."""
    return session.scalar(select(IdentityLink.id).limit(1)) is not None


def write_link(session: Session, key: IdentityKey, dataset_id: uuid.UUID, identity: SeriesIdentity) -> None:
    """Seal what a series was; what is known of it already stays."""
    row = _find(session, dataset_id, identity.series_uid)
    content: dict[str, Any] = {"uids": identity.uids, "patient": identity.patient, "days": identity.days}
    if row is None:
        row = IdentityLink(dataset_id=dataset_id, kind=_KIND, keyed_hash=_hash(identity.series_uid))
        session.add(row)
    else:
        content["uids"] = key.open(row.sealed, _context(row))["uids"] | content["uids"]
    row.sealed = key.seal(content, _context(row))
    session.flush()


def read_link(session: Session, key: IdentityKey, dataset_id: uuid.UUID, series_uid: str) -> SeriesIdentity:
    """Open what a series was.

    Raises
    ------
    NotFound
        Nothing is known of it.
    Refused
        Another key sealed it.
    Unavailable
        The key is missing.
    """
    row = _find(session, dataset_id, series_uid)
    if row is None:
        raise NotFound(
            f"no identity link of series {series_uid}",
            "a series that came in as DICOM and was cleaned here",
            "Only such a series has a study to go back to.",
        )
    return SeriesIdentity(series_uid=series_uid, **key.open(row.sealed, _context(row)))


def sweep_links(session: Session, dataset_id: uuid.UUID) -> int:
    """Remove the links of series that no scan of a data set has any more, and return how many those were."""
    rows = session.scalars(select(IdentityLink).where(IdentityLink.dataset_id == dataset_id)).all()
    if not rows:
        return 0
    left = (
        select(Scan.facts)
        .join(Scan.imaging_session)
        .join(ImagingSession.subject)
        .where(Subject.dataset_id == dataset_id, Scan.kind == "volume")
    )
    named = {_hash(str(facts["series_uid"])) for facts in session.scalars(left) if "series_uid" in facts}
    gone = [row.id for row in rows if row.keyed_hash not in named]
    for start in range(0, len(gone), 500):
        session.execute(delete(IdentityLink).where(IdentityLink.id.in_(gone[start : start + 500])))
    return len(gone)


def _find(session: Session, dataset_id: uuid.UUID, series_uid: str) -> IdentityLink | None:
    query = select(IdentityLink).filter_by(dataset_id=dataset_id, kind=_KIND, keyed_hash=_hash(series_uid))
    return session.scalar(query)


def _hash(series_uid: str) -> str:
    """Return the keyed hash that a new UID is made of."""
    return f"{int(series_uid.rpartition('.')[2]):064x}"


def _context(row: IdentityLink) -> str:
    return f"{row.dataset_id}/{row.kind}/{row.keyed_hash}"
