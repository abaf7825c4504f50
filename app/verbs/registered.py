"""One subject over time, every visit registered to the first: lesion by lesion."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.schemas import NOTICE
from voxelight.app.schemas_reviews import (
    FollowupQuery,
    GrowthAnswer,
    LesionAnswer,
    RegisteredAnswer,
    RegisteredStructureAnswer,
)
from voxelight.app.verbs.followup import choose_results, read_change, read_days, select_results
from voxelight.models.errors import BadInput
from voxelight.storage.queries import find_dataset, find_row
from voxelight.storage.schema import Artifact, Correction, Run, Segmentation
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.medseg.longitudinal import Longitudinal, Visit

_HOW = (
    "Every image was registered rigidly to that of the first session; volumes are counted in the voxels of each visit "
    "and in what all visits have seen. Look at the overlays: a registration can fail."
)


@dataclass(frozen=True)
class _Files:
    """Where a visit lies: session, scan, label map, and what its numbers mean."""

    session: str
    scan: tuple[str, str]
    labels: tuple[str, str]
    names: dict[int, str]


def follow_lesions(
    stores: Stores, dataset: str, subject: str, query: FollowupQuery, progress: Callable[[float], None] | None = None
) -> RegisteredAnswer:
    """Register the visits of a subject to the first one, and follow each lesion.

    Of each session the newest result counts, and the newest correction of it.

    Parameters
    ----------
    stores : where the results lie
    dataset, subject : names
    query : what to follow
    progress : called with the share of visits done

    Raises
    ------
    NotFound
        There is no such data set.
    BadInput
        There are fewer than two visits, they do not overlap, or the label is none of the recipe's.
    """
    days, stated = read_days(query.day), read_change(query)
    with stores.sessions() as session:
        row = find_dataset(session, dataset)
        chosen, recipe, warnings = choose_results(session.execute(select_results(row.id, subject)).all(), query)
        files = [_find_files(session, run, found) for run, found in chosen]
        simulated = row.simulated
    if len(files) < 2:
        raise BadInput(f"{len(files)} sessions of {subject} with a result", "two at least", "Segment another session.")
    visits = _register(stores, files, days, progress)
    labels = [name for name in files[0].names.values() if query.label in (None, name)]
    structures = [_follow(visits, label, stated) for label in labels]
    if not structures:
        raise BadInput(
            f"the label {query.label!r}", f"one of {', '.join(files[0].names.values())}", "Correct the name."
        )
    moves = {visit.session: _describe_move(visit) for visit in visits}
    return RegisteredAnswer(
        dataset=dataset,
        subject=subject,
        recipe=recipe,
        simulated=simulated,
        sessions=[visit.session for visit in visits],
        moved_mm={name: move[0] for name, move in moves.items()},
        turned_degrees={name: move[1] for name, move in moves.items()},
        seen=structures[0].seen,
        structures=[_answer(each) for each in structures],
        warnings=[_HOW, *warnings],
        notice=NOTICE,
    )


def _find_files(session: Session, run: Run, found: Segmentation) -> _Files:
    drawn = select(Correction).where(Correction.run_id == run.id).order_by(Correction.created_at.desc(), Correction.id)
    newest = session.scalar(drawn.limit(1))
    artifact: uuid.UUID = newest.artifact_id if newest else found.artifact_id
    labels = find_row(session, Artifact, artifact)
    return _Files(
        run.scan.imaging_session.label,
        (run.scan.blob_sha256, run.scan.name),
        (labels.blob_sha256, labels.name),
        {int(number): str(name) for number, name in found.labels.items()},
    )


def _register(
    stores: Stores, files: Sequence[_Files], days: dict[str, float], progress: Callable[[float], None] | None
) -> "list[Visit]":
    from voxelight.medseg.longitudinal import Visit
    from voxelight.medseg.register import register_rigid
    from voxelight.storage.formats.nifti import read_label_map

    visits: list[Visit] = []
    first: Any = None
    for number, each in enumerate(files, start=1):
        with stores.blobs.local_file(*each.scan) as path:
            image = stores.checks.read_image(path)[0]
        with stores.blobs.local_file(*each.labels) as path:
            label_map = read_label_map(path, each.names)
        first = image if first is None else first
        to_first = np.eye(4) if number == 1 else register_rigid(image, first).to_fixed
        visits.append(Visit(each.session, label_map, to_first, days.get(each.session)))
        if progress is not None:
            progress(number / len(files))
    return visits


def _follow(visits: "Sequence[Visit]", label: str, stated: Any) -> "Longitudinal":
    from voxelight.medseg.longitudinal import follow_registered

    return follow_registered(visits, label, stated)


def _describe_move(visit: "Visit") -> tuple[float, float]:
    """Return how far the centre of a field was moved, mm, and by which angle the head was turned, degrees."""
    geometry = visit.label_map.geometry
    centre = geometry.affine @ [*((np.array(geometry.shape) - 1) / 2), 1]
    moved = float(np.linalg.norm((visit.to_first @ centre - centre)[:3]))
    cosine = (np.trace(visit.to_first[:3, :3]) - 1) / 2
    return moved, float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _answer(found: "Longitudinal") -> RegisteredStructureAnswer:
    lesions = [
        LesionAnswer(
            number=lesion.number,
            course=lesion.course,  # type: ignore[arg-type]  # one of four
            volumes_ml=lesion.volumes_ml,
            pieces=lesion.pieces,
            growth=[GrowthAnswer(**asdict(each)) for each in lesion.growth],
        )
        for lesion in found.lesions
    ]
    return RegisteredStructureAnswer(
        label=found.label,
        volumes_ml=found.volumes_ml,
        outside_ml=found.outside_ml,
        growth=[GrowthAnswer(**asdict(each)) for each in found.growth],
        lesions=lesions,
    )
