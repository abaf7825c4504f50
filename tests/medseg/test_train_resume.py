"""A training that was cut off goes on as if it had not been; two processes train as one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from train_worker import train

from voxelight.models.errors import BadInput, Conflict
from voxelight.storage.training_log import TrainingLog

pytestmark = pytest.mark.usefixtures("one_thread")

WORKER = Path(__file__).with_name("train_worker.py")


def start(folder, changes, **environment):
    return subprocess.Popen(
        [sys.executable, str(WORKER), str(folder), json.dumps(changes)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def rows(folder):
    return TrainingLog(folder / "log.jsonl").rows()


def same_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_killed_training_goes_on_to_the_same_curve_and_weights(tmp_path):
    changes = {"steps": 60, "validation": 0.3, "validate_steps": 20, "settling": 4}
    folder = tmp_path / "killed"
    process = start(folder, changes)
    while len(rows(folder)) < 6 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 6 <= len(rows(folder)) < 60, "it was killed on its way"
    resumed = train(folder, **changes)
    whole = train(tmp_path / "whole", **changes)
    assert resumed.finished
    assert rows(folder) == rows(tmp_path / "whole")
    assert [row["step"] for row in rows(folder)] == list(range(60))
    assert same_weights(resumed.weights, whole.weights)
    assert resumed.validation == whole.validation != {}


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"precision": "fp16", "network": "segresnet", "steps": 5, "window": (8, 8, 8)},
        {"optimiser": "sgd", "schedule": "poly", "clip": 1.0},
        {"validation": 0.3, "validate_steps": 2, "patience": 2, "learning_rate": 1e-9, "average": 0.0},
    ],
    ids=["bf16", "fp16", "sgd", "early"],
)
def test_a_paused_training_goes_on_to_the_same_curve_and_weights(tmp_path, changes):
    changes = {"steps": 8, "settling": 2} | changes
    whole = train(tmp_path / "whole", **changes)
    calls = iter([False] * 3 + [True])
    paused = train(tmp_path / "paused", pause=lambda: next(calls), **changes)
    assert not paused.finished
    assert paused.weights == {}
    resumed = train(tmp_path / "paused", **changes)
    assert rows(tmp_path / "paused") == rows(tmp_path / "whole")
    assert same_weights(resumed.weights, whole.weights)
    again = train(tmp_path / "paused", **changes)
    assert same_weights(again.weights, whole.weights), "a finished training is not repeated"


def test_the_checkpoint_of_another_recipe_or_of_other_cases_is_refused(tmp_path):
    train(tmp_path, steps=4, settling=2)
    with pytest.raises(Conflict, match="another recipe"):
        train(tmp_path, steps=4, settling=2, learning_rate=5e-3)
    with pytest.raises(Conflict, match="another data"):
        train(tmp_path, steps=4, settling=2, cases=3)


def test_two_processes_train_as_one_does(tmp_path):
    changes = {"network": "segresnet", "loss": "dice_ce_case", "batch": 4, "steps": 6, "settling": 1}
    one = train(tmp_path / "one", **changes)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    folder = tmp_path / "two"
    pair = [start(folder, changes, RANK=rank, LOCAL_RANK=rank, **shared) for rank in ("0", "1")]
    assert [process.wait(200) for process in pair] == [0, 0]
    assert [row["step"] for row in rows(folder)] == list(range(one.steps))
    assert [row["loss"] for row in rows(folder)] == pytest.approx(
        [row["loss"] for row in rows(tmp_path / "one")], rel=1e-4
    )
    found = torch.load(folder / "weights.pt", weights_only=True)
    for name, value in one.weights.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


def test_a_batch_that_can_not_be_shared_out_is_refused(monkeypatch, tmp_path):
    from voxelight.models.training import processes

    monkeypatch.setattr(processes, "count", lambda: 4)
    with pytest.raises(BadInput, match="4 processes"):
        train(tmp_path, batch=6)


def test_a_training_needs_no_service_and_no_reader_of_files(tmp_path):
    blocked = {"sqlalchemy", "dbos", "streamlit", "fastapi", "alembic", "uvicorn", "click", "rich", "tomlkit"}
    blocked |= {"pydicom", "highdicom", "nilearn", "SimpleITK", "diffusers", "open_clip", "matplotlib", "faiss"}
    program = (
        "import runpy, sys\n"
        f"blocked = {blocked!r}\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in blocked:\n"
        "            raise ModuleNotFoundError(f'{name} is not on this machine')\n"
        "sys.meta_path.insert(0, Blocker())\n"
        f"sys.argv = ['worker', {str(tmp_path)!r}, '{{\"steps\": 2, \"settling\": 1}}']\n"
        f"runpy.run_path({str(WORKER)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "weights.pt").is_file()
