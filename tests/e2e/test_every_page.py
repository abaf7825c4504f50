"""The frame of every page, at addresses that are opened first of all."""

import pytest
from playwright.sync_api import expect

PAGES = [("/results", "Results"), ("/jobs", "Jobs"), ("/models", "Models"), ("/about", "About"), ("/", "Upload")]


@pytest.mark.parametrize(("path", "title"), PAGES)
def test_an_address_opens_its_page_within_the_frame(path, title, visit):
    visit.open(path, title)
    expect(visit.page.get_by_role("note")).to_contain_text("Not for clinical use.")
    expect(visit.page.get_by_role("link", name="Results", exact=True).first).to_be_visible()
    visit.shoot(f"empty-{title.lower()}")


def test_an_address_of_no_job_finds_nothing_in_words(visit):
    visit.open("/results?job=%00%F0%9F%A7%A0", "Results")
    expect(visit.page.get_by_text("No result fits this filter")).to_be_visible()
    expect(visit.page.get_by_text("Traceback")).to_have_count(0)


def test_what_about_links_to_answers(visit, server):
    visit.open("/about", "About")
    links = visit.page.get_by_role("link", name="/api/").all()
    assert links
    for link in links:
        assert server.get(link.get_attribute("href")).json()
