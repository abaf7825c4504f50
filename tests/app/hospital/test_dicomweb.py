"""Query, retrieve and store against Debian's Orthanc; no secret and no name is written anywhere."""

import io
import json
import logging

import pytest
import requests
from click.testing import CliRunner
from pydantic import SecretStr
from pydicom import dcmread
from pydicom.uid import generate_uid

from voxelight.app.cli import main
from voxelight.app.hospital.dicomweb import Archive
from voxelight.app.hospital.inbox import Inbox, Wishes
from voxelight.app.hospital.sending import read_peer, send_files
from voxelight.models.errors import BadInput, NotFound, Refused, Unavailable
from voxelight.storage.formats.volumes import read_image

SECRET = "correct-horse"


@pytest.fixture
def stored(orthanc, make_series):
    """A study of two series in the archive, put there by its own door."""
    address, _, secret = orthanc
    contents = [*make_series(count=4), *make_series(count=5, number=4)]
    for content in contents:
        requests.post(
            address.replace("/dicom-web", "/instances"), data=content, auth=secret, timeout=20
        ).raise_for_status()
    yield [dcmread(io.BytesIO(content)) for content in contents]
    for study in requests.get(address.replace("/dicom-web", "/studies"), auth=secret, timeout=20).json():
        requests.delete(address.replace("/dicom-web", f"/studies/{study}"), auth=secret, timeout=20)


@pytest.fixture
def signed_in(services, orthanc):
    told = {"dicomweb_url": orthanc[0], "dicomweb_user": "reader", "dicomweb_password": SecretStr(SECRET)}
    return services.settings.model_copy(update=told)


def test_a_study_is_found_retrieved_cleaned_and_its_result_stored(services, ward, stored, signed_in, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    archive, told = Archive(signed_in), []
    [*studies] = archive.query("studies", {"PatientID": "K-4711"})
    wanted = stored[0].StudyInstanceUID
    assert wanted in {row["StudyInstanceUID"] for row in studies}
    assert {row["PatientName"] for row in studies} == {"Doe^Jane"}
    [series] = archive.query("series", {"StudyInstanceUID": wanted})
    assert (series["Modality"], series["SeriesInstanceUID"]) == ("MR", stored[0].SeriesInstanceUID)
    assert archive.query("studies", {"PatientID": "nobody"}) == []

    inbox = Inbox(services, tmp_path / "inbox", Wishes(ward), told.append)
    assert archive.retrieve(inbox, wanted) == (1, 4)
    inbox.step(quiet_s=0)
    [scan] = services.scans.list(ward).items
    assert (scan.deid_status, scan.facts["slices"]) == ("cleaned", 4)
    volume = sorted(stored[:4], key=lambda each: each.InstanceNumber)
    with services.stores.blobs.local_file(scan.sha256, scan.name) as path:
        array = read_image(path)[0].array[0]
    assert array.sum() == sum(int(each.pixel_array.sum()) for each in volume), "as they were sent, to the last count"

    (tmp_path / "made.dcm").write_bytes(_as_other(stored[0]))
    assert archive.store([tmp_path / "made.dcm"]) == 1
    assert len(archive.query("series", {"StudyInstanceUID": wanted})) == 2, "it stands beside the series in its study"
    assert SECRET not in caplog.text
    assert not any("Doe" in line for line in told)


def _as_other(header):
    """Another series of the same study."""
    header = dcmread(io.BytesIO(_bytes(header)))
    header.SeriesInstanceUID, header.SOPInstanceUID = generate_uid(), generate_uid()
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    return _bytes(header)


def _bytes(header):
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_one_series_of_a_study(services, ward, stored, signed_in, tmp_path):
    inbox = Inbox(services, tmp_path / "inbox", Wishes(ward, subject="case-1"), print)
    wanted = stored[-1]
    assert Archive(signed_in).retrieve(inbox, wanted.StudyInstanceUID, wanted.SeriesInstanceUID) == (1, 5)
    inbox.step(quiet_s=0)
    assert [scan.subject for scan in services.scans.list(ward).items] == ["case-1"]
    with pytest.raises(NotFound):
        Archive(signed_in).retrieve(inbox, "1.2.3.4")


def test_the_archive_takes_what_is_sent_by_c_store(orthanc, stored, signed_in, tmp_path):
    path = tmp_path / "made.dcm"
    path.write_bytes(_as_other(stored[0]))
    assert send_files([path], read_peer(f"ORTHANC@127.0.0.1:{orthanc[1]}", "VOXELIGHT")) == 1
    assert len(Archive(signed_in).query("series", {"StudyInstanceUID": stored[0].StudyInstanceUID})) == 2


def test_without_credentials_nothing_is_told(services, orthanc, stored):
    with pytest.raises(Refused, match="401"):
        Archive(services.settings, orthanc[0]).query("studies", {})


def test_the_shell_queries_and_retrieves(services, ward, stored, orthanc, monkeypatch, tmp_path):
    told = {"HOME": services.settings.home, "DATABASE_URL": services.settings.database_url}
    told |= {"DICOMWEB_URL": orthanc[0], "DICOMWEB_USER": "reader", "DICOMWEB_PASSWORD": SECRET}
    for name, value in told.items():
        monkeypatch.setenv(f"VOXELIGHT_{name}", str(value))
    wanted = stored[0].StudyInstanceUID
    found = CliRunner().invoke(main, ["dicom", "query", "--study", wanted, "--level", "series", "--json"])
    assert [row["facts"]["SeriesInstanceUID"] for row in json.loads(found.stdout)] == [stored[0].SeriesInstanceUID]
    taken = CliRunner().invoke(main, ["dicom", "retrieve", wanted, "--dataset", ward, "--json"])
    assert taken.exit_code == 0, taken.output
    assert [scan["deid_status"] for scan in json.loads(taken.stdout)] == ["cleaned"]
    monkeypatch.setenv("VOXELIGHT_DICOMWEB_PASSWORD", "wrong")
    assert CliRunner().invoke(main, ["dicom", "query"]).exit_code == 5


@pytest.mark.parametrize(
    ("url", "error"),
    [("", BadInput), ("ftp://a", BadInput), ("http://reader:pass@127.0.0.1/dicom-web", BadInput),
     ("http://archive.example/dicom-web", Refused)],
)  # fmt: skip
def test_no_password_in_an_address_nor_in_the_clear(signed_in, url, error):
    with pytest.raises(error) as caught:
        Archive(signed_in.model_copy(update={"dicomweb_url": ""}), url)
    assert "pass@" not in str(caught.value)


def test_an_archive_that_is_not_there_is_told_without_its_path(services):
    with pytest.raises(Unavailable, match=r"no answer from 127\.0\.0\.1"):
        Archive(services.settings, "http://127.0.0.1:9/dicom-web").query("studies", {"PatientName": "Doe*"})
