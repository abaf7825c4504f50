"""The cases of a data set that a network can be trained on: images with a label map beside them."""

import re
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from voxelight.app.pipelines.choice import choose_scans, find_conditions
from voxelight.app.schemas import JobRequest, ScanQuery
from voxelight.models.errors import BadInput, VoxelightError
from voxelight.storage.formats.names import image_stem
from voxelight.storage.queries import select_scans
from voxelight.storage.schema import Dataset, Scan
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.medseg.cases import Case

TAKES = ("volume", "picture")
LABEL_ENDINGS = re.compile(r"_(dseg|seg|labels?|mask)(\.(?:nii(?:\.gz)?|nrrd|mha|png))$", re.IGNORECASE)


class Pair(BaseModel):
    """One case as the job keeps it.

    Parameters
    ----------
    name : of the case
    person : who was scanned
    scan, subject : ids of the image and of whom it shows
    image, labels : file name and hash of each
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    person: str
    scan: uuid.UUID
    subject: uuid.UUID
    image: tuple[str, str]
    labels: tuple[str, str]


def find_pairs(session: Session, dataset: Dataset, request: JobRequest) -> tuple[list[Pair], tuple[str, ...]]:
    """Return the images of a request that have a label map in the same session, and in words what was left out.

    The label map of ``NAME.nii.gz`` is called ``NAME_dseg.nii.gz``, or ends in ``_seg``, ``_label``, ``_labels`` or
    ``_mask``, whatever the formats of the two.

    Raises
    ------
    BadInput
        There is no such pair.
    NotFound, Refused
        As of `choose_scans`.
    """
    choice = choose_scans(session, dataset, request, TAKES)
    everything = select_scans().where(*find_conditions(dataset.id, ScanQuery(), TAKES), Scan.held == "")
    maps = {_place(scan): scan for scan in session.scalars(everything) if LABEL_ENDINGS.search(scan.name)}
    images = [scan for scan in choice.scans if scan.kind in TAKES and not LABEL_ENDINGS.search(scan.name)]
    pairs = [_pair(scan, maps[_place(scan)]) for scan in images if _place(scan) in maps]
    if not pairs:
        raise BadInput(
            f"no image with a label map in data set {dataset.name}",
            "for NAME.nii.gz a label map NAME_dseg.nii.gz in the same session",
            "Upload label maps under such names, or rename them: voxelight ingest --rename.",
        )
    lonely = len(images) - len(pairs)
    notes = (f"Left out, without a label map: {lonely} image{'s' * (lonely > 1)}.",) if lonely else ()
    return sorted(pairs, key=lambda pair: pair.name), (*choice.notes, *notes)


def read_pairs(
    stores: Stores, pairs: list[Pair], names: dict[int, str] | None, values: Mapping[int, int]
) -> "list[Case]":
    """Read cases from the store, in their order.

    Raises
    ------
    VoxelightError
        A case can't be read; every such case is named at once.
    """
    from voxelight.storage.checks_data import read_case
    from voxelight.storage.formats.cases import noting, refuse_faults

    cases: list[Case] = []
    faults: dict[str, VoxelightError] = {}
    for pair in pairs:
        with (
            stores.blobs.local_file(pair.image[1], pair.image[0]) as image,
            stores.blobs.local_file(pair.labels[1], pair.labels[0]) as labels,
            noting(pair.name, faults),
        ):
            cases.append(read_case(stores.checks, pair.name, (image, labels), names, values))
    refuse_faults(faults, len(pairs))
    return cases


def _place(scan: Scan) -> tuple[uuid.UUID, str]:
    """Return what an image and its label map have in common."""
    return scan.imaging_session_id, image_stem(LABEL_ENDINGS.sub("", scan.name)).lower()


def _pair(image: Scan, labels: Scan) -> Pair:
    visit = image.imaging_session
    return Pair(
        name=f"{visit.subject.label}/{visit.label}/{image_stem(image.name)}",
        person=visit.subject.label,
        scan=image.id,
        subject=visit.subject_id,
        image=(image.name, image.blob_sha256),
        labels=(labels.name, labels.blob_sha256),
    )
