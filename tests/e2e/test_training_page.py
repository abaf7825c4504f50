"""A person starts a training in the browser, watches its curve grow, and finds the model that came out."""

import httpx
import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import expect

ENDS_WITHIN_MS = 200_000


@pytest.fixture(scope="module")
def cases(shared_data, tmp_path_factory):
    """Four real hippocampi with their label maps, called as a data set of the installation wants them."""
    source, folder = shared_data / "msd_task04_hippocampus", tmp_path_factory.mktemp("cases")
    found = []
    for number, path in enumerate(sorted((source / "images").glob("*.nii.gz"))[:4]):
        for place, ending in (("images", ""), ("labels", "_dseg")):
            image = nib.load(source / place / path.name)
            kind = np.uint8 if ending else np.float32
            copy = folder / f"p{number}" / f"hippocampus{ending}.nii.gz"
            copy.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(np.asarray(image.dataobj).astype(kind), image.affine), copy)
            found.append((copy, f"p{number}"))
    return found


def test_a_training_from_the_form_to_the_model(server, visit, cases):
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=60) as client:
        client.post("/datasets", json={"name": "hippocampi"}).raise_for_status()
        for path, person in cases:
            place = f"/datasets/hippocampi/scans/{path.name}"
            client.put(place, params={"subject": person}, content=path.read_bytes()).raise_for_status()
    visit.open("/training", "Training")
    visit.page.get_by_label("Labels").fill("1=anterior, 2=posterior")
    visit.page.get_by_label("Labels").press("Enter")
    visit.page.get_by_label("Name of the model").fill("from-the-page")
    visit.page.get_by_label("Name of the model").press("Enter")
    visit.page.get_by_text("Network, steps, seed and queue").click()
    visit.choose("Network", "segresnet")
    visit.page.get_by_label("Gradient steps").fill("6")
    visit.page.get_by_label("Gradient steps").press("Enter")
    visit.settle()
    visit.shoot("training-form")
    visit.page.get_by_role("button", name="Start training").click()
    expect(visit.page.get_by_text("fold 0: running")).to_be_visible(timeout=ENDS_WITHIN_MS)
    expect(visit.page.get_by_text("from-the-page can be named in a segmentation now")).to_be_visible(
        timeout=ENDS_WITHIN_MS
    )
    expect(visit.page.get_by_text("step 6 of 6")).to_be_visible()
    expect(visit.page.locator("[data-testid=stVegaLiteChart]").first).to_be_visible()
    visit.settle()
    visit.shoot("training-done")
    names = [recipe["name"] for recipe in server.get("/api/v1/recipes").json()["items"]]
    assert "from-the-page" in names
    job = next(each for each in server.get("/api/v1/jobs").json()["items"] if each["kind"] == "train-segmenter")
    curve = server.get(f"/api/v1/jobs/{job['id']}/curve").json()["items"][0]
    assert [point["step"] for point in curve["points"]] == list(range(6))
