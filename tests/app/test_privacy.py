"""From files that name a person to stored scans that don't, and back to the study with the key."""

import io
import shutil
import uuid
import zipfile
from datetime import datetime

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from sqlalchemy import select

from voxelight.app.cli.intake import keep_once
from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.app.schemas_privacy import Decision, RelinkRequest
from voxelight.models.errors import BadInput, Conflict, NotFound, Refused, Unavailable
from voxelight.models.values import LabelMap
from voxelight.storage.formats.nifti import write_label_map
from voxelight.storage.formats.volumes import read_image
from voxelight.storage.results import Outcome, OutputFile, record_run
from voxelight.storage.schema import (
    Artifact,
    Blob,
    Correction,
    IdentityLink,
    Job,
    JobEvent,
    Model,
    Receipt,
    Run,
    Scan,
)

DECISION = Decision(author="Dr. A", reason="no writing in any slice")


@pytest.fixture
def ward(services):
    services.datasets.create(DatasetRequest(name="ward"))
    return "ward"


@pytest.fixture
def take_in(services, ward, write_dicom, tmp_path):
    """Take a made-up series in; the folder is gone afterwards, so that nothing can be read from it."""

    def _take_in(dataset=ward, subject="07", session="01", **how):
        folder = tmp_path / uuid.uuid4().hex
        write_dicom(folder, **how)
        request = ScanRequest(name="x", dataset=dataset, subject=subject, session=session)
        scans, refused = services.scans.ingest_series([folder], request)
        shutil.rmtree(folder)
        return scans, refused

    return _take_in


def held(header, place):
    header.BurnedInAnnotation = "YES"


def read_date(services, scan) -> datetime:
    with zipfile.ZipFile(io.BytesIO(services.stores.blobs.read(scan.sha256))) as archive:
        return datetime.strptime(dcmread(io.BytesIO(archive.read("000001.dcm"))).StudyDate, "%Y%m%d")


def everything_stored(services) -> bytes:
    home = services.settings.home
    services.stores.engine.dispose()
    files = [path for path in home.rglob("*") if path.is_file() and path.name != "identity.key"]
    return b"".join(path.read_bytes() for path in files)


def test_a_series_is_one_scan_that_names_nobody(services, take_in):
    [scan], refused = take_in()
    assert not refused
    assert (scan.name, scan.kind, scan.deid_status, scan.held) == (
        "003_MR_t1-mprage-sag.dcm.zip",
        "volume",
        "cleaned",
        "",
    )
    assert scan.geometry["shape"] == [12, 10, 6]
    assert scan.thumbnail_sha256
    assert scan.facts["series_uid"].startswith("2.25.")
    stored = everything_stored(services)
    for trace in (b"Doe", b"HOSP-4711", b"Mercy", b"1.2.3.0", b"20240310", b"ACC-0815"):
        assert trace not in stored, trace


def test_the_key_appears_when_it_is_first_needed(services, ward, take_in, crops):
    services.scans.ingest_path(crops[0], ScanRequest(name="a.nii.gz", dataset=ward))
    assert not (services.settings.home / "identity.key").exists()
    take_in()
    assert (services.settings.home / "identity.key").stat().st_mode & 0o777 == 0o600


def test_without_the_key_no_further_series_comes_in(services, take_in):
    take_in()
    (services.settings.home / "identity.key").unlink()
    services.privacy._key.__dict__.pop("_secret", None)
    [[_, problem]] = take_in(seed=1)[1]
    assert isinstance(problem, Unavailable)
    assert "Restore it from the backup" in problem.remedy


@pytest.mark.parametrize("name", ["brain.zip", "brain.dcm.zip"])
def test_an_archive_of_one_series_is_a_scan_by_itself(name, services, ward, write_dicom, tmp_path):
    write_dicom(tmp_path / "in/Doe")
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "in")
    scan = services.scans.ingest_path(tmp_path / "packed.zip", ScanRequest(name=name, dataset=ward))
    assert (scan.name, scan.deid_status) == ("brain.dcm.zip", "cleaned")
    assert len(scan.facts["source_sha256"]) == 64
    with pytest.raises(Conflict):
        services.scans.ingest_path(tmp_path / "packed.zip", ScanRequest(name=name, dataset=ward))


def test_an_archive_of_two_series_is_sent_elsewhere(services, ward, write_dicom, tmp_path):
    write_dicom(tmp_path / "in/a")
    write_dicom(tmp_path / "in/b", seed=1)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "in")
    with pytest.raises(BadInput, match="2 series"):
        services.scans.ingest_path(tmp_path / "packed.zip", ScanRequest(name="a.zip", dataset=ward))
    scans, refused = services.scans.ingest_series([tmp_path / "packed.zip"], ScanRequest(name="x", dataset=ward))
    assert [scan.name for scan in scans] == ["003_MR_t1-mprage-sag.dcm.zip", "003_MR_t1-mprage-sag-2.dcm.zip"]
    assert not refused


def test_another_series_of_one_name_has_a_number_and_the_same_series_is_there_already(take_in):
    [first], _ = take_in()
    [second], _ = take_in(seed=1)
    assert (first.name, second.name) == ("003_MR_t1-mprage-sag.dcm.zip", "003_MR_t1-mprage-sag-2.dcm.zip")
    for seed in (0, 1):
        scans, [[_, problem]] = take_in(seed=seed)
        assert not scans
        assert isinstance(problem, Conflict)


def test_one_bad_series_stops_no_other_and_leaves_nothing(services, ward, write_dicom, tmp_path):
    write_dicom(tmp_path / "a")
    for path in write_dicom(tmp_path / "b", seed=1)[2:4]:
        path.unlink()
    scans, [(title, problem)] = services.scans.ingest_series([tmp_path], ScanRequest(name="x", dataset=ward))
    assert len(scans) == 1
    assert title == "series 3 (MR, 4 files)"
    assert "2 of 6 slices are missing" in problem.found
    assert not list((services.settings.home / "spool").iterdir())


def test_two_visits_of_one_person_keep_their_distance_in_days(services, take_in):
    def later(header, place):
        header.StudyDate = "20240410"

    scans = [*take_in()[0], *take_in(seed=1, change=later, session="02")[0]]
    days = [read_date(services, scan) for scan in scans]
    assert (days[1] - days[0]).days == 31
    assert days[0] != datetime(2024, 3, 10)


def test_a_held_scan_waits_until_a_person_has_looked(services, take_in):
    [scan], _ = take_in(change=held)
    assert scan.deid_status == "held"
    assert "BurnedInAnnotation is YES" in scan.held
    assert [each.id for each in services.privacy.list_held("ward").items] == [scan.id]
    request = JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="ward", scans=[scan.id])
    with pytest.raises(Refused):
        services.jobs.submit(request)
    released = services.privacy.release(scan.id, DECISION)
    assert (released.held, released.deid_status) == ("", "cleaned")
    assert (released.facts["released_by"], released.facts["released_for"]) == ("Dr. A", "no writing in any slice")
    assert "BurnedInAnnotation" in released.facts["held"]
    assert services.jobs.submit(request).total == 1
    assert not services.privacy.list_held().items
    with pytest.raises(Conflict, match="not held"):
        services.privacy.release(scan.id, DECISION)


def test_a_rejected_scan_is_gone_with_everything_but_a_receipt(services, take_in):
    [scan], _ = take_in(change=held)
    answer = services.privacy.reject(scan.id, DECISION)
    assert answer.sha256s == [scan.sha256, scan.thumbnail_sha256]
    with services.stores.sessions() as session:
        for table in (Scan, IdentityLink, Blob):
            assert session.scalars(select(table)).all() == [], table
        [receipt] = session.scalars(select(Receipt))
        assert (receipt.name, receipt.author) == ("ward/07/01/003_MR_t1-mprage-sag.dcm.zip", "Dr. A")
        assert receipt.counts == {"scans": 1, "identity_links": 1}
    assert not services.stores.blobs.exists(scan.sha256)
    with pytest.raises(NotFound):
        services.privacy.reject(scan.id, DECISION)


def test_a_rejected_scan_leaves_content_that_another_scan_names(services, take_in):
    [first], _ = take_in(change=held)
    [second], _ = take_in(change=held, subject="07b")
    assert first.thumbnail_sha256 == second.thumbnail_sha256
    services.privacy.reject(first.id, DECISION)
    assert services.stores.blobs.exists(second.thumbnail_sha256)
    with services.stores.sessions() as session:
        assert len(session.scalars(select(IdentityLink)).all()) == 1, "the other scan is of the same series"


@pytest.fixture
def segmented(services):
    """Store a label map of a scan as a worker would; return the run."""

    def _segmented(scan) -> uuid.UUID:
        with services.stores.blobs.local_file(scan.sha256, scan.name) as path:
            volume, grid = read_image(path)
        array = np.zeros(volume.array.shape[1:], np.uint8)
        array[2:5, 3:6, 1:4] = 1
        target = services.settings.home / "labels.nii.gz"
        write_label_map(target, LabelMap(array, volume.geometry, {1: "Lesion"}), grid)
        with services.stores.sessions.begin() as session:
            row = session.get_one(Scan, scan.id)
            subject = row.imaging_session.subject
            model = Model(name=f"net-{uuid.uuid4().hex[:6]}", version="1", task="segmentation")
            job = Job(kind="segment", recipe="none", dataset=subject.dataset, model=model, queue="cpu")
            run = Run(job=job, item_key="one", position=0, subject=subject, scan=row)
            session.add_all([model, job, run])
            session.flush()
            run_id = run.id
        file = OutputFile("label_map", "a_dseg.nii.gz", "application/gzip", target.read_bytes())
        record_run(services.stores, run_id, Outcome((file,), label_names={1: "Lesion"}, volumes_ml={"Lesion": 0.1}))
        return run_id

    return _segmented


def ask(services, **changes) -> RelinkRequest:
    facts = {"author": "Dr. A", "reason": "surgery on Monday", "key": services.privacy.read_key()}
    return RelinkRequest(**facts | changes)


def test_a_segmentation_goes_back_to_the_study_it_came_from(services, take_in, segmented, write_dicom, tmp_path):
    run_id = segmented(take_in()[0][0])
    name, content = services.privacy.relink(run_id, ask(services))
    seg = dcmread(io.BytesIO(content))
    originals = [dcmread(path, stop_before_pixels=True) for path in write_dicom(tmp_path / "again")]
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyID", "StudyDate"):
        assert seg[keyword].value == originals[0][keyword].value, keyword
    assert seg.StudyInstanceUID == originals[0].StudyInstanceUID
    assert seg.FrameOfReferenceUID == originals[0].FrameOfReferenceUID
    [referred] = seg.ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == originals[0].SeriesInstanceUID
    assert {str(item.ReferencedSOPInstanceUID) for item in referred.ReferencedInstanceSequence} <= {
        str(original.SOPInstanceUID) for original in originals
    }
    assert "PatientIdentityRemoved" not in seg
    assert int((seg.pixel_array > 0).sum()) == 27
    assert "Doe" not in name
    with services.stores.sessions() as session:
        [line] = session.scalars(select(JobEvent).where(JobEvent.run_id == run_id, JobEvent.level == "warning"))
        assert "Dr. A: surgery on Monday" in line.message
    assert b"Doe" not in everything_stored(services)


def test_nobody_is_told_without_the_key(services, take_in, segmented, crops, ward):
    run_id = segmented(take_in()[0][0])
    with pytest.raises(Refused, match="a key that is not"):
        services.privacy.relink(run_id, ask(services, key="ab" * 32))
    plain = services.scans.ingest_path(crops[0], ScanRequest(name="a.nii.gz", dataset=ward))
    with pytest.raises(BadInput, match="without a study"):
        services.privacy.relink(segmented(plain), ask(services))
    with pytest.raises(NotFound):
        services.privacy.relink(uuid.uuid4(), ask(services))


def test_a_whole_job_goes_back_with_the_newest_correction(services, take_in, segmented, tmp_path):
    run_id = segmented(take_in()[0][0])
    with services.stores.sessions.begin() as session:
        run = session.get_one(Run, run_id)
        [own] = session.scalars(select(Artifact).where(Artifact.run_id == run_id))
        drawn = Artifact(
            job_id=run.job_id, run_id=run_id, role="correction", name="c.nii.gz", blob_sha256=own.blob_sha256
        )
        session.add(drawn)
        session.flush()
        session.add(Correction(run_id=run_id, artifact_id=drawn.id, author="Dr. B"))
        job_id, own_id, drawn_id = run.job_id, own.id, drawn.id
    [path] = services.privacy.relink_all(job_id, ask(services), tmp_path / "out")
    assert str(drawn_id)[:8] in path.name
    assert dcmread(path).SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
    [path] = services.privacy.relink_all(run_id, ask(services, artifact=own_id), tmp_path / "out")
    assert dcmread(path).SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    with pytest.raises(NotFound, match="no label map"):
        services.privacy.relink_all(run_id, ask(services, artifact=uuid.uuid4()), tmp_path / "out")


def test_clinical_data_keep_their_headers_and_stay_here(services, take_in, segmented, tmp_path):
    services.datasets.create(DatasetRequest(name="clinic", keeps_headers=True))
    [scan], _ = take_in(dataset="clinic", change=held)
    assert (scan.deid_status, scan.held) == ("kept", "")
    assert b"Doe^Jane" in services.stores.blobs.read(scan.sha256)
    with services.stores.sessions() as session:
        assert not session.scalars(select(IdentityLink)).all()
    run_id = segmented(scan)
    result = services.results.show(run_id)
    with pytest.raises(Refused, match="clinical and local"):
        services.results.export(result.artifacts, tmp_path / "out")
    take_in()  # which makes the key
    with pytest.raises(Refused, match="clinical and local"):
        services.privacy.relink(run_id, ask(services))
    assert not (tmp_path / "out").exists()


def test_a_file_with_a_name_in_its_header_is_stored_without_and_found_again(services, ward, tmp_path):
    image = nib.Nifti1Image(np.arange(720, dtype=np.int16).reshape(8, 9, 10), np.eye(4))
    image.header["descrip"] = b"Doe^Jane 1951"
    path = tmp_path / "t1.nii.gz"
    nib.save(image, path)
    [scan] = keep_once(services, [path], ScanRequest(name="x", dataset=ward))
    assert scan.deid_status == "cleaned"
    assert scan.sha256 != scan.facts["source_sha256"]
    with services.stores.blobs.local_file(scan.sha256, scan.name) as stored:
        assert bytes(nib.load(stored).header["descrip"].item()) == b""
    assert keep_once(services, [path], ScanRequest(name="x", dataset=ward)) == [scan]
    image.header["descrip"] = b""
    nib.save(image, tmp_path / "t2.nii.gz")
    [clean] = keep_once(services, [tmp_path / "t2.nii.gz"], ScanRequest(name="x", dataset=ward))
    assert (clean.deid_status, "source_sha256" in clean.facts) == ("clean", False)
