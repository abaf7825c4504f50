"""Large files and folders in a real browser: paused, closed, the server killed, and gone on with."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import expect

SIDE = 160  # 160^3 voxels of 2 bytes: 8 MB
SLOW_BYTES_S = 2_000_000
PIECE, PIECES = 32 << 20, 8
WITHIN_MS = 60_000


class Served:
    """A server that can be killed and comes back on its port."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self) -> None:
        command = [Path(sys.executable).with_name("voxelight"), "--home", self.home, "serve", "--no-worker"]
        with (self.home.parent / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], stdout=log, stderr=subprocess.STDOUT, cwd=self.home.parent
            )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/api/v1/health").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise AssertionError((self.home.parent / "serve.log").read_text())

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def memory(self, field):
        """Bytes, as the system counts them."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))

    def get(self, path, **params):
        return httpx.get(f"{self.url}/api/v1/{path}", params=params).raise_for_status().json()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    home = tmp_path_factory.mktemp("resumed") / "home"
    served = Served(home)
    served.start()
    yield served
    served.process.terminate()
    served.process.wait(60)


@pytest.fixture
def dataset(served):
    """A data set of its own for each test."""
    name = f"d{time.monotonic_ns()}"
    httpx.post(f"{served.url}/api/v1/datasets", json={"name": name}).raise_for_status()
    return name


@pytest.fixture
def tabs(browser, served):
    """Tabs of one browser, which remembers between them."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WITHIN_MS)
    expect.set_options(timeout=WITHIN_MS)
    asked, faults = [], []
    context.on("request", lambda request: asked.append(request.url))
    context.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: faults.append(str(error.error)))
    context.faults = faults
    yield context
    context.close()
    assert not [url for url in asked if not url.startswith((served.url, "data:", "blob:"))]


@pytest.fixture
def open_page(tabs, served, dataset):
    def _open(**more):
        page = tabs.new_page()
        query = "&".join(f"{key}={value}" for key, value in ({"dataset": dataset} | more).items())
        page.goto(f"{served.url}/api/v1/pages/upload?{query}")
        expect(page.get_by_label("Data set")).to_have_value(dataset)
        return page

    return _open


def row(page, name):
    return page.locator("#list > li").filter(has_text=name)


def volume(path, side=SIDE, seed=0):
    array = np.random.default_rng(seed).integers(0, 1000, (side, side, side), dtype=np.int16)
    nib.save(nib.Nifti1Image(array, np.diag([-1, 1, 2, 1])), path)
    return path


def test_a_paused_upload_goes_on_after_tab_and_server_were_gone(open_page, tabs, served, dataset, tmp_path):
    path = volume(tmp_path / "brain.nii")
    first = open_page(subject="07")
    slow = tabs.new_cdp_session(first)
    slow.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": SLOW_BYTES_S},
    )
    first.locator("#files").set_input_files(path)
    expect(row(first, "brain.nii").locator(".state")).to_contain_text(re.compile(r"Sending (1[5-9]|[2-9]\d) %"))
    first.get_by_role("button", name="Pause brain.nii").click()
    expect(row(first, "brain.nii").locator(".state")).to_contain_text("Paused")
    [upload] = served.get("uploads", dataset=dataset)["items"]
    assert 0 < upload["offset"] < path.stat().st_size
    first.close()

    served.kill()
    served.start()
    second = open_page(subject="07")
    expect(second.locator("#earlier")).to_contain_text("brain.nii")
    with second.expect_request(lambda request: request.method == "PATCH") as patched:
        second.locator("#files").set_input_files(path)
    kept = int(patched.value.headers["upload-offset"])
    assert 0 < kept < path.stat().st_size, "what had come is not sent twice"
    expect(row(second, "brain.nii").locator(".state")).to_have_text("Stored")
    expect(row(second, "brain.nii")).to_contain_text("160 × 160 × 160 voxels of 1 × 1 × 2 mm, stored as LAS")
    expect(second.locator("#earlier")).to_be_hidden()
    picture = row(second, "brain.nii").get_by_role("img", name=re.compile("axial, coronal and sagittal"))
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") == 588
    [scan] = served.get("scans", dataset=dataset)["items"]
    assert (scan["name"], scan["subject"]) == ("brain.nii", "07")
    source = scan["facts"].get("source_sha256", scan["sha256"])
    assert source == hashlib.sha256(path.read_bytes()).hexdigest()
    assert second.evaluate("Object.keys(localStorage).filter(key => key.startsWith('vx-upload'))") == []


def test_a_folder_that_was_interrupted_becomes_one_series(open_page, served, dataset, tmp_path, slices):
    folder = tmp_path / "dicom"
    folder.mkdir()
    for number, content in enumerate(slices):
        (folder / f"IM{number:04}").write_bytes(content)
    first = open_page()
    begun = []

    def break_the_line(route):
        begun.append(route.request.method)
        if len(begun) > 3:
            route.abort()
        else:
            route.continue_()

    first.route("**/api/v1/uploads", break_the_line)
    first.locator("#folder").set_input_files(folder)
    expect(row(first, f"{len(slices)} loose files").locator(".state")).to_contain_text(f"3 of {len(slices)}")
    first.close()

    second = open_page()
    second.locator("#folder").set_input_files(folder)
    loose = row(second, f"{len(slices)} loose files")
    expect(loose.locator(".state")).to_have_text("Stored")
    expect(loose).to_contain_text("UIDs were replaced and dates moved")
    [scan] = served.get("scans", dataset=dataset)["items"]
    assert scan["facts"]["slices"] == len(slices)
    assert len(served.get("uploads", dataset=dataset)["items"]) == len(slices), "no file came twice"


def drop(page, place, *paths):
    """Drop files and folders of this machine as a person does, at the middle of what is at a place."""
    box = page.locator(place).bounding_box()
    where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    mouse = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        mouse.send("Input.dispatchDragEvent", {"type": kind, **where, "data": data})


def test_a_dropped_folder_waits_for_a_label_and_is_not_sent_twice(open_page, served, dataset, tmp_path, slices):
    folder = tmp_path / "study"
    (folder / "dicom" / "deep").mkdir(parents=True)
    for number, content in enumerate(slices):
        (folder / "dicom" / "deep" / f"IM{number:04}").write_bytes(content)
    (folder / "events.tsv").write_bytes(b"stim_file\na.png\nb.png\n")
    (folder / ".hidden").write_bytes(b"x")
    page = open_page()
    page.get_by_label("Subject").fill("Jane Doe")
    drop(page, "#files-title", folder)  # beside the zone
    expect(page.locator("#subject-problem")).to_contain_text("Letters, digits, dots")
    expect(page.locator("#zone-said")).to_contain_text(f"{len(slices) + 1} files wait")
    assert served.get("uploads", dataset=dataset)["items"] == []
    page.get_by_label("Subject").fill("07")
    page.get_by_label("Subject").press("Tab")
    expect(row(page, f"{len(slices)} loose files").locator(".state")).to_have_text("Stored")
    expect(row(page, "study/events.tsv").locator(".state")).to_have_text("Stored")
    assert {scan["subject"] for scan in served.get("scans", dataset=dataset)["items"]} == {"07"}
    page.close()

    again = open_page(subject="07")
    drop(again, "#zone", folder / "events.tsv", folder)
    expect(row(again, "study/events.tsv").locator(".state")).to_have_text("Stored before")
    expect(row(again, f"{len(slices)} loose files")).to_contain_text("is stored already")
    assert len(served.get("scans", dataset=dataset)["items"]) == 2


def test_what_can_not_be_used_says_why_and_stops_nothing(open_page, served, dataset, tmp_path):
    page = open_page()
    files = {"notes.docx": b"words", "cut.nii.gz": b"\x1f\x8bnothing", "events.tsv": b"stim_file\na.png\nb.png\n"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    page.locator("#files").set_input_files([tmp_path / name for name in files])
    expect(row(page, "events.tsv").locator(".state")).to_have_text("Stored")
    expect(row(page, "cut.nii.gz").locator(".state")).to_have_text("Refused")
    for refused in (row(page, "cut.nii.gz"), row(page, "1 loose file")):
        expect(refused).to_contain_text(re.compile("Found: .*Expected: .*What to do: ", re.DOTALL))
    expect(page.get_by_role("status").filter(has_text="stored")).to_contain_text("1 of 3 stored, 2 refused")
    assert [scan["name"] for scan in served.get("scans", dataset=dataset)["items"]] == ["events.tsv"]


def test_many_files_go_where_their_names_say(open_page, served, dataset, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    for subject in range(1, 5):
        (folder / f"sub-{subject:02}_ses-a_events.tsv").write_bytes(b"stim_file\na.png\nb.png\n")
    (folder / "readme_events.tsv").write_bytes(b"stim_file\na.png\n")
    (folder / ".hidden.tsv").write_bytes(b"stim_file\na.png\n")
    page = open_page()
    page.get_by_text("Tell subject and session by the names").click()
    page.get_by_label("Pattern").fill("sub-{subject}.nii")
    page.locator("#folder").set_input_files(folder)
    expect(page.locator("#preview-summary")).to_contain_text("0 of 5 files")
    expect(page.get_by_role("button", name="Send 0 files")).to_be_disabled()
    page.get_by_label("Pattern").fill("{subject}{session}")
    page.get_by_label("Pattern").press("Tab")
    expect(page.locator("#pattern-problem")).to_contain_text("without text between them")
    page.get_by_label("Pattern").fill("sub-{subject}_ses-{session}_*.tsv")
    page.get_by_label("New name").fill("{subject}.tsv")
    page.get_by_label("New name").press("Tab")
    expect(page.locator("#preview-summary")).to_have_text("4 of 5 files, 4 subjects; 1 do not fit and stay here")
    expect(page.locator("#preview-rows tr").filter(has_text="readme")).to_contain_text("does not fit the pattern")
    page.get_by_role("button", name="Send 4 files").click()
    expect(page.locator("#preview")).to_be_hidden()
    expect(page.locator("#summary")).to_contain_text("4 of 4 stored")
    scans = served.get("scans", dataset=dataset)["items"]
    assert {(scan["subject"], scan["session"], scan["name"]) for scan in scans} == {
        (f"{number:02}", "a", f"{number:02}.tsv") for number in range(1, 5)
    }
    page.get_by_role("button", name="Clear finished").click()
    expect(page.locator("#list > li")).to_have_count(0)


def test_the_memory_of_the_server_does_not_grow_with_a_file(served, dataset):
    """Pieces of 32 MiB, as the page sends them; the last byte stays out, so that nothing is checked."""
    tus = {"Tus-Resumable": "1.0.0"}
    metadata = ",".join(
        f"{key} {b64encode(value.encode()).decode()}" for key, value in (("filename", "a.nii"), ("dataset", dataset))
    )
    begun = httpx.post(
        f"{served.url}/api/v1/uploads",
        headers=tus | {"Upload-Length": str(PIECES * PIECE + 1), "Upload-Metadata": metadata},
    ).raise_for_status()
    before, content = served.memory("VmRSS"), bytes(PIECE)
    for number in range(PIECES):
        headers = tus | {"Upload-Offset": str(number * PIECE), "Content-Type": "application/offset+octet-stream"}
        url = f"{served.url}{begun.headers['location']}"
        httpx.patch(url, headers=headers, content=content, timeout=60).raise_for_status()
    assert served.memory("VmRSS") - before < PIECE
    httpx.delete(url, headers=tus).raise_for_status()


def test_the_page_of_streamlit_shows_it_and_what_came_in(tabs, served, dataset, tmp_path):
    (tmp_path / "events.tsv").write_bytes(b"stim_file\na.png\nb.png\n")
    page = tabs.new_page()
    page.goto(f"{served.url}/?dataset={dataset}")
    page.get_by_text("Larger files, and folders").click()
    frame = page.frame_locator("iframe[src*='pages/upload']")
    expect(frame.get_by_label("Data set")).to_have_value(dataset)
    frame.locator("#files").set_input_files(tmp_path / "events.tsv")
    expect(frame.locator("#list .state")).to_have_text("Stored")
    page.get_by_text("Up to 200 MB each").click()
    expect(page.get_by_role("heading", name=f"In {dataset}")).to_be_visible()
    expect(page.get_by_text("1 subject, 1 file")).to_be_visible()


def test_the_page_runs_without_a_fault_and_by_keyboard(open_page, tabs, tmp_path):
    page, choosers = open_page(theme="dark"), []
    page.on(
        "filechooser", lambda chooser: choosers.append(chooser)
    )  # long before it opens: the browser is told so without being waited for
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 22, 29)"
    (tmp_path / "events.tsv").write_bytes(b"stim_file\na.png\nb.png\n")
    expect(page.locator("#choose-files")).to_be_enabled()
    page.get_by_label("Subject").press("Tab")
    for _ in range(4):
        if page.evaluate("document.activeElement.id") == "choose-files":
            break
        page.keyboard.press("Tab")
    expect(page.locator("#choose-files")).to_be_focused()
    page.keyboard.press("Enter")
    deadline = time.monotonic() + WITHIN_MS / 1000
    while not choosers:
        assert time.monotonic() < deadline, "no dialog opens"
        page.wait_for_timeout(100)
    choosers[0].set_files(tmp_path / "events.tsv")
    expect(row(page, "events.tsv").locator(".state")).to_have_text("Stored")
    assert tabs.faults == []
