import io
import warnings
import zipfile
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from voxelight.storage.formats.dicom.clean import Cleaner, find_writing
from voxelight.storage.formats.dicom.files import DicomFile
from voxelight.storage.formats.dicom.series import find_series
from voxelight.storage.identity import IdentityKey

MR = "1.2.840.10008.5.1.4.1.1.4"
# Everything that the made-up headers hold of a person, a place or a day.
TRACES = [
    *(b"Doe", b"Jane", b"HOSP", b"-4711", b"19510203", b"073Y", b"Mercy", b"House", b"-0815", b"ST-1", b"20240310"),
    *(b"BASEMENT", b"SN-99", b"Nurse", b"call", b"private", b"1.2.3.0", b"WARD7", b"+0100"),
]


@pytest.fixture
def key(tmp_path) -> IdentityKey:
    made = IdentityKey(tmp_path / "identity.key")
    made.ensure(has_links=False)
    return made


@pytest.fixture
def clean(key):
    def _clean(path: Path, cleaner: Cleaner | None = None) -> Dataset:
        cleaner = cleaner or Cleaner(key.hash_uid, -40, "07")
        return dcmread(io.BytesIO(cleaner.clean(DicomFile(path), path.read_bytes())))

    return _clean


def test_nothing_of_the_person_is_left_in_any_byte(write_dicom, key, tmp_path):
    for path in write_dicom(tmp_path):
        content = path.read_bytes()
        assert all(trace in content for trace in TRACES), "the test would show nothing"
        cleaned = Cleaner(key.hash_uid, -40, "07").clean(DicomFile(path), content)
        assert [trace for trace in TRACES if trace in cleaned] == []


def test_what_an_image_needs_stays(write_dicom, clean, tmp_path):
    path = write_dicom(tmp_path)[2]
    before, after = dcmread(path), clean(path)
    for keyword in (
        *("SOPClassUID", "Modality", "Manufacturer", "SeriesNumber", "InstanceNumber", "ImagePositionPatient"),
        *("ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows", "Columns", "StudyTime", "PixelData"),
    ):
        assert after[keyword].value == before[keyword].value, keyword
    assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID


def test_it_says_that_it_was_cleaned_and_how(write_dicom, clean, tmp_path):
    after = clean(write_dicom(tmp_path)[0])
    assert (after.PatientName, after.PatientID) == ("07", "07")
    assert after.PatientIdentityRemoved == "YES"
    assert [code.CodeValue for code in after.DeidentificationMethodCodeSequence] == ["113100", "113105", "113107"]
    assert (after.PatientBirthDate, after.PatientSex, after.AccessionNumber) == ("", "", "")
    assert (after.SeriesDescription, after.StudyDescription) == ("t1 mprage sag", "brain")


def test_uids_stand_for_one_another_in_every_file_and_only_under_this_key(write_dicom, key, clean, tmp_path):
    first, second = (clean(path) for path in write_dicom(tmp_path)[:2])
    assert first.StudyInstanceUID == second.StudyInstanceUID == key.hash_uid("1.2.3.0")
    assert first.SOPInstanceUID == first.file_meta.MediaStorageSOPInstanceUID != second.SOPInstanceUID
    assert str(first.StudyInstanceUID).startswith("2.25.")
    assert len(first.StudyInstanceUID) <= 64
    other = IdentityKey(tmp_path / "other.key")
    other.ensure(has_links=False)
    assert other.hash_uid("1.2.3.0") != first.StudyInstanceUID


def test_dates_move_together_and_keep_their_distance(write_dicom, key, clean, tmp_path):
    def later(header: Dataset, place: int) -> None:
        header.SeriesDate, header.ContentDate = "20240320", "not a date"

    after = clean(write_dicom(tmp_path, change=later)[0])
    assert (after.StudyDate, after.SeriesDate, after.ContentDate) == ("20240130", "20240209", "")
    assert after.AcquisitionDateTime == "20240130101500.5"


def test_what_was_taken_out_is_remembered_for_the_link(write_dicom, key, tmp_path):
    cleaner = Cleaner(key.hash_uid, -40, "07")
    for path in write_dicom(tmp_path):
        cleaner.clean(DicomFile(path), path.read_bytes())
    assert {f"1.2.3.0.{place}" for place in range(1, 7)} < set(cleaner.uids.values())
    assert cleaner.patient["PatientName"] == "Doe^Jane"
    assert cleaner.patient["StudyDate"] == "20240310"


def test_nested_texts_names_and_private_parts_go_too(write_dicom, clean, tmp_path):
    def nest(header: Dataset, place: int) -> None:
        inner = Dataset()
        inner.PersonName, inner.ReferencedSOPInstanceUID, inner.CodeMeaning = "Doe^Jane", "1.2.3.0.77", "Head"
        inner.ImageComments = "Jane again"
        block = inner.private_block(0x0031, "MAKER", create=True)
        block.add_new(0x01, "UN", b"Doe in bytes")
        header.ReferencedImageSequence = Sequence([inner])
        header.RequestAttributesSequence = Sequence([Dataset()])
        header.add_new(0x60000010, "US", 10)
        header.add_new(0x60003000, "OW", b"Doe drawn here..")
        header.DataSetTrailingPadding = b"Doe padded"
        header.EncapsulatedDocument = b"Doe in a PDF"

    path = write_dicom(tmp_path, change=nest)[0]
    cleaned = clean(path)
    [inner] = cleaned.ReferencedImageSequence
    assert [element.keyword for element in inner] == ["CodeMeaning", "ReferencedSOPInstanceUID"] or {
        element.keyword for element in inner
    } == {"CodeMeaning", "ReferencedSOPInstanceUID"}
    assert inner.ReferencedSOPInstanceUID.startswith("2.25.")
    file = io.BytesIO()
    cleaned.save_as(file)
    assert b"Doe" not in file.getvalue()
    assert "RequestAttributesSequence" not in cleaned
    assert (0x6000, 0x3000) not in cleaned


def header_with(**values) -> Dataset:
    header = Dataset()
    header.SOPClassUID = values.pop("SOPClassUID", MR)
    for keyword, value in values.items():
        setattr(header, keyword, value)
    return header


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, ""),
        ({"BurnedInAnnotation": "NO"}, ""),
        ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation is YES"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "a copy of a screen"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "a copy of a screen"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "BurnedInAnnotation": "NO"}, ""),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, "ultrasound"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.1"}, "a photograph"),
        ({"ConversionType": "WSD"}, "converted"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, ""),
    ],
)
def test_writing_in_the_picture_is_suspected_where_it_is_usual(values, reason):
    found = find_writing(header_with(**values))
    assert (reason in found) if reason else not found


def test_a_drawing_in_unused_bits_of_voxels_is_suspected():
    header = header_with(BurnedInAnnotation="NO")
    header.add_new(0x60000102, "US", 12)
    assert "embedded overlay" in find_writing(header)


def test_real_headers_lose_their_names(shared_data, key, tmp_path):
    for folder in ("mr_dicom_t1_pddl", "udacity_brain_mr_dicom"):
        path = sorted((shared_data / folder).rglob("*.dcm"))[0]
        before = dcmread(path)
        cleaned = Cleaner(key.hash_uid, -3, "x").clean(DicomFile(path), path.read_bytes())
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
            value = str(before.get(keyword, "")).encode()
            assert len(value) < 4 or value not in cleaned, keyword
            assert str(dcmread(io.BytesIO(cleaned)).get(keyword, "")) != str(before.get(keyword, "none"))
        assert dcmread(io.BytesIO(cleaned)).PixelData == before.PixelData


def test_an_archive_of_cleaned_files_holds_no_name_of_a_file(write_dicom, key, tmp_path):
    from voxelight.storage.formats.dicom.bundle import check_series, write_bundle
    from voxelight.storage.formats.dicom.volume import only_series

    paths = write_dicom(tmp_path / "Doe_Jane")
    cleaner = Cleaner(key.hash_uid, -1, "07")
    write_bundle(tmp_path / "a.dcm.zip", check_series(only_series(paths[0].parent)), cleaner.clean)
    assert b"Doe" not in (tmp_path / "a.dcm.zip").read_bytes()
    assert len(zipfile.ZipFile(tmp_path / "a.dcm.zip").namelist()) == 6


def test_a_value_that_breaks_a_rule_is_repeated_neither_in_a_warning_nor_in_a_log(write_dicom, key, tmp_path, caplog):
    def spoil(header: Dataset, place: int) -> None:
        header.ContentDate, header.AccessionNumber = "Doe^Jane", "Doe^Jane" * 4
        header.StudyTime, header.SeriesInstanceUID = "Doe", "1.2.Doe"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write_dicom(tmp_path, change=spoil)[0]
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cleaned = Cleaner(key.hash_uid, -40, "07").clean(DicomFile(path), path.read_bytes())
        assert len(find_series([tmp_path])) == 1
    assert b"Doe" not in cleaned, "not even in what should hold a time"
    assert not caplog.records
