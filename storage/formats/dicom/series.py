"""Which DICOM files belong to one series, and which of them are images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset

from voxelight.storage.formats.dicom.files import DicomFile, dicom_faults, walk

# What is kept of each header: enough to place its voxels and to tell volumes apart, so that memory stays flat.
_KEPT = (
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID SeriesNumber Modality ImageType SeriesDescription",
    "ProtocolName Rows Columns SamplesPerPixel PhotometricInterpretation NumberOfFrames BitsAllocated",
    "ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness SpacingBetweenSlices RescaleSlope",
    "RescaleIntercept InstanceNumber AcquisitionNumber EchoNumbers EchoTime TemporalPositionIdentifier DiffusionBValue",
    "TriggerTime ImagesInAcquisition SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence",
)
# Classes with pictures in them that are no scan: segmentations and parametric maps are results of their own.
_RESULTS = ("1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.1.1.481", "1.2.840.10008.5.1.4.1.1.88")


@dataclass(frozen=True, eq=False)
class SeriesFiles:
    """The images of one series.

    Parameters
    ----------
    uid : SeriesInstanceUID as the files have it
    files : one an instance, in the order of their instance numbers
    headers : of the files, without voxels and with what places them alone
    copies : files left out because they hold an instance that is there already
    volume, volumes : which volume is meant of how many that the series has; None where it has one, or none is chosen
    differs : what tells that volume from the others, in words
    """

    uid: str
    files: tuple[DicomFile, ...]
    headers: tuple[Dataset, ...]
    copies: int = 0
    volume: int | None = None
    volumes: int = 1
    differs: str = ""

    @property
    def first(self) -> Dataset:
        """Header of the first file."""
        return self.headers[0]

    @property
    def title(self) -> str:
        """What a person knows it by, without any text that a header might hold of the person."""
        number = self.first.get("SeriesNumber")
        files = f"{len(self.files)} file{'s' * (len(self.files) != 1)}"
        return f"series {number if number is not None else 'without a number'} ({self.modality}, {files})"

    @property
    def modality(self) -> str:
        """MR or CT, for two."""
        return str(self.first.get("Modality") or "OT")


def find_series(paths: Sequence[Path]) -> list[SeriesFiles]:
    """Find every series of images below some paths; what is no DICOM image is passed over.

    Parameters
    ----------
    paths : files, folders and ZIP archives

    Returns
    -------
    list of SeriesFiles
        In the order of study and series number.

    Raises
    ------
    BadInput
        A path leads nowhere, an archive is not to be trusted, or a DICOM file is damaged.
    """
    found: dict[str, dict[str, tuple[DicomFile, Dataset]]] = {}
    copies: dict[str, int] = {}
    for file, header in walk(paths):
        with dicom_faults(file.name):
            uid, instance = str(header.get("SeriesInstanceUID", "")), str(header.get("SOPInstanceUID", ""))
            if not is_image(header):
                continue
            of_series = found.setdefault(uid, {})
            if instance and instance in of_series:
                copies[uid] = copies.get(uid, 0) + 1
                continue
            of_series[instance or f"{file.path}/{file.member}"] = file, keep_placement(header)
    return sorted((_in_order(uid, each, copies.get(uid, 0)) for uid, each in found.items()), key=_rank)


def is_image(header: Dataset) -> bool:
    """Whether a file holds a scan: voxels, and neither a plan, a report nor a segmentation."""
    return bool(header.get("Rows")) and not str(header.get("SOPClassUID", "")).startswith(_RESULTS)


def keep_placement(header: Dataset) -> Dataset:
    """Return the part of a header that this package goes by."""
    kept = Dataset()
    for keyword in " ".join(_KEPT).split():
        if keyword in header:
            kept[keyword] = header[keyword]
    kept.file_meta = header.file_meta
    return kept


def as_number(value: Any, otherwise: float) -> float:
    """Read a number of a header, which may be absent or nonsense."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return otherwise


def _in_order(uid: str, found: dict[str, tuple[DicomFile, Dataset]], copies: int) -> SeriesFiles:
    pairs = sorted(
        found.values(), key=lambda pair: (as_number(pair[1].get("InstanceNumber"), 0), pair[0].path, pair[0].member)
    )
    files, headers = zip(*pairs, strict=True)
    return SeriesFiles(uid, files, headers, copies)


def _rank(series: SeriesFiles) -> tuple[str, float, str]:
    return str(series.first.get("StudyInstanceUID", "")), as_number(series.first.get("SeriesNumber"), 0), series.uid
