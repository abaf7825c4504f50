"""Label maps as DICOM-SEG on the series they were drawn on (PS3.3, A.51)."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import hashlib
import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes

from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap
from voxelight.storage.formats.dicom.files import parse, read_each
from voxelight.storage.formats.dicom.stack import Stack
from voxelight.storage.formats.dicom.volume import open_stack
from voxelight.storage.formats.nifti import RAS
from voxelight.storage.formats.nifti_header import place_grid

NOTICE = "Not for clinical use"
_SERIES_NUMBER = 900
# Words in a label's name -> keyword of SNOMED CT, the first that fits.
_CODES = {
    "hippocamp": "Hippocampus",
    "lung": "Lung",
    "heart": "Heart",
    "liver": "Liver",
    "spleen": "Spleen",
    "kidney": "Kidney",
    "prostate": "Prostate",
    "breast": "Breast",
    "brain": "Brain",
    "tumour": "Neoplasm",
    "tumor": "Neoplasm",
    "edema": "Edema",
    "oedema": "Edema",
    "necro": "Necrosis",
    "lesion": "Lesion",
}
_ABNORMAL = {"Neoplasm", "Edema", "Necrosis", "Lesion"}
_EMPTY_IF_ABSENT = (
    "PatientID PatientName PatientBirthDate PatientSex AccessionNumber StudyID StudyDate StudyTime "
    "ReferringPhysicianName PositionReferenceIndicator"
)

logging.getLogger("highdicom").setLevel(logging.ERROR)


@dataclass(frozen=True)
class SegmentedBy:
    """What drew the labels.

    Parameters
    ----------
    name, version : of the model or of the program
    manual : a person drew or corrected them
    """

    name: str
    version: str
    manual: bool = False


def write_dicom_seg(label_map: LabelMap, source: Path, drawn_by: SegmentedBy) -> bytes:
    """Encode a label map as DICOM-SEG, one binary segment a label, which refers to the slices of its series.

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
        The label map lies on another grid, names no label, or the series can't be referred to.
    """
    stack, array = turn_onto_series(label_map, source)
    sources, order = read_sources(stack)
    planes: Any = np.ascontiguousarray(array.transpose(2, 1, 0)[order])  # (slice, row, column)
    encoded = _encode(label_map, planes, sources, drawn_by)
    _count_frames_of_file(encoded, [stack.frames[place].number for place in order])
    file = io.BytesIO()
    encoded.save_as(file)
    return file.getvalue()


def turn_onto_series(label_map: LabelMap, source: Path) -> tuple[Stack, NDArray[np.uint8] | NDArray[np.uint16]]:
    """Return a series, and the labels in its own axes, array (column, row, slice).

    Raises
    ------
    BadInput
        The label map lies on another grid, or names no label.
    """
    stack = open_stack(source)
    grid = place_grid(stack.shape, stack.affine)
    own = grid.geometry
    if not label_map.geometry.matches(own):
        raise BadInput(
            f"a label map of {label_map.geometry.shape} voxels that is not on the grid of its series, {own.shape}",
            "the grid of the series itself",
            "Resample the labels to the series with nearest neighbour, or export NIfTI.",
        )
    if not label_map.names:
        raise BadInput("a label map without a name of a label", "at least one label", "Name what the numbers mean.")
    back = nib.orientations.ornt_transform(RAS, grid.axes)
    turned: NDArray[np.uint8] | NDArray[np.uint16] = nib.apply_orientation(label_map.array, back)
    return stack, turned


def read_sources(stack: Stack) -> tuple[list[Dataset], NDArray[np.intp]]:
    """Return the headers of a series as highdicom takes them, and which slice of the stack each frame is.

    The header of a multi-frame file keeps the frames of the volume alone.

    Raises
    ------
    BadInput
        The series is one of several multi-frame files.
    """
    numbers = [frame.file for frame in stack.frames]
    multi = len(set(numbers)) == 1 and len(numbers) > 1
    if not multi and len(set(numbers)) != len(numbers):
        raise BadInput(
            f"{stack.series.title} of several multi-frame files",
            "a file for each slice, or one multi-frame file",
            "Export NIfTI.",
        )
    files = [stack.series.files[number] for number in dict.fromkeys(numbers)]
    headers = [parse(io.BytesIO(content), file.name, stop_before_pixels=True) for file, content in read_each(files)]
    for header in headers:
        _complete(header)
    if not multi:
        return headers, np.arange(len(numbers))
    order = np.argsort([frame.number for frame in stack.frames])
    [header] = headers
    groups = header.PerFrameFunctionalGroupsSequence
    header.PerFrameFunctionalGroupsSequence = [groups[stack.frames[place].number] for place in order]
    header.NumberOfFrames = len(order)
    return headers, order


def _count_frames_of_file(encoded: Dataset, numbers: list[int]) -> None:
    """Count the frames that a segmentation refers to as their file has them, other volumes included."""
    for groups in encoded.PerFrameFunctionalGroupsSequence:
        for derivation in groups.get("DerivationImageSequence", ()):
            for source in derivation.SourceImageSequence:
                if "ReferencedFrameNumber" in source:
                    source.ReferencedFrameNumber = numbers[int(source.ReferencedFrameNumber) - 1] + 1


def _complete(header: Dataset) -> None:
    """Give a header the attributes that a segmentation copies and that may be empty or missing in real files."""
    for keyword in _EMPTY_IF_ABSENT.split():
        if keyword not in header:
            setattr(header, keyword, "")
    if not header.get("FrameOfReferenceUID"):
        header.FrameOfReferenceUID = derive_uid("frame of reference", str(header.SeriesInstanceUID))


def _encode(
    label_map: LabelMap, planes: NDArray[np.uint8] | NDArray[np.uint16], sources: list[Dataset], drawn_by: SegmentedBy
) -> Dataset:
    from highdicom import AlgorithmIdentificationSequence, seg  # a second to import, and only exports need it

    numbers = sorted(label_map.names)
    consecutive = np.zeros(max(int(planes.max()), *numbers) + 1, dtype=np.uint16)
    consecutive[numbers] = np.arange(1, len(numbers) + 1)
    who = AlgorithmIdentificationSequence(
        name=drawn_by.name[:64], family=codes.DCM.ArtificialIntelligence, version=drawn_by.version[:64] or "1"
    )
    descriptions = [
        seg.SegmentDescription(
            segment_number=place,
            segment_label=label_map.names[number][:64],
            segmented_property_category=_find_category(label_map.names[number], drawn_by),
            segmented_property_type=_find_code(label_map.names[number], drawn_by),
            algorithm_type="SEMIAUTOMATIC" if drawn_by.manual else "AUTOMATIC",
            algorithm_identification=who,
        )
        for place, number in enumerate(numbers, start=1)
    ]
    series = str(sources[0].SeriesInstanceUID)
    content = hashlib.sha256(planes.tobytes() + repr((label_map.names, drawn_by)).encode()).hexdigest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the source's header breaks stands there already
        encoded: Dataset = seg.Segmentation(
            source_images=sources,
            pixel_array=consecutive[planes].astype(np.uint8 if len(numbers) < 2**8 else np.uint16),
            segmentation_type="BINARY",
            segment_descriptions=descriptions,
            series_instance_uid=derive_uid("series", series, content),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=derive_uid("instance", series, content),
            instance_number=1,
            manufacturer="Voxelight",
            manufacturer_model_name=drawn_by.name[:64],
            software_versions=drawn_by.version[:64] or "1",
            device_serial_number="0",
            content_description=NOTICE,
            content_label="SEGMENTATION",
            series_description=f"{drawn_by.name[:40]}. {NOTICE}",
            omit_empty_frames=bool(planes.any()),
        )
    return encoded


def _find_code(label: str, drawn_by: SegmentedBy) -> Any:
    """Return the code of a label, else of what its model is for: `anterior` by `hippocampus-agunet` is hippocampus."""
    names = (label, "" if drawn_by.manual else drawn_by.name)
    found = (keyword for name in names for word, keyword in _CODES.items() if word in name.lower())
    return getattr(codes.SCT, next(found, "Tissue"))


def _find_category(label: str, drawn_by: SegmentedBy) -> Any:
    code = _find_code(label, drawn_by)
    if any(getattr(codes.SCT, keyword) == code for keyword in _ABNORMAL):
        return codes.SCT.MorphologicallyAbnormalStructure
    return codes.SCT.Tissue if code == codes.SCT.Tissue else codes.SCT.AnatomicalStructure


def derive_uid(*parts: str) -> str:
    """Derive a UID from what it names (PS3.5, B.2)."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()[:16]
    return f"2.25.{int.from_bytes(digest, 'big')}"
