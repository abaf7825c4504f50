"""Take identity out of a DICOM file; its voxels stay as they are, to the byte."""

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydicom import DataElement, Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue

from voxelight.models.errors import BadInput
from voxelight.storage.formats.dicom import profile
from voxelight.storage.formats.dicom.bundle import keep_words
from voxelight.storage.formats.dicom.files import DicomFile, dicom_faults, parse
from voxelight.storage.formats.dicom.volume import find_syntax

_VOXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_BINARY = {"OB", "OD", "OF", "OL", "OV", "OW", "OB or OW", "UN"}
_DROPPED = {"AE", "AS"}
# What a value of a kind may look like; one that does not is text in the wrong place.
_SYNTAX = {
    "CS": re.compile(r"[A-Z0-9_ ]{0,16}"),
    "DS": re.compile(r"[0-9eE.+\- ]*"),
    "IS": re.compile(r"[0-9+\- ]*"),
    "TM": re.compile(r"[0-9.: ]*"),
}
_METHODS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)


@dataclass
class Cleaner:
    """Cleans the files of one series and remembers what it took out, for the identity link.

    Parameters
    ----------
    name_uid : gives the UID that stands for another
    days : by how many days dates are moved
    label : of the subject, in place of name and number
    uids : new UID -> the one it stands for
    patient : keyword -> value, as the first file had it
    """

    name_uid: Callable[[str], str]
    days: int
    label: str
    uids: dict[str, str] = field(default_factory=dict)
    patient: dict[str, str] = field(default_factory=dict)
    held: str = ""

    def clean(self, file: DicomFile, content: bytes) -> bytes:
        """Return a file without what could name a person.

        Raises
        ------
        BadInput
            It can't be read, or its voxels would change.
        """
        with dicom_faults(file.name):
            return self._clean_file(file, content)

    def look_at(self, file: DicomFile, content: bytes) -> None:
        """Remember the UIDs of a file as `clean` does, and write nothing.

        Raises
        ------
        BadInput
            It can't be read.
        """
        with dicom_faults(file.name):
            self._clean(parse(io.BytesIO(content), file.name), top=True)

    def _clean_file(self, file: DicomFile, content: bytes) -> bytes:
        dataset = parse(io.BytesIO(content), file.name)
        voxels = {keyword: dataset[keyword].value for keyword in _VOXELS if keyword in dataset}
        self.held = self.held or find_writing(dataset)
        if not self.patient:
            self.patient = {
                keyword: str(dataset.get(keyword)) for keyword in profile.PATIENT_LEVEL if dataset.get(keyword)
            }
        syntax = find_syntax(dataset)
        self._clean(dataset, top=True)
        self._sign(dataset)
        dataset.file_meta = _new_meta(dataset, syntax)
        dataset.preamble = b"\0" * 128
        cleaned = _write(dataset, file.name)
        again = parse(io.BytesIO(cleaned), file.name)
        if any(again[keyword].value != value for keyword, value in voxels.items()):
            raise BadInput(
                f"{file.name}, whose voxels would not stay as they are",
                "a file that can be written again",
                "Convert the series with dcm2niix and upload the .nii.gz.",
            )
        return cleaned

    def _clean(self, dataset: Dataset, top: bool = False) -> None:
        for tag in list(dataset.keys()):
            if tag.group % 2 or tag.element == 0 or profile.is_overlay_or_curve(tag.group):
                del dataset[tag]
                continue
            try:
                element = dataset[tag]
            except Exception:  # a value that pydicom can't make sense of is none that has to stay
                del dataset[tag]
                continue
            self._clean_element(dataset, element, top)

    def _clean_element(self, dataset: Dataset, element: DataElement, top: bool) -> None:
        keyword, vr = element.keyword, element.VR
        if top and keyword in {"PatientID", "PatientName"}:
            element.value = self.label[:64]
        elif keyword in profile.EMPTIED:
            element.value = None
        elif _goes(keyword, vr):
            del dataset[element.tag]
        elif vr == "SQ":
            for item in element.value:
                self._clean(item)
        elif profile.is_text(vr):
            self._clean_text(dataset, element)
        else:
            self._clean_value(element)

    def _clean_value(self, element: DataElement) -> None:
        keyword, vr = element.keyword, element.VR
        if vr == "UI":
            element.value = _each(element.value, lambda uid: self._replace(keyword, uid))
        elif vr in {"DA", "DT"}:
            element.value = _each(element.value, self._shift)
        elif vr in _SYNTAX and not _fits(element.value, _SYNTAX[vr]):
            element.value = None

    def _clean_text(self, dataset: Dataset, element: DataElement) -> None:
        if element.keyword in profile.KEPT_TEXT:
            return
        words = keep_words(str(element.value)) if element.keyword in profile.CLEANED_TEXT else ""
        if words:
            element.value = words[:64]
        else:
            del dataset[element.tag]

    def _replace(self, keyword: str, uid: str) -> str:
        if not uid or keyword in profile.KEPT_UIDS or uid.startswith(profile.STANDARD_ROOT):
            return uid
        new = self.name_uid(uid)
        self.uids[new] = uid
        return new

    def _shift(self, value: str) -> str:
        """Move a date, or the date of a moment; one without a day is emptied, and so is a time zone."""
        found = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})([\d.]*)(?:[+-]\d{4})?", value.strip())
        try:
            day = date(int(found[1]), int(found[2]), int(found[3])) + timedelta(self.days) if found else None
        except (ValueError, OverflowError):
            day = None
        return f"{day:%Y%m%d}{found[4]}" if day and found else ""

    def _sign(self, dataset: Dataset) -> None:
        """Say what was done, as PS3.15 asks for."""
        for keyword in profile.EMPTIED:
            if keyword != "ContentCreatorName" and keyword not in dataset:
                setattr(dataset, keyword, None)
        dataset.PatientID = dataset.PatientName = self.label[:64]
        dataset.PatientIdentityRemoved = "YES"
        dataset.LongitudinalTemporalInformationModified = "MODIFIED"
        dataset.DeidentificationMethod = "Voxelight"
        codes = []
        for value, meaning in _METHODS:
            code = Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning[:64]
            codes.append(code)
        dataset.DeidentificationMethodCodeSequence = codes


# Classes on whose pictures names are written as a rule: copies of a screen, ultrasound, fluoroscopy, photographs.
_WRITTEN_ON = {
    "1.2.840.10008.5.1.4.1.1.7": "a copy of a screen",
    "1.2.840.10008.5.1.4.1.1.3": "ultrasound",
    "1.2.840.10008.5.1.4.1.1.6": "ultrasound",
    "1.2.840.10008.5.1.4.1.1.12": "fluoroscopy",
    "1.2.840.10008.5.1.4.1.1.77.1": "a photograph",
}


def find_writing(header: Dataset) -> str:
    """Say why a file may have writing in its picture, which no cleaning of headers takes out; else nothing.

    A file that says so itself is believed. One that says nothing is doubted where its class is one of those on which
    names are written as a rule; scanners of MR, CT and PET leave the attribute out.
    """
    said = str(header.get("BurnedInAnnotation", "")).upper()
    if said == "YES":
        return "its header says that writing is burned into the picture (BurnedInAnnotation is YES)"
    embedded = [tag for tag in header.keys() if tag.group & 0xFF00 == 0x6000 and tag.element == 0x0102]  # noqa: SIM118
    if any(header[tag].value for tag in embedded):
        return "a drawing lies in unused bits of the voxels (an embedded overlay)"
    if said == "NO":
        return ""
    of = str(header.get("SOPClassUID", ""))
    for root, what in _WRITTEN_ON.items():
        if of == root or of.startswith(f"{root}."):
            return f"it is {what}, and its header does not say that no writing is burned in"
    if header.get("ConversionType"):
        return "it was converted from something else, and its header does not say that no writing is burned in"
    return ""


def _goes(keyword: str, vr: str) -> bool:
    unknown = vr in _BINARY and not keyword.endswith(profile.KEPT_BYTES)
    return keyword in profile.REMOVED or vr in _DROPPED or vr == "PN" or unknown


def _fits(value: Any, syntax: re.Pattern[str]) -> bool:
    parts = value if isinstance(value, MultiValue | list) else [value]
    return all(part is None or syntax.fullmatch(str(part)) for part in parts)


def _each(value: Any, change: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, MultiValue | list):
        return [change(str(part)) for part in value]
    return change(str(value))


def _new_meta(dataset: Dataset, syntax: Any) -> FileMetaDataset:
    """Make the header of the file anew: that of the source names the programs and stations it came through."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "")
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "")
    meta.TransferSyntaxUID = syntax
    meta.ImplementationVersionName = f"VOXELIGHT_{_find_version()}"[:16]
    return meta


def _find_version() -> str:
    try:
        return version("voxelight")
    except PackageNotFoundError:
        return "unknown"


def _write(dataset: Dataset, name: str) -> bytes:
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values that break a rule stay as they are
            dcmwrite(file, dataset, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, OSError) as error:
        raise BadInput(
            f"{name}, a DICOM file that can't be written again ({type(error).__name__})",
            "a file that keeps to the format",
            "Convert the series with dcm2niix and upload the .nii.gz.",
        ) from error
    return file.getvalue()
