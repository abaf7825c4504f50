"""A person and many jobs: progress and log as they go, cancel, one item again, a copy, the order, a notice."""

import json
import re
import time

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect
from scipy.io import savemat

STIMULI, VOXELS, SIDE = 80, 2500, 32


@pytest.fixture(scope="module")
def slow_betas(tmp_path_factory):
    """Betas that keep a worker busy for long enough to look at it: noise, so simulated."""
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("slow") / "noise.mat"
    pictures = rng.integers(0, 255, size=(STIMULI, SIDE * SIDE), dtype=np.uint8)
    savemat(path, {"fmriTrn": rng.normal(size=(STIMULI, VOXELS)).astype(np.float32), "stimTrn": pictures})
    return path


@pytest.fixture(scope="module")
def quick_betas(tmp_path_factory):
    """Betas that are decoded within moments."""
    rng = np.random.default_rng(6)
    pictures = rng.integers(0, 255, size=(6, 64), dtype=np.uint8)
    shown = np.tile(np.arange(6), 2)
    path = tmp_path_factory.mktemp("quick") / "quick.mat"
    savemat(path, {"fmriTrn": rng.normal(size=(12, 40)).astype(np.float32), "stimTrn": pictures[shown]})
    return path


@pytest.fixture(autouse=True)
def nothing_left(server):
    """No job of one test keeps those of the next waiting."""
    yield
    for job in server.get("/api/v1/jobs", status=["queued", "running"]).json()["items"]:
        httpx.post(f"{server.url}/api/v1/jobs/{job['id']}/cancel")


def store(server, name, path):
    """A data set that may be decoded, with one file in it."""
    create = ("--create", "--consent", "simulated", "--purpose", "Try out", "--simulated")
    server.run("ingest", str(path), "--dataset", name, *create)


def order(server, dataset, *more):
    """Submit a job from the shell; return its id."""
    words = ("jobs", "submit", dataset, "--recipe", "miyawaki-ridge", "--queue", "cpu", "--option", "permutations=0")
    return json.loads(server.run(*words, *more, "--json").stdout)["id"]


def wait(server, job, until, seconds=180):
    deadline = time.monotonic() + seconds
    while not until(found := server.get(f"/api/v1/jobs/{job}").json()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def test_a_job_is_followed_line_by_line_and_stopped(visit, server, slow_betas):
    store(server, "busy", slow_betas)
    job = order(server, "busy")
    wait(server, job, lambda found: found["done"] >= 1)
    visit.open(f"/jobs?job={job}", "Job")
    page = visit.page
    log = page.get_by_test_id("stCode").last
    assert server.get(f"/api/v1/jobs/{job}/log", limit=1).json()["items"][0]["message"] == (
        f"Submitted with {STIMULI} items on queue cpu."
    )
    expect(log).to_contain_text("done in")
    before = log.inner_text().splitlines()[-1]
    expect(page.get_by_text(re.compile(r"about .* of work left"))).to_be_visible()
    places = [page.locator("[class*='st-key-log-']").first.bounding_box()]
    deadline = time.monotonic() + 180
    while log.inner_text().splitlines()[-1] == before:
        assert time.monotonic() < deadline, "the log stands still"
        page.wait_for_timeout(300)
    places.append(page.locator("[class*='st-key-log-']").first.bounding_box())
    assert places[0] == places[1], "the page does not jump while it is followed"
    visit.shoot("job-running")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()
    expect(log).to_contain_text(re.compile(rf"Cancelled with \d+ of {STIMULI} items done"))
    ended = server.get(f"/api/v1/jobs/{job}").json()
    assert ended["status"] == "cancelled"
    assert 1 <= ended["done"] < STIMULI


def test_jobs_in_line_are_put_forward_and_one_item_is_repeated(visit, server, slow_betas, quick_betas):
    store(server, "line", slow_betas)
    store(server, "small", quick_betas)
    first = order(server, "line")
    second, third = order(server, "small"), order(server, "small")
    visit.open("/jobs", "Jobs")
    page = visit.page
    cards = page.locator("[class*='st-key-job-']").filter(has_text=" on small")
    expect(cards.nth(0)).to_contain_text("2nd in line")
    expect(cards.nth(1)).to_contain_text("next in line")
    visit.shoot("jobs-in-line")
    cards.nth(0).get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", name="Job", exact=True, level=1)).to_be_visible()
    visit.choose("Priority", "Highest")
    expect(page.get_by_text("next in line", exact=False)).to_be_visible()
    assert server.get(f"/api/v1/jobs/{third}").json()["place"] == 1
    server.run("jobs", "cancel", second)
    server.run("jobs", "cancel", first)
    wait(server, third, lambda found: found["status"] == "done")

    visit.open(f"/jobs?job={second}", "Job")
    page.get_by_label("Run again only").click()
    chosen = server.get(f"/api/v1/jobs/{second}/runs").json()["items"][2]["item"]
    page.get_by_role("option", name=chosen, exact=True).click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Retry 1 item").click()
    ended = wait(server, second, lambda found: found["attempt"] == 2 and found["status"] not in ("queued", "running"))
    assert (ended["status"], ended["done"], ended["total"]) == ("cancelled", 1, 6)
    runs = server.get(f"/api/v1/jobs/{second}/runs").json()["items"]
    assert [run["status"] for run in runs].index("done") == 2


def test_a_copy_starts_from_its_job_and_a_notice_says_on_another_page_that_it_ended(visit, server, quick_betas):
    store(server, "copied", quick_betas)
    first = order(server, "copied", "--seed", "5")
    wait(server, first, lambda found: found["status"] == "done")
    visit.open("/jobs", "Jobs")
    page = visit.page
    visit.card("copied").get_by_role("button", name="Copy").click()
    expect(page.get_by_text("A copy of miyawaki-ridge on copied")).to_be_visible()
    expect(page.get_by_role("spinbutton", name="Seed")).to_have_value("5")
    page.get_by_role("spinbutton", name="Seed").fill("6")
    page.keyboard.press("Tab")
    visit.settle()
    visit.shoot("job-copy")
    page.get_by_role("button", name="Submit job").click()
    expect(page.get_by_text("Submitted: follow it in the list.")).to_be_visible()
    page.get_by_role("link", name="Models", exact=True).first.click()
    toast = page.get_by_test_id("stToast").filter(has_text="miyawaki-ridge on copied: done, 6 of 6 done.")
    expect(toast).to_be_visible(timeout=visit.ends_within_ms)
    copy = server.get("/api/v1/jobs", dataset="copied").json()["items"][0]
    assert (copy["cloned_from"], copy["seed"], copy["options"]) == (first, 6, {"permutations": 0})


def test_a_press_counts_though_the_job_ends_while_it_lasts(visit, server, quick_betas):
    store(server, "pressed", quick_betas)
    visit.submit("Figures and letters from V1", "pressed")
    page, card = visit.page, visit.card("pressed")
    opens = card.get_by_role("button", name="Open")
    opens.hover()
    page.mouse.down()
    expect(page.get_by_test_id("stToast").filter(has_text="miyawaki-ridge on pressed: done")).to_be_visible()
    expect(card).to_contain_text("6 of 6 done, took")
    page.keyboard.press("r")  # the whole page anew, now that no job is waited for
    page.wait_for_timeout(2500)
    visit.settle()
    page.mouse.up()
    expect(page.get_by_role("heading", name="Job", exact=True, level=1)).to_be_visible()


def test_the_browser_notifies_where_a_person_allowed_it(visit, server, quick_betas):
    store(server, "told", quick_betas)
    visit.page.context.grant_permissions(["notifications"], origin=server.url)
    # The titles are written down on their way to the browser's own notifications.
    visit.page.add_init_script(
        """window.told = []; const Own = window.Notification;
        window.Notification = class extends Own {
          constructor(title, options) { super(title, options); window.told.push(title); }
        };"""
    )
    visit.open("/jobs", "Jobs")
    frame = visit.page.frame_locator("iframe[src*='/pages/notify']")
    frame.get_by_label("Notify me in this browser when a job ends").check()
    inside = next(frame for frame in visit.page.frames if "/pages/notify" in frame.url)
    job = order(server, "told")
    wait(server, job, lambda found: found["status"] == "done")
    deadline = time.monotonic() + 90  # asked again and again: the page's policy forbids what waits by itself
    while not inside.evaluate("window.told"):
        assert time.monotonic() < deadline, "nothing was told"
        visit.page.wait_for_timeout(300)
    assert inside.evaluate("window.told") == ["miyawaki-ridge on told: done"]
