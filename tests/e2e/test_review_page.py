"""Review in a real browser: by keyboard, with comments and progress, the second reader blind to the first."""

import os
import re
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import expect

from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.app.settings import Settings
from voxelight.storage.results import Outcome, OutputFile, record_run

SIDE, CASES = 40, 6
# Read before the fixtures take every such name out of the environment.
SCREENSHOTS = os.environ.get("VOXELIGHT_SCREENSHOTS")


@pytest.fixture(scope="module")
def job(server, tmp_path_factory):
    """A finished segmentation of six small images."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(CASES):
        noise = np.random.default_rng(number).normal(300, 60, (SIDE,) * 3)
        ramp = np.linspace(0, 200, SIDE)[:, None, None]
        nib.save(nib.Nifti1Image((noise + ramp).astype(np.float32), np.eye(4)), folder / f"case{number}.nii.gz")
    server.run("ingest", str(folder), "--dataset", "reviewed", "--create")
    request = {"kind": "segment", "recipe": "hippocampus-agunet", "dataset": "reviewed", "queue": "cpu"}
    answer = httpx.post(f"{server.url}/api/v1/jobs", json=request, timeout=60)
    assert answer.status_code == 201, answer.text
    found = answer.json()["id"]
    server.run("jobs", "watch", found)
    return found


@pytest.fixture(scope="module")
def lesion(server):
    """A simulated lesion at four sessions, as a worker writes its results down; returns the name of the data set."""
    services = open_services(Settings(home=server.home))
    services.datasets.create(DatasetRequest(name="lesion", consent="simulated", purpose="a test", simulated=True))
    apart = np.linalg.norm(np.indices((SIDE,) * 3) - (SIDE - 1) / 2, axis=0)
    radii = {"1": 6.0, "2": 6.1, "3": 7.5, "4": 9.0}
    for session, radius in radii.items():
        noise = np.random.default_rng(int(session)).normal(100, 8, (SIDE,) * 3)
        path = server.home / f"visit{session}.nii"
        nib.save(nib.Nifti1Image((noise + 60 * (apart < radius)).astype(np.float32), np.eye(4)), path)
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="lesion", session=session))
    request = JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="lesion", queue="gpu")  # no worker has it
    for run in services.jobs.list_runs(services.jobs.submit(request).id):
        labels = (apart < radii[run.scan.removeprefix("visit").removesuffix(".nii")]).astype(np.uint8)
        content = nib.Nifti1Image(labels, np.eye(4)).to_bytes()
        files = (OutputFile("label_map", "lesion_dseg.nii", "application/octet-stream", content),)
        outcome = Outcome(files, label_names={1: "lesion"}, volumes_ml={"lesion": float(labels.sum() / 1000)})
        record_run(services.stores, run.id, outcome)
    services.close()
    return "lesion"


@pytest.fixture
def open_review(visit, server, job):
    """Open the review page by itself, as somebody."""

    def opened(reviewer, **more):
        query = "&".join(f"{name}={value}" for name, value in {"job": job, "reviewer": reviewer, **more}.items())
        visit.page.goto(f"{server.url}/api/v1/pages/review?{query}")
        expect(visit.page.locator("main[data-state=ready]")).to_be_visible()
        return visit.page

    return opened


def wait_saved(page, times):
    expect(page.locator(f"main[data-saved='{times}']")).to_be_visible()


def shoot(page, name):
    if SCREENSHOTS:
        page.wait_for_timeout(800)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


def test_a_reader_reviews_by_keyboard_and_sees_how_far(open_review, server, job):
    page = open_review("Ada")
    expect(page.get_by_text(f"0 of {CASES} reviewed")).to_be_visible()
    expect(page.get_by_text(f"Case 1 of {CASES}")).to_be_visible()
    sheet = page.locator(".rv-sheet img")
    expect(sheet).to_be_visible()
    assert sheet.evaluate("image => image.decode().then(() => image.naturalWidth)") > 1000

    page.keyboard.press("c")
    expect(page.get_by_label("Comment")).to_be_focused()
    page.keyboard.type("leaks at the apex, rau")  # letters that are keys elsewhere
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    wait_saved(page, 1)
    expect(page.get_by_text(f"Case 2 of {CASES}")).to_be_visible()
    page.keyboard.press("a")
    wait_saved(page, 2)
    page.keyboard.press("u")
    wait_saved(page, 3)
    expect(page.get_by_text(f"3 of {CASES} reviewed")).to_be_visible()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(page.get_by_text(f"Case 1 of {CASES}")).to_be_visible()
    expect(page.get_by_role("button", name="Reject")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Comment")).to_have_value("leaks at the apex, rau")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="Accept")).to_have_attribute("aria-pressed", "true")

    progress = server.get(f"/api/v1/jobs/{job}/progress", reviewer="Ada").json()
    assert (progress["accept"], progress["reject"], progress["unsure"], progress["total"]) == (1, 1, 1, CASES)
    page.reload()
    expect(page.get_by_text(f"3 of {CASES} reviewed")).to_be_visible()
    expect(page.get_by_text(f"Case 4 of {CASES}")).to_be_visible()


def test_the_second_reader_is_blind_until_the_own_verdict_is_saved(open_review, server, job):
    run = server.get(f"/api/v1/jobs/{job}/cases").json()["items"][0]["run"]
    address = f"{server.url}/api/v1/results/{run}/reviews/Ada"
    httpx.put(address, json={"verdict": "reject", "comment": "leaks at the apex"}).raise_for_status()
    page = open_review("Bob", result=run)
    expect(page.get_by_text("1 other view is hidden until you save yours.")).to_be_visible()
    expect(page.get_by_text("leaks at the apex")).to_have_count(0)
    page.get_by_label("Go on after a verdict").uncheck()
    page.get_by_role("heading", name=re.compile("case0")).click()
    page.keyboard.press("a")
    wait_saved(page, 1)
    expect(page.get_by_text("leaks at the apex")).to_be_visible()
    expect(page.locator("#others")).to_contain_text("Ada: rejected")
    found = server.get(f"/api/v1/jobs/{job}/agreement", first="Ada", second="Bob").json()
    assert found["items"] >= 1
    assert found["differ"][0]["first"] == "reject"


def test_filters_the_convention_and_a_missing_name(open_review):
    page = open_review("Cleo")
    page.get_by_label("Show").select_option("accept")
    expect(page.get_by_text("No case fits this choice")).to_be_visible()
    page.get_by_label("Show").select_option("")
    page.get_by_label("Convention").select_option("radiological")
    expect(page.locator(".rv-sheet img")).to_have_attribute("src", re.compile("convention=radiological"))
    page.get_by_label("Your name").fill("")
    page.get_by_label("Your name").blur()
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_role("alert")).to_contain_text("your name")
    expect(page.get_by_label("Your name")).to_be_focused()


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_its_window_and_is_accessible(open_review, width, server):
    from axe_playwright_python.sync_playwright import Axe

    page = open_review("Dana")
    page.set_viewport_size({"width": width, "height": 900})
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        shoot(page, f"review-alone-{width}-{theme}")
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
        assert not found.response["violations"], found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_pages_show_review_group_report_and_follow_up(visit, job, lesion, width):
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.open(f"/review?job={job}", "Review")
    frame = visit.page.frame_locator("iframe[src*='/pages/review']")
    expect(frame.locator("main[data-state=ready]")).to_be_visible()
    shoot(visit.page, f"review-{width}")
    visit.page.get_by_role("radio", name="Group report").or_(
        visit.page.get_by_role("button", name="Group report")
    ).click()
    report = visit.page.frame_locator("iframe[src*='group.html']")
    expect(report.get_by_role("heading", name="Distributions")).to_be_visible()
    shoot(visit.page, f"group-{width}")
    visit.open(f"/followup?dataset={lesion}", "Follow-up")
    expect(visit.page.get_by_text("nothing was registered")).to_be_visible()
    visit.page.get_by_role("spinbutton", name="Minimal detectable change (%)").fill("12")
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_text("that was stated: 12 %")).to_be_visible()
    rows = visit.page.get_by_role("row").filter(has_text="→")
    expect(rows.nth(0)).to_contain_text("No")
    expect(rows.nth(1)).to_contain_text("Yes")
    expect(visit.page.get_by_test_id("stVegaLiteChart")).to_be_visible()
    visit.settle()
    height = visit.page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    visit.page.set_viewport_size({"width": width, "height": height + 100})
    shoot(visit.page, f"followup-{width}")
