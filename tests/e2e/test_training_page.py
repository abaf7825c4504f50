"""A person starts a training in the browser, watches it and stops it; it can be resumed."""

import httpx
import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import expect

ENDS_WITHIN_MS = 200_000


@pytest.fixture(scope="module")
def cases(shared_data, tmp_path_factory):
    """The middle of four real hippocampi with their label maps, called as a data set of the installation wants them."""
    source, folder = shared_data / "msd_task04_hippocampus", tmp_path_factory.mktemp("cases")
    found = []
    for number, path in enumerate(sorted((source / "images").glob("*.nii.gz"))[:4]):
        for place, ending in (("images", ""), ("labels", "_dseg")):
            image = nib.load(source / place / path.name)
            low = [side // 2 - 8 for side in image.shape]  # its middle is enough to look at a curve
            image = image.slicer[tuple(slice(at, at + 16) for at in low)]
            kind = np.uint8 if ending else np.float32
            copy = folder / f"p{number}" / f"hippocampus{ending}.nii.gz"
            copy.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(np.asarray(image.dataobj).astype(kind), image.affine), copy)
            found.append((copy, f"p{number}"))
    return found


def test_a_training_is_started_and_stopped_in_the_browser(server, visit, cases):
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
    visit.settle()
    visit.page.get_by_text("Network, steps, seed and queue").click()
    visit.choose("Network", "segresnet")
    visit.choose("Start from", "hippocampus-agunet")
    visit.page.get_by_role("button", name="Start training").click()
    expect(visit.page.get_by_text("weights of agunet, to start a training of segresnet")).to_be_visible()
    visit.choose("Start from", "Fresh weights")
    visit.page.get_by_label("Gradient steps").fill("6")
    visit.page.get_by_label("Gradient steps").press("Enter")
    visit.settle()
    visit.shoot("training-form")
    visit.page.get_by_role("button", name="Start training").click()
    expect(visit.page.get_by_text("fold 0: running")).to_be_visible(timeout=ENDS_WITHIN_MS)
    visit.shoot("training-runs")
    visit.page.get_by_role("button", name="Stop").click()
    expect(visit.page.get_by_role("button", name="Resume")).to_be_visible(timeout=ENDS_WITHIN_MS)
    visit.shoot("training-stopped")
    job = next(each for each in server.get("/api/v1/jobs").json()["items"] if each["kind"] == "train-segmenter")
    assert (job["status"], job["model"], job["options"]["steps"]) == ("cancelled", "from-the-page", 6)
    [curve] = server.get(f"/api/v1/jobs/{job['id']}/curve").json()["items"]
    assert (curve["item"], curve["steps"]) == ("fold 0", 6)
