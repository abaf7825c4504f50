"""A linear decoder in the shell: targets of pictures, a fit, predictions from a single trial."""

import numpy as np
import pytest

from voxelight.storage.formats.images import encode_png


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Sixteen flat pictures, and three trials of betas each that tell their colours; simulated."""
    folder, random = tmp_path_factory.mktemp("recorded"), np.random.default_rng(0)
    colours = random.random((16, 3))
    (folder / "pictures").mkdir()
    for row, colour in enumerate(colours):
        image = np.broadcast_to(np.round(colour * 255), (70, 70, 3)).astype(np.uint8)
        (folder / "pictures" / f"p{row:02d}.png").write_bytes(encode_png(image))
    rows = random.permutation(np.repeat(np.arange(16), 3))
    betas = 20 * colours[rows] @ random.normal(size=(3, 50)) + random.normal(size=(48, 50)) + 5
    np.save(folder / "betas.npy", betas.astype(np.float32))
    (folder / "stimuli.txt").write_text("".join(f"p{row:02d}\n" for row in rows))
    return folder, colours, rows


def test_small_pictures_are_fitted_and_predicted_from_one_trial(ask, shell, recorded, tmp_path):
    folder, colours, rows = recorded
    assert {row["name"] for row in ask("linear", "list")} == {
        "brain-captioning", "brain-captioning-large", "brain-diffuser", "linear-random-small",
    }  # fmt: skip
    ask("linear", "targets", "brain-captioning", "pixels-64", folder / "pictures", tmp_path / "targets")
    facts = ask(
        "linear", "fit", "brain-captioning", folder / "betas.npy", folder / "stimuli.txt", tmp_path / "decoder",
        "--targets", "pixels-64", tmp_path / "targets", "--simulated",
    )  # fmt: skip
    assert (facts["trials"], facts["stimuli"], facts["voxels"]) == (48, 16, 50)
    assert (facts["rescaled"], facts["simulated"]) == (True, True)
    assert facts["spaces"]["pixels-64"] == {"shape": [64, 64, 3], "alphas": [5e4]}
    one = np.load(folder / "betas.npy")[:1]
    np.save(tmp_path / "one.npy", one)
    asked = ("linear", "predict", tmp_path / "decoder", tmp_path / "one.npy", "pixels-64", tmp_path / "one.npz")
    ask(*asked)
    with np.load(tmp_path / "one.npz") as found:
        assert found["values"].shape == (1, 64, 64, 3)
        seen = found["values"].mean(axis=(0, 1, 2))
    assert np.abs(seen - colours[rows[0]]).max() < 0.25, "in the spread of the targets, though alpha shrinks by far"
    ask(
        "linear", "predict", tmp_path / "decoder", folder / "betas.npy", "pixels-64", tmp_path / "all.npz",
        "--stimuli", folder / "stimuli.txt",
    )  # fmt: skip
    with np.load(tmp_path / "all.npz") as found:
        assert sorted(found["ids"].tolist()) == [f"p{row:02d}" for row in range(16)]
        means = found["values"].mean(axis=(1, 2))
        truth = colours[[int(name[1:]) for name in found["ids"]]]
    assert np.corrcoef(means.ravel(), truth.ravel())[0, 1] > 0.7  # the published alpha leaves little but one direction
    shell("linear", "caption", tmp_path / "decoder", tmp_path / "one.npy", tmp_path / "told.json", code=3)
    said = shell("linear", "pictures", tmp_path / "decoder", tmp_path / "one.npy", tmp_path / "out", code=2).stderr
    assert "voxelight linear caption" in said


def test_what_is_not_here_is_said(shell, recorded, tmp_path):
    folder, _, _ = recorded
    said = shell("linear", "targets", "brain-diffuser", "vdvae", folder / "pictures", tmp_path / "t", code=6).stderr
    assert "not part of Voxelight" in said
    said = shell("linear", "targets", "brain-captioning", "git", folder / "pictures", tmp_path / "t", code=6).stderr
    assert "git-base-coco-vision" in said
    shell("linear", "targets", "brain-captioning", "nowhere", folder / "pictures", tmp_path / "t", code=2)
    assert not list(tmp_path.glob("t*"))


def test_trials_without_a_target_are_named_and_nothing_is_left(ask, shell, recorded, tmp_path):
    folder, _, _ = recorded
    ask("linear", "targets", "brain-captioning", "pixels-64", folder / "pictures", tmp_path / "targets")
    (tmp_path / "stimuli.txt").write_text("p00\n" * 47 + "stranger\n")
    said = shell(
        "linear", "fit", "brain-captioning", folder / "betas.npy", tmp_path / "stimuli.txt", tmp_path / "decoder",
        "--targets", "pixels-64", tmp_path / "targets", code=2,
    ).stderr  # fmt: skip
    assert "stranger" in said
    assert not list(tmp_path.glob("*decoder*"))
