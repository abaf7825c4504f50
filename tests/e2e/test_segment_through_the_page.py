"""One MRI through page, HTTP and shell: three doors, one label map."""

import hashlib
import json
import re
import time

import httpx
import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_mni152_template
from playwright.sync_api import expect

from voxelight.app.pipelines import find_pipeline

RECIPE = "hippocampus-agunet"


@pytest.fixture(scope="module")
def mri(tmp_path_factory):
    """A crop around the left hippocampus of the T1 template that nilearn ships."""
    template = load_mni152_template(resolution=1)
    i, j, k = np.rint(np.linalg.solve(template.affine, [-26, -21, -14, 1])[:3]).astype(int)
    crop = template.slicer[i - 19 : i + 20, j - 27 : j + 28, k - 19 : k + 20]
    path = tmp_path_factory.mktemp("mri") / "left_T1w.nii.gz"
    nib.save(crop, path)
    return path


@pytest.fixture(scope="module")
def over_http(server, mri):
    """Name and content of the label map that a job asked for over HTTP gave."""
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=60) as client:
        client.post("/datasets", json={"name": "by-http"}).raise_for_status()
        client.put(f"/datasets/by-http/scans/{mri.name}", content=mri.read_bytes()).raise_for_status()
        job = client.post("/jobs", json={"kind": "segment", "recipe": RECIPE, "dataset": "by-http"}).json()
        while client.get(f"/jobs/{job['id']}").json()["status"] in ("queued", "running"):
            time.sleep(0.2)
        result = client.get("/results", params={"job": job["id"]}).json()["items"][0]
        artifact = next(each for each in result["artifacts"] if each["role"] == "label_map")
        return artifact["name"], server.get(artifact["url"]).content


def through_the_page(visit, mri):
    title = next(recipe.title for recipe in find_pipeline("segment").list_recipes(mri.parent) if recipe.name == RECIPE)
    visit.create_dataset("by-page")
    visit.upload(mri)
    expect(visit.page.get_by_text("1 stored, 0 refused")).to_be_visible()
    expect(visit.page.get_by_text("voxels of 1 × 1 × 1 mm").first).to_be_visible()
    visit.shoot("upload-mri")
    visit.submit(title, "by-page")
    expect(visit.card("by-page").get_by_text(re.compile("Done$"))).to_be_visible(timeout=visit.ends_within_ms)
    visit.open("/results?dataset=by-page", "Results")
    expect(visit.page.get_by_role("cell", name="anterior")).to_be_visible()
    expect(visit.page.get_by_alt_text("Labels over")).to_be_visible()
    visit.shoot("results-segment")
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Label map").click()
    return download.value.suggested_filename, download.value.path().read_bytes()


def through_the_shell(server, mri, folder):
    server.run("segment", str(mri), "--recipe", RECIPE, "--out", str(folder))
    path = next(folder.glob("*_dseg.nii.gz"))
    assert json.loads(next(folder.glob("*_dseg.json")).read_text())["VolumesMl"]
    return path.name, path.read_bytes()


def test_page_http_and_shell_give_one_label_map(visit, server, mri, over_http, tmp_path):
    found = {
        "page": through_the_page(visit, mri),
        "http": over_http,
        "shell": through_the_shell(server, mri, tmp_path / "out"),
    }
    assert len({name for name, _ in found.values()}) == 1
    assert len({hashlib.sha256(content).hexdigest() for _, content in found.values()}) == 1


@pytest.mark.usefixtures("over_http")
def test_what_has_worked_is_named_with_its_card(visit):
    visit.open("/models", "Models")
    expect(visit.page.get_by_role("cell", name=RECIPE, exact=True)).to_be_visible()
    card = visit.page.get_by_test_id("stExpander").filter(has_text="Model card").first
    card.locator("summary").click()
    expect(card.get_by_text("Not for clinical use").first).to_be_visible()
    visit.shoot("models")
    visit.open("/about", "About")
    expect(visit.page.get_by_text("It is no medical device")).to_be_visible()
    visit.shoot("about")
