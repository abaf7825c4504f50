"""Files that can't be used, and a job that a person stops."""

import gzip
import re

import numpy as np
import pytest
from playwright.sync_api import expect
from scipy.io import savemat

SLOW_STIMULI, SLOW_VOXELS, SIDE = 60, 2500, 32


@pytest.fixture
def broken(tmp_path):
    """Name of a bad file -> the file, as a person may bring it."""
    contents = {
        "notes.docx": b"words",
        "cut.nii.gz": gzip.compress(bytes(5000))[:60],
        "empty.nii": b"",
        "weights.npy": b"\x93NUMPY\x01\x00",
    }
    paths = {name: tmp_path / name for name in contents}
    for name, path in paths.items():
        path.write_bytes(contents[name])
    return paths


def test_bad_files_say_what_is_wrong_and_leave_nothing(visit, server, broken, tmp_path):
    good = tmp_path / "events.tsv"
    good.write_text("stim_file\na.png\nb.png\n")
    visit.create_dataset("untidy")
    visit.upload(*broken.values(), good)
    expect(visit.page.get_by_text(f"1 stored, {len(broken)} refused")).to_be_visible()
    alerts = visit.page.get_by_test_id("stAlert").filter(has_text="Expected:")
    expect(alerts).to_have_count(len(broken))
    for name in broken:
        alert = alerts.filter(has_text=name).first
        expect(alert).to_contain_text(re.compile("Found: .*Expected: .*What to do: ", re.DOTALL))
    expect(visit.page.get_by_text("Traceback")).to_have_count(0)
    visit.shoot("upload-refused")
    kept = server.get("/api/v1/scans", dataset="untidy").json()["items"]
    assert [scan["name"] for scan in kept] == ["events.tsv"]
    assert not [path for path in (server.home / "spool").rglob("*") if path.is_file()]


def test_a_rerun_of_the_page_uploads_nothing_twice(visit, server, tmp_path):
    file = tmp_path / "events.tsv"
    file.write_text("stim_file\na.png\nb.png\n")
    visit.create_dataset("once")
    visit.upload(file)
    expect(visit.page.get_by_text("1 stored, 0 refused")).to_be_visible()
    visit.page.get_by_test_id("stExpander").filter(has_text="Consent and purpose").locator("summary").click()
    visit.page.get_by_role("textbox", name="Purpose").first.fill("Only to look at")
    visit.page.get_by_role("button", name="Save").click()
    expect(visit.page.get_by_text("Purpose: Only to look at.")).to_be_visible()
    expect(visit.page.get_by_text("1 stored, 0 refused")).to_be_visible()
    assert server.get("/api/v1/datasets/once").json()["scans"] == 1


@pytest.fixture
def slow_betas(tmp_path):
    """Betas that take a worker long enough to be stopped: noise, so simulated."""
    rng = np.random.default_rng(3)
    path = tmp_path / "noise.mat"
    content = {
        "fmriTrn": rng.normal(size=(SLOW_STIMULI, SLOW_VOXELS)).astype(np.float32),
        "stimTrn": rng.integers(0, 255, size=(SLOW_STIMULI, SIDE * SIDE), dtype=np.uint8),
    }
    savemat(path, content)
    return path


def test_a_running_job_is_cancelled_from_the_page(visit, server, slow_betas):
    visit.create_dataset("noise", "Simulated: nobody was scanned", "Try out", simulated=True)
    visit.upload(slow_betas)
    expect(visit.page.get_by_text("1 stored, 0 refused")).to_be_visible()
    visit.submit("Figures and letters from V1", "noise")
    card = visit.card("noise")
    expect(card.get_by_text(re.compile("Running$"))).to_be_visible()
    expect(card.get_by_text("Simulated data")).to_be_visible()
    visit.shoot("jobs-running")
    card.get_by_role("button", name="Cancel").click()
    expect(card.get_by_text(re.compile("Cancelled$"))).to_be_visible()
    expect(card.get_by_role("button", name="Retry")).to_be_visible()
    job = server.get("/api/v1/jobs", dataset="noise").json()["items"][0]
    assert job["status"] == "cancelled"
    assert job["done"] < job["total"] == SLOW_STIMULI
