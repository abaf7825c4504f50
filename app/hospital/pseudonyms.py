"""Labels that stand for patients and studies, and what still lies in an inbox of those who are to be erased."""

import contextlib
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from voxelight.storage.identity import IdentityKey

TAGS = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_DIGITS = 16  # hexadecimal: 64 bits, so that no two of a million patients share one by chance


def name_person(key: IdentityKey, issuer: str, number: str) -> str:
    """Return the label of a patient; one without a number shares a label with all others without."""
    return f"p{_shorten(key, f'patient/{issuer}/{number}')}"


def name_visit(key: IdentityKey, study_uid: str) -> str:
    """Return the label of the session that a study is."""
    return f"v{_shorten(key, f'study/{study_uid}')}"


def read_header(path: Path) -> dict[str, str] | None:
    """Return who and what an instance is of, by keyword; None where it is no DICOM file."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    found: Any = None
    with contextlib.suppress(InvalidDicomError, OSError, ValueError):
        found = dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
    return None if found is None else {name: str(found.get(name, "") or "") for name in TAGS}


def forget_received(home: Path, labels: Collection[str]) -> int:
    """Remove series of some patients that wait in an inbox or were refused, and return how many.

    Parameters
    ----------
    home : folder of the installation
    labels : of the subjects that are erased; those that a person chose lead to no patient
    """
    key, gone = IdentityKey(home / "identity.key"), 0
    if not key.path.is_file():
        return 0
    for folder in (home / "inbox").glob("*/*/*"):
        first = next(iter(sorted(folder.glob("*.dcm"))), None) if folder.is_dir() else None
        header = read_header(first) if first else None
        if header and name_person(key, header["IssuerOfPatientID"], header["PatientID"]) in labels:
            shutil.rmtree(folder, ignore_errors=True)
            gone += 1
    return gone


def _shorten(key: IdentityKey, text: str) -> str:
    return key.hash_label(text)[:_DIGITS]
