"""Betas and stimuli through the page, and the same pictures over HTTP."""

import hashlib
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import expect

from voxelight.storage.formats.betas import read_betas_mat
from voxelight.storage.formats.images import write_png

RECIPE = "Figures and letters from V1"


@pytest.fixture(scope="module")
def recording(shared_data, tmp_path_factory) -> list[Path]:
    """Miyawaki's subject as a person would bring it: a 4-D image, a mask, an events table, and the pictures."""
    folder = tmp_path_factory.mktemp("miyawaki")
    betas, stimuli = read_betas_mat(next((shared_data / "fmri_miyawaki2008").glob("*.mat")))
    series = betas.values.T[:, np.newaxis, np.newaxis, :]
    nib.Nifti1Image(series, np.eye(4)).to_filename(folder / "betas.nii.gz")
    nib.Nifti1Image(np.ones(series.shape[:3], np.uint8), np.eye(4)).to_filename(folder / "V1_mask.nii.gz")
    rows = "".join(f"{name}.png\n" for name in betas.stimulus_ids)
    (folder / "events.tsv").write_text(f"stim_file\n{rows}")
    pictures = [folder / f"{name}.png" for name in stimuli.ids]
    for path, image in zip(pictures, stimuli.images, strict=True):
        write_png(path, image)
    return [folder / "betas.nii.gz", folder / "V1_mask.nii.gz", folder / "events.tsv", *pictures]


def test_decoded_pictures_on_the_page_are_those_over_http(visit, server, recording):
    visit.create_dataset("figures", "Public data, shared for research", "Decode figures and letters")
    visit.upload(*recording)
    expect(visit.page.get_by_text(f"{len(recording)} stored, 0 refused")).to_be_visible(timeout=60_000)
    visit.shoot("upload")
    assert server.get("/api/v1/datasets/figures").json()["scans"] == len(recording)

    visit.submit(RECIPE, "figures")
    expect(visit.card("figures").get_by_text(re.compile("Done$"))).to_be_visible(timeout=visit.ends_within_ms)
    expect(visit.card("figures").get_by_text("20 of 20 done")).to_be_visible()
    assert len(server.get("/api/v1/jobs", dataset="figures").json()["items"]) == 1
    visit.settle()  # the list is drawn once more as a job ends, and a press meanwhile would be lost
    visit.shoot("jobs")
    visit.card("figures").get_by_role("button", name="Open").click()
    expect(visit.page.get_by_role("heading", name="Contact sheet")).to_be_visible()
    expect(visit.page.get_by_text("Model estimate, not a photograph of thought")).to_be_visible()
    visit.shoot("job")

    visit.page.get_by_role("link", name="See its results").click()
    expect(visit.page.get_by_alt_text("Stimulus")).to_have_count(20)
    visit.settle()
    visit.shoot("results-reconstruct")
    shown = visit.page.get_by_test_id("stImage").locator("img").evaluate_all("found => found.map(each => each.src)")
    on_page = {hashlib.sha256(visit.page.request.get(url).body()).hexdigest() for url in shown}
    results = server.get("/api/v1/results", dataset="figures", limit=100).json()["items"]
    pictures = [
        artifact
        for result in results
        for artifact in result["artifacts"]
        if artifact["role"] in ("stimulus", "reconstruction")
    ]
    over_http = {hashlib.sha256(server.get(artifact["url"]).content).hexdigest() for artifact in pictures}
    assert len(pictures) == 40
    assert on_page == over_http == {artifact["sha256"] for artifact in pictures}
