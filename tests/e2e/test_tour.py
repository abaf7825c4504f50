"""The first steps in a browser: from nothing to a label map and to decoded pictures, then put away for good."""

import pytest
from playwright.sync_api import expect


@pytest.mark.timeout(700)
def test_a_newcomer_segments_and_decodes_what_comes_along(visit, server):
    page, patience = visit.page, 300_000  # it takes seconds where no other test works beside it
    visit.open("/about", "About")
    page.get_by_role("button", name="Show the first steps").click()
    tour = page.locator(".st-key-tour")
    expect(tour.get_by_role("heading", name="First steps")).to_be_visible()
    for label in ("Segment the sample", "Decode the sample"):
        tour.get_by_role("button", name=label).click()
        expect(tour.get_by_role("button", name=label)).to_have_count(0, timeout=patience)
    expect(tour.get_by_text("Simulated data")).to_be_visible()
    link = tour.get_by_role("link", name="Look at the label map")
    expect(link).to_be_visible(timeout=patience)
    expect(tour.get_by_role("link", name="See what was decoded")).to_be_visible(timeout=patience)
    visit.shoot("tour-done")
    link.click()
    expect(page.get_by_role("heading", name="Viewer", exact=True, level=1)).to_be_visible()
    expect(page.frame_locator("iframe").get_by_text("hippocampus", exact=False).first).to_be_visible()
    visit.open("/", "Upload")  # a new visit: the browser remembers that the tour was wanted
    tour.get_by_role("link", name="See what was decoded").click()
    expect(page.get_by_role("heading", name="Results", exact=True, level=1)).to_be_visible()
    expect(page.get_by_text("Simulated data").first).to_be_visible()
    jobs = {job["recipe"]: job for job in server.get("/api/v1/jobs").json()["items"]}
    assert (jobs["hippocampus-mni"]["status"], jobs["simulated-ridge"]["status"]) == ("done", "done")
    visit.open("/", "Upload")
    tour.get_by_role("button", name="Put the tour away").click()
    expect(tour).to_have_count(0)
    visit.open("/", "Upload")
    expect(tour).to_have_count(0)
    assert [cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "vx-tour"] == ["away"]
