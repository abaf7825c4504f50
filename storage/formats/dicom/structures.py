"""Label maps as RTSTRUCT: contours on the slices of the series they were drawn on (PS3.3, A.19)."""

# mypy: disable-error-code="no-untyped-call"
# scikit-image is typed in part

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian
from skimage.measure import find_contours

from voxelight.medseg.colours import find_parts
from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap
from voxelight.storage.formats.dicom.segmentation import (
    NOTICE,
    SegmentedBy,
    derive_uid,
    read_sources,
    turn_onto_series,
)
from voxelight.storage.formats.dicom.stack import Stack

_CLASS = UID("1.2.840.10008.5.1.4.1.1.481.3")
_STUDY = "1.2.840.10008.3.1.2.3.1"
_SERIES_NUMBER = 901
_COPIED = (
    "PatientID PatientName PatientBirthDate PatientSex StudyInstanceUID StudyDate StudyTime StudyID AccessionNumber "
    "ReferringPhysicianName PatientIdentityRemoved DeidentificationMethod LongitudinalTemporalInformationModified"
)


def write_rtstruct(label_map: LabelMap, source: Path, drawn_by: SegmentedBy) -> bytes:
    """Encode a label map as RTSTRUCT, one region of interest a label, closed planar contours on every slice.

    Contours run halfway between voxels inside and outside. A hole is a contour of its own inside another, as planning
    systems that fill by the even-odd rule read it.

    Parameters
    ----------
    label_map : in RAS+, on the grid of the series
    source : the series, ``.dcm.zip``
    drawn_by : SegmentedBy

    Returns
    -------
    bytes
        A DICOM file; the same labels on the same series by the same model have the same UIDs.

    Raises
    ------
    BadInput
        The label map lies on another grid, names no label, or the series is one of multi-frame files.
    """
    stack, array = turn_onto_series(label_map, source)
    sources, _ = read_sources(stack)
    if len(sources) != len(stack.frames):
        raise BadInput(f"{stack.series.title} of a multi-frame file", "a file for each slice, as planning systems have",
                       "Export DICOM-SEG or NIfTI.")  # fmt: skip
    made = _describe(sources, label_map, drawn_by, array)
    _add_contours(made, stack, sources, label_map, array)
    file = io.BytesIO()
    dcmwrite(file, made, enforce_file_format=True)
    return file.getvalue()


def _describe(
    sources: list[Dataset], label_map: LabelMap, drawn_by: SegmentedBy, array: NDArray[np.uint8] | NDArray[np.uint16]
) -> Dataset:
    first = sources[0]
    content = hashlib.sha256(array.tobytes() + repr((label_map.names, drawn_by)).encode()).hexdigest()
    series = str(first.SeriesInstanceUID)
    made = Dataset()
    for keyword in _COPIED.split():
        if keyword in first:
            made[keyword] = first[keyword]
    made.SOPClassUID, made.SOPInstanceUID = _CLASS, UID(derive_uid("structures", series, content))
    made.Modality, made.SeriesInstanceUID = "RTSTRUCT", derive_uid("structures series", series, content)
    made.SeriesNumber, made.InstanceNumber = _SERIES_NUMBER, 1
    made.SeriesDescription = f"{drawn_by.name[:40]}. {NOTICE}"
    made.Manufacturer, made.ManufacturerModelName = "Voxelight", drawn_by.name[:64]
    made.SoftwareVersions = drawn_by.version[:64] or "1"
    made.StructureSetLabel, made.StructureSetName = "VOXELIGHT", drawn_by.name[:64]
    made.StructureSetDescription = NOTICE
    made.StructureSetDate, made.StructureSetTime = first.get("StudyDate") or "", first.get("StudyTime") or ""
    made.FrameOfReferenceUID, made.PositionReferenceIndicator = first.FrameOfReferenceUID, ""
    made.ApprovalStatus = "UNAPPROVED"
    images = Sequence([_refer(header) for header in sources])
    of_series = _item(SeriesInstanceUID=series, ContourImageSequence=images)
    study = _item(
        ReferencedSOPClassUID=_STUDY,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=Sequence([of_series]),
    )
    made.ReferencedFrameOfReferenceSequence = Sequence(
        [_item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=Sequence([study]))]
    )
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = _CLASS, made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def _add_contours(
    made: Dataset,
    stack: Stack,
    sources: list[Dataset],
    label_map: LabelMap,
    array: NDArray[np.uint8] | NDArray[np.uint16],
) -> None:
    regions, contours, observed = [], [], []
    for number, name in sorted(label_map.names.items()):
        regions.append(
            _item(
                ROINumber=number,
                ReferencedFrameOfReferenceUID=made.FrameOfReferenceUID,
                ROIName=name[:64],
                ROIGenerationAlgorithm="AUTOMATIC",
            )
        )
        drawn = [
            _item(
                ContourImageSequence=Sequence([_refer(sources[place])]),
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(points),
                ContourData=[f"{value:.4f}" for value in points.ravel()],
            )
            for place, points in _trace(array == number, stack)
        ]
        contours.append(
            _item(
                ROIDisplayColor=list(find_parts(number)),
                ReferencedROINumber=number,
                ContourSequence=Sequence(drawn),
            )
        )
        observed.append(
            _item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="", ROIInterpreter="")
        )
    made.StructureSetROISequence, made.ROIContourSequence = Sequence(regions), Sequence(contours)
    made.RTROIObservationsSequence = Sequence(observed)


def _trace(mask: NDArray[np.bool_], stack: Stack) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the slice and the corners in LPS mm of every contour of a mask (column, row, slice)."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ stack.affine
    for place in np.flatnonzero(mask.any(axis=(0, 1))):
        for contour in find_contours(np.pad(mask[:, :, place], 1).astype(np.float32), 0.5):
            at = np.column_stack([contour[:-1] - 1, np.full(len(contour) - 1, place)])
            yield int(place), at @ lps[:3, :3].T + lps[:3, 3]


def _refer(header: Dataset) -> Dataset:
    return _item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)


def _item(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made
