"""Published weights from the shell: look, agree, fetch, convert."""

import hashlib
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from voxelight.models.captioning.converter import ConverterConfig
from voxelight.models.published import PUBLISHED
from voxelight.models.weights import load_part

NAME = "bigG_to_L_epoch8"
SIZES = {"tokens_in": 3, "dim_in": 4, "tokens_out": 5, "dim_out": 6}


@pytest.fixture
def module() -> torch.nn.Module:
    torch.manual_seed(0)
    return ConverterConfig(**SIZES).build()


@pytest.fixture
def checkpoint(tmp_path, module):
    """A small converter in the published layout."""
    path = tmp_path / "mine.pth"
    torch.save({"model_state_dict": module.state_dict(), "epoch": 8}, path)
    return path


@pytest.fixture
def sizes(tmp_path):
    path = tmp_path / "sizes.json"
    path.write_text(json.dumps({"converter": SIZES}))
    return path


@pytest.fixture
def hub(monkeypatch, checkpoint) -> Iterator[list[str]]:
    """A hub that gives one file under any name; what was asked of it."""
    content, asked = checkpoint.read_bytes(), []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "c" * 40)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, *_words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    yield asked
    server.shutdown()
    server.server_close()


def test_weights_are_listed_with_their_licences(ask, shell):
    found = {row["name"]: row for row in ask("weights", "list")}
    assert found.keys() == PUBLISHED.keys()
    assert found[NAME]["parts"] == ["converter"]
    assert not any(row["state"] or row["accepted"] for row in found.values())
    printed = shell("weights", "list").stdout
    assert "unclip6_epoch0_step110000" in printed
    assert "OpenRAIL++-M" in printed


def test_one_is_shown_with_what_is_not_verified(shell):
    printed = " ".join(shell("weights", "show", "zavychromaxl_v30").stdout.split())
    assert "[not verified]" in printed
    assert "https://huggingface.co/stabilityai" in printed
    assert "weights list" in shell("weights", "show", "nothing", code=3).stderr


def test_fetched_then_converted_then_there_already(shell, ask, home, hub, sizes, module):
    fetched = ask("weights", "fetch", NAME, "--accept-licence")
    assert fetched[0]["stored"]["file"] == "bigG_to_L_epoch8.pth"
    assert any("/datasets/pscotti/mindeyev2/resolve/" in path for path in hub)
    row = ask("weights", "show", NAME)
    assert (row["state"], row["accepted"], row["sha256"]) == ("fetched", True, fetched[0]["stored"]["sha256"])

    manifest = ask("weights", "convert", NAME, "--sizes", sizes, "--discard")
    assert manifest["parts"]["converter"]["tensors"] == 4
    assert manifest["sources"][0]["repository"] == "pscotti/mindeyev2"
    assert not list((home / "weights" / "fetched").rglob("*.pth"))
    assert ask("weights", "show", NAME)["state"] == "converted"
    tensors = load_part(home / "weights", NAME, "converter")
    assert all(torch.equal(tensors[key], value) for key, value in module.state_dict().items())

    assert "there already" in shell("weights", "convert", NAME, "--sizes", sizes).stdout
    assert "dtype keep" in shell("weights", "convert", NAME, "--sizes", sizes, "--dtype", "float16", code=4).stderr


def test_ones_own_file_is_converted_after_the_licence_was_agreed_to(shell, ask, home, checkpoint, sizes):
    words = ("weights", "convert", NAME, checkpoint, "--sizes", sizes)
    refused = shell(*words, code=5)
    assert "voxelight weights accept bigG_to_L_epoch8" in refused.stderr
    assert "[not verified]" in refused.stderr
    accepted = ask("weights", "accept", NAME)
    assert accepted["name"] == NAME
    assert "files: 1" in shell(*words).stdout
    assert checkpoint.exists()


@pytest.mark.parametrize(("said", "code", "agreed"), [("y", 6, True), ("n", 5, False)])
def test_a_person_is_asked(home, said, code, agreed, ask):
    """At a terminal; there is no hub, so after a yes the fetch itself fails."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "voxelight.app.cli", "--home", str(home), "weights", "fetch", NAME]
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    process = subprocess.Popen(command, stdin=theirs, stderr=subprocess.PIPE, env=environment, text=True)
    os.write(ours, f"{said}\n".encode())
    told = process.communicate(timeout=60)[1]
    os.close(ours)
    os.close(theirs)
    assert "Do you agree to the licence of bigG_to_L_epoch8?" in told
    assert process.returncode == code
    assert ask("weights", "show", NAME)["accepted"] == agreed


def test_a_converted_file_is_verified(shell, home, checkpoint, sizes):
    shell("weights", "convert", NAME, checkpoint, "--sizes", sizes, "--accept-licence")
    shell("weights", "list", "--verify")
    part = home / "weights" / NAME / "converter-00001-of-00001.safetensors"
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    assert "converter-00001" in shell("weights", "list", "--verify", code=4).stderr


def test_without_a_network_the_exit_code_is_6_and_the_way_out_is_told(shell, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    told = shell("weights", "fetch", NAME, "--accept-licence", code=6).stderr
    for word in ("bigG_to_L_epoch8.pth", PUBLISHED[NAME].licence, f"voxelight weights fetch {NAME}"):
        assert word in told
    problem = json.loads(shell("weights", "fetch", NAME, "--json", code=6).stderr)
    assert problem["status"] == 503


def test_what_is_not_fetched_can_not_be_converted(shell):
    told = shell("weights", "convert", NAME, "--accept-licence", code=6).stderr
    assert f"voxelight weights fetch {NAME}" in told


@pytest.mark.parametrize("content", ["no json", "[1]", '{"decoder": {}}', '{"converter": {"tokens_in": "many"}}'])
def test_sizes_that_are_none_are_refused(shell, tmp_path, checkpoint, content):
    path = tmp_path / "sizes.json"
    path.write_text(content)
    shell("weights", "convert", NAME, checkpoint, "--sizes", path, "--accept-licence", code=2)


def test_the_folder_of_weights_can_lie_elsewhere(shell, tmp_path, monkeypatch, checkpoint, sizes):
    monkeypatch.setenv("VOXELIGHT_WEIGHTS", str(tmp_path / "large disk"))
    shell("weights", "convert", NAME, checkpoint, "--sizes", sizes, "--accept-licence")
    assert load_part(tmp_path / "large disk", NAME, "converter")


def test_help_and_lists_load_no_torch(home):
    code = (
        "import sys; from voxelight.app.cli import main\n"
        "for words in (['weights', '--help'], ['weights', 'convert', '--help'], ['weights', 'list']):\n"
        "    main(['--home', sys.argv[1], *words], standalone_mode=False)\n"
        "assert not {'torch', 'huggingface_hub', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(home)], check=True, capture_output=True)
