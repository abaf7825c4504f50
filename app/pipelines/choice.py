"""Which scans a job takes: those that are named, found or fit; never one that is held for a person to look at."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from voxelight.app.schemas import JobRequest, ScanQuery
from voxelight.models.errors import BadInput, NotFound, Refused
from voxelight.storage.queries import select_scans
from voxelight.storage.schema import Dataset, ImagingSession, Scan, Subject

_AT_ONCE = 500  # ids in one question; databases take only so many
_NAMED = 5


@dataclass(frozen=True)
class Choice:
    """The scans to take, and in words what was left out."""

    scans: list[Scan]
    notes: tuple[str, ...] = ()


def choose_scans(session: Session, dataset: Dataset, request: JobRequest, kinds: Sequence[str] = ()) -> Choice:
    """Return the scans of a request, in the order of its ids, else as they came in.

    Parameters
    ----------
    session : open session
    dataset : where they lie
    request : names scans by ids or by a query, or takes all of the data set
    kinds : that are taken where the request names none; empty: any

    Raises
    ------
    NotFound
        There is no scan of an id.
    BadInput
        A scan belongs to another data set, or the query finds none.
    Refused
        A scan that was named is held.
    """
    if request.scans:
        scans = _read(session, list(dict.fromkeys(request.scans)))
        for scan in scans:
            _refuse_stranger(scan, dataset)
            _refuse_held(scan)
        return Choice(scans)
    query = request.query or ScanQuery()
    fitting = select_scans().where(*find_conditions(dataset.id, query, kinds))
    found = list(session.scalars(fitting.order_by(Scan.created_at, Scan.id)))
    if request.query is not None and not found:
        asked = ", ".join(f"{name} {value!r}" for name, value in query.model_dump(exclude_none=True).items())
        raise BadInput(
            f"no scan of data set {dataset.name} with {asked or 'no condition'} that the recipe can take",
            "a query that finds at least one",
            "Widen the query; in a name * stands for any letters and ? for one.",
        )
    return _leave_held(found)


def find_conditions(dataset_id: uuid.UUID, query: ScanQuery, kinds: Sequence[str] = ()) -> list[ColumnElement[bool]]:
    """Return what holds for the scans of a data set that fit a query, for a question that joins visit and subject.

    Parameters
    ----------
    dataset_id : of the data set
    query : every condition that is set must hold
    kinds : that are taken where the query names none; empty: any
    """
    conditions: list[ColumnElement[bool]] = [Subject.dataset_id == dataset_id]
    if query.kind or kinds:
        conditions.append(Scan.kind.in_((query.kind,) if query.kind else kinds))
    if query.subject:
        conditions.append(Subject.label == query.subject)
    if query.session:
        conditions.append(ImagingSession.label == query.session)
    if query.name:
        conditions.append(Scan.name.ilike(_read_pattern(query.name), escape="\\"))
    return conditions


def _read_pattern(pattern: str) -> str:
    """Return a pattern of file names as SQL writes it."""
    for letter in "\\%_":
        pattern = pattern.replace(letter, f"\\{letter}")
    return pattern.replace("*", "%").replace("?", "_")


def _read(session: Session, ids: list[uuid.UUID]) -> list[Scan]:
    scans: dict[uuid.UUID, Scan] = {}
    for start in range(0, len(ids), _AT_ONCE):
        some = select_scans().where(Scan.id.in_(ids[start : start + _AT_ONCE]))
        scans |= {scan.id: scan for scan in session.scalars(some)}
    missing = [each for each in ids if each not in scans]
    if missing:
        raise NotFound(f"no scan {missing[0]}", "the id of a stored scan", "List the scans and take an id from there.")
    return [scans[each] for each in ids]


def _refuse_stranger(scan: Scan, dataset: Dataset) -> None:
    if scan.imaging_session.subject.dataset_id != dataset.id:
        raise BadInput(
            f"{scan.name} of another data set, {scan.imaging_session.subject.dataset.name}",
            f"scans of data set {dataset.name}",
            "Choose scans of one data set.",
        )


def _refuse_held(scan: Scan) -> None:
    if scan.held:
        raise Refused(
            f"{scan.name}, which is held: {scan.held}",
            "a scan that nobody needs to look at first",
            "Look at it on the page Upload and release it, or leave it out.",
        )


def _leave_held(scans: list[Scan]) -> Choice:
    held = [scan for scan in scans if scan.held]
    if not held:
        return Choice(scans)
    named = ", ".join(f"{scan.name} ({scan.held})" for scan in held[:_NAMED])
    more = f" and {len(held) - _NAMED} more" if len(held) > _NAMED else ""
    taken = [scan for scan in scans if not scan.held]
    return Choice(taken, (f"Left out, held for a person to look at: {named}{more}.",))
