"""voxelight simulate: onto disk, into a data set, and stopped in the middle."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave
from threadpoolctl import threadpool_limits

from voxelight.neuro.simulate import SimulationOptions, crop_photographs
from voxelight.storage.formats.simulated import read_simulated


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads that wait for each other on a busy machine take ten times as long for small products."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    stimuli, _ = crop_photographs(SimulationOptions(side=32, crops=3), np.random.default_rng(0))
    for name, image in zip(stimuli.ids.tolist(), stimuli.images, strict=True):
        imsave(folder / f"{name}.png", np.rint(image * 255).astype(np.uint8), check_contrast=False)
    return folder


def test_it_simulates_and_says_so(shell, ask, pictures, tmp_path):
    out = tmp_path / "out"
    words = ("simulate", pictures, "--out", out, "--subjects", 2, "--voxels", 30)
    told = shell(*words).stdout
    assert "2 SIMULATED subjects (mismatched, gabor-texture)" in told
    answer = ask(*words)
    assert answer["simulated"] is True
    assert [Path(folder).name for folder in answer["folders"]] == ["sub-01", "sub-02"]
    betas = read_simulated(out, 2)
    assert betas.simulated
    assert betas.values.shape == (108, 30)


def test_a_decoders_tokens_make_matched_subjects(shell, ask, pictures, tmp_path):
    names = sorted(path.stem for path in pictures.iterdir())
    random = np.random.default_rng(0)
    np.save(tmp_path / "tokens.npy", random.normal(size=(len(names), 4, 3)))
    np.savez(tmp_path / "few.npz", features=random.normal(size=(3, 4)), ids=np.array(names[:3]))
    words = ("simulate", pictures, "--subjects", 1, "--voxels", 10, "--kind", "matched")
    answer = ask(*words, "--out", tmp_path / "a", "--features", tmp_path / "tokens.npy", "--encoder", "tiny/last")
    assert (answer["kind"], answer["encoder"]) == ("matched", "tiny/last")
    shell(*words, "--out", tmp_path / "b", code=2)
    shell(*words, "--out", tmp_path / "b", "--encoder", "tiny/last", code=2)
    shell(*words, "--out", tmp_path / "b", "--features", tmp_path / "few.npz", "--encoder", "tiny/last", code=3)


def test_small_subjects_are_stored_as_simulated(shell, ask, pictures, tmp_path):
    words = ("simulate", pictures, "--out", tmp_path / "out", "--subjects", 2, "--voxels", 30, "--dataset", "made")
    shell(*words)
    shell(*words)  # again: nothing is stored twice
    there = ask("datasets", "show", "made")
    assert there["simulated"] is True
    assert there["consent"] == "simulated"
    assert there["subjects"] == 2
    assert there["scans"] == 2 * (3 + 36)
    assert "mismatched, gabor-texture" in there["source"]


def test_large_subjects_are_not_stored(shell, tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((2000, 8, 8, 1), np.uint8))
    said = shell("simulate", tmp_path / "many.npy", "--out", tmp_path / "out", "--dataset", "made", code=2).stderr
    assert "leave --dataset out" in said
    assert not (tmp_path / "out").exists()


def test_refusals_leave_what_is_there(shell, pictures, tmp_path):
    words = ("simulate", pictures, "--out", tmp_path / "out", "--subjects", 1)
    shell(*words, "--voxels", 10)
    before = (tmp_path / "out/make.json").read_bytes()
    shell(*words, "--voxels", 11, code=4)
    shell(*words, "--voxels", 10, "--shown", 37, code=2)
    shell("simulate", tmp_path / "nowhere", "--out", tmp_path / "out", code=2)
    assert (tmp_path / "out/make.json").read_bytes() == before


def test_ctrl_c_stops_and_the_same_command_goes_on(start, ask, pictures, tmp_path):
    np.save(tmp_path / "many.npy", np.random.default_rng(0).integers(0, 256, (700, 32, 32, 1), dtype=np.uint8))
    out = tmp_path / "out"
    words = ("simulate", tmp_path / "many.npy", "--out", out, "--subjects", 1, "--voxels", 200)
    process = start(*words)
    progress = out / "sub-01/.progress.json"
    while process.poll() is None and not progress.is_file():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command goes on" in told
    assert json.loads(progress.read_text())["steps"] >= 1
    assert not (out / "sub-01/betas.npy").exists()
    ask(*words)
    assert read_simulated(out, 1).values.shape == (2100, 200)
