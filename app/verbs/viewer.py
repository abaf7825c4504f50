"""What a viewer needs of a scan or of a result: an image that it can draw, labels, and every version of the map."""

import shutil
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.schemas import NOTICE
from voxelight.app.schemas_viewer import ImageAnswer, LabelAnswer, PictureAnswer, ViewAnswer
from voxelight.app.verbs.answers import find_notice
from voxelight.app.verbs.corrections import find_labels, list_versions
from voxelight.app.verbs.files import StoredFile, read_path
from voxelight.app.verbs.privacy import refuse_export
from voxelight.medseg.colours import find_colour
from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.formats.streams import replacing
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Artifact, Run, Scan
from voxelight.storage.stores import Stores

_IMAGES = ("volume", "series")
_NIFTI = (".nii", ".nii.gz")


class Viewer:
    """Scans and results as a viewer shows them."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def view_result(self, run_id: uuid.UUID) -> ViewAnswer:
        """Return what the viewer shows of a result.

        Raises
        ------
        NotFound
            There is no such run, or it has given nothing yet.
        BadInput
            What it worked on is no image in space.
        """
        with self._stores.sessions() as session:
            run = find_row(session, Run, run_id)
            if run.status != "done":
                raise NotFound(f"a run that is {run.status}", "one that is done", "Follow its job until it has ended.")
            return self._view(session, run.scan, run)

    def view_scan(self, scan_id: uuid.UUID) -> ViewAnswer:
        """Return what the viewer shows of a scan.

        Raises
        ------
        NotFound
            There is no such scan.
        BadInput
            It is no image in space.
        """
        with self._stores.sessions() as session:
            return self._view(session, find_row(session, Scan, scan_id), None)

    def open_scan(self, scan_id: uuid.UUID) -> StoredFile:
        """Return a scan as it is stored.

        Raises
        ------
        NotFound
            There is no such scan.
        Refused
            Its data set is clinical and local.
        """
        with self._stores.sessions() as session:
            scan = find_row(session, Scan, scan_id)
            refuse_export(scan.imaging_session.subject.dataset)
            return self._stored(scan)

    def open_image(self, scan_id: uuid.UUID) -> StoredFile:
        """Return a scan as NIfTI without identity: itself, or what was made of it once and kept in the cache.

        Raises
        ------
        NotFound
            There is no such scan.
        BadInput
            It is no image in space.
        """
        with self._stores.sessions() as session:
            scan = find_row(session, Scan, scan_id)
            _refuse_without_image(scan)
            is_nifti = scan.name.lower().endswith(_NIFTI)
            if is_nifti and not scan.imaging_session.subject.dataset.keeps_headers:
                return self._stored(scan)
            stored = self._stored(scan)
        name = _name_image(stored.name)
        path = self._stores.cache / "images" / f"{stored.tag}.nii.gz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with (
                self._stores.blobs.local_file(stored.tag, stored.name) as source,
                self._stores.checks.written_image(source, is_nifti) as written,
            ):
                if written is None:
                    return stored
                _keep(written, path)
        media_type = "application/gzip" if name.lower().endswith(".gz") else "application/octet-stream"
        return StoredFile(name, media_type, path.stat().st_size, f"{stored.tag}-image", partial(read_path, path))

    def _stored(self, scan: Scan) -> StoredFile:
        read = partial(self._stores.blobs.read_range, scan.blob_sha256)
        return StoredFile(scan.name, scan.blob.media_type, scan.blob.size, scan.blob_sha256, read)

    def _view(self, session: Session, scan: Scan, run: Run | None) -> ViewAnswer:
        _refuse_without_image(scan)
        visit = scan.imaging_session
        dataset = visit.subject.dataset
        labels = find_labels(session, run) if run else {}
        return ViewAnswer(
            title=scan.name,
            dataset=dataset.name,
            subject=visit.subject.label,
            session=visit.label,
            scan=scan.id,
            result=run.id if run else None,
            job=run.job_id if run else None,
            kind=run.job.kind if run else None,  # type: ignore[arg-type]  # a check constraint in all but name
            recipe=run.job.recipe if run else "",
            simulated=dataset.simulated,
            held=scan.held,
            image=ImageAnswer(
                url=f"/api/v1/scans/{scan.id}/image",
                name=_name_image(scan.name),
                kind=scan.kind,
                frames=int(scan.facts.get("volumes", 1)),
                geometry=scan.geometry,
            ),
            labels=[LabelAnswer(number=n, name=name, colour=find_colour(n)) for n, name in sorted(labels.items())],
            versions=list_versions(session, run) if run and labels else [],
            pictures=list(_find_pictures(session, scan, run)),
            notice=find_notice(run.job) if run else NOTICE,
        )


def _keep(written: Path, path: Path) -> None:
    """Put a file in its place in one step, from whatever disk it lies on."""
    with replacing(path) as file, written.open("rb") as source:
        shutil.copyfileobj(source, file, 1 << 20)


def _refuse_without_image(scan: Scan) -> None:
    if scan.kind not in _IMAGES:
        raise BadInput(
            f"{scan.name}, stored as {scan.kind}", "a 3-D or 4-D image", "Open the result in the gallery instead."
        )


def _find_pictures(session: Session, scan: Scan, run: Run | None) -> Iterator[PictureAnswer]:
    if run:
        drawn = select(Artifact.id).where(Artifact.run_id == run.id, Artifact.role == "overlay")
        for artifact_id in session.scalars(drawn.order_by(Artifact.name)):
            yield PictureAnswer(
                url=f"/api/v1/artifacts/{artifact_id}", alt=f"Labels over {scan.name}, as the model set them"
            )
    if scan.thumbnail_sha256:
        yield PictureAnswer(url=f"/api/v1/scans/{scan.id}/thumbnail", alt=f"Three planes of {scan.name}")


def _name_image(name: str) -> str:
    return name if name.lower().endswith(_NIFTI) else f"{name.split('.')[0]}.nii.gz"
