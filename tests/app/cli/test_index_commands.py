"""Build an index of pictures or of vectors in the shell, and ask it."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from voxelight.storage.formats.images import encode_png


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    for seed, name in enumerate(("field", "sea", "deep/snow")):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(seed).integers(0, 255, (4, 4, 3))
        path.write_bytes(encode_png(np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)))
    return folder


def test_a_folder_of_pictures_is_indexed_and_asked(ask, shell, pictures, tmp_path):
    facts = ask("index", "build", pictures, tmp_path / "index")
    assert facts["count"] == 3
    assert (facts["method"], facts["recall"], facts["space"]) == ("exact", 1.0, "edges-and-colours")
    found = ask("index", "search", tmp_path / "index", "--picture", pictures / "sea.png", "--limit", "2")
    assert [len(found), found[0]["name"]] == [2, "sea"]
    assert found[0]["cosine"] == pytest.approx(1, abs=1e-3)
    assert found[1]["cosine"] < 0.99
    shell("index", "build", pictures, tmp_path / "index", code=4)
    shell("index", "build", pictures, tmp_path / "other", "--by", "nobody", code=2)
    shell("index", "search", tmp_path / "index", code=2)
    assert not (tmp_path / "other").exists()


def test_vectors_are_indexed_and_asked_by_what_a_brain_predicted(ask, shell, tmp_path):
    random = np.random.default_rng(0)
    vectors, ids = random.normal(size=(50, 8)).astype(np.float32), np.array([f"picture-{row}" for row in range(50)])
    np.savez(tmp_path / "embeddings.npz", vectors=vectors, ids=ids)
    shell("index", "build", tmp_path / "embeddings.npz", tmp_path / "index", code=2)  # of no known space
    facts = ask("index", "build", tmp_path / "embeddings.npz", tmp_path / "index", "--space", "ViT-L")
    assert facts["space"] == "ViT-L"
    predicted = np.stack([vectors[7] + 0.1 * random.normal(size=8), random.normal(size=8)]).astype(np.float16)
    save_file({"retrieval": predicted, "tokens": predicted[None]}, tmp_path / "tokens.safetensors")
    found = ask("index", "search", tmp_path / "index", "--tokens", tmp_path / "tokens.safetensors")
    assert found[0]["name"] == "picture-7"
    picture = tmp_path / "grey.png"
    picture.write_bytes(encode_png(np.full((8, 8, 3), 128, np.uint8)))
    assert "ViT-L" in shell("index", "search", tmp_path / "index", "--picture", picture, code=2).stderr


def test_many_vectors_state_a_recall(ask, tmp_path):
    np.save(tmp_path / "many.npy", np.random.default_rng(0).normal(size=(2000, 12)).astype(np.float32))
    asked = ("index", "build", tmp_path / "many.npy", tmp_path / "index", "--space", "mine", "--method", "approximate")
    facts = ask(*asked)
    assert 0.95 <= facts["recall"] <= 1
    assert facts["lists"] > facts["probes"] > 0
