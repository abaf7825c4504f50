"""MindEye1 decoded as a job: the packaged profile with its networks at a small size and random weights."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from voxelight.models.packaged import read_packaged

SMALL = {
    "decoder": {
        "voxels": [1200], "hidden": 24, "blocks": 1, "tokens": 5, "dim": 16, "projector_width": 20,
        "prior": {"dim": 16, "depth": 1, "dim_head": 8, "heads": 2, "tokens": 5, "timesteps": 4, "image_scale": 4},
    },
    "low_level": {"voxels": [1200], "hidden": 16, "blocks": 1, "decoder_widths": [32, 32], "maps_width": 8},
    "blurry": {"channels": [32, 32], "layers": 1, "scale": 0.18215},
    "variation": {"channels": [32, 32], "layers": 1, "heads": 2, "context_dim": 16},
    "autoencoder": {"channels": [32, 32], "layers": 1, "scale": 0.18215},
    "image_encoder": {"width": 16, "layers": 1, "heads": 2, "mlp_width": 16, "side": 28, "dim": 16},
}  # fmt: skip


@pytest.fixture
def small_mindeye1(monkeypatch):
    def read(package, name, what):
        facts = read_packaged(package, name, what)
        if name != "mindeye1":
            return facts
        assert set(facts["parts"]) == set(SMALL)
        parts = {part: {**choice, "config": SMALL[part]} for part, choice in facts["parts"].items()}
        kept = {key: value for key, value in facts.items() if key not in ("weights", "subjects")}
        return {**kept, "parts": parts, "random_seed": 0, "side": 32, "result_side": 32, "prior_steps": 4}

    monkeypatch.setattr("voxelight.neuro.profiles.read_packaged", read)


def test_betas_become_the_best_of_several_pictures_and_what_an_index_is_asked_with(
    ask, small_mindeye1, make_mat, tmp_path
):
    (tmp_path / "recording.mat").write_bytes(make_mat(2, 1))
    out = tmp_path / "out"
    answer = ask(
        "decode", tmp_path / "recording.mat", "--profile", "mindeye1", "--out", out, "--candidates", 2,
        "--preset", "fast", "--dtype", "float32", "--consent", "simulated", "--purpose", "a test",
    )  # fmt: skip
    job = answer["job"]
    assert (job["status"], job["random_weights"], job["options"]["candidates"]) == ("done", True, 2)
    for role in ("stimulus", "reconstruction", "unrefined", "blurry"):
        assert len(list((out / "pictures").glob(f"*_{role}.png"))) == 2
    tokens = sorted((out / "tokens").glob("*_tokens.safetensors"))
    kept = load_file(tokens[0])
    assert (kept["tokens"].shape, kept["retrieval"].shape) == ((1, 5, 16), (5, 16))
    assert json.loads((out / "scores.json").read_text())["random_weights"] is True
    vectors = np.random.default_rng(0).normal(size=(30, 16))
    vectors[11] = kept["retrieval"][0]
    np.save(tmp_path / "vectors.npy", vectors)
    ask("index", "build", tmp_path / "vectors.npy", tmp_path / "index", "--space", "CLIP of a test")
    assert ask("index", "search", tmp_path / "index", "--tokens", tokens[0])[0]["name"] == "000011"
