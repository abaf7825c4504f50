"""Explore and deletion in a real browser: what is dropped finds what is stored, and what is deleted is gone."""

import numpy as np
import pytest
from playwright.sync_api import expect

from voxelight.storage.formats.images import write_png

NAMES = ("red-house", "blue-boat", "old-tree")


@pytest.fixture(scope="module")
def pictures(server, tmp_path_factory):
    """Three pictures in a data set, and their files."""
    folder = tmp_path_factory.mktemp("explore")
    for seed, name in enumerate(NAMES):
        coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3))
        write_png(folder / f"{name}.png", np.kron(coarse, np.ones((16, 16, 1))).astype(np.uint8))
    paths = [folder / f"{name}.png" for name in NAMES]
    server.run("datasets", "create", "explored")
    server.run("ingest", *map(str, paths), "--dataset", "explored")
    return paths


def test_a_dropped_picture_and_words_find_what_is_stored(visit, server, pictures):
    visit.open("/explore?text=old+tree", "Explore")
    expect(visit.page.get_by_text("old-tree.png", exact=False).first).to_be_visible()
    visit.shoot("explore-words")
    visit.page.get_by_role("radio", name="A picture").or_(visit.page.get_by_text("A picture", exact=True)).first.click()
    visit.settle()
    visit.page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(pictures[1])
    found = visit.page.get_by_alt_text("Uploads: ")
    expect(found.first).to_have_attribute("alt", "Uploads: blue-boat.png")
    expect(visit.page.get_by_text("1.000", exact=False).first).to_be_visible()
    visit.shoot("explore-picture")
    visit.page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(
        {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    expect(visit.page.get_by_text("What to do:")).to_be_visible()


def test_a_deleted_data_set_is_gone_from_page_http_and_search(visit, server, pictures):
    visit.open("/?dataset=explored", "Upload")
    visit.page.get_by_text("Delete this data set", exact=True).click()
    expect(visit.page.get_by_text("This goes for good:")).to_be_visible()
    visit.shoot("delete")
    visit.page.get_by_role("textbox", name="Type explored to confirm").fill("explore")
    visit.page.get_by_role("button", name="Delete for good").click()
    expect(visit.page.get_by_text("no confirmation").or_(visit.page.get_by_text("the confirmation"))).to_be_visible()
    visit.page.get_by_role("textbox", name="Type explored to confirm").fill("explored")
    visit.page.get_by_role("textbox", name="Your name").fill("Ada")
    visit.page.get_by_role("button", name="Delete for good").click()
    expect(visit.page.get_by_text("Deleted dataset explored")).to_be_visible()
    with visit.page.expect_download() as downloading:
        visit.page.get_by_role("button", name="Receipt").click()
    assert downloading.value.suggested_filename.startswith("receipt-")
    visit.shoot("deleted")
    assert "explored" not in [dataset["name"] for dataset in server.get("/api/v1/datasets").json()["items"]]
    [receipt] = server.get("/api/v1/receipts").json()["items"]
    assert (receipt["name"], receipt["author"], receipt["counts"]["scans"]) == ("explored", "Ada", len(NAMES))
    blobs = {path.name for path in (server.home / "blobs").rglob("*") if path.is_file()}
    assert not blobs & set(receipt["sha256s"])
