import io
import shutil
import uuid
from pathlib import Path

import pytest
from pydicom import dcmread


@pytest.fixture
def packed(write_dicom, tmp_path):
    """A made-up series in a ZIP archive, as bytes; `change` may spoil a slice."""

    def _packed(**how) -> bytes:
        folder = tmp_path / uuid.uuid4().hex
        write_dicom(folder, **how)
        return Path(shutil.make_archive(str(folder), "zip", folder)).read_bytes()

    return _packed


def burned(header, place):
    header.BurnedInAnnotation = "YES"


def test_a_series_comes_in_by_one_request(upload, packed, client):
    scan = upload("brain.zip", packed(), subject="07")
    assert (scan["name"], scan["kind"], scan["deid_status"], scan["held"]) == ("brain.dcm.zip", "volume", "cleaned", "")
    assert "Doe" not in client.get(f"scans/{scan['id']}").text
    assert client.get(f"scans/{scan['id']}/thumbnail").headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.zip", b"no archive", "without a DICOM image"),
        ("a.dcm", b"\0" * 500, "without a DICOM image"),
        ("a.dcm.zip", b"PK\x03\x04" + b"x" * 200, "can't be read"),
        ("a.dcm", b"\0" * 128 + b"DICM" + b"\xff" * 200, ""),
    ],
)
def test_what_is_no_series_is_a_problem_and_leaves_nothing(name, content, words, client, dataset, is_problem, state):
    rows, files = state()
    problem = is_problem(client.put(f"datasets/{dataset}/scans/{name}", content=content), 422)
    assert words in problem["found"]
    assert state() == (rows, files | {"identity.key"})  # made before whatever may be a series is read


def test_a_held_scan_is_listed_and_released(upload, packed, client, is_problem):
    scan = upload("brain.zip", packed(change=burned))
    assert scan["deid_status"] == "held"
    assert [item["id"] for item in client.get("held", params={"dataset": "figures"}).json()["items"]] == [scan["id"]]
    is_problem(client.post(f"scans/{scan['id']}/release", json={"author": "", "reason": "x"}), 422)
    released = client.post(f"scans/{scan['id']}/release", json={"author": "Dr. A", "reason": "looked"})
    assert released.json()["held"] == ""
    assert client.get("held").json()["items"] == []
    is_problem(client.post(f"scans/{scan['id']}/release", json={"author": "Dr. A", "reason": "looked"}), 409)
    is_problem(client.post(f"scans/{uuid.uuid4()}/release", json={"author": "Dr. A", "reason": "looked"}), 404)


def test_a_held_scan_is_rejected_for_good(upload, packed, client, is_problem):
    scan = upload("brain.zip", packed(change=burned))
    answer = client.post(f"scans/{scan['id']}/reject", json={"author": "Dr. A", "reason": "a name in slice 3"})
    assert answer.json()["sha256s"][0] == scan["sha256"]
    is_problem(client.get(f"scans/{scan['id']}"), 404)


def test_a_clinical_data_set_says_so(client, packed):
    body = {"name": "clinic", "keeps_headers": True}
    assert client.post("datasets", json=body).json()["keeps_headers"] is True
    scan = client.put("datasets/clinic/scans/brain.zip", content=packed()).json()
    assert scan["deid_status"] == "kept"
    assert client.patch("datasets/clinic", json={"keeps_headers": False}).status_code == 422, "at creation only"


@pytest.fixture
def segmented(services):
    """Store a label map of a scan as a worker would; return the run."""
    import numpy as np

    from voxelight.models.values import LabelMap
    from voxelight.storage.formats.nifti import write_label_map
    from voxelight.storage.formats.volumes import read_image
    from voxelight.storage.results import Outcome, OutputFile, record_run
    from voxelight.storage.schema import Job, Model, Run, Scan

    def _segmented(scan) -> uuid.UUID:
        with services.stores.blobs.local_file(scan["sha256"], scan["name"]) as path:
            volume, grid = read_image(path)
        labels, target = np.ones(volume.array.shape[1:], np.uint8), services.settings.home / "l.nii.gz"
        write_label_map(target, LabelMap(labels, volume.geometry, {1: "brain"}), grid)
        with services.stores.sessions.begin() as session:
            row = session.get_one(Scan, uuid.UUID(scan["id"]))
            subject, model = row.imaging_session.subject, Model(name="net", version="1", task="segmentation")
            job = Job(kind="segment", recipe="none", dataset=subject.dataset, model=model, queue="cpu", status="done")
            run = Run(job=job, item_key="one", position=0, subject=subject, scan=row)
            session.add_all([model, job, run])
            session.flush()
            run_id = run.id
        file = OutputFile("label_map", "l.nii.gz", "application/gzip", target.read_bytes())
        record_run(services.stores, run_id, Outcome((file,), label_names={1: "brain"}))
        return run_id

    return _segmented


def test_nothing_of_a_clinical_data_set_leaves_by_any_door(client, packed, segmented, services, is_problem):
    client.post("datasets", json={"name": "clinic", "keeps_headers": True})
    scan = client.put("datasets/clinic/scans/brain.zip", content=packed()).json()
    run_id = segmented(scan)
    result = client.get(f"results/{run_id}").json()
    [artifact] = result["artifacts"]
    doors = [
        f"scans/{scan['id']}/content",
        f"scans/{scan['id']}/image",
        f"artifacts/{artifact['id']}",
        f"jobs/{result['job']}/group.html",
        f"results/{run_id}/sheet",
        f"exports/archive.zip?job={result['job']}",
        f"exports/metrics.csv?job={result['job']}",
    ]
    for door in doors:
        is_problem(client.get(door), 403)
        is_problem(client.get(door, headers={"Sec-Fetch-Site": "cross-site"}), 403)
    assert client.head(f"artifacts/{artifact['id']}").status_code == 403
    for door in doors[1:5]:
        shown = client.get(door, headers={"Sec-Fetch-Site": "same-origin"})
        assert shown.status_code == 200, "the page of this server shows it"
        assert b"Doe" not in shown.content
    for door in doors[:1] + doors[5:]:
        is_problem(client.get(door, headers={"Sec-Fetch-Site": "same-origin"}), 403)


def test_relinking_asks_for_the_key_and_names_the_patient(upload, packed, segmented, client, services, is_problem):
    run_id = segmented(upload("brain.zip", packed()))
    wish = {"author": "Dr. A", "reason": "surgery", "key": "0" * 64}
    is_problem(client.post(f"results/{run_id}/relink", json=wish), 403)
    answer = client.post(f"results/{run_id}/relink", json=wish | {"key": services.privacy.read_key()})
    assert answer.headers["content-type"] == "application/dicom"
    assert answer.headers["cache-control"] == "no-store"
    assert "Doe" not in answer.headers["content-disposition"]
    assert str(dcmread(io.BytesIO(answer.content)).PatientName) == "Doe^Jane"
