"""What is dropped together, and where names say that it belongs."""

import io
import re
import threading
import time
import uuid
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.app.schemas_uploads import Place, UploadRequest
from voxelight.app.verbs.drops import Dropped, refuse_name
from voxelight.app.verbs.naming import assign_names
from voxelight.app.verbs.scans import Scans
from voxelight.models.errors import BadInput
from voxelight.storage.schema import Upload, utc_now

BIDS = "sub-{subject}_ses-{session}_*.nii.gz"
PLACE = Place(dataset="mixed", subject="07", session="b")


def placed(row):
    return row.subject, row.session, row.as_name


@pytest.mark.parametrize(
    ("name", "pattern", "rename", "expected"),
    [
        ("sub-01_ses-2_T1w.nii.gz", BIDS, "", ("01", "2", "sub-01_ses-2_T1w.nii.gz")),
        ("study/sub-01_ses-2_T1w.nii.gz", BIDS, "", ("01", "2", "sub-01_ses-2_T1w.nii.gz")),
        ("a/sub-9/ses-b/anat/T1w.nii.gz", "*/sub-{subject}/ses-{session}/anat/*", "", ("9", "b", "T1w.nii.gz")),
        ("study/a/sub-9/ses-b/anat/T1w.nii.gz", "sub-{subject}/ses-{session}/anat/*", "", ("9", "b", "T1w.nii.gz")),
        (
            "patient-12_20240131_FLAIR.nii",
            "{subject}_{date}_*",
            "",
            ("patient-12", "s", "patient-12_20240131_FLAIR.nii"),
        ),
        (
            "P3-baseline.nii",
            "P{subject}-{session}.nii",
            "sub-{subject}_{session}.nii",
            ("3", "baseline", "sub-3_baseline.nii"),
        ),
        ("x_1_2.nii", "{subject}_1_{session}.nii", "", ("x", "2", "x_1_2.nii")),
        ("a.nii.gz.nii.gz", "{subject}.nii.gz", "", ("a.nii.gz", "s", "a.nii.gz.nii.gz")),
    ],
)
def test_a_name_says_where_its_file_belongs(name, pattern, rename, expected):
    [row] = assign_names([name], pattern, rename, session="s")
    assert row.problem == ""
    assert placed(row) == expected


@pytest.mark.parametrize(
    ("name", "pattern", "problem"),
    [
        ("T1w.nii.gz", BIDS, "does not fit"),
        ("sub-_ses-2_T1w.nii.gz", BIDS, "does not fit"),
        ("SUB-01_ses-2_T1w.nii.gz", BIDS, "does not fit"),
        ("sub-01_ses-2_T1w.nii.gz.bak", BIDS, "does not fit"),
        ("sub-a/x/T1w.nii", "sub-{subject}/T1w.nii", "does not fit"),
        ("sub-a_T1w.nii", "{group}/sub-{subject}_T1w.nii", "does not fit"),
        ("sub-Jane Doe_T1w.nii", "sub-{subject}_*", "no label"),
        ("sub-01_con.nii", "sub-{subject}_{what}.nii", "keep for a device"),
    ],
)
def test_a_name_that_does_not_fit_is_named_with_the_reason(name, pattern, problem):
    rename = "{what}.nii" if "{what}" in pattern else ""
    [row] = assign_names([name], pattern, rename)
    assert problem in row.problem


@pytest.mark.parametrize(
    ("pattern", "rename"),
    [
        ("sub-01_*.nii", ""),
        ("", ""),
        ("{subject}{session}.nii", ""),
        ("{subject}*.nii", ""),
        ("{subject}_{subject}.nii", ""),
        ("{Subject}_x.nii", ""),
        ("{subject", ""),
        ("{subject}.nii", "{what}.nii"),
        ("{subject}.nii", "*.nii"),
        ("{subject}.nii", "{subject.nii"),
    ],
)
def test_a_pattern_that_is_none_says_what_one_is(pattern, rename):
    with pytest.raises(BadInput, match=r"pattern|new name"):
        assign_names(["a.nii"], pattern, rename)


def test_two_files_never_get_one_name_in_one_session():
    rows = assign_names(["1_a.nii", "1_b.nii", "2_a.nii"], "{subject}_{what}.nii", "scan.nii")
    assert [bool(row.problem) for row in rows] == [False, True, False]


def test_five_hundred_names_take_no_time_however_the_pattern_is_made():
    names = [f"{'a' * 190}{number:03}.nii" for number in range(500)]
    begun = time.monotonic()
    rows = assign_names(names, "*a*a*a*a*a*a*a*a{subject}a*b")
    assert time.monotonic() - begun < 2
    assert all(row.problem for row in rows)


@given(
    st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True),
)
def test_what_was_put_into_a_name_comes_out_of_it(subject, session, what):
    [row] = assign_names([f"sub-{subject}_ses-{session}_{what}.nii.gz"], BIDS)
    assert (row.subject, row.session, row.problem) == (subject, session, "")


def test_only_what_may_be_a_scan_is_let_begin():
    for name in ("t1.nii", "T1.NII.GZ", "IM0001", "1.2.840.113619.2.5", "slice.dcm", "study.zip", "b.mat"):
        refuse_name(name)
    for name in ("notes.docx", "brain.mgz", "weights.pt", "sidecar.json"):
        with pytest.raises(BadInput, match="by its name no scan"):
            refuse_name(name)


@pytest.fixture
def drop(services, tmp_path):
    """Take in files of these names and contents together."""
    services.datasets.create(DatasetRequest(name="mixed"))

    def _drop(**files):
        dropped = []
        for number, (name, content) in enumerate(files.items()):
            path = tmp_path / str(number)
            path.write_bytes(content)
            dropped.append(Dropped(path, name))
        return services.drops.take_in(dropped, PLACE)

    return _drop


def archive(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


def volume():
    return nib.Nifti1Image(np.arange(60, dtype=np.float32).reshape(3, 4, 5), np.eye(4)).to_bytes()


def test_a_mixed_drop_becomes_scans_of_each_kind(drop, slices, services):
    named = {f"IM{number}": content for number, content in enumerate(slices)}
    found = drop(**named, **{"brain.nii": volume(), "readme.txt": b"words", "events.tsv": b"stim_file\na.png\n"})
    kinds = {scan.name.rpartition(".")[0]: (scan.kind, scan.subject, scan.session) for scan in found.scans}
    assert kinds == {
        "003_MR_t1-mprage.dcm": ("volume", "07", "b"),
        "brain": ("volume", "07", "b"),
        "events": ("events", "07", "b"),
    }
    assert [part.name for part in found.problems] == ["readme.txt"]
    assert not list(services.settings.spool.iterdir()), "nothing is left of what was unpacked or joined"


def test_an_archive_holds_series_and_images_side_by_side(drop, slices, services):
    members = {f"dicom/IM{number}": content for number, content in enumerate(slices)}
    found = drop(
        **{"study.zip": archive({**members, "nifti/brain.nii": volume(), "__MACOSX/._x": b"x", "a/b.txt": b"x"})}
    )
    assert {scan.name for scan in found.scans} == {"003_MR_t1-mprage.dcm.zip", "brain.nii"}
    [part] = found.problems
    assert (part.name, part.problem.found) == ("study.zip", "what is no scan: b.txt")
    assert not list(services.settings.spool.iterdir())


def test_two_series_of_one_drop_are_two_scans_and_a_bad_one_stops_neither(drop, slices, make_series):
    other, torn = make_series(number=4), make_series(number=5)
    torn[2] = torn[2][:-200]
    files = {
        f"{name}{number}.dcm": content
        for name, part in (("a", slices), ("b", other), ("c", torn))
        for number, content in enumerate(part)
    }
    found = drop(**files)
    assert {scan.name[:3] for scan in found.scans} == {"003", "004"}
    assert len(found.problems) == 1


def test_what_a_header_says_of_a_person_is_not_stored(drop, slices, services):
    [scan] = drop(**{f"IM{number}": content for number, content in enumerate(slices)}).scans
    stored = services.stores.blobs.read(scan.sha256)
    for word in (b"Doe", b"K-4711", b"20240229"):
        word = re.compile(rb"(?<!\d)" + word + rb"(?!\d)")  # a hashed identifier may hold these digits by chance
        assert any(word.search(content) for content in slices)
        assert not word.search(stored)


def test_pieces_become_a_scan_on_every_database(services):
    services.datasets.create(DatasetRequest(name="mixed"))
    content = b"stim_file\na.png\nb.png\n"
    request = UploadRequest(dataset="mixed", subject="07", name="events.tsv", size=len(content))
    upload = services.uploads.create(request, "key").id
    assert services.uploads.create(request, "key").id == upload
    for offset in (0, 9):
        with services.uploads.append(upload, offset) as piece:
            piece.write(content[offset:9] if not offset else content[offset:])
    deadline = time.monotonic() + 30
    while (found := services.uploads.show(upload)).status == "checking" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (found.status, found.scans[0].subject) == ("done", "07")
    assert [each.id for each in services.uploads.list("mixed").items] == [upload]
    services.uploads.cancel(upload)
    assert services.scans.show(found.scans[0].id), "a scan outlives its upload"


def test_a_batch_of_slices_is_one_scan_on_every_database(services, slices):
    services.datasets.create(DatasetRequest(name="mixed"))
    batch = uuid.uuid4()
    for number, content in enumerate(slices):
        request = UploadRequest(dataset="mixed", name=f"IM{number}", size=len(content), batch=batch)
        with services.uploads.append(services.uploads.create(request).id, 0) as piece:
            piece.write(content)
    assert services.uploads.show_batch(batch).waiting == len(slices)
    closed = services.uploads.close_batch(batch)
    assert (closed.done, len(closed.scans), closed.problems) == (len(slices), 1, [])
    assert services.uploads.close_batch(batch) == closed


def test_no_name_of_a_dicom_file_lies_on_the_disk_and_a_refusal_says_it(drop, slices, services, monkeypatch):
    seen = []
    ingest = Scans.ingest_series

    def look(scans, paths, request):
        seen.extend(path.relative_to(services.settings.home) for path in services.settings.home.rglob("*"))
        return ingest(scans, paths, request)

    monkeypatch.setattr(Scans, "ingest_series", look)
    found = drop(**{f"DOE_{number}.dcm": content for number, content in enumerate(slices)})
    assert found.scans
    assert seen
    assert not [path for path in seen if "DOE" in str(path)]
    [part] = drop(**{"DOE_0.dcm": b"\0" * 128 + b"DICM" + b"\xff" * 40}).problems
    assert "DOE_0.dcm" in part.name + part.problem.found
    assert "file-0000" not in part.problem.detail


def send_slices(services, slices, names, batch):
    requests = [
        UploadRequest(dataset="mixed", name=name, size=len(content), batch=batch)
        for name, content in zip(names, slices, strict=True)
    ]
    for number, (request, content) in enumerate(zip(requests, slices, strict=True)):
        with services.uploads.append(services.uploads.create(request, f"key-{batch}-{number}").id, 0) as piece:
            piece.write(content)
    return requests


def test_uploads_that_became_a_series_lose_their_names_and_refused_ones_are_soon_forgotten(services, slices):
    services.datasets.create(DatasetRequest(name="mixed"))
    batch = uuid.uuid4()
    [first, *_] = send_slices(services, slices, [f"DOE_{number}.dcm" for number in range(len(slices))], batch)
    services.uploads.close_batch(batch)
    known = services.uploads.create(first, f"key-{batch}-0")
    assert (known.status, known.name) == ("done", "file.dcm"), "a lost answer can still be asked for by its key"
    assert "DOE" not in services.uploads.list("mixed").model_dump_json()

    again = uuid.uuid4()
    send_slices(services, slices[:1], ["DOE_0.dcm"], again)
    [refused] = services.uploads.close_batch(again).problems
    assert "stored already" in refused.problem.found
    [row] = [upload for upload in services.uploads.list("mixed").items if upload.status == "refused"]
    assert row.expires_at - utc_now() < timedelta(days=1, seconds=1)


def test_what_is_over_goes_without_being_asked_to(services):
    services.datasets.create(DatasetRequest(name="mixed"))
    request = UploadRequest(dataset="mixed", name="a.nii", size=9)
    old = services.uploads.create(request).id
    with services.stores.sessions.begin() as session:
        session.execute(update(Upload).values(expires_at=utc_now() - timedelta(seconds=1)))
    services.uploads._arrivals._swept -= 3601
    services.uploads.create(request)
    with services.stores.sessions() as session:
        assert session.get(Upload, old) is None
    assert not services.uploads._files.path(old).exists()


def test_many_files_of_one_new_subject_come_at_once_and_none_is_lost(services):
    services.datasets.create(DatasetRequest(name="mixed"))
    start = threading.Barrier(8)

    def take(number):
        start.wait()
        request = ScanRequest(name=f"{number}.tsv", dataset="mixed", subject="new", session=f"{number % 2}")
        return services.scans.ingest(io.BytesIO(b"stim_file\na.png\n"), request)

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(8)))
    assert len({scan.id for scan in taken}) == 8
    assert services.datasets.show("mixed").subjects == 1
