"""Search by likeness, and deletion, in the shell."""

import json

import numpy as np
import pytest

from voxelight.storage.formats.images import encode_png


@pytest.fixture
def stored(ask, tmp_path):
    """Three pictures in a data set, and the file of one."""
    ask("datasets", "create", "pictures")
    for seed, name in enumerate(("green-field", "grey-sea", "white-snow")):
        rng = np.random.default_rng(seed)
        (tmp_path / f"{name}.png").write_bytes(
            encode_png(np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8))
        )
    ask("ingest", *sorted(tmp_path.glob("*.png")), "--dataset", "pictures")
    return tmp_path / "grey-sea.png"


def test_pictures_and_words_find_what_is_stored(ask, shell, stored):
    found = ask("search", "picture", stored)
    assert found["items"][0]["scan_name"] == "grey-sea.png"
    assert ask("search", "text", "snow", "white")["items"][0]["scan_name"] == "white-snow.png"
    scan = found["items"][0]["scan"]
    assert len(ask("search", "like", scan, "--scan")["items"]) == 2
    assert {space["name"] for space in ask("search", "spaces")} == {"edges-and-colours", "words"}
    assert "grey-sea.png" in shell("search", "picture", stored).stdout
    assert ask("search", "fill") == {"runs": 0, "scans": 0, "vectors": 0, "problems": []}
    assert "pgvector" in shell("search", "graph", "words", code=6).stderr


def test_a_data_set_goes_with_a_receipt(ask, shell, stored, tmp_path):
    planned = ask("delete", "dataset", "pictures", "--dry-run")
    assert (planned["dry_run"], planned["counts"]["scans"]) == (True, 3)
    shell("delete", "dataset", "pictures", "--confirm", "picture", code=2)
    shell("delete", "dataset", "pictures", "--json", code=2)
    receipt = tmp_path / "receipt.json"
    done = ask("delete", "dataset", "pictures", "--confirm", "pictures", "--author", "Ada", "--receipt", receipt)
    assert done["counts"] == planned["counts"]
    assert json.loads(receipt.read_text())["author"] == "Ada"
    assert [row["name"] for row in ask("delete", "receipts")["items"]] == ["pictures"]
    shell("datasets", "show", "pictures", code=3)
    shell("delete", "dataset", "pictures", "--confirm", "pictures", code=3)
