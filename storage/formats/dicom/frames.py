"""Where each frame of a series lies, in classic and in enhanced multi-frame files alike."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from voxelight.models.errors import BadInput
from voxelight.storage.formats.dicom.files import dicom_faults
from voxelight.storage.formats.dicom.refusals import Convertible
from voxelight.storage.formats.dicom.series import SeriesFiles, as_number

# Where a frame says what may tell volumes of one series apart; a header says it without the sequence.
_TELLING = {
    "AcquisitionNumber": "",
    "EchoNumbers": "",
    "EchoTime": "",
    "EffectiveEchoTime": "MREchoSequence",
    "TemporalPositionIdentifier": "",
    "TemporalPositionIndex": "FrameContentSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "TriggerTime": "",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "ImageType": "",
}


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice.

    Parameters
    ----------
    file : its place among the files of the series
    number : its place in that file
    position : array (3,), mm in LPS, of the centre of its first voxel
    across, down : arrays (3,), unit vectors in LPS along a row and along a column
    spacing : mm from row to row and from column to column
    shape : rows, columns
    scaling : slope and intercept of the stored values
    tells : what may tell volumes of one series apart, by keyword
    """

    file: int
    number: int
    position: NDArray[np.float64]
    across: NDArray[np.float64]
    down: NDArray[np.float64]
    spacing: tuple[float, float]
    shape: tuple[int, int]
    scaling: tuple[float, float]
    tells: dict[str, str] = field(default_factory=dict)


def list_frames(series: SeriesFiles) -> list[Frame]:
    """Place every frame of a series.

    Raises
    ------
    BadInput
        A frame does not say where it lies, or is none that holds one grey value a voxel.
    """
    with dicom_faults(series.title):
        return [frame for place, header in enumerate(series.headers) for frame in _frames(series, place, header)]


def _frames(series: SeriesFiles, place: int, header: Dataset) -> Iterator[Frame]:
    _refuse_colour(series, header)
    _refuse_mosaic(series, header)
    shape = int(header.Rows), int(header.Columns)
    count = int(as_number(header.get("NumberOfFrames"), 1)) or 1
    shared = _only(header.get("SharedFunctionalGroupsSequence"))
    each = list(header.get("PerFrameFunctionalGroupsSequence") or [])
    if count > 1 and len(each) != count:
        raise Convertible(
            f"{series.title} with {count} frames in one file and the places of {len(each)}",
            "a place for every frame, as enhanced multi-frame files have",
            "Convert the series with dcm2niix and upload the .nii.gz.",
        )
    for number in range(count):
        groups = [each[number]] if each else []
        yield _frame(series, place, number, shape, _Look([*groups, *([shared] if shared else [])], header))


class _Look:
    """Look an attribute up in the groups of a frame, then in those of all frames, then in the header."""

    def __init__(self, groups: list[Dataset], header: Dataset) -> None:
        self._groups, self._header = groups, header

    def find(self, sequence: str, keyword: str) -> Any:
        """Return a value, or None."""
        for group in self._groups:
            inner = _only(group.get(sequence))
            if inner is not None and inner.get(keyword) is not None:
                return inner.get(keyword)
        return self._header.get(keyword)

    def tell(self) -> dict[str, str]:
        """Return what may tell volumes apart."""
        values = {keyword: self.find(sequence, keyword) for keyword, sequence in _TELLING.items()}
        return {keyword: str(value) for keyword, value in values.items() if value is not None}


def _frame(series: SeriesFiles, place: int, number: int, shape: tuple[int, int], look: _Look) -> Frame:
    position = _vector(look.find("PlanePositionSequence", "ImagePositionPatient"), 3)
    directions = _vector(look.find("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    spacing = _vector(look.find("PixelMeasuresSequence", "PixelSpacing"), 2)
    if position is None or directions is None or spacing is None:
        missing = [
            name
            for name, value in (("position", position), ("orientation", directions), ("pixel spacing", spacing))
            if value is None
        ]
        raise BadInput(
            f"{series.title} whose headers do not give {' and '.join(missing)}",
            "slices that say where they lie in the patient",
            "Upload the series that the scanner measured and not a copy of the screen; or pictures as PNG.",
        )
    across, down = directions[:3], directions[3:]
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if min(spacing) <= 0 or max(abs(length - 1) for length in lengths) > 1e-2 or abs(across @ down) > 1e-2:
        raise BadInput(
            f"{series.title} with slices whose axes are no right angles of unit length",
            "ImageOrientationPatient of two perpendicular unit vectors, and a positive PixelSpacing",
            "The headers are damaged: export the series again from its source.",
        )
    slope = as_number(look.find("PixelValueTransformationSequence", "RescaleSlope"), 1.0)
    intercept = as_number(look.find("PixelValueTransformationSequence", "RescaleIntercept"), 0.0)
    return Frame(
        file=place,
        number=number,
        position=position,
        across=across / lengths[0],
        down=down / lengths[1],
        spacing=(float(spacing[0]), float(spacing[1])),
        shape=shape,
        scaling=(slope, intercept),
        tells=look.tell(),
    )


def _refuse_colour(series: SeriesFiles, header: Dataset) -> None:
    kind = str(header.get("PhotometricInterpretation", ""))
    if int(as_number(header.get("SamplesPerPixel"), 1)) != 1 or not kind.startswith("MONOCHROME"):
        raise BadInput(
            f"{series.title} in colour ({kind or 'of no stated kind'})",
            "one grey value a voxel",
            "Upload the series that the scanner measured; colour maps and copies of the screen are drawn from it.",
        )


def _refuse_mosaic(series: SeriesFiles, header: Dataset) -> None:
    if "MOSAIC" in [str(part) for part in header.get("ImageType") or []]:
        raise Convertible(
            f"{series.title} of mosaics, many slices in one picture",
            "one slice a frame",
            "Convert the series with dcm2niix, which knows how the scanner arranges them, and upload the .nii.gz.",
        )


def _only(sequence: Any) -> Dataset | None:
    return sequence[0] if sequence else None


def _vector(value: Any, length: int) -> NDArray[np.float64] | None:
    try:
        vector = np.array([float(part) for part in value], dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return vector if vector.shape == (length,) and bool(np.isfinite(vector).all()) else None
