"""Give a segmentation back to the study that it was drawn on: original UIDs, original patient."""

import io
import warnings
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.multival import MultiValue

from voxelight.storage.formats.dicom.files import parse
from voxelight.storage.formats.dicom.profile import PATIENT_LEVEL
from voxelight.storage.identity import SeriesIdentity

_SAID = ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence")


def relink(content: bytes, identity: SeriesIdentity) -> bytes:
    """Put the original identifiers into a DICOM-SEG that was written on a cleaned series.

    Parameters
    ----------
    content : the DICOM file
    identity : what the series was

    Returns
    -------
    bytes
        The same segments; UIDs of study, frame of reference and referred slices, and the attributes of the patient and
        the study, are those of the series as it came. Its own series and instance UID stay.
    """
    dataset = parse(io.BytesIO(content), "the segmentation")
    dataset.walk(lambda _, element: _restore(element, identity.uids))
    for keyword in PATIENT_LEVEL:
        if keyword in identity.patient:
            setattr(dataset, keyword, identity.patient[keyword])
        elif keyword in dataset:
            dataset[keyword].value = None
    for keyword in (*_SAID, "LongitudinalTemporalInformationModified"):
        if keyword in dataset:
            delattr(dataset, keyword)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # identifiers of real studies break rules, and must stay as they are
        dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def find_series_uid(dataset: Dataset) -> str:
    """Return the UID of the series that a segmentation refers to."""
    return str(dataset.ReferencedSeriesSequence[0].SeriesInstanceUID)


def _restore(element: Any, uids: dict[str, str]) -> None:
    if element.VR != "UI" or not element.value:
        return
    if isinstance(element.value, MultiValue | list):
        element.value = [uids.get(str(uid), str(uid)) for uid in element.value]
    else:
        element.value = uids.get(str(element.value), str(element.value))
