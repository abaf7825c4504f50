"""torchrun on the command that people type: the recipe, its files and its curve are those of one process."""

import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from safetensors.torch import load_file

STEPS = 4


@pytest.fixture
def balls(tmp_path):
    """Four simulated cases of a bright ball."""
    at = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"))
    for number in range(4):
        random = np.random.default_rng(number)
        labels = (np.square(at - random.uniform(6, 10, 3)[:, None, None, None]).sum(axis=0) < 20).astype(np.uint8)
        image = (labels * 2 + 0.3 * random.standard_normal(labels.shape)).astype(np.float32)
        for place, array in (("images", image), ("labels", labels)):
            (tmp_path / "balls" / place).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "balls" / place / f"ball{number}.nii.gz")
    return tmp_path / "balls"


def test_two_processes_train_a_recipe_as_one_does(ask, home, balls, tmp_path):
    planned = tmp_path / "ball.toml"
    words = ("--network", "segresnet", "--width", 8, "--steps", STEPS, "--label", "1=ball")
    ask("plan", balls, "--out", planned, *words)
    told = planned.read_text()
    assert 'loss = "dice_ce"' in told
    planned.write_text(told.replace('loss = "dice_ce"', 'loss = "dice_ce_case"'))  # each Dice is of one window
    train = ["train", str(planned), "--data", str(balls), "--device", "cpu", "--training", "batch=2"]
    ask(*train, "--out", tmp_path / "one")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               "-m", "voxelight.app.cli", "--home", str(home), *train, "--out", str(tmp_path / "two")]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=home.parent, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    one, two = ({path.name for path in (tmp_path / name).iterdir() if path.is_file()} for name in ("one", "two"))
    assert one == two
    curves = [(tmp_path / name / "ball_curve.csv").read_text().splitlines() for name in ("one", "two")]
    assert len(curves[0]) == len(curves[1]) == STEPS + 1
    at = curves[0][0].split(",").index("loss")
    losses = [[float(row.split(",")[at]) for row in curve[1:]] for curve in curves]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    weights = [load_file(tmp_path / name / "ball.safetensors") for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name].float(), value.float(), atol=2e-3, rtol=1e-2)
    recipes = [json.loads((tmp_path / name / "ball_scores.json").read_text())["recipe"] for name in ("one", "two")]
    assert recipes[0] == recipes[1]
