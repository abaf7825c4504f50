"""Seal the files of an installation from the shell."""

import pytest

from voxelight.storage.sealed import MARK


@pytest.fixture
def blobs(shell, home, monkeypatch, tmp_path):
    monkeypatch.setenv("VOXELIGHT_BLOB_KEY_FILE", str(tmp_path / "blob.keys"))
    return lambda: [path.read_bytes() for path in (home / "blobs" / "sha256").rglob("*") if path.is_file()]


def test_an_installation_is_sealed_given_a_new_key_and_opened_again(shell, ask, crops, tmp_path, blobs, monkeypatch):
    monkeypatch.delenv("VOXELIGHT_BLOB_KEY_FILE")
    assert "VOXELIGHT_BLOB_KEY_FILE" in shell("storage", "rekey", code=2).stderr
    shell("ingest", crops[0], "--dataset", "d", "--create", "--consent", "public")
    plain = blobs()
    monkeypatch.setenv("VOXELIGHT_BLOB_KEY_FILE", str(tmp_path / "blob.keys"))
    assert "--new-key" in shell("storage", "rekey", code=6).stderr
    assert ask("storage", "rekey", "--new-key") == {"changed": len(plain)}
    assert all(content.startswith(MARK) for content in blobs())
    assert ask("datasets", "show", "d")["scans"] == 1
    first = blobs()
    assert ask("storage", "rekey") == {"changed": 0}
    assert ask("storage", "rekey", "--new-key") == {"changed": len(plain)}
    assert not set(first) & set(blobs())
    assert ask("storage", "rekey", "--plain") == {"changed": len(plain)}
    assert sorted(blobs()) == sorted(plain)
