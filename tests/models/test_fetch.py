"""Fetching: against a small server that speaks the hub's language."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from voxelight.models.errors import Conflict, Refused, Unavailable
from voxelight.models.fetch import fetch
from voxelight.models.published import PUBLISHED, PublishedFile, find_published
from voxelight.models.records import accept_licence, fetched_folder, find_acceptance, find_fetched

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CODE = (
    "import sys; from pathlib import Path; from voxelight.models.fetch import fetch; "
    "from voxelight.models.published import find_published; fetch(find_published(sys.argv[2]), Path(sys.argv[1]))"
)


@pytest.fixture
def row() -> PublishedFile:
    return find_published("bigG_to_L_epoch8")


@pytest.fixture
def agreed(tmp_path, row) -> Path:
    """A folder of weights in which the licence was agreed to."""
    accept_licence(tmp_path, row)
    return tmp_path


def fetch_apart(folder: Path, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Fetch in a process of its own, whose settings of the hub are fresh."""
    command = [sys.executable, "-c", CODE, str(folder), name]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)


def test_a_file_is_fetched_once_and_its_hash_written_down(hub, agreed, row):
    hub.files[row.file] = CONTENT
    fetched = fetch(row, agreed)
    assert (fetched_folder(agreed, row.name) / row.file).read_bytes() == CONTENT
    assert (fetched.stored.sha256, fetched.stored.size) == (SHA256, len(CONTENT))
    assert fetched.repository == row.repository
    assert len(fetched.revision) == 40
    asked = len(hub.asked)
    assert fetch(row, agreed) == fetched
    assert len(hub.asked) == asked


def test_without_agreement_nothing_is_asked_of_the_hub(hub, tmp_path, row):
    with pytest.raises(Refused, match="voxelight weights accept bigG_to_L_epoch8") as refusal:
        fetch(row, tmp_path)
    assert row.licence in str(refusal.value)
    assert not hub.asked


def test_the_agreement_says_what_and_when_and_not_who(agreed, row):
    (path,) = (agreed / "accepted").iterdir()
    assert set(json.loads(path.read_text())) == {"name", "licence", "url", "time"}
    assert find_acceptance(agreed, row).licence == row.licence


def test_a_transfer_that_breaks_goes_on_in_the_same_call(hub, agreed, row):
    content = CONTENT * 24
    hub.files[row.file] = content
    hub.cuts = [12 << 20]
    fetch(row, agreed)
    assert (fetched_folder(agreed, row.name) / row.file).read_bytes() == content
    assert hub.ranges == ["", f"bytes={10 << 20}-"]


def test_a_transfer_whose_process_was_killed_goes_on_in_the_next(hub, agreed, row):
    content = CONTENT * 24
    hub.files[row.file] = content
    hub.cuts, hub.stall = [12 << 20], True
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(agreed), row.name], env=os.environ | {"HF_ENDPOINT": hub.url}
    )
    assert hub.stalled.wait(30)
    place = fetched_folder(agreed, row.name)
    while process.poll() is None and sum(part.stat().st_size for part in place.glob("*.part")) < 10 << 20:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert find_fetched(agreed, row.name) is None
    assert not (place / row.file).exists()
    fetch(row, agreed)
    assert (place / row.file).read_bytes() == content
    assert hub.ranges == ["", f"bytes={10 << 20}-"]
    assert not list(place.glob("*.part"))


def test_what_came_of_an_older_version_is_not_mixed_into_the_new_one(hub, agreed, row):
    place = fetched_folder(agreed, row.name)
    place.mkdir(parents=True)
    (place / f"{row.file}.0123456789ab.part").write_bytes(b"old" * 100)
    hub.files[row.file] = CONTENT
    fetch(row, agreed)
    assert (place / row.file).read_bytes() == CONTENT
    assert hub.ranges == [""]


def test_a_token_is_not_sent_to_the_host_that_holds_the_files(hub, agreed, row, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.files[row.file] = CONTENT
    hub.elsewhere = hub.url.replace("127.0.0.1", "localhost")
    fetch(row, agreed)
    tokens = {headers["host"].partition(":")[0]: headers.get("authorization") for _, _, headers in hub.asked}
    assert tokens == {"127.0.0.1": "Bearer hf_secret", "localhost": None}


def test_two_processes_do_not_fetch_the_same_file(hub, agreed, row):
    hub.files[row.file] = CONTENT
    hub.cuts, hub.stall = [1000], True
    first = threading.Thread(target=fetch, args=(row, agreed))
    first.start()
    assert hub.stalled.wait(30)
    with pytest.raises(Conflict, match="another process"):
        fetch(row, agreed)
    hub.released.set()
    first.join()
    assert find_fetched(agreed, row.name).stored.sha256 == SHA256


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "GatedRepo"), (403, "GatedRepo"), (401, "RepoNotFound"), (403, "")]
)
def test_a_gated_file_names_itself_its_licence_and_the_way_in(hub, agreed, row, status, reason):
    hub.status, hub.reason = status, reason
    with pytest.raises(Unavailable) as refusal:
        fetch(row, agreed)
    for word in (row.file, row.licence, row.page, "hf auth login", f"voxelight weights fetch {row.name}", str(status)):
        assert word in str(refusal.value)


def test_a_file_that_the_hub_has_not_says_how_to_bring_ones_own(hub, tmp_path):
    row = find_published("zavychromaxl_v30")
    accept_licence(tmp_path, row)
    with pytest.raises(Unavailable, match="voxelight weights convert zavychromaxl_v30 FILE") as refusal:
        fetch(row, tmp_path)
    assert "Civitai" in str(refusal.value)


def test_without_a_network_the_file_its_licence_and_the_command_are_named(agreed, row, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable) as refusal:
        fetch(row, agreed)
    for word in (row.file, row.licence, f"voxelight weights fetch {row.name}"):
        assert word in str(refusal.value)


def test_the_switch_of_the_hub_for_offline_work_is_respected(hub, agreed, row):
    hub.files[row.file] = CONTENT
    done = fetch_apart(agreed, row.name, HF_HUB_OFFLINE="1", HF_ENDPOINT=hub.url)
    assert "Unavailable: Found HF_HUB_OFFLINE" in done.stderr
    assert not hub.asked


def test_another_content_than_the_known_one_is_set_aside(hub, agreed, row):
    hub.files[row.file] = CONTENT
    fetch(row, agreed)
    path = fetched_folder(agreed, row.name) / row.file
    path.unlink()
    hub.files[row.file] = CONTENT[::-1]
    with pytest.raises(Conflict, match=SHA256):
        fetch(row, agreed)
    assert not path.exists()
    assert path.with_name(f"{path.name}.refused").read_bytes() == CONTENT[::-1]


def test_a_hash_of_the_table_is_held_against_the_file(hub, tmp_path):
    row = PUBLISHED["sd_xl_base_1.0"]
    accept_licence(tmp_path, row)
    hub.files[row.file] = CONTENT
    with pytest.raises(Conflict, match=row.sha256):
        fetch(row, tmp_path)
    assert find_fetched(tmp_path, row.name) is None


def test_a_folder_that_can_not_be_written_is_told_apart_from_a_missing_network(hub, agreed, row):
    hub.files[row.file] = CONTENT
    fetched_folder(agreed, row.name).parent.write_text("a file where a folder should be")
    with pytest.raises(Unavailable, match="VOXELIGHT_WEIGHTS"):
        fetch(row, agreed)


def test_a_folder_of_weights_that_can_not_be_made_is_refused(tmp_path, row):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="VOXELIGHT_WEIGHTS"):
        accept_licence(tmp_path / "file" / "weights", row)


def test_a_file_in_a_folder_of_its_repository_is_found_by_the_conversion(hub, tmp_path):
    from voxelight.models.convert import find_sources

    row = find_published("final_subj01_pretrained_40sess_24bs")
    accept_licence(tmp_path, row)
    hub.files[row.file] = CONTENT
    fetch(row, tmp_path)
    (path,) = find_sources(tmp_path, row)
    assert path.name == "last.pth"
    assert path.read_bytes() == CONTENT
