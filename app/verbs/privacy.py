"""Scans that wait for a person, and results that go back to the study they came from."""

import hmac
import re
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.schemas import NOTICE, Page, ScanAnswer
from voxelight.app.schemas_privacy import Decision, RejectAnswer, RelinkRequest
from voxelight.app.verbs.answers import answer_scan
from voxelight.models.errors import BadInput, Conflict, NotFound, Refused
from voxelight.storage.audit import note
from voxelight.storage.formats.names import find_suffix, image_stem
from voxelight.storage.formats.streams import replacing
from voxelight.storage.identity import IdentityKey, SeriesIdentity
from voxelight.storage.identity_links import has_links, read_link, sweep_links
from voxelight.storage.joblog import add_event
from voxelight.storage.queries import find_dataset, find_row, read_page, select_scans
from voxelight.storage.schema import Artifact, Correction, Dataset, Job, Receipt, Run, Scan, Segmentation, utc_now
from voxelight.storage.stores import Stores, forget_blobs

_DICOM = ".dcm.zip"
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


class Privacy:
    """Who may know whose a scan is.

    Parameters
    ----------
    stores : Stores
    key : of the installation
    """

    def __init__(self, stores: Stores, key: IdentityKey) -> None:
        self._stores = stores
        self._key = key

    def list_held(self, dataset: str | None = None, limit: int = 100, cursor: str | None = None) -> Page[ScanAnswer]:
        """Return scans that wait for a person, newest first."""
        with self._stores.sessions() as session:
            query = select_scans(find_dataset(session, dataset).id if dataset else None).where(Scan.held != "")
            rows, following = read_page(session, query, (Scan.created_at, Scan.id), limit, cursor)
            return Page(items=[answer_scan(row) for row in rows], next_cursor=following)

    def release(self, scan_id: uuid.UUID, decision: Decision) -> ScanAnswer:
        """Let jobs take a scan that a person has looked at; who and why is kept with it.

        Raises
        ------
        NotFound
            There is no such scan.
        Conflict
            It is not held.
        """
        with self._stores.sessions.begin() as session:
            scan = _find_held(session, scan_id)
            scan.facts = {
                **scan.facts,
                "held": scan.held,
                "released_by": decision.author,
                "released_for": decision.reason,
                "released_at": utc_now().isoformat(timespec="seconds"),
            }
            scan.held = ""
            if scan.deid_status == "held":  # where a face could not be taken out, that goes on being said
                scan.deid_status = "cleaned"
            session.flush()
            return answer_scan(scan)

    def reject(self, scan_id: uuid.UUID, decision: Decision) -> RejectAnswer:
        """Remove a held scan for good: row, file, picture and identity link; a receipt stays.

        Raises
        ------
        NotFound
            There is no such scan.
        Conflict
            It is not held.
        """
        with self._stores.sessions.begin() as session:
            scan = _find_held(session, scan_id)
            visit = scan.imaging_session
            name = f"{visit.subject.dataset.name}/{visit.subject.label}/{visit.label}/{scan.name}"
            sha256s = [sha256 for sha256 in (scan.blob_sha256, scan.thumbnail_sha256) if sha256]
            dataset_id = visit.subject.dataset_id
            session.delete(scan)
            session.flush()
            links = sweep_links(session, dataset_id)
            receipt = Receipt(
                what="held scan",
                name=name,
                author=decision.author,
                reason=decision.reason,
                counts={"scans": 1, "identity_links": links},
                sha256s=sha256s,
                project=visit.subject.dataset.project,
            )
            session.add(receipt)
            session.flush()
            answer = RejectAnswer(receipt=receipt.id, scan=name, sha256s=sha256s)
        forget_blobs(self._stores, sha256s)
        return answer

    def preview_face(self, scan_id: uuid.UUID) -> bytes:
        """Return a PNG of a head before and after its face is taken out, as `faces.preview_face`; nothing is stored."""
        from voxelight.app.verbs.faces import preview_face

        return preview_face(self._stores, scan_id)

    def deface(self, scan_id: uuid.UUID, decision: Decision) -> ScanAnswer:
        """Store a scan without its face in place of what it was, as `faces.remove_face`."""
        from voxelight.app.verbs.faces import remove_face

        return remove_face(self._stores, scan_id, decision)

    def relink(self, run_id: uuid.UUID, request: RelinkRequest) -> tuple[str, bytes]:
        """Write the label map of a result as DICOM-SEG with the UIDs and the patient of the original study.

        Who asked and what for goes into the log of the job.

        Returns
        -------
        file name, content

        Raises
        ------
        NotFound
            There is no such result or label map, or the series has no identity link.
        BadInput
            The result is no segmentation of a DICOM series.
        Refused
            The key is another, or the data set keeps its headers and lets nothing out.
        Unavailable
            The key of the installation is missing.
        """
        self._ask_key(request)
        with self._stores.sessions() as session:
            run = find_row(session, Run, run_id)
            refuse_export(run.job.dataset)
            labels, names = _find_labels(session, run, request.artifact)
            identity = self._read_identity(session, run)
            content = self._encode(run, labels, names, identity)
            stem = _NOT_PLAIN.sub("-", f"{run.subject.label}_{image_stem(run.scan.name)}")
            name = f"{stem}_{str(labels.id)[:8]}_seg.dcm"
            job_id = run.job_id
        with self._stores.sessions.begin() as session:
            said = f"{name} was given back the identity of its study by {request.author}: {request.reason}"
            add_event(session, job_id, said, run_id=run_id, level="warning")
            note(session, "relink result", f"run {run_id}")
        return name, content

    def relink_all(self, target: uuid.UUID, request: RelinkRequest, folder: Path) -> list[Path]:
        """Write what `relink` gives for one result, or for every result of a job, into a folder.

        Raises
        ------
        NotFound
            Nothing is called so, or as `relink`.
        BadInput, Refused, Unavailable
            As `relink`.
        """
        runs = list(self._find_runs(target))
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for run_id in runs:
            name, content = self.relink(run_id, request)
            with replacing(folder / name) as file:
                file.write(content)
            written.append(folder / name)
        return written

    def read_key(self) -> str:
        """Return the key, for who may read its file: whoever calls this from the shell of this machine.

        Raises
        ------
        Unavailable
            It is missing or can't be read.
        """
        text = self._key.read_text()
        with self._stores.sessions.begin() as session:
            note(session, "read key", "identity key")
        return text

    def refuse_artifacts(self, artifacts: Sequence[uuid.UUID]) -> None:
        """Refuse to let files out that were made of clinical data.

        Raises
        ------
        Refused
            The data set of one of them is clinical and local.
        """
        with self._stores.sessions() as session:
            refuse_artifacts(session, artifacts)

    def refuse_job(self, job_id: uuid.UUID) -> None:
        """Refuse to let anything of a job out whose data set is clinical and local.

        Raises
        ------
        NotFound
            There is no such job.
        Refused
            Its data set is clinical and local.
        """
        with self._stores.sessions() as session:
            refuse_export(find_row(session, Job, job_id).dataset)

    def refuse_scan(self, scan_id: uuid.UUID) -> None:
        """Refuse to let a scan out whose data set is clinical and local.

        Raises
        ------
        NotFound
            There is no such scan.
        Refused
            Its data set is clinical and local.
        """
        with self._stores.sessions() as session:
            refuse_export(find_row(session, Scan, scan_id).imaging_session.subject.dataset)

    def _find_runs(self, target: uuid.UUID) -> Iterator[uuid.UUID]:
        with self._stores.sessions() as session:
            if session.get(Run, target) is not None:
                yield target
                return
            job = find_row(session, Job, target)
            done = select(Run.id).where(Run.job_id == job.id, Run.status == "done").order_by(Run.position)
            yield from session.scalars(done).all()

    def _ask_key(self, request: RelinkRequest) -> None:
        with self._stores.sessions() as session:
            if not has_links(session):
                raise NotFound(
                    "no identity that was sealed here",
                    "a series that came in as DICOM and was cleaned here",
                    "Only such a series has a study to go back to.",
                )
        if not hmac.compare_digest(self.read_key().encode(), request.key.get_secret_value().strip().lower().encode()):
            raise Refused(
                "a key that is not that of this installation",
                "the content of identity.key",
                "Ask who keeps the key; without it nobody is told whose a result is.",
            )

    def _read_identity(self, session: Session, run: Run) -> SeriesIdentity:
        uid = run.scan.facts.get("series_uid")
        if find_suffix(run.scan.name) != _DICOM or not uid:
            raise BadInput(
                f"{run.scan.name}, which came in without a study",
                "a scan that came in as DICOM series",
                "Export NIfTI: there is no study to go back to.",
            )
        return read_link(session, self._key, run.scan.imaging_session.subject.dataset_id, str(uid))

    def _encode(self, run: Run, labels: Artifact, names: dict[int, str], identity: SeriesIdentity) -> bytes:
        from voxelight.storage.formats.dicom.relink import relink
        from voxelight.storage.formats.dicom.segmentation import SegmentedBy, write_dicom_seg
        from voxelight.storage.formats.nifti import read_label_map

        blobs, model = self._stores.blobs, run.job.model
        by = SegmentedBy(model.name, model.version, manual=labels.role != "label_map")
        with (
            blobs.local_file(labels.blob_sha256, labels.name) as drawn,
            blobs.local_file(run.scan.blob_sha256, run.scan.name) as series,
        ):
            return relink(write_dicom_seg(read_label_map(drawn, names), series, by), identity)


def refuse_export(dataset: Dataset) -> None:
    """Refuse to let clinical data out that keep identity in their headers.

    Raises
    ------
    Refused
        The data set is clinical and local.
    """
    if dataset.keeps_headers:
        raise Refused(
            f"data set {dataset.name}, clinical and local: its headers say who was scanned",
            "a data set without identity",
            f"Keep it here, or take the scans in anew in a data set that cleans headers. {NOTICE}",
        )


def refuse_artifacts(session: Session, artifacts: Sequence[uuid.UUID]) -> None:
    """Refuse to let files out that were made of clinical data.

    Raises
    ------
    Refused
        The data set of one of them is clinical and local.
    """
    kept = select(Dataset).join(Job, Job.dataset_id == Dataset.id).join(Artifact, Artifact.job_id == Job.id)
    for dataset in session.scalars(kept.where(Artifact.id.in_(artifacts), Dataset.keeps_headers).limit(1)):
        refuse_export(dataset)


def _find_held(session: Session, scan_id: uuid.UUID) -> Scan:
    scan = find_row(session, Scan, scan_id)
    if not scan.held:
        raise Conflict(f"{scan.name}, which is not held", "a held scan", "There is nothing to decide.")
    return scan


def _find_labels(session: Session, run: Run, artifact: uuid.UUID | None) -> tuple[Artifact, dict[int, str]]:
    """Return the label map that was asked for, else the newest of the run, with its names."""
    row = session.scalar(select(Segmentation).where(Segmentation.run_id == run.id))
    if row is None:
        raise BadInput(f"{run.item_key}, which is no segmentation", "a label map", "Choose a result of segmentation.")
    names = {int(number): name for number, name in row.labels.items()}
    newest = select(Correction.artifact_id).where(Correction.run_id == run.id).order_by(Correction.created_at.desc())
    chosen = artifact or session.scalar(newest.limit(1)) or row.artifact_id
    labels = session.get(Artifact, chosen)
    if labels is None or labels.run_id != run.id or labels.role not in ("label_map", "correction"):
        raise NotFound(f"no label map {chosen} of this result", "the model's or a correction", "List its versions.")
    return labels, names
