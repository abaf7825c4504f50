"""Move, keep and bring back from the shell."""

import json

import pytest
from click.testing import CliRunner

from voxelight.app.cli import main


@pytest.fixture
def stored(ask, tmp_path):
    """A scan in a data set."""
    path = tmp_path / "events.tsv"
    path.write_text("stimulus\na\nb\n")
    ask("datasets", "create", "d")
    [scan] = ask("ingest", path, "--dataset", "d")["scans"]
    return scan


def test_an_installation_is_moved_with_its_files(ask, shell, stored, home, tmp_path, monkeypatch):
    url, blobs, report = f"sqlite:///{tmp_path / 'new.sqlite'}", tmp_path / "new-blobs", tmp_path / "moved.json"
    moved = ask("storage", "migrate", "--to-database", url, "--to-blobs", blobs, "--report", report)
    assert json.loads(report.read_text()) == moved
    assert (moved["blobs"], moved["copied"], moved["bytes"]) == (1, 1, stored["size"])
    proofs = {each["table"]: each for each in moved["tables"]}
    assert proofs["scan"]["rows"] == 1
    assert all(each["source"] == each["target"] for each in moved["tables"])
    refused = shell("storage", "migrate", "--to-database", url, "--to-blobs", blobs, code=4)
    assert "a target with rows" in refused.stderr
    monkeypatch.setenv("VOXELIGHT_DATABASE_URL", url)
    monkeypatch.setenv("VOXELIGHT_BLOBS_URL", str(blobs))
    assert [each["name"] for each in ask("datasets", "list")["items"]] == ["d"]
    assert shell("storage", "migrate", "--to-database", url, code=2).stderr.startswith("Found    the database in use")


def test_a_password_of_the_target_is_not_printed(shell, stored):
    said = shell("storage", "migrate", "--to-database", "postgresql://a:hush@127.0.0.1:1/b", code=6)
    assert "hush" not in said.stdout + said.stderr


def test_a_backup_is_taken_listed_verified_and_brought_back(ask, shell, stored, home, tmp_path):
    kept = tmp_path / "kept"
    (home / "identity.key").write_text("0" * 64)
    first = ask("storage", "backup", kept)
    assert (first["blobs"], first["added"], first["keys"]) == (1, 1, False)
    assert "identity.key" not in first["files"]
    second = ask("storage", "backup", kept, "--with-keys")
    assert (second["added"], second["keys"]) == (0, True)
    assert "identity.key" in second["files"]
    assert [each["name"] for each in ask("storage", "backups", kept)["backups"]] == [first["name"], second["name"]]
    assert ask("storage", "verify", kept)["name"] == second["name"]
    other = tmp_path / "other"
    words = ["storage", "restore", kept, "--snapshot", first["name"], "--json"]
    done = CliRunner().invoke(main, ["--home", str(other), *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert (json.loads(done.stdout)["blobs"], json.loads(done.stdout)["copied"]) == (1, 1)
    assert not (other / "identity.key").exists()
    [path] = (other / "blobs").rglob(stored["sha256"])
    assert path.read_text() == "stimulus\na\nb\n"
    assert ask("storage", "prune", kept, "--keep", "1")["forgotten"] == [first["name"]]
    shell("storage", "verify", kept, "--snapshot", first["name"], code=3)
    shell("storage", "backup", kept, "--options", "[1]", code=2)
