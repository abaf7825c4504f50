"""Uploads in pieces, by tus 1.0: cut, resumed, checked, refused; what came is never mixed up or lost."""

import asyncio
import base64
import gzip
import hashlib
import io
import time
import uuid
import zipfile
from datetime import timedelta

import nibabel as nib
import numpy as np
import pytest
from sqlalchemy import update

from voxelight.app.api import uploads
from voxelight.app.api.uploads import PIECE, VERSION
from voxelight.models.errors import BadInput
from voxelight.storage.schema import Upload, utc_now

CHECKED_WITHIN_S = 30


def encode(**pairs):
    """Metadata as the protocol writes it."""
    return ",".join(f"{key} {base64.b64encode(str(value).encode()).decode()}" for key, value in pairs.items())


@pytest.fixture
def begin(client, dataset):
    """Begin an upload; give the answer."""

    def _begin(name, size, content=None, **more):
        headers = {"Tus-Resumable": VERSION, "Upload-Length": str(size)}
        headers["Upload-Metadata"] = encode(filename=name, **({"dataset": dataset} | more.pop("metadata", {})))
        if content is not None:
            headers["Content-Type"] = PIECE
        return client.post("uploads", headers=headers | more, content=content)

    return _begin


@pytest.fixture
def send(client):
    """Send one piece."""

    def _send(upload, offset, content, **more):
        headers = {"Tus-Resumable": VERSION, "Upload-Offset": str(offset), "Content-Type": PIECE}
        return client.patch(f"uploads/{upload}", headers=headers | more, content=content)

    return _send


@pytest.fixture
def ask(client):
    """How far an upload is."""

    def _ask(upload):
        answer = client.head(f"uploads/{upload}", headers={"Tus-Resumable": VERSION})
        assert answer.status_code == 200
        assert answer.headers["tus-resumable"] == VERSION
        assert answer.headers["cache-control"] == "no-store"
        return int(answer.headers["upload-offset"]), int(answer.headers["upload-length"])

    return _ask


@pytest.fixture
def settle(client):
    """Wait until an upload was checked."""

    def _settle(upload):
        deadline = time.monotonic() + CHECKED_WITHIN_S
        while time.monotonic() < deadline:
            answer = client.get(f"uploads/{upload}").json()
            if answer["status"] != "checking":
                return answer
            time.sleep(0.02)
        raise AssertionError("not checked in time")

    return _settle


def test_the_server_says_what_it_speaks(client, services):
    answer = client.options("uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == VERSION
    assert {"creation", "expiration", "termination"} <= set(answer.headers["tus-extension"].split(","))
    assert int(answer.headers["tus-max-size"]) == services.settings.upload_limit_bytes


def test_a_file_in_pieces_is_stored_as_it_was(client, services, begin, send, ask, settle, make):
    content = make.nifti(packed=False)
    third = len(content) // 3
    begun = begin("t1.nii", len(content), metadata={"subject": "07", "session": "b"})
    assert begun.status_code == 201
    assert begun.headers["location"] == f"/api/v1/uploads/{begun.json()['id']}"
    upload = begun.json()["id"]
    for offset, stop in ((0, third), (third, 2 * third), (2 * third, len(content))):
        assert ask(upload) == (offset, len(content))
        answer = send(upload, offset, content[offset:stop])
        assert answer.status_code == 204
        assert answer.headers["upload-offset"] == str(stop)
        assert answer.headers["upload-expires"].endswith("GMT")
    done = settle(upload)
    assert (done["status"], done["problems"]) == ("done", [])
    [scan] = done["scans"]
    assert (scan["name"], scan["kind"], scan["subject"], scan["session"]) == ("t1.nii", "volume", "07", "b")
    assert services.stores.blobs.read(scan["sha256"]) == content
    assert ask(upload) == (len(content), len(content))
    assert not list(services.settings.uploads.iterdir()), "the bytes under way are gone once they are stored"


def test_a_small_file_needs_one_request(begin, settle, make):
    content = make.events_tsv(4)
    begun = begin("events.tsv", len(content), content)
    assert begun.headers["upload-offset"] == str(len(content))
    assert settle(begun.json()["id"])["scans"][0]["kind"] == "events"


def test_a_server_that_was_stopped_goes_on_where_it_was(settings, begin, send, make):
    """Another installation on the same folder stands for the server that comes after a kill."""
    from starlette.testclient import TestClient

    from voxelight.app.api import create_api
    from voxelight.app.bootstrap import open_services

    content = make.nifti((20, 20, 20), packed=False)
    upload = begin("t1.nii", len(content)).json()["id"]
    send(upload, 0, content[:5000])
    # What a server writes before it is killed in the middle of a piece.
    with (settings.uploads / uuid.UUID(upload).hex).open("ab") as file:
        file.write(content[5000:6000])
    after = open_services(settings)
    client = TestClient(create_api(after), "http://localhost/api/v1/", root_path="/api")
    headers = {"Tus-Resumable": VERSION}
    offset = int(client.head(f"uploads/{upload}", headers=headers).headers["upload-offset"])
    assert offset == 6000
    headers |= {"Upload-Offset": str(offset), "Content-Type": PIECE}
    assert client.patch(f"uploads/{upload}", headers=headers, content=content[offset:]).status_code == 204
    deadline = time.monotonic() + CHECKED_WITHIN_S
    while (found := after.uploads.show(uuid.UUID(upload))).status == "checking" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert after.stores.blobs.read(found.scans[0].sha256) == content
    after.close()


def test_what_is_whole_but_was_not_checked_is_checked_when_somebody_asks(services, begin, settle, make):
    content = make.nifti()
    upload = begin("t1.nii.gz", len(content)).json()["id"]
    services.settings.uploads.joinpath(uuid.UUID(upload).hex).write_bytes(content)
    assert settle(upload)["status"] == "done"


def test_a_piece_at_another_place_is_refused_and_changes_nothing(begin, send, ask, is_problem, make):
    content = make.nifti(packed=False)
    upload = begin("t1.nii", len(content)).json()["id"]
    is_problem(send(upload, 10, content[10:20]), 409)
    assert ask(upload)[0] == 0
    send(upload, 0, content[:10])
    is_problem(send(upload, 0, content[:10]), 409)
    assert ask(upload)[0] == 10


def test_bytes_beyond_the_announced_length_are_refused(begin, send, ask, is_problem):
    upload = begin("t1.nii", 10).json()["id"]
    is_problem(send(upload, 0, b"x" * 11), 413)
    assert ask(upload) == (0, 10)


def test_two_requests_never_write_to_one_upload(services, begin, send, is_problem):
    upload = begin("t1.nii", 10).json()["id"]
    with services.uploads.append(uuid.UUID(upload), 0) as first:
        problem = is_problem(send(upload, 0, b"other"), 423)
        assert problem["type"].endswith("locked")
        first.write(b"first")
    assert services.settings.uploads.joinpath(uuid.UUID(upload).hex).read_bytes() == b"first"


def test_what_came_before_the_connection_broke_stays(services, begin, ask):
    upload = begin("t1.nii", 10).json()["id"]

    def break_off():
        with services.uploads.append(uuid.UUID(upload), 0) as piece:
            piece.write(b"first")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        break_off()
    assert ask(upload) == (5, 10)


def test_a_sender_that_falls_silent_does_not_hold_its_upload_for_ever(monkeypatch):
    monkeypatch.setattr(uploads, "_SILENCE_S", 0.05)

    async def stalled():
        yield b"first"
        await asyncio.sleep(60)

    async def read():
        return [chunk async for chunk in uploads._join(stalled())]

    with pytest.raises(BadInput, match="no byte for"):
        asyncio.run(read())


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_a_piece_that_was_damaged_on_its_way_leaves_nothing(begin, send, ask, is_problem, algorithm):
    upload = begin("t1.nii", 10).json()["id"]
    right = base64.b64encode(hashlib.new(algorithm, b"12345").digest()).decode()
    is_problem(send(upload, 0, b"1234x", **{"Upload-Checksum": f"{algorithm} {right}"}), 460)
    assert ask(upload)[0] == 0
    assert send(upload, 0, b"12345", **{"Upload-Checksum": f"{algorithm} {right}"}).status_code == 204
    is_problem(send(upload, 5, b"12345", **{"Upload-Checksum": "crc32 AAAA"}), 422)
    assert ask(upload)[0] == 5


def test_a_bad_file_is_refused_in_words_and_nothing_of_it_stays(services, begin, settle, state):
    rows, _ = state()
    upload = begin("t1.nii", 9, b"no image.").json()["id"]
    found = settle(upload)
    assert (found["status"], found["scans"]) == ("refused", [])
    [part] = found["problems"]
    assert part["name"] == "t1.nii"
    assert part["problem"]["remedy"]
    after, files = state()
    told = {"upload": 0, "audit_event": 0}  # that it came, and what became of it
    assert {**after, **told} == {**rows, **told}
    assert not [name for name in files if name.startswith("uploads/")]


@pytest.mark.parametrize(
    ("name", "size", "status"),
    [
        ("../evil.nii", 5, 422),
        ("notes.docx", 5, 422),
        ("brain.mgz", 5, 422),
        ("t1.nii", 1 << 62, 413),
        ("t1.nii", -1, 422),
    ],
)
def test_what_can_not_be_taken_is_refused_before_a_byte_is_sent(begin, state, is_problem, name, size, status):
    before = state()
    is_problem(begin(name, size), status)
    assert state() == before


def test_a_name_that_is_taken_is_refused_before_a_byte_is_sent(upload, begin, is_problem, make):
    upload("t1.nii.gz", make.nifti())
    is_problem(begin("t1.nii.gz", 5), 409)


@pytest.mark.parametrize(
    "metadata", [{"dataset": "nowhere"}, {"subject": "../x"}, {"session": "a b"}, {"batch": "one"}]
)
def test_a_place_that_is_none_is_refused(begin, is_problem, metadata):
    is_problem(begin("t1.nii", 5, metadata=metadata), 404 if "dataset" in metadata else 422)


@pytest.mark.parametrize("header", ["filename ???", "dataset", "filename"])
def test_metadata_that_is_none_is_refused(client, is_problem, header):
    headers = {"Tus-Resumable": VERSION, "Upload-Length": "5", "Upload-Metadata": header}
    is_problem(client.post("uploads", headers=headers), 422)


def test_another_version_of_the_protocol_is_refused(client, begin, is_problem):
    upload = begin("t1.nii", 5).json()["id"]
    for answer in (client.delete(f"uploads/{upload}"), client.post("uploads", headers={"Tus-Resumable": "0.2.0"})):
        is_problem(answer, 412)
        assert answer.headers["tus-version"] == VERSION
    assert client.head(f"uploads/{upload}", headers={"Tus-Resumable": "2"}).status_code == 412


def test_a_body_of_another_type_is_refused(client, begin, ask, is_problem):
    upload = begin("t1.nii", 5).json()["id"]
    headers = {"Tus-Resumable": VERSION, "Upload-Offset": "0"}
    is_problem(client.patch(f"uploads/{upload}", headers=headers, content=b"12345"), 415)
    assert ask(upload)[0] == 0


def test_a_key_gives_one_upload_however_often(begin, client, is_problem):
    key = {"Idempotency-Key": "mine"}
    first, again = begin("t1.nii", 5, **key), begin("t1.nii", 5, **key)
    assert first.json()["id"] == again.json()["id"]
    assert len(client.get("uploads").json()["items"]) == 1
    is_problem(begin("t1.nii", 6, **key), 409)


def test_a_beginning_that_is_sent_again_with_its_key_never_doubles_bytes(begin, send, ask, settle, make):
    content, key = make.events_tsv(9), {"Idempotency-Key": "mine"}
    upload = begin("events.tsv", len(content), **key).json()["id"]
    send(upload, 0, content[:10])
    again = begin("events.tsv", len(content), content, **key)
    assert (again.json()["id"], again.headers["upload-offset"]) == (upload, "10")
    send(upload, 10, content[10:])
    assert settle(upload)["status"] == "done"
    assert begin("events.tsv", len(content), content, **key).json()["status"] == "done"


def test_a_first_piece_that_can_not_be_taken_leaves_no_upload(client, begin, is_problem):
    is_problem(begin("t1.nii", 3, b"12345"), 413)
    assert client.get("uploads").json()["items"] == []


def test_an_upload_is_forgotten_on_wish(client, services, begin, send, is_problem):
    upload = begin("t1.nii", 10).json()["id"]
    send(upload, 0, b"12345")
    assert client.delete(f"uploads/{upload}", headers={"Tus-Resumable": VERSION}).status_code == 204
    is_problem(client.get(f"uploads/{upload}"), 404)
    is_problem(send(upload, 5, b"12345"), 404)
    assert not list(services.settings.uploads.iterdir())


def test_an_upload_ends_when_its_time_is_over(client, services, begin, send, is_problem):
    upload, kept = begin("t1.nii", 10).json()["id"], begin("t2.nii", 10).json()["id"]
    send(upload, 0, b"12345")
    with services.stores.sessions.begin() as session:
        session.execute(
            update(Upload).where(Upload.id == uuid.UUID(upload)).values(expires_at=utc_now() - timedelta(seconds=1))
        )
    is_problem(send(upload, 5, b"12345"), 410)
    is_problem(client.get(f"uploads/{upload}"), 410)
    assert uuid.UUID(upload).hex in services.sweep()
    assert {path.name for path in services.settings.uploads.iterdir()} == {uuid.UUID(kept).hex}
    is_problem(client.get(f"uploads/{upload}"), 404)


def test_a_sweep_leaves_an_upload_that_paused_for_days(services, begin, send, ask):
    upload = begin("t1.nii", 10).json()["id"]
    send(upload, 0, b"12345")
    services.sweep(older_than_s=0)
    assert ask(upload) == (5, 10)


def test_the_list_tells_one_data_set_from_another(client, begin):
    client.post("datasets", json={"name": "other"}).raise_for_status()
    begin("t1.nii", 5)
    begin("t2.nii", 5, metadata={"dataset": "other"})
    assert [item["name"] for item in client.get("uploads", params={"dataset": "other"}).json()["items"]] == ["t2.nii"]
    assert len(client.get("uploads").json()["items"]) == 2


def archive(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


def test_a_batch_waits_until_it_is_closed(client, begin, settle, make, is_problem):
    batch = client.post("uploads/batches").json()["id"]
    content = archive(**{"a/seen.png": make.png(1), "a/t1.nii.gz": make.nifti(), "a/notes.txt": b"words"})
    packed = begin("study.zip", len(content), content, metadata={"batch": batch}).json()["id"]
    events = make.events_tsv(3)
    single = begin("events.tsv", len(events), events, metadata={"batch": batch}).json()["id"]
    late = begin("other.zip", 5, metadata={"batch": batch}).json()["id"]
    assert settle(single)["status"] == "done", "what stands alone waits for nothing"
    assert client.get(f"uploads/{packed}").json()["status"] == "waiting"
    is_problem(client.post(f"uploads/batches/{batch}/close"), 409)
    client.delete(f"uploads/{late}", headers={"Tus-Resumable": VERSION})
    closed = client.post(f"uploads/batches/{batch}/close").json()
    assert {scan["name"] for scan in closed["scans"]} == {"seen.png", "t1.nii.gz", "events.tsv"}
    assert (closed["files"], closed["done"], closed["waiting"], closed["open"]) == (2, 2, 0, 0)
    [part] = closed["problems"]
    assert "notes.txt" in part["problem"]["found"]
    assert client.post(f"uploads/batches/{batch}/close").json() == closed
    assert client.get(f"uploads/batches/{batch}").json() == closed
    assert settle(packed)["status"] == "done"


def test_an_archive_alone_is_taken_in_without_a_batch(begin, settle, make):
    content = archive(**{"a.png": make.png(1), "deep/b.png": make.png(2)})
    found = settle(begin("pictures.zip", len(content), content).json()["id"])
    assert {scan["name"] for scan in found["scans"]} == {"a.png", "b.png"}


def test_an_archive_that_is_damaged_or_leads_elsewhere_is_refused(begin, settle, make):
    trick = archive(**{"../../evil.png": make.png(1)})
    cut = archive(**{"a.png": make.png(1)})[:-30]
    for name, content in (("trick.zip", trick), ("cut.zip", cut), ("empty.zip", archive())):
        found = settle(begin(name, len(content), content).json()["id"])
        assert (found["status"], found["scans"]) == ("refused", []), name
        assert found["problems"][0]["name"] == name


def test_a_batch_without_files_is_none(client, is_problem):
    for answer in (client.get(f"uploads/batches/{uuid.uuid4()}"), client.post(f"uploads/batches/{uuid.uuid4()}/close")):
        is_problem(answer, 404)


def test_names_are_assigned_by_a_pattern(client, is_problem):
    body = {"names": ["sub-01_ses-2_T1w.nii.gz", "other.nii.gz"], "pattern": "sub-{subject}_ses-{session}_*.nii.gz"}
    answer = client.post("uploads/assign", json=body).json()
    assert (answer["assigned"], answer["subjects"]) == (1, 1)
    first, second = answer["rows"]
    assert (first["subject"], first["session"], first["problem"]) == ("01", "2", "")
    assert second["problem"] == "the name does not fit the pattern"
    is_problem(client.post("uploads/assign", json=body | {"pattern": "no part"}), 422)


def test_json_stays_small_beside_the_pieces(client, is_problem):
    body = b'{"names": ["' + b"x" * (2 << 20) + b'"], "pattern": "{subject}"}'
    is_problem(client.post("uploads/assign", content=body, headers={"Content-Type": "application/json"}), 413)


def differing(shift):
    """A NIfTI file whose sform and qform place it apart, 4-D with two volumes."""
    image = nib.Nifti1Image(np.arange(2 * 5 * 4 * 3, dtype=np.int16).reshape(5, 4, 3, 2), None)
    placed = np.diag([2.0, 2.0, 2.0, 1.0])
    image.set_sform(placed, 2)
    placed[0, 3] = shift
    image.set_qform(placed, 1)
    return gzip.compress(image.to_bytes())


def test_volumes_of_a_dicom_series_are_chosen_or_each_becomes_a_scan(begin, settle, write_dicom, tmp_path):
    """Two echoes of three slices in one archive."""
    places = []

    def echoes(header, place):
        header.EchoTime = (10.0, 80.0)[place % 2]
        places.append(list(header.ImagePositionPatient))
        header.ImagePositionPatient = places[place - place % 2]

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in write_dicom(tmp_path / "series", change=echoes):
            archive.write(path, path.name)
    content = packed.getvalue()

    def put(subject, **chosen):
        began = begin("series.zip", len(content), content, metadata=chosen | {"subject": subject})
        return settle(began.json()["id"])

    both = put("01")
    assert both["problems"] == []
    told = [(scan["facts"]["volume"], scan["facts"]["volume_is"]) for scan in both["scans"]]
    assert told == [(1, "EchoTime 10.0"), (2, "EchoTime 80.0")]
    [scan] = put("02", volume=2)["scans"]
    assert (scan["facts"]["volume"], scan["facts"]["volume_is"]) == (2, "EchoTime 80.0")
    none = put("03", volume=5)
    assert none["scans"] == []
    assert none["problems"][0]["problem"]["expected"] == "one from 1 to 2"


def test_a_file_that_can_be_read_in_several_ways_is_read_as_it_was_chosen(begin, settle, services):
    content = differing(7.0)

    def put(**chosen):
        began = begin("bold.nii.gz", len(content), content, metadata=chosen)
        return settle(began.json()["id"])

    refused = put()
    assert refused["status"] == "refused"
    assert "prefer sform" in refused["problems"][0]["problem"]["remedy"]
    chosen = put(prefer="qform", volume=2)
    assert (chosen["prefer"], chosen["volume"], chosen["status"]) == ("qform", 2, "done")
    [scan] = chosen["scans"]
    assert (scan["facts"]["preferred_form"], scan["facts"]["volume"]) == ("qform", 2)
    stored = services.stores.blobs.read(scan["sha256"])
    image = nib.Nifti1Image.from_bytes(gzip.decompress(stored))
    assert image.shape == (5, 4, 3)
    assert (image.affine[0, 3], image.get_sform()[0, 3]) == (7, 7)
    assert image.dataobj[0, 0, 0] == 1
