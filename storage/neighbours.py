"""Questions about embeddings: what they belong to, and what has none yet."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session, joinedload

from voxelight.storage.queries import find_dataset
from voxelight.storage.schema import (
    Artifact,
    Embedding,
    EmbeddingSpace,
    ImagingSession,
    Job,
    Reconstruction,
    Run,
    Scan,
    Segmentation,
    Subject,
)

R = TypeVar("R", Run, Scan, Artifact)


@dataclass(frozen=True, eq=False)
class Neighbour:
    """An embedding with all that it belongs to; `run`, `file`, `decoded` and `segmentation` where there is one."""

    embedding: Embedding
    scan: Scan
    run: Run | None
    file: Artifact | None
    decoded: Reconstruction | None
    segmentation: Segmentation | None


def count_spaces(session: Session) -> list[tuple[EmbeddingSpace, int]]:
    """Return every space with the number of its vectors, in the order of their names."""
    counted = (
        select(EmbeddingSpace, func.count(Embedding.id))
        .outerjoin(Embedding, Embedding.space_id == EmbeddingSpace.id)
        .group_by(EmbeddingSpace.id)
        .order_by(EmbeddingSpace.name)
    )
    return [(space, count) for space, count in session.execute(counted)]


def choose_embeddings(session: Session, dataset: str | None, role: str | None) -> ColumnElement[bool] | None:
    """Return the condition on embeddings of a data set and a role; None where there is none.

    Raises
    ------
    NotFound
        There is no such data set.
    """
    condition: ColumnElement[bool] | None = None
    if dataset is not None:
        inside = (
            select(Scan.id)
            .join(Scan.imaging_session)
            .join(ImagingSession.subject)
            .where(Subject.dataset_id == find_dataset(session, dataset).id)
        )
        condition = Embedding.scan_id.in_(inside)
    if role is not None:
        condition = (Embedding.role == role) if condition is None else condition & (Embedding.role == role)
    return condition


def find_own(session: Session, owner: uuid.UUID, space_id: int | None, item: str | None) -> Sequence[Embedding]:
    """Return the embeddings of a run or a scan, in the order in which they came."""
    own = select(Embedding).where(Embedding.owner == owner).options(joinedload(Embedding.space))
    if space_id is not None:
        own = own.where(Embedding.space_id == space_id)
    if item is not None:
        own = own.where(Embedding.item == item)
    return session.scalars(own.order_by(Embedding.id)).all()


def read_neighbours(session: Session, ids: Sequence[int]) -> dict[int, Neighbour]:
    """Return what embeddings belong to, by their ids."""
    rows = {row.id: row for row in session.scalars(select(Embedding).where(Embedding.id.in_(ids)))}
    owned = {row.run_id for row in rows.values() if row.run_id}
    scans = _by_id(session, _select_scans().where(Scan.id.in_({row.scan_id for row in rows.values()})))
    runs = _by_id(session, _select_runs().where(Run.id.in_(owned)))
    decoded: dict[tuple[uuid.UUID, str], Reconstruction] = {}
    for found in session.scalars(select(Reconstruction).where(Reconstruction.run_id.in_(owned))):
        decoded[found.run_id, f"{found.stimulus_id}#{found.rank}" if found.rank else found.stimulus_id] = found
    own = {
        row.id: decoded.get((row.run_id, row.item)) if row.run_id and row.role != "stimulus" else None
        for row in rows.values()
    }
    shown = {row.artifact_id for row in rows.values()} | {found.artifact_id for found in own.values() if found}
    files = _by_id(session, select(Artifact).where(Artifact.id.in_(shown)).options(joinedload(Artifact.blob)))
    segmented = {row.run_id: row for row in session.scalars(select(Segmentation).where(Segmentation.run_id.in_(owned)))}
    return {
        row.id: Neighbour(
            embedding=row,
            scan=scans[row.scan_id],
            run=runs[row.run_id] if row.run_id else None,
            file=_find_file(row, own[row.id], files),
            decoded=own[row.id],
            segmentation=segmented.get(row.run_id) if row.run_id else None,
        )
        for row in rows.values()
    }


def find_without(session: Session) -> tuple[Sequence[uuid.UUID], Sequence[uuid.UUID], Sequence[uuid.UUID]]:
    """Return the runs that are done, the scans and the volumes that lack an embedding, oldest first; none held back."""
    runs = (
        select(Run.id)
        .where(Run.status == "done", ~exists().where(Embedding.owner == Run.id))
        .order_by(Run.finished_at, Run.id)
    )
    scans = (
        select(Scan.id)
        .where(Scan.held == "", ~exists().where(Embedding.owner == Scan.id))
        .order_by(Scan.created_at, Scan.id)
    )
    cases = (
        select(Scan.id)
        .where(Scan.held == "", Scan.kind == "volume")
        .where(~exists().where(Embedding.owner == Scan.id, Embedding.role == "case"))
        .order_by(Scan.created_at, Scan.id)
    )
    return session.scalars(runs).all(), session.scalars(scans).all(), session.scalars(cases).all()


def _find_file(row: Embedding, decoded: Reconstruction | None, files: dict[uuid.UUID, Artifact]) -> Artifact | None:
    """Return the file that shows an embedding: what was decoded where that is known, else its own."""
    shown = decoded.artifact_id if decoded else row.artifact_id
    return files[shown] if shown else None


def _by_id(session: Session, query: Select[R]) -> dict[uuid.UUID, R]:
    return {row.id: row for row in session.scalars(query)}


def _select_scans() -> Select[Scan]:
    tree = joinedload(Scan.imaging_session).joinedload(ImagingSession.subject).joinedload(Subject.dataset)
    return select(Scan).options(tree)


def _select_runs() -> Select[Run]:
    return select(Run).options(joinedload(Run.job).joinedload(Job.dataset), joinedload(Run.job).joinedload(Job.model))
