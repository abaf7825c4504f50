"""Decoded pictures on the page in a browser: samples and controls, the map, the evaluation, and results taken home."""

import io
import json
import subprocess
import sys
import time
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pypdf
import pytest
from PIL import Image
from playwright.sync_api import expect

from voxelight.storage.formats.images import encode_png

STIMULI, REPEATS, SIDE = 6, 3, 3
DONE_WITHIN_MS = 120_000


@pytest.fixture(scope="module")
def placed(tmp_path_factory) -> list[Path]:
    """A simulated subject: betas in MNI152 whose left half answers to the pictures."""
    folder, rng = tmp_path_factory.mktemp("placed"), np.random.default_rng(0)
    affine = np.array([[4.0, 0, 0, -90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]])
    inside = np.zeros((46, 55, 46), np.uint8)
    inside[18:28, 6:10, 16:20] = 1
    pictures = rng.integers(0, 2, (STIMULI, SIDE * SIDE)).astype(float)
    shown = np.tile(np.arange(STIMULI), REPEATS)
    place = np.argwhere(inside)
    weights = rng.normal(size=(SIDE * SIDE, len(place))) * (place[:, 0] < 23)
    series = np.zeros((*inside.shape, len(shown)), np.float32)
    series[inside > 0] = (pictures[shown] @ weights + 0.5 * rng.normal(size=(len(shown), len(place)))).T
    for name, array in (("betas.nii.gz", series), ("mask.nii.gz", inside)):
        image = nib.Nifti1Image(array, affine)
        image.set_sform(affine, "mni")
        nib.save(image, folder / name)
    (folder / "events.tsv").write_text("stim_file\tsession\n" + "".join(f"s{number}.png\t1\n" for number in shown))
    for number, picture in enumerate(pictures):
        square = (picture.reshape(SIDE, SIDE) * 255).astype(np.uint8)[..., None]
        (folder / f"s{number}.png").write_bytes(encode_png(square))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def job(server, placed) -> dict[str, Any]:
    """The subject decoded by the server's worker."""
    consent = ("--consent", "simulated", "--purpose", "a test", "--simulated")
    server.run("ingest", *map(str, placed), "--dataset", "gallery", "--create", *consent)
    words = ("--recipe", "miyawaki-ridge", "--queue", "cpu", "--option", "permutations=19", "--json")
    identity = json.loads(server.run("jobs", "submit", "gallery", *words).stdout)["id"]
    for _ in range(600):
        job = server.get(f"/api/v1/jobs/{identity}").json()
        if job["status"] not in ("queued", "running"):
            break
        time.sleep(0.2)
    assert job["status"] == "done"
    return job


def test_samples_controls_map_and_evaluation_stand_on_one_page(visit, server, job):
    page = visit.page
    visit.open(f"/results?job={job['id']}", "Results")
    expect(page.get_by_alt_text("Stimulus")).to_have_count(STIMULI)
    expect(page.get_by_alt_text("Reconstruction")).to_have_count(STIMULI)
    expect(page.get_by_alt_text("Control, from other betas")).to_have_count(STIMULI)
    expect(page.get_by_text("Model estimate, not a photograph of thought").first).to_be_visible()
    visit.shoot("gallery")

    page.get_by_text("Where the decoder looks", exact=True).click()
    page.get_by_role("button", name="Map it").click()
    glass = page.get_by_alt_text("Map of relevance glass")
    expect(glass).to_be_visible(timeout=DONE_WITHIN_MS)
    expect(page.get_by_alt_text("Map of relevance surface")).to_be_visible()
    drawn = Image.open(io.BytesIO(page.request.get(glass.get_attribute("src")).body())).convert("RGB")
    colours = np.asarray(drawn, int)
    assert (colours[..., 0] - colours[..., 2] > 90).sum() > 200  # yellow: voxels that answer
    expect(page.get_by_text("MNI152 space").first).to_be_visible()
    visit.shoot("relevance")

    page.get_by_text("Evaluation", exact=True).click()
    page.get_by_role("textbox", name="Sessions of the training").fill("one, simulated")
    draws = page.get_by_role("spinbutton", name="Draws of the null")
    draws.fill("19")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    expect(page.get_by_text("Guard-rails:")).to_be_visible(timeout=DONE_WITHIN_MS)
    report = page.frame_locator("iframe[title='The whole report'], iframe").first
    expect(report.get_by_text("SIMULATED").first).to_be_visible()
    expect(report.get_by_role("heading", name="Guard-rails")).to_be_attached()
    visit.settle()
    visit.shoot("evaluation")
    told = server.get(f"/api/v1/jobs/{job['id']}/evaluation").json()
    assert told["status"] == "done"
    assert told["options"]["sessions"] == "one, simulated"


class Addresses(HTMLParser):
    """Collects every address that a page would ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href", "data", "srcset")]


def save(visit, label: str, folder: Path) -> Path:
    with visit.page.expect_download(timeout=DONE_WITHIN_MS) as download:
        visit.page.get_by_role("link", name=label).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_an_export_is_taken_home_and_other_programs_read_it(visit, job, tmp_path):
    visit.open(f"/results?job={job['id']}", "Results")
    visit.page.get_by_test_id("stMain").get_by_role("link", name="Export", exact=True).first.click()
    expect(visit.page.get_by_role("heading", name="Export", level=1)).to_be_visible()
    expect(visit.page.get_by_text(f"{STIMULI} results", exact=True)).to_be_visible()
    visit.settle()
    visit.shoot("export")

    archive = save(visit, "Download the archive", tmp_path)
    assert archive.name == "voxelight-archive.zip"
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        opened.extractall(tmp_path / "out")
    validator = Path(sys.executable).with_name("bids-validator-deno")
    found = subprocess.run([validator, tmp_path / "out/bids", "--json"], capture_output=True, text=True, timeout=120)
    issues = json.loads(found.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert len(list((tmp_path / "out/bids/decoded").rglob("*_reconstruction.png"))) == STIMULI
    assert list((tmp_path / "out/pictures").rglob("grid-001.png"))
    assert (tmp_path / "out/CITATIONS.txt").read_text()

    html = save(visit, "Report as HTML", tmp_path)
    reader = Addresses()
    reader.feed(html.read_text())
    assert all(address.startswith("data:") for address in reader.found)
    alone = visit.page.context.browser.new_page()
    asked: list[str] = []
    alone.on("request", lambda request: asked.append(request.url))
    alone.goto(html.as_uri())
    assert "Not for clinical use." in alone.inner_text("body")
    assert alone.evaluate("[...document.images].every(each => each.naturalWidth > 0)")
    alone.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []

    pdf = pypdf.PdfReader(save(visit, "Report as PDF", tmp_path))
    assert job["id"] in "".join(each.extract_text() for each in pdf.pages)
    table = pd.read_parquet(save(visit, "Scores as Parquet", tmp_path))
    text = pd.read_csv(save(visit, "Scores as CSV", tmp_path))
    assert len(table) == len(text)
    stored = {metric["name"]: metric["value"] for metric in job["metrics"]}
    of_job = table[table["level"] == "job"].set_index("metric")["value"].to_dict()
    assert of_job == pytest.approx(stored)
