"""Take in, describe and look after."""

import gzip
import shutil

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.bootstrap import open_services
from voxelight.app.cli.intake import keep_once
from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.app.settings import Settings


@pytest.fixture
def folder(tmp_path, crops, betas_mat):
    """Two volumes, a recording, one damaged volume, and what nobody asked for."""
    folder = tmp_path / "scans"
    (folder / "below").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    shutil.copy(crops[0], folder / "a.nii.gz")
    shutil.copy(crops[1], folder / "below/b.nii.gz")
    shutil.copy(crops[1], folder / ".hidden/c.nii.gz")
    (folder / "recording.mat").write_bytes(betas_mat)
    (folder / "cut.nii.gz").write_bytes(crops[2].read_bytes()[:-500])
    (folder / "notes.md").write_text("not a scan")
    return folder


def test_a_bad_file_does_not_stop_the_others(ask, folder):
    answer = ask("ingest", folder, "--dataset", "mixed", "--create", "--purpose", "a test", code=2)
    assert {scan["name"]: scan["kind"] for scan in answer["scans"]} == {
        "a.nii.gz": "volume",
        "b.nii.gz": "volume",
        "recording.mat": "betas",
    }
    assert [row["path"].rsplit("/")[-1] for row in answer["refused"]] == ["cut.nii.gz"]
    assert answer["refused"][0]["problem"]["status"] == 422
    assert ask("datasets", "show", "mixed")["scans"] == 3


def test_a_person_is_told_which_file_was_refused_and_why(shell, folder):
    result = shell("ingest", folder, "--dataset", "mixed", "--create", code=2)
    assert f"Refused {folder / 'cut.nii.gz'}: Found" in result.stderr
    assert "a.nii.gz" in result.stdout


def test_the_same_name_twice_is_refused_and_another_session_is_not(shell, ask, crops):
    shell("ingest", crops[0], "--dataset", "d", "--create")
    refused = ask("ingest", crops[0], "--dataset", "d", code=2)["refused"]
    assert refused[0]["problem"]["status"] == 409
    shell("ingest", crops[0], "--dataset", "d", "--session", "02", "--subject", "02")
    assert ask("datasets", "show", "d")["subjects"] == 2


def test_what_is_said_of_a_data_set_needs_its_making(shell, crops):
    assert "--create" in shell("ingest", crops[0], "--dataset", "d", "--consent", "public", code=2).stderr
    shell("ingest", crops[0], "--dataset", "d", code=3)
    shell("ingest", crops[0], "--dataset", "d", "--create", "--simulated", "--consent", "simulated")


@pytest.mark.parametrize("name", ["empty.nii.gz", "weights.pkl", "picture.png"])
def test_a_refused_file_leaves_nothing(shell, ask, home, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"")[:0] if name == "empty.nii.gz" else b"\x80\x04K\x01.")
    shell("datasets", "create", "d")
    shell("ingest", path, "--dataset", "d", code=2)
    assert ask("datasets", "show", "d")["scans"] == 0
    assert not [file for folder in ("blobs", "spool") for file in (home / folder).rglob("*") if file.is_file()]


def test_data_sets_are_made_listed_and_changed(ask):
    made = ask("datasets", "create", "d", "--consent", "given", "--licence", "CC0", "--simulated")
    assert (made["consent"], made["licence"], made["simulated"], made["version"]) == ("given", "CC0", True, 1)
    changed = ask("datasets", "change", "d", "--purpose", "teaching", "--source", "us", "--version", 1)
    assert (changed["purpose"], changed["consent"], changed["version"]) == ("teaching", "given", 2)
    ask("datasets", "create", "e")
    page = ask("datasets", "list", "--limit", 1)
    assert [row["name"] for row in page["items"]] == ["e"]
    assert [row["name"] for row in ask("datasets", "list", "--cursor", page["next_cursor"])["items"]] == ["d"]


def test_recipes_are_listed_by_kind_and_shown(ask, shell):
    kinds = {row["name"]: row["kind"] for row in ask("recipes", "list")}
    assert set(kinds.values()) == {
        "segment",
        "reconstruct",
        "decode",
        "train-segmenter",
        "train-decoder",
        "train-linear",
        "glm",
    }
    assert {row["name"] for row in ask("recipes", "list", "--kind", "segment")} == {
        name for name, kind in kinds.items() if kind == "segment"
    }
    assert ask("recipes", "show", "miyawaki-ridge")["kind"] == "reconstruct"
    assert "miyawaki-ridge" in shell("recipes", "list").stdout


def test_the_database_is_brought_up_to_date_once(ask, home):
    shutil.rmtree(home)
    assert ask("storage", "upgrade") == {"database": "sqlite", "applied": True}
    assert ask("storage", "upgrade") == {"database": "sqlite", "applied": False}


def test_a_sweep_removes_what_no_row_names(ask, home):
    orphan = home / "blobs/sha256/ab" / ("ab" * 32)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"left by a crash")
    assert ask("storage", "sweep") == {"removed": []}
    assert ask("storage", "sweep", "--older-than", 0) == {"removed": ["ab" * 32]}


def test_the_doctor_finds_this_installation_well(ask, shell, home):
    checks = {check["name"]: check for check in ask("doctor")}
    assert all(check["ok"] for check in checks.values()), checks
    assert {"python", "torch", "database", "blob store", "weights hippocampus-agunet"} <= checks.keys()
    shutil.rmtree(home)
    assert "made by the first command" in shell("doctor").stdout


def test_the_doctor_audits_the_books(ask, shell, home):
    assert ask("doctor", "--audit", "--deep") == []
    assert "balance" in shell("doctor", "--audit").stdout
    orphan = home / "blobs/sha256/ab" / ("ab" * 32)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"left by a crash")
    assert ask("doctor", "--audit") == []
    [found] = ask("doctor", "--audit", "--older-than", 0, code=1)
    assert (found["found"], found["remedy"]) == ("no row that names it", "Reclaim it: voxelight storage sweep")


def test_the_doctor_names_a_problem_and_its_remedy(ask, monkeypatch, home):
    monkeypatch.setenv("VOXELIGHT_DATABASE_URL", f"sqlite:///{home / 'empty.sqlite'}")
    (home / "empty.sqlite").touch()
    monkeypatch.setenv("VOXELIGHT_DEVICE", "cuda:7")
    problems = {check["name"]: check["remedy"] for check in ask("doctor", code=1) if not check["ok"]}
    assert problems["database"] == "Run voxelight storage upgrade."
    assert "VOXELIGHT_DEVICE" in problems.get("device", "VOXELIGHT_DEVICE")


def test_public_data_are_listed(ask):
    (row,) = ask("data", "list")
    assert (row["name"], row["fetched"]) == ("miyawaki2008", False)


def test_a_volume_of_four_axes_is_kept_as_a_series(ask, tmp_path):
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4, 3), dtype=np.float32), np.eye(4)), tmp_path / "s.nii")
    answer = ask("ingest", tmp_path / "s.nii", "--dataset", "d", "--create")
    assert answer["scans"][0]["kind"] == "series"


def test_a_file_that_is_there_is_not_stored_again(home, crops, tmp_path):
    services = open_services(Settings(home=home))
    services.datasets.create(DatasetRequest(name="d"))
    place = ScanRequest(name="", dataset="d")
    first = keep_once(services, crops, place)
    assert keep_once(services, crops, place) == first
    assert [scan.name for scan in first] == [path.name for path in crops]
    changed = tmp_path / crops[0].name
    shutil.copy(crops[1], changed)
    other = keep_once(services, [changed], place.model_copy(update={"session": "02"}))[0]
    assert other.id not in {scan.id for scan in first}
    assert services.datasets.show("d").scans == len(crops) + 1
    services.close()
