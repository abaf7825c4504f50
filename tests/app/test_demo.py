"""The demo runs the main job end to end, on a real recording and on a simulated subject."""

import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import ResultQuery
from voxelight.app.settings import Settings


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo in a process and a home of its own; repeats share the home."""
    home = tmp_path_factory.mktemp("demo") / "home"

    def _demo(*words: object) -> str:
        command = [sys.executable, "-m", "voxelight.app.cli", "--home", str(home), "demo", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"VOXELIGHT_POLL_S": "0.1"})
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    _demo.home = home
    return _demo


def check_unseen(said, home, stimulus):
    """What the tiny profile made of 16 pictures that it had not seen, in a folder for each set of pictures."""
    (out,) = {path.parents[1] for path in home.glob(f"demo/tiny-*/pictures/{stimulus}_reconstruction.png")}
    assert "Unseen pictures from a SIMULATED subject: tiny on demo-tiny-" in " ".join(said.split())
    captions = json.loads((out / "captions.json").read_text())
    assert captions["simulated"]
    assert len(captions["captions"]) == 16
    assert all(each["caption"].startswith("a photo of a ") for each in captions["captions"])
    assert stimulus in {each["stimulus"] for each in captions["captions"]}
    assert len(list((out / "pictures").glob("*_reconstruction.png"))) == 16
    assert (out / "grid.png").stat().st_size > 10_000
    report = (out / "report.html").read_text()
    assert all(column in report for column in ("from true tokens", "from betas", "from shuffled betas"))
    assert "SIMULATED" in report


def test_on_a_real_recording(demo, shared_data):
    said = demo("--data", shared_data)
    assert "a real recording: miyawaki-ridge" in said
    assert "a SIMULATED subject, not measured" not in said
    assert "the average of 152 people: there is no ground truth" in said
    assert "voxelight serve" in said
    out = demo.home / "demo"
    (label_map,) = (out / "hippocampus").glob("*_dseg.nii.gz")
    assert (out / "hippocampus" / label_map.name.replace("_dseg.nii.gz", "_overlay.png")).is_file()
    sidecar = json.loads(label_map.with_name(label_map.name.replace(".nii.gz", ".json")).read_text())
    world = nib.affines.apply_affine(nib.load(label_map).affine, np.argwhere(np.asarray(nib.load(label_map).dataobj)))
    left, right = world[world[:, 0] < 0], world[world[:, 0] > 0]
    np.testing.assert_allclose(left.mean(0), (-26, -21, -14), atol=6)
    np.testing.assert_allclose(right.mean(0), (26, -21, -14), atol=6)
    for side in ("left", "right"):
        assert 1 < sum(ml for name, ml in sidecar["VolumesMl"].items() if side in name) < 5
    assert len(list((out / "miyawaki-ridge/pictures").glob("*.png"))) == 40
    scores = json.loads((out / "miyawaki-ridge/scores.json").read_text())
    two_way = next(row for row in scores["scores"] if row["name"] == "two_way")
    assert two_way["value"] > 0.9 > 0.5 > two_way["null_mean"]
    check_unseen(said, demo.home, "n02124075_443")


def test_on_a_simulated_subject_it_says_so_everywhere_and_stores_no_file_twice(demo):
    said = demo()
    assert "a SIMULATED subject, not measured: simulated-ridge" in said
    check_unseen(said, demo.home, "astronaut-00")
    services = open_services(Settings(home=demo.home))
    results = list(services.results.walk(ResultQuery(kind="reconstruct")))
    simulated = [result for result in results if result.recipe == "simulated-ridge"]
    assert simulated
    assert all(result.simulated for result in simulated)
    names = {dataset.name: dataset for dataset in services.datasets.list().items}
    assert {dataset.consent for name, dataset in names.items() if "simulated" in name} == {"simulated"}
    assert names["demo-template"].scans == 1
    services.close()
