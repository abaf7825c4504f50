"""Pictures from the file to the label map: a small network is trained on simulated discs and used on one more."""

import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from skimage.segmentation import find_boundaries

RECIPE = """
name = "discs"
title = "Simulated discs"
summary = "Bright discs on dark."
network = "segresnet"
weights = "discs"
takes = "picture"
domain = "fluorescence"
spacing_mm = [1.0, 1.0, 1.0]
patch = [32, 32, 1]
mirror_average = false
[config]
in_channels = 1
classes = 3
spatial_dims = 2
filters = 8
blocks_down = [1, 1]
blocks_up = [1]
[labels]
1 = "disc"
2 = "border"
[instances]
inside = 1
border = 2
smallest = 5
[training]
steps = 40
batch = 4
window = [32, 32, 1]
learning_rate = 5e-3
settling = 1
average = 0.9
foreground = 0.8
"""


def draw(number, shape=(40, 52)):
    """A picture (row, column) of three discs, and its discs by number."""
    chance = np.random.default_rng(number)
    rows, columns = np.indices(shape)
    discs = np.zeros(shape, np.uint8)
    for disc, (row, column) in enumerate(((12, 12), (12, 30), (28, 40)), start=1):
        discs[np.hypot(rows - row - chance.uniform(-1, 1), columns - column) < 6.5] = disc
    picture = 30 + 150 * (discs > 0) + chance.normal(0, 8, shape)
    return picture.clip(0, 255).astype(np.uint8), discs


@pytest.fixture
def model(shell, tmp_path):
    for place in ("images", "labels"):
        (tmp_path / "data" / place).mkdir(parents=True)
    for number in range(3):
        picture, discs = draw(number)
        Image.fromarray(picture).save(tmp_path / f"data/images/{number}.png")
        edges = find_boundaries(discs, mode="inner")
        Image.fromarray(np.where(edges, 2, discs > 0).astype(np.uint8)).save(tmp_path / f"data/labels/{number}.png")
    (tmp_path / "discs.toml").write_text(RECIPE)
    words = ("--data", tmp_path / "data", "--out", tmp_path / "out", "--everything", "--device", "cpu")
    shell("train", tmp_path / "discs.toml", *words, "--keep", "my-discs")
    return "my-discs"


def test_a_picture_gives_labels_and_objects_upright(model, ask, tmp_path):
    picture, discs = draw(9)
    (tmp_path / "scans").mkdir()
    Image.fromarray(np.repeat(picture[..., None], 3, axis=2)).save(tmp_path / "scans/one.tif")
    stained = np.stack([picture, picture // 2, 255 - picture], axis=2)
    Image.fromarray(stained).save(tmp_path / "scans/stained.png")
    answer = ask("segment", tmp_path / "scans", "--recipe", model, "--out", tmp_path / "found", code=2)
    assert answer["job"]["failed"] == 1
    labels = np.asarray(Image.open(tmp_path / "found/one_dseg.png"))
    assert Image.open(tmp_path / "found/one_dseg.png").mode == "P"
    stored = np.asarray(nib.load(tmp_path / "found/one_dseg.nii.gz").dataobj)
    np.testing.assert_array_equal(stored[..., 0].T, labels)
    inside = (labels > 0) == (discs > 0)
    assert inside.mean() > 0.93
    objects = np.asarray(Image.open(tmp_path / "found/one_instances.png"))
    assert objects.shape == picture.shape
    centres = [objects[12, 12], objects[12, 30], objects[28, 40]]
    assert len({int(number) for number in centres} - {0}) == 3
    assert json.loads((tmp_path / "found/one_dseg.json").read_text())["LabelNames"] == {"1": "disc", "2": "border"}
    overlay = np.asarray(Image.open(tmp_path / "found/one_overlay.png"))
    assert overlay.std() > 10
    runs = ask("jobs", "runs", answer["job"]["id"], "--status", "failed")
    assert "out of the domain" in json.dumps(runs)


def test_objects_of_two_folders_are_counted(ask, shell, tmp_path):
    for place in ("found", "drawn"):
        (tmp_path / place).mkdir()
    for number in range(2):
        discs = draw(number)[1].astype(np.uint16)
        Image.fromarray(discs).save(tmp_path / f"drawn/{number}.png")
        found = np.where(discs == 3, 0, discs * 100)
        if number:
            found[30:38, 2:10] = 7
        Image.fromarray(found.astype(np.uint16)).save(tmp_path / f"found/{number}_instances.png")
    words = ("--instances", "--found", tmp_path / "found", "--out", tmp_path / "report")
    answer = ask("evaluate", *words, "--references", tmp_path / "drawn")
    told = json.loads((tmp_path / "report/instances.json").read_text())
    assert answer["files"] == [str(tmp_path / "report/instances.json")]
    assert {name: told["pooled"]["0.7"][name] for name in ("tp", "fn", "fp")} == {"tp": 4, "fn": 2, "fp": 1}
    assert told["cases"]["0"]["f1_0.5"] == pytest.approx(0.8, abs=1e-5)
    assert told["mean"]["f1_0.5"]["estimate"] == pytest.approx((0.8 + 2 / 3) / 2, abs=1e-5)
    shell("evaluate", *words, code=2)
    Image.fromarray(discs[:-1]).save(tmp_path / "drawn/1.png")
    told = shell("evaluate", *words, "--references", tmp_path / "drawn", code=2)
    assert "Left out: 1." in told.stderr
    told = json.loads((tmp_path / "report/instances.json").read_text())
    assert (list(told["cases"]), list(told["left_out"])) == (["0"], ["1"])
