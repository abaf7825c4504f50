"""Corrections of label maps by people: each is a new file beside the map that it corrects, never in its place."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from voxelight.app.schemas_viewer import (
    ChangeAnswer,
    CorrectionRequest,
    InterpolationRequest,
    VersionAnswer,
)
from voxelight.models.errors import BadInput, Conflict
from voxelight.storage.artifacts import BlobRef, Incoming
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Artifact, Correction, Run, Segmentation
from voxelight.storage.stores import Stores, name_blob

if TYPE_CHECKING:
    from voxelight.models.values import LabelMap
    from voxelight.storage.formats.nifti import SourceGrid

ROLE = "correction"
_MEDIA_TYPE = "application/gzip"
_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
_ATTEMPTS = 5


class Corrections:
    """Label maps that people drew over those of a model."""

    def __init__(self, stores: Stores, limit_bytes: int) -> None:
        self._stores = stores
        self._limit_bytes = limit_bytes

    def list(self, run_id: uuid.UUID) -> list[VersionAnswer]:
        """Return every version of a result's label map, the model's own first, then its corrections by age.

        Raises
        ------
        NotFound
            There is no such run.
        BadInput
            It has no label map.
        """
        with self._stores.sessions() as session:
            run = find_row(session, Run, run_id)
            _find_map(session, run)
            return list_versions(session, run)

    @contextmanager
    def receive(self, run_id: uuid.UUID) -> Iterator[Incoming]:
        """Give a file to write a drawn label map to, once it is known that there is one to correct.

        Raises
        ------
        NotFound
            There is no such run.
        BadInput
            It has no label map.
        """
        with self._stores.sessions() as session:
            _find_map(session, find_row(session, Run, run_id))
        with self._stores.blobs.incoming(self._limit_bytes) as incoming:
            yield incoming

    def keep(self, incoming: Incoming, run_id: uuid.UUID, request: CorrectionRequest) -> VersionAnswer:
        """Check a drawn label map and store it beside its base; the same one sent again is stored once.

        Raises
        ------
        BadInput
            It is no label map, lies on another grid, holds a label that the base has not, or changes nothing.
        NotFound
            There is no such base.
        """
        from voxelight.medseg.correct import describe_changes

        incoming.finish()
        with self._stores.sessions() as session:
            run = find_row(session, Run, run_id)
            own = _find_map(session, run).artifact_id
            base = _find_base(session, run, request.base or own)
            names = find_labels(session, run)
        before, grid = self._read_stored(base, names)
        drawn = self._read_drawn(incoming.path, names, before)
        changes = describe_changes(before, drawn)
        if not any(change.added or change.removed for change in changes.values()):
            raise BadInput("a label map equal to its base", "at least one changed voxel", "Correct something first.")
        ref = self._stores.blobs.put_bytes(_encode(drawn, grid))
        facts = {
            "volumes_ml": drawn.volumes_ml(),
            "changes": {name: asdict(change) for name, change in changes.items()},
        }
        for _ in range(_ATTEMPTS):
            try:
                with self._stores.sessions.begin() as session:
                    run = find_row(session, Run, run_id)
                    return answer_correction(_write(session, run, base.id, request, ref, facts))
            except IntegrityError:  # another correction took the number meanwhile
                continue
        raise Conflict("many corrections of this result at once", "one after the other", "Save it again.")

    def keep_path(self, path: Path, run_id: uuid.UUID, request: CorrectionRequest) -> VersionAnswer:
        """Store a label map that lies on this machine as a correction.

        Raises
        ------
        BadInput
            There is no such file, or as `keep`.
        """
        if not path.is_file():
            raise BadInput(f"no file {path}", "a NIfTI label map", "Check the path.")
        with self.receive(run_id) as incoming:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    incoming.write(chunk)
            return self.keep(incoming, run_id, request)

    def interpolate(self, incoming: Incoming, run_id: uuid.UUID, request: InterpolationRequest) -> bytes:
        """Fill a label of a drawn map in between slices, and return the map as NIfTI on the grid of the result's own.

        Raises
        ------
        BadInput
            It is no label map on that grid, or there is nothing to fill in.
        """
        from voxelight.medseg.correct import interpolate_slices

        if (request.first is None) != (request.last is None):
            raise BadInput("one slice of the two", "`first` and `last`, or neither", "Name both slices.")
        incoming.finish()
        with self._stores.sessions() as session:
            run = find_row(session, Run, run_id)
            names = find_labels(session, run)
            own = find_row(session, Artifact, _find_map(session, run).artifact_id)
        before, grid = self._read_stored(own, names)
        drawn = self._read_drawn(incoming.path, names, before)
        between = None if request.first is None or request.last is None else (request.first, request.last)
        return _encode(interpolate_slices(drawn, request.label, _AXES[request.plane], between), grid)

    def _read_stored(self, artifact: Artifact, names: dict[int, str]) -> "tuple[LabelMap, SourceGrid]":
        from voxelight.storage.formats.nifti import read_label_map, read_source_grid

        with self._stores.blobs.local_file(artifact.blob_sha256, artifact.name) as path:
            return read_label_map(path, names), read_source_grid(path)

    def _read_drawn(self, path: Path, names: dict[int, str], before: "LabelMap") -> "LabelMap":
        """Read what came in, whatever its axes: it must hold the voxels of the map before, and its labels alone."""
        with path.open("rb") as file:
            suffix = ".nii.gz" if file.read(2) == b"\x1f\x8b" else ".nii"
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            named = Path(folder) / f"correction{suffix}"
            named.symlink_to(path.resolve())
            drawn = self._stores.checks.read_label_map(named, names)
        if not drawn.geometry.matches(before.geometry):
            raise BadInput(
                f"a label map of {'x'.join(map(str, drawn.geometry.shape))} voxels placed elsewhere than its base",
                f"the grid of its base, {'x'.join(map(str, before.geometry.shape))} voxels, to within 0.001 mm",
                "Draw on the label map itself, or resample to it with nearest neighbour.",
            )
        return drawn


def find_labels(session: Session, run: Run) -> dict[int, str]:
    """Return the labels of a result by number; none where it is no segmentation."""
    found = session.scalar(select(Segmentation).where(Segmentation.run_id == run.id))
    return {int(number): str(name) for number, name in found.labels.items()} if found else {}


def list_versions(session: Session, run: Run) -> list[VersionAnswer]:
    """Return the model's label map and its corrections, the oldest first."""
    own = _find_map(session, run)
    artifact = find_row(session, Artifact, own.artifact_id)
    first = VersionAnswer(
        **_answer_file(artifact), author="", note="", base=None, volumes_ml=own.volumes_ml, changes={}
    )
    drawn = select(Correction).where(Correction.run_id == run.id).order_by(Correction.created_at, Correction.id)
    return [first, *(answer_correction(row) for row in session.scalars(drawn))]


def answer_correction(row: Correction) -> VersionAnswer:
    """Show a correction."""
    return VersionAnswer(
        **_answer_file(row.artifact),
        author=row.author,
        note=row.note,
        base=row.base_id,
        volumes_ml=row.volumes_ml,
        changes={name: ChangeAnswer(**change) for name, change in row.changes.items()},
    )


def _answer_file(artifact: Artifact) -> dict[str, Any]:
    return {
        "artifact": artifact.id,
        "name": artifact.name,
        "url": f"/api/v1/artifacts/{artifact.id}",
        "sha256": artifact.blob_sha256,
        "created_at": artifact.created_at,
    }


def _find_map(session: Session, run: Run) -> Segmentation:
    found = session.scalar(select(Segmentation).where(Segmentation.run_id == run.id))
    if found is None:
        raise BadInput(
            f"a result of kind {run.job.kind} that is {run.status}",
            "a segmentation that is done",
            "Correct a result that has a label map.",
        )
    return found


def _find_base(session: Session, run: Run, artifact_id: uuid.UUID) -> Artifact:
    base = find_row(session, Artifact, artifact_id)
    if base.run_id != run.id or base.role not in ("label_map", ROLE):
        raise BadInput(
            f"{base.name}, a {base.role} of another result or no label map",
            "a label map of this result or a correction of it",
            "Take the id of a version from the list of corrections.",
        )
    return base


def _encode(label_map: "LabelMap", grid: "SourceGrid") -> bytes:
    """Return a label map as the bytes of a NIfTI file on this grid; no text of what came in reaches it."""
    from voxelight.storage.formats.nifti import write_label_map

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dseg.nii.gz"
        write_label_map(path, label_map, grid)
        return path.read_bytes()


def _write(
    session: Session, run: Run, base: uuid.UUID, request: CorrectionRequest, ref: BlobRef, facts: dict[str, Any]
) -> Correction:
    same = (
        select(Correction)
        .join(Correction.artifact)
        .where(
            Correction.run_id == run.id,
            Correction.base_id == base,
            Correction.author == request.author,
            Correction.note == request.note,
            Artifact.blob_sha256 == ref.sha256,
        )
    )
    if (there := session.scalar(same)) is not None:
        return there
    taken = session.scalars(select(Artifact.name).where(Artifact.run_id == run.id, Artifact.role == ROLE)).all()
    name_blob(session, ref, _MEDIA_TYPE)
    artifact = Artifact(
        job_id=run.job_id,
        run_id=run.id,
        role=ROLE,
        name=_name_file(session, run, len(taken) + 1),
        blob_sha256=ref.sha256,
    )
    session.add(artifact)
    session.flush()
    row = Correction(run_id=run.id, artifact=artifact, base_id=base, author=request.author, note=request.note, **facts)
    session.add(row)
    session.flush()
    return row


def _name_file(session: Session, run: Run, number: int) -> str:
    own = find_row(session, Artifact, _find_map(session, run).artifact_id).name
    stem = own.removesuffix(".gz").removesuffix(".nii").removesuffix("_dseg")
    return f"{stem}_correction-{number:02d}_dseg.nii.gz"
