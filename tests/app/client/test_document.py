"""The document of the client, run as it stands against a server in a process of its own."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import scipy.io

PAGE = Path(__file__).parents[3] / "docs" / "client.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def served(tmp_path):
    """A server with a worker, as a person starts it; what it says is in `serve.log`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("voxelight"), "--home", tmp_path / "home", "serve", "--port", str(port)]
    with (tmp_path / "serve.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
    while True:
        try:
            if httpx.get(f"{url}/api/v1/health").is_success:
                break
        except httpx.TransportError:
            assert process.poll() is None, (tmp_path / "serve.log").read_text()
            assert time.monotonic() < until, "it never answered"
            time.sleep(0.1)
    yield url
    process.terminate()
    process.wait(30)


def test_the_walk_of_the_document_works(served, volume, betas, tmp_path):
    text = PAGE.read_text()
    walk = "\n".join(BLOCK.findall(text))
    assert "http://127.0.0.1:8501" in walk
    folder = tmp_path / "walk"
    folder.mkdir()
    for file in (volume, betas):
        shutil.copy(file, folder)
    # As in a notebook, one name space; nothing of the server is imported.
    checked = walk.replace("http://127.0.0.1:8501", served) + (
        "\nimport sys\nheavy = {'torch', 'sqlalchemy', 'numpy', 'fastapi', 'streamlit', 'dbos'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", checked], cwd=folder, capture_output=True, text=True, timeout=240, env=os.environ
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr + (tmp_path / "serve.log").read_text()[-2000:]
    again, sent = (scipy.io.loadmat(path)["fmriTrn"] for path in (folder / "betas-again.mat", betas))
    np.testing.assert_array_equal(again, sent)
    assert (folder / "decoded.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "figures.zip").stat().st_size > 1000
    assert "done 8 of 8" in run.stdout
