"""Results in a browser: narrowed, sorted, saved under an address, and two jobs beside each other."""

import re
import time

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect
from scipy.io import savemat

STIMULI, REPEATS, VOXELS, SIDE = 6, 3, 40, 8


@pytest.fixture(scope="module")
def jobs(server, tmp_path_factory):
    """Two jobs over one simulated subject; ids."""
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 255, size=(STIMULI, SIDE * SIDE), dtype=np.uint8)
    shown = np.tile(np.arange(STIMULI), REPEATS)
    responses = pictures[shown] / 255 @ rng.normal(size=(SIDE * SIDE, VOXELS))
    noise = 0.1 * rng.normal(size=responses.shape)
    path = tmp_path_factory.mktemp("betas") / "betas.mat"
    savemat(path, {"fmriTrn": (responses + noise).astype(np.float32), "stimTrn": pictures[shown]})
    body = {"name": "compared", "consent": "simulated", "purpose": "tests", "simulated": True}
    found = []
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=60) as client:
        client.post("/datasets", json=body).raise_for_status()
        client.put("/datasets/compared/scans/betas.mat", content=path.read_bytes()).raise_for_status()
        for seed in (0, 1):
            asked = {"kind": "reconstruct", "recipe": "miyawaki-ridge", "dataset": "compared", "queue": "cpu"}
            asked |= {"seed": seed, "options": {"permutations": 19}}
            job = client.post("/jobs", json=asked).json()
            while client.get(f"/jobs/{job['id']}").json()["status"] in ("queued", "running"):
                time.sleep(0.2)
            found.append(job["id"])
    return found


def shown_items(visit):
    """Results on the page."""
    return visit.page.locator("[class*='st-key-result-']")


def test_results_are_narrowed_sorted_and_saved(visit, server, jobs):
    visit.open(f"/results?job={jobs[0]}", "Results")
    expect(shown_items(visit)).to_have_count(STIMULI)
    visit.choose("Sort by", "two_way, lowest first")
    expected = server.get("/api/v1/results", job=jobs[0], sort="two_way").json()["items"]
    expect(shown_items(visit).first).to_contain_text(expected[0]["item"])
    visit.page.get_by_text("More conditions").click()
    scores = visit.page.get_by_role("textbox", name="Scores")
    scores.fill("pixel_correlation:2..")
    scores.press("Enter")
    expect(visit.page.get_by_text("No result fits this filter")).to_be_visible()
    scores.fill("pixel_correlation:-1..1")
    scores.press("Enter")
    expect(shown_items(visit)).to_have_count(STIMULI)
    visit.settle()
    visit.page.get_by_role("button", name="Save this search").click()
    visit.page.get_by_role("textbox", name="Title").fill("Worst first")
    visit.page.get_by_role("button", name="Save", exact=True).click()
    expect(visit.page.get_by_text("/results?search=worst-first")).to_be_visible()
    saved = server.get("/api/v1/searches/worst-first").json()["query"]
    assert (saved["sort"], saved["metric"]) == ("two_way", ["pixel_correlation:-1..1"])
    visit.shoot("results-saved-search")
    somebody = type(visit)(visit.page.context.browser.new_page(), server)  # who was never here
    somebody.open("/results?search=worst-first", "Results")
    expect(somebody.page.get_by_role("textbox", name="Scores")).to_have_value("pixel_correlation:-1..1")
    expect(shown_items(somebody).first).to_contain_text(expected[0]["item"])
    somebody.open(f"/results?job={jobs[0]}&sort=two_way&kind=reconstruct", "Results")  # as HTTP has it
    expect(shown_items(somebody).first).to_contain_text(expected[0]["item"])
    expect(somebody.page).to_have_url(re.compile("kind=Reconstruction"))
    somebody.open("/results?dataset=gone", "Results")
    expect(somebody.page.get_by_text("No result fits this filter")).to_be_visible()
    somebody.page.close()
    visit.open("/results?search=worst-first", "Results")
    expect(visit.page.get_by_role("textbox", name="Scores")).to_have_value("pixel_correlation:-1..1")
    expect(shown_items(visit).first).to_contain_text(expected[0]["item"])
    expect(shown_items(visit)).to_have_count(STIMULI)


def test_two_jobs_stand_side_by_side(visit, server, jobs):
    visit.open(f"/compare?a={jobs[0]}&b={jobs[1]}", "Compare")
    found = server.get("/api/v1/compare", a=jobs[0], b=jobs[1]).json()
    expect(visit.page.get_by_role("heading", name="Differences")).to_be_visible()
    expect(visit.page.get_by_role("cell", name="Two way", exact=True)).to_be_visible()
    expect(visit.page.get_by_text(f"{found['matched']} items in both")).to_be_visible()
    pairs = visit.page.locator("[class*='st-key-pair-']")
    expect(pairs).to_have_count(min(6, found["matched"]))
    expect(pairs.first.get_by_role("img")).to_have_count(3)
    visit.shoot("compare")
