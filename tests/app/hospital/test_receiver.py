"""What a scanner sends is on the disk before it is told so, and goes through the intake as an upload does."""

import io
import json
import os
import signal
import ssl
import subprocess
import sys
import time

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, build_context
from sqlalchemy import update

from voxelight.app.hospital.inbox import Inbox, Wishes, only_one
from voxelight.app.hospital.receiver import Listening, receiving, refuse_open
from voxelight.app.hospital.sending import Peer, read_peer, send_files
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest
from voxelight.app.schemas_deletion import DeletionRequest, DeletionTarget
from voxelight.models.errors import BadInput, Conflict, Refused, Unavailable
from voxelight.models.values import LabelMap
from voxelight.storage.formats.nifti import write_label_map
from voxelight.storage.formats.volumes import read_image
from voxelight.storage.results import Outcome, OutputFile, record_run
from voxelight.storage.schema import Job

LOOP = Listening(port=0)


@pytest.fixture
def told():
    return []


@pytest.fixture
def inbox(services, ward, tmp_path, told):
    return Inbox(services, tmp_path / "inbox", Wishes(ward), told.append)


def call(port, aet="VOXELIGHT", calling="SCANNER", tls=None):
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = 10
    contexts = [build_context(MRImageStorage, ExplicitVRLittleEndian), build_context("1.2.840.10008.1.1")]
    return entity.associate("127.0.0.1", port, ae_title=aet, contexts=contexts, tls_args=tls and (tls, None))


def send(port, contents, **how):
    """Send instances and return the status of each."""
    association = call(port, **how)
    assert association.is_established
    found = [association.send_c_store(dcmread(io.BytesIO(content))).Status for content in contents]
    association.release()
    return found


def test_a_series_is_echoed_stored_and_cleaned_under_a_pseudonym(inbox, services, slices, told):
    with receiving(inbox, LOOP) as port:
        association = call(port)
        assert association.send_c_echo().Status == 0x0000
        association.release()
        assert set(send(port, slices)) == {0x0000}
        assert inbox.step(quiet_s=60) == 0, "more may come"
        assert inbox.step(quiet_s=0) == 1
        [scan] = services.scans.list("ward").items
        assert scan.deid_status == "cleaned"
        assert scan.facts["slices"] == len(slices)
        assert scan.subject.startswith("p")
        assert len(scan.subject) == 17
        assert list(inbox.series.iterdir()) == [], "nothing of the patient stays"
        files = [path for path in services.settings.home.rglob("*") if path.is_file()]
        assert not [path for path in files if b"Doe^Jane" in path.read_bytes()]
        assert not any("Doe" in line or "K-4711" in line for line in told)
        # The same again, from another association: known, and stored once.
        send(port, slices)
        inbox.step(quiet_s=0)
        assert len(services.scans.list("ward").items) == 1
        assert "here already" in told[-1]


def test_another_series_of_the_patient_has_the_same_label(inbox, services, make_series):
    with receiving(inbox, LOOP) as port:
        send(port, make_series(number=3))
        send(port, make_series(number=4))
    inbox.step(quiet_s=0)
    assert len({scan.subject for scan in services.scans.list("ward").items}) == 1
    assert len({scan.session for scan in services.scans.list("ward").items}) == 2


def test_what_is_refused_is_kept_with_the_reason_and_what_may_show_a_name_is_held(inbox, services, make_series):
    series = make_series(count=6)
    with receiving(inbox, LOOP) as port:
        send(port, [*series[:2], *series[4:]])  # two slices never came
        send(port, make_series(burned="YES"))
    inbox.step(quiet_s=0)
    [held] = services.scans.list("ward").items
    assert held.deid_status == "held"
    [folder] = inbox._refused.iterdir()
    assert "series 3" in json.loads((folder / "reason.json").read_text())["reason"]
    assert len(list(folder.glob("*.dcm"))) == 4


def test_instances_that_come_after_their_series_are_kept_and_not_taken_for_known(inbox, make_series):
    series = make_series(count=6)
    with receiving(inbox, LOOP) as port:
        send(port, series[:5])
        inbox.step(quiet_s=0)
        send(port, series[5:])
        inbox.step(quiet_s=0)
    [folder] = inbox._refused.iterdir()
    assert "before they came" in json.loads((folder / "reason.json").read_text())["reason"]
    assert len(list(folder.glob("*.dcm"))) == 1


def test_what_lies_in_an_inbox_is_erased_with_its_subject(services, ward, make_series, read, told):
    inbox = Inbox(services, services.settings.home / "inbox" / "VOXELIGHT", Wishes(ward), told.append)
    series, other = make_series(count=5), [read(each) for each in make_series(count=1)]
    other[0].PatientID = "another"
    with receiving(inbox, LOOP) as port:
        send(port, series[:4])
        inbox.step(quiet_s=0)
        send(port, series[4:])
        inbox.step(quiet_s=0)  # refused: it came late
        send(port, make_series(count=1))  # waits
        association = call(port)
        assert association.send_c_store(other[0]).Status == 0
        association.release()
    [scan] = services.scans.list(ward).items
    target = DeletionTarget(what="subject", dataset=ward, subject=scan.subject)
    done = services.deletion.delete(target, DeletionRequest(confirm=scan.subject, prove=True))
    assert not [each.place for each in done.proof if each.found]
    left = list((services.settings.home / "inbox").rglob("*.dcm"))
    assert [str(dcmread(path).PatientID) for path in left] == ["another"]


def test_the_same_instance_twice_is_one_and_another_of_its_name_is_told_apart(inbox, slices, read):
    changed = read(slices[0])
    changed.PixelData = bytes(len(changed.PixelData))
    with receiving(inbox, LOOP) as port:
        assert send(port, [slices[0], slices[0]]) == [0, 0]
        assert len(list(inbox.series.rglob("*.dcm"))) == 1
        association = call(port)
        assert association.send_c_store(changed).Status == 0x0111
        association.release()


def test_who_is_not_listed_is_not_answered(inbox, slices):
    listed = Listening(port=0, allow_aet=("MR1",), allow_peer=("127.0.0.0/8",))
    with receiving(inbox, listed) as port:
        assert not call(port).is_established
        assert not call(port, aet="OTHER", calling="MR1").is_established
        assert send(port, slices[:1], calling="MR1") == [0]
    with receiving(inbox, Listening(port=0, allow_aet=("MR1",), allow_peer=("10.0.0.0/8",))) as port:
        association = call(port, calling="MR1")
        assert not association.is_established or association.send_c_echo() == {} or not association.is_established
    assert len(list(inbox.series.rglob("*.dcm"))) == 1


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"host": "0.0.0.0"}, Refused), ({"host": "0.0.0.0", "allow_aet": ("A",)}, Refused),
     ({"host": "0.0.0.0", "allow_peer": ("10.0.0.1",)}, Refused), ({"allow_peer": ("scanner",)}, BadInput),
     ({"aet": "A" * 17}, BadInput), ({"certificate": "x"}, BadInput)],
)  # fmt: skip
def test_it_opens_to_others_only_where_they_are_listed(wrong, error):
    with pytest.raises(error):
        refuse_open(Listening(**wrong))
    refuse_open(Listening(host="0.0.0.0", allow_aet=("A",), allow_peer=("10.0.0.0/8",)))


def test_an_instance_that_is_too_large_ends_the_association(inbox, make_series):
    with receiving(inbox, Listening(port=0, instance_bytes=100_000)) as port:
        assert send(port, make_series(count=2, side=64)) == [0, 0], "each counts for itself"
        association = call(port)
        status = association.send_c_store(dcmread(io.BytesIO(make_series(count=1, side=400)[0])))
        assert "Status" not in status
    assert len(list(inbox.series.rglob("*.dcm"))) == 2


def test_over_tls_and_not_without(inbox, slices, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    listening = Listening(port=0, certificate=cert, private_key=key, authority=cert)
    client = ssl.create_default_context(cafile=cert)
    with receiving(inbox, listening) as port:
        assert not call(port).is_established, "not in the clear"
        client.check_hostname = False
        assert not call(port, tls=client).is_established, "not without a certificate of one's own"
        client.load_cert_chain(cert, key)
        assert send(port, slices, tls=client) == [0] * len(slices)


def test_one_process_at_a_time(tmp_path):
    with only_one(tmp_path, "receives"), pytest.raises(Conflict), only_one(tmp_path, "receives"):
        pass


def segment(services, job_id):
    """Write label maps as a worker does."""
    Runner(services).list_batches(job_id)
    scans = {scan.name: scan for scan in services.scans.list().items}
    for run in services.jobs.list_runs(job_id):
        scan = scans[run.scan]
        with services.stores.blobs.local_file(scan.sha256, scan.name) as path:
            volume, grid = read_image(path)
            target = services.settings.home / "map.nii.gz"
            labels = (volume.array[0] > np.median(volume.array)).astype(np.uint8)
            write_label_map(target, LabelMap(labels, volume.geometry, {1: "bright"}), grid)
        files = (OutputFile("label_map", "x_dseg.nii.gz", "application/gzip", target.read_bytes()),)
        record_run(services.stores, run.id, Outcome(files, label_names={1: "bright"}, volumes_ml={"bright": 1.0}))
    with services.stores.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(status="done"))


def test_a_job_is_asked_for_and_its_label_maps_go_back_to_the_study(services, ward, tmp_path, slices, told):
    archive = Inbox(services, tmp_path / "archive", Wishes(ward), told.append)
    with receiving(archive, Listening(port=0, aet="ARCHIVE")) as back:
        peer = read_peer(f"ARCHIVE@127.0.0.1:{back}", "VOXELIGHT")
        wishes = Wishes(ward, recipe="hippocampus-agunet", send_to=peer)
        inbox = Inbox(services, tmp_path / "inbox", wishes, told.append)
        with receiving(inbox, LOOP) as port:
            send(port, slices)
            inbox.step(quiet_s=0)
            [job] = services.jobs.list().items
            inbox.step(quiet_s=0)
            assert not list(archive.series.rglob("*.dcm")), "the job is not done"
            segment(services, job.id)
            inbox = Inbox(services, tmp_path / "inbox", wishes, told.append)  # as after a restart
            inbox.step(quiet_s=0)
            send(port, slices)  # and again: known, so nothing is done twice
            inbox.step(quiet_s=0)
            inbox.step(quiet_s=0)
    [path] = archive.series.rglob("*.dcm")
    sent, original = dcmread(path), dcmread(io.BytesIO(slices[0]))
    assert (sent.Modality, str(sent.PatientName), sent.PatientID) == ("SEG", "Doe^Jane", "K-4711")
    assert sent.StudyInstanceUID == original.StudyInstanceUID
    assert len(services.jobs.list().items) == 1
    log = " ".join(line.message for line in services.jobs.read_log(job.id).items)
    assert f"stored at ARCHIVE@127.0.0.1:{back}" in log
    assert "was given back the identity of its study by receiver VOXELIGHT" in log


def test_what_can_not_be_sent_is_tried_again(services, ward, tmp_path, slices, told, monkeypatch):
    inbox = Inbox(services, tmp_path / "inbox", Wishes(ward), told.append)
    path = tmp_path / "a.dcm"
    path.write_bytes(slices[0])
    with pytest.raises(Unavailable, match="no association"):
        send_files([path], Peer("NOBODY", "127.0.0.1", 1))
    with receiving(inbox, LOOP) as port:
        send(port, slices)
    inbox.step(quiet_s=0)
    [scan] = services.scans.list(ward).items
    job = services.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset=ward, scans=[scan.id]))
    segment(services, job.id)
    inbox._outbox.add(job.id, Peer("NOBODY", "127.0.0.1", 1))
    inbox.step(quiet_s=0)
    [waiting] = (tmp_path / "inbox" / "sending").glob("*.json")
    assert json.loads(waiting.read_text())["tries"] == 1
    assert "again in 5 s" in told[-1]


def test_nothing_that_was_confirmed_is_lost_by_a_kill(services, ward, tmp_path, make_series):
    """The process is killed while instances come and series are taken in; the next goes on, and each is there once."""
    environment = os.environ | {"VOXELIGHT_HOME": str(services.settings.home),
                                "VOXELIGHT_DATABASE_URL": services.settings.resolved_database_url}  # fmt: skip
    command = [sys.executable, "-m", "voxelight.app.cli", "dicom", "receive", "--dataset", ward, "--quiet", "0.3"]
    series, confirmed = [make_series(count=4, number=number) for number in range(3)], set()
    for round_ in range(3):
        port = 20000 + (os.getpid() + round_ * 7919) % 30000
        process = subprocess.Popen([*command, "--port", str(port)], env=environment, stderr=subprocess.PIPE, text=True)
        assert "takes instances" in process.stderr.readline()
        for place, contents in enumerate(series):
            for number, content in enumerate(contents):
                due = (place, number) not in confirmed and number <= round_ + 1 + place
                if due and send(port, [content]) == [0]:
                    confirmed.add((place, number))
        if round_ < 2:
            time.sleep(0.05 * round_)
            process.send_signal(signal.SIGKILL)
            process.wait()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any((services.settings.home / "inbox/VOXELIGHT/series").iterdir()):
        time.sleep(0.1)
    process.terminate()
    process.wait(20)
    scans = services.scans.list(ward).items
    refused = list((services.settings.home / "inbox/VOXELIGHT/refused").rglob("*.dcm"))
    assert sum(scan.facts["slices"] for scan in scans) + len(refused) == len(confirmed) == 12
    assert len({scan.facts["series_uid"] for scan in scans}) == len(scans)


def test_headers_stay_where_the_data_set_keeps_them(services, tmp_path, slices, told):
    services.datasets.create(DatasetRequest(name="clinic", keeps_headers=True))
    inbox = Inbox(services, tmp_path / "inbox", Wishes("clinic"), told.append)
    with receiving(inbox, LOOP) as port:
        send(port, slices)
    inbox.step(quiet_s=0)
    [scan] = services.scans.list("clinic").items
    assert scan.deid_status == "kept"
