"""Find and read the files that make up one subject's betas."""

import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from voxelight.app.pipelines.choice import choose_scans
from voxelight.app.schemas import JobRequest
from voxelight.models.errors import BadInput, Refused
from voxelight.models.values import Betas, Stimuli
from voxelight.storage import checks_data
from voxelight.storage.checks_data import BetasFiles
from voxelight.storage.formats.fmri.registered import read_registered
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Dataset, Scan
from voxelight.storage.stores import Stores

PARTS = ("recording", "betas", "series", "volume", "events", "picture")
DECODING_KINDS = ("reconstruct", "decode", "train-decoder", "train-linear")  # what asks for consent and purpose
LARGEST_SIDE = 256  # pixels, of pictures that come from a folder; none of the decoders here sees more
_HOW = (
    "Name one subject's files in the request: a .mat; 4-D betas, a mask, an events table and the pictures; or one "
    "registered folder."
)


class BetasInput(BaseModel):
    """Which scans hold the betas of one subject.

    Parameters
    ----------
    subject_id, subject : whose
    betas : a `.mat` or a registered folder, which hold everything, or the 4-D image
    mask, events, pictures : what belongs to a 4-D image
    hashes : file name -> sha256 of all of them
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject_id: uuid.UUID
    subject: str
    betas: uuid.UUID
    mask: uuid.UUID | None = None
    events: uuid.UUID | None = None
    pictures: tuple[uuid.UUID, ...] = ()
    hashes: dict[str, str]


def ask_consent_for(kind: str, dataset: Dataset) -> None:
    """Refuse a kind of job that decodes, or learns to, on data without a ground and a purpose: at whatever time.

    Raises
    ------
    Refused
        As `ask_consent`.
    """
    if kind in DECODING_KINDS:
        ask_consent(dataset)


def ask_consent(dataset: Dataset) -> None:
    """Refuse to decode data without a ground and a purpose.

    Raises
    ------
    Refused
        The data set has no consent or no purpose.
    """
    if dataset.consent == "none" or not dataset.purpose.strip():
        raise Refused(
            f"data set {dataset.name} with consent {dataset.consent!r} and "
            + (f"purpose {dataset.purpose!r}" if dataset.purpose.strip() else "no purpose"),
            "a stated purpose, and consent given, public or simulated",
            "Decoded content is sensitive: record on what ground and what for these data may be decoded.",
        )


def find_betas(
    session: Session, dataset: Dataset, request: JobRequest, mask: uuid.UUID | None
) -> tuple[BetasInput, tuple[str, ...]]:
    """Choose the files that make up the betas of a request; pictures are taken where there are any.

    Parameters
    ----------
    session : open session
    dataset : where they lie
    request : says which scans to choose from
    mask : the volume that marks the region, where there are several

    Returns
    -------
    tuple of (BetasInput, tuple of str)
        The files, and in words what was left out.

    Raises
    ------
    BadInput
        A part is missing, or there is more than one of it.
    Refused
        A scan that was named is held.
    """
    choice = choose_scans(session, dataset, request)
    of = {kind: [scan for scan in choice.scans if scan.kind == kind] for kind in PARTS}
    if of["recording"]:
        return _gather(_only(of["recording"], "registered folder", dataset), None, None, []), choice.notes
    if of["betas"] and not of["series"]:
        betas = _only(of["betas"], "betas (.mat)", dataset)
        return _gather(betas, None, None, []), choice.notes
    betas = _only(of["series"], "betas (4-D NIfTI or .mat)", dataset)
    masks = [scan for scan in of["volume"] if mask is None or scan.id == mask]
    pictures = sorted(of["picture"], key=lambda scan: scan.name)
    mask_found, events = _only(masks, "mask (3-D NIfTI)", dataset), _only(of["events"], "events (.tsv)", dataset)
    return _gather(betas, mask_found, events, pictures), choice.notes


def read_betas(session: Session, stores: Stores, inputs: BetasInput, simulated: bool) -> tuple[Betas, Stimuli | None]:
    """Read what `find_betas` chose: the betas, and every picture there is.

    Raises
    ------
    BadInput
        A file is damaged, or the parts don't belong together.
    """
    with ExitStack() as stack:

        def fetch(scan_id: uuid.UUID) -> Path:
            scan = find_row(session, Scan, scan_id)
            return stack.enter_context(stores.blobs.local_file(scan.blob_sha256, scan.name))

        if find_row(session, Scan, inputs.betas).kind == "recording":
            betas, stimuli = read_registered(fetch(inputs.betas), LARGEST_SIDE)
        else:
            mask = fetch(inputs.mask) if inputs.mask else None
            events = fetch(inputs.events) if inputs.events else None
            files = BetasFiles(fetch(inputs.betas), mask, events, tuple(map(fetch, inputs.pictures)))
            betas, stimuli = checks_data.read_betas(stores.checks, files, inputs.subject)
    return replace(betas, simulated=simulated), stimuli


def read_seen(session: Session, stores: Stores, inputs: BetasInput, simulated: bool) -> tuple[Betas, Stimuli]:
    """Read betas with the picture of every stimulus that was shown.

    Raises
    ------
    BadInput
        As `read_betas`, or a stimulus has no picture.
    """
    betas, stimuli = read_betas(session, stores, inputs, simulated)
    if stimuli is None:
        raise BadInput(f"no picture beside the betas of subject {inputs.subject}", "the stimuli as PNG or JPEG", _HOW)
    return betas, stimuli.select(np.array(list(dict.fromkeys(betas.stimulus_ids.tolist()))))


def note_alignment(inputs: BetasInput, betas: Betas) -> tuple[str, ...]:
    """Say whether trials and stimuli seem misaligned, where no intake saw both: NIfTI comes apart from events."""
    from voxelight.neuro.alignment import check_alignment

    if inputs.events is None:
        return ()
    found = check_alignment(betas)
    return (found.line(),) if found.aligned is False else ()


def _only(scans: list[Scan], what: str, dataset: Dataset) -> Scan:
    if len(scans) != 1:
        names = f": {', '.join(scan.name for scan in scans[:5])}" if scans else ""
        raise BadInput(f"{len(scans)} files of {what} in data set {dataset.name}{names}", "exactly one", _HOW)
    return scans[0]


def _gather(betas: Scan, mask: Scan | None, events: Scan | None, pictures: list[Scan]) -> BetasInput:
    subject = betas.imaging_session.subject
    parts = [scan for scan in (betas, mask, events, *pictures) if scan is not None]
    return BetasInput(
        subject_id=subject.id,
        subject=subject.label,
        betas=betas.id,
        mask=mask.id if mask else None,
        events=events.id if events else None,
        pictures=tuple(picture.id for picture in pictures),
        hashes={scan.name: scan.blob_sha256 for scan in parts},
    )
