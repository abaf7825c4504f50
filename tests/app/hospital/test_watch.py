"""What appears in a watched folder is taken in once it is whole, exactly once, and moved aside with what it became."""

import json
import os
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.hospital.watch import DONE, REFUSED, STATE, Watch, Watched
from voxelight.models.errors import BadInput


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "watched"
    place.mkdir()
    return place


@pytest.fixture
def watch(services, ward, folder):
    return lambda **more: Watch(services, Watched(folder, ward, **{"settle_s": 0.0, **more}), print)


def volume(path, seed=0):
    array = np.random.default_rng(seed).normal(300, 80, (8, 9, 10)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def look_twice(watching):
    watching.step()
    return watching.step()


def note(folder, where, name):
    return json.loads((folder / where / f"{name}.json").read_text())


def test_a_file_is_taken_in_and_moved_to_done(services, watch, folder):
    content = volume(folder / "t1.nii").read_bytes()
    assert look_twice(watch()) == 1
    [scan] = services.scans.list("ward").items
    assert note(folder, DONE, "t1.nii")["scans"] == [str(scan.id)]
    assert (folder / DONE / "t1.nii").read_bytes() == content
    assert sorted(path.name for path in folder.iterdir()) == sorted([DONE, REFUSED, STATE])
    assert look_twice(watch()) == 0


def test_what_still_grows_or_is_named_unfinished_waits(services, watch, folder):
    whole = volume(folder.parent / "whole.nii").read_bytes()
    (folder / "t1.nii").write_bytes(whole[:500])
    (folder / "t2.nii.part").write_bytes(whole)
    watching = watch(settle_s=0.3)
    for size in (1000, 2000):
        watching.step()
        (folder / "t1.nii").write_bytes(whole[:size])
        time.sleep(0.2)
        assert watching.step() == 0
    (folder / "t1.nii").write_bytes(whole)
    watching.step()
    time.sleep(0.35)
    assert watching.step() == 1
    (folder / "t2.nii.part").rename(folder / "t2.nii")
    watching.step()
    time.sleep(0.35)
    assert watching.step() == 1
    assert sorted(scan.name for scan in services.scans.list("ward").items) == ["t1.nii", "t2.nii"]


def test_what_is_refused_lies_there_with_the_reason(services, watch, folder):
    (folder / "notes.txt").write_text("no scan")
    (folder / "torn.nii").write_bytes(b"\x5c\x01\x00\x00 torn")
    assert look_twice(watch()) == 2
    assert services.scans.list("ward").items == []
    assert (folder / REFUSED / "notes.txt").read_text() == "no scan"
    assert "torn.nii" in note(folder, REFUSED, "torn.nii")["refused"][0]


def test_a_folder_is_one_subject_and_its_series_are_cleaned(services, watch, folder, slices):
    (folder / "sub-07").mkdir()
    for number, content in enumerate(slices):
        (folder / "sub-07" / f"{number}.dcm").write_bytes(content)
    volume(folder / "sub-07" / "t1.nii")
    assert look_twice(watch(recipe="hippocampus-agunet")) == 1
    scans = services.scans.list("ward").items
    assert {(scan.subject, scan.kind) for scan in scans} == {("07", "volume")}
    assert {scan.deid_status for scan in scans} == {"clean", "cleaned"}
    [job] = services.jobs.list().items
    assert (job.total, str(job.id)) == (2, note(folder, DONE, "sub-07")["job"])


def test_the_same_again_is_known_and_another_of_its_name_is_refused(services, watch, folder, slices):
    volume(folder / "t1.nii")
    look_twice(watch())
    volume(folder / "t1.nii")
    look_twice(watch())
    assert len(list((folder / DONE).glob("*t1.nii"))) == 2
    volume(folder / "t1.nii", seed=1)
    look_twice(watch())
    assert "one scan of a name" in note(folder, REFUSED, "t1.nii")["refused"][0]
    assert len(services.scans.list("ward").items) == 1


@pytest.mark.parametrize("moment", ["before it is moved", "before its job"])
def test_a_kill_takes_nothing_twice(services, watch, folder, slices, monkeypatch, moment):
    class Killed(BaseException):
        """The process is gone."""

    def die(*_args):
        raise Killed

    (folder / "07").mkdir()
    for number, content in enumerate(slices):
        (folder / "07" / f"{number}.dcm").write_bytes(content)
    dying = watch(recipe="hippocampus-agunet")
    monkeypatch.setattr(dying, "_move" if moment.endswith("moved") else "_submit", die)
    with pytest.raises(Killed):
        look_twice(dying)
    assert look_twice(watch(recipe="hippocampus-agunet")) == 1
    [scan] = services.scans.list("ward").items
    [job] = services.jobs.list().items
    assert note(folder, DONE, "07") == {"scans": [str(scan.id)], "held": 0, "job": str(job.id), "refused": []}


def test_the_command_survives_kill_9(services, ward, folder):
    environment = os.environ | {"VOXELIGHT_HOME": str(services.settings.home),
                                "VOXELIGHT_DATABASE_URL": services.settings.resolved_database_url}  # fmt: skip
    command = [sys.executable, "-m", "voxelight.app.cli", "watch", str(folder), "--dataset", ward, "--settle", "0.2",
               "--every", "0.1"]  # fmt: skip
    for number in range(6):
        volume(folder / f"t{number}.nii", number)
    for wait in (0.3, 60):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert "Watching" in process.stderr.readline()
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and len(list((folder / DONE).glob("*.nii"))) < 6:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL if wait < 1 else signal.SIGTERM)
        process.wait(20)
    assert sorted(scan.name for scan in services.scans.list(ward).items) == [f"t{number}.nii" for number in range(6)]
    assert len(list((folder / DONE).glob("*.nii"))) == 6


def test_a_folder_that_is_not_there_is_said(services, tmp_path):
    with pytest.raises(BadInput):
        Watch(services, Watched(tmp_path / "nowhere", "ward"), print)
