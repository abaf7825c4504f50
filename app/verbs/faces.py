"""Take the face out of a scan that is stored, once a person asks for it; what was stored before is gone."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.orm import Session

from voxelight.app.embedding import embed_scan
from voxelight.app.schemas import ScanAnswer
from voxelight.app.schemas_privacy import Decision
from voxelight.app.verbs.answers import answer_scan
from voxelight.models.errors import Conflict, Refused
from voxelight.storage.checks import Faceless
from voxelight.storage.deletion import find_extent, refuse_active
from voxelight.storage.formats.accepted import Accepted
from voxelight.storage.formats.found import Intake
from voxelight.storage.formats.images import encode_png
from voxelight.storage.formats.names import find_suffix
from voxelight.storage.identity_links import sweep_links
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Embedding, Scan, utc_now
from voxelight.storage.stores import Stores, forget_blobs, name_blob
from voxelight.storage.vectors import remove_embeddings


def preview_face(stores: Stores, scan_id: uuid.UUID) -> bytes:
    """Return a PNG of a head before and after its face is taken out; nothing is stored.

    Raises
    ------
    NotFound
        There is no such scan.
    Conflict
        No face can be taken out of it: the text says why.
    """
    with _without_face(stores, scan_id) as faceless:
        if faceless.picture is None:
            held = faceless.accepted.held
            raise Conflict(held or "a label map, or no image in space", "a head with its face", "Leave it as it is.")
        return encode_png(faceless.picture)


def remove_face(stores: Stores, scan_id: uuid.UUID, decision: Decision) -> ScanAnswer:
    """Store a scan without its face in place of what it was; where it can't be taken out, hold it.

    Who asked and why is kept in its facts. Results stay, on the same grid.

    Raises
    ------
    NotFound
        There is no such scan.
    Refused
        Its data set is clinical and local.
    Conflict
        Its face was taken out before, it is no image of a head, or a job works on it.
    """
    with stores.sessions() as session:
        scan = find_row(session, Scan, scan_id)
        _refuse_unfit(session, scan)
        before = scan.blob_sha256
    with _without_face(stores, scan_id) as faceless:
        accepted = faceless.accepted
        if accepted.status not in ("defaced", "deface-failed") and faceless.picture is None:
            raise Conflict(f"{accepted.name}, a label map or no image in space", "a head", "Leave it as it is.")
        new = stores.blobs.put_file(accepted.path) if accepted.changed else None
        small = stores.blobs.put_bytes(encode_png(accepted.picture)) if new and accepted.picture is not None else None
        with stores.sessions.begin() as session:
            scan = session.get_one(Scan, scan_id, with_for_update=True)
            _refuse_unfit(session, scan)
            if scan.blob_sha256 != before:
                raise Conflict("a scan that changed meanwhile", "the one that was read", "Ask once more.")
            gone = [sha for sha in (scan.blob_sha256, scan.thumbnail_sha256) if sha] if new else []
            if new:
                name_blob(session, new, accepted.intake.media_type)
                scan.blob_sha256, scan.name, scan.thumbnail_sha256 = new.sha256, accepted.name, None
                if small:
                    name_blob(session, small, "image/png")
                    scan.thumbnail_sha256 = small.sha256
                remove_embeddings(session, Embedding.scan_id == scan.id)
            now = utc_now().isoformat(timespec="seconds")
            asked = {"face_asked_by": decision.author, "face_asked_for": decision.reason, "face_asked_at": now}
            scan.facts = {**accepted.intake.facts, **asked}
            scan.held, scan.deid_status = accepted.held, accepted.status
            session.flush()
            if new:
                sweep_links(session, scan.imaging_session.subject.dataset_id)
            answer = answer_scan(scan)
    forget_blobs(stores, gone)
    for sha256 in gone:
        (stores.cache / "images" / f"{sha256}.nii.gz").unlink(missing_ok=True)
    if gone:
        embed_scan(stores, scan_id)
    return answer


def _refuse_unfit(session: Session, scan: Scan) -> None:
    if scan.imaging_session.subject.dataset.keeps_headers:
        raise Refused(f"{scan.name} of a clinical data set", "one that is not", "Its files stay as they came.")
    if scan.deid_status == "defaced":
        raise Conflict(f"{scan.name}, whose face was taken out before", "a head with its face", "Leave it.")
    refuse_active(session, find_extent(session, scan))


@contextmanager
def _without_face(stores: Stores, scan_id: uuid.UUID) -> Iterator[Faceless]:
    with stores.sessions() as session:
        scan = find_row(session, Scan, scan_id)
        if scan.kind not in ("volume", "series"):
            raise Conflict(f"{scan.name}, a {scan.kind}", "an image of a head", "Name a volume.")
        told: dict[str, Any] = {"kind": scan.kind, "suffix": find_suffix(scan.name), "media_type": scan.blob.media_type}
        told |= {"geometry": scan.geometry or None, "facts": scan.facts, "warnings": scan.warnings}
        intake = Intake.model_validate(told)
        sha256, name, held, status = scan.blob_sha256, scan.name, scan.held, scan.deid_status
    with stores.blobs.local_file(sha256, name) as path:
        accepted = Accepted(path, name, intake, None, status, changed=False, held=held)
        with stores.checks.without_face(accepted) as faceless:
            yield faceless
