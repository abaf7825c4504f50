"""A training that was cut off, at any step and in any way, goes on as if it had not been."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from voxelight.models.errors import BadInput, Conflict
from voxelight.models.training.loop import Diverged, Hooks, LoopOptions
from voxelight.neuro.train import fit_decoder
from voxelight.neuro.training.recipe import Losses
from voxelight.storage.checkpoints import CheckpointFolder
from voxelight.storage.training_log import TrainingLog

pytestmark = pytest.mark.usefixtures("one_thread")

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture(scope="module")
def worker():
    spec = importlib.util.spec_from_file_location("training_worker", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(folder, changes="{}", **environment):
    return subprocess.Popen(
        [sys.executable, str(WORKER), str(folder), changes], env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )


def rows(folder):
    return TrainingLog(folder / "log.jsonl").rows()


def same_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_killed_training_goes_on_to_the_same_curve_and_weights(worker, tmp_path):
    whole = worker.train(tmp_path / "whole", checkpoint_steps=5)
    folder = tmp_path / "killed"
    process = start(folder, '{"checkpoint_steps": 5}')
    while len(rows(folder)) < 8 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    cut_off = rows(folder)
    assert 8 <= len(cut_off) < whole.steps, "it was killed on its way"
    resumed = worker.train(folder, checkpoint_steps=5)
    assert resumed.finished
    assert rows(folder) == rows(tmp_path / "whole")
    assert [row["step"] for row in rows(folder)] == list(range(whole.steps))
    assert same_weights(resumed.weights, whole.weights)


@pytest.mark.parametrize(
    "changes", [{}, {"precision": "bf16"}, {"precision": "fp16"}, {"adapter_rank": 3}, {"micro_batches": 2}]
)
def test_a_paused_training_goes_on_to_the_same_curve_and_weights(worker, small, tmp_path, changes):
    changes = {"epochs": 3, **changes}
    if changes.get("precision") == "fp16":  # convolutions of which are slow on a CPU
        changes |= {"config": {**small.config, "low_level": False}, "losses": Losses(low_level=0)}
    whole = worker.train(tmp_path / "whole", **changes)
    calls = iter([False] * 4 + [True])
    paused = worker.train(tmp_path / "paused", pause=lambda: next(calls), **changes)
    assert not paused.finished
    assert len(rows(tmp_path / "paused")) == 4
    resumed = worker.train(tmp_path / "paused", **changes)
    assert rows(tmp_path / "paused") == rows(tmp_path / "whole")
    assert same_weights(resumed.weights, whole.weights)


def test_a_finished_training_is_not_repeated(worker, tmp_path):
    first = worker.train(tmp_path, epochs=2)
    log = (tmp_path / "log.jsonl").read_bytes()
    again = worker.train(tmp_path, epochs=2)
    assert again.finished
    assert same_weights(first.weights, again.weights)
    assert (tmp_path / "log.jsonl").read_bytes() == log


def test_the_checkpoint_of_another_recipe_is_refused(worker, tmp_path):
    worker.train(tmp_path, epochs=2)
    with pytest.raises(Conflict, match="another recipe"):
        worker.train(tmp_path, epochs=2, learning_rate=1e-3)
    with pytest.raises(Conflict, match="another data"):
        worker.train(tmp_path, epochs=2, sessions=2, trials_a_session=9)


def test_what_on_step_raises_ends_the_training_before_the_step(small, make_data, make_network, tmp_path):
    data, recipe = make_data(), small.make_recipe()

    def stop(done, total):
        assert total == 12
        if done == 3:
            raise KeyboardInterrupt

    log = TrainingLog(tmp_path / "log.jsonl")
    with pytest.raises(KeyboardInterrupt):
        fit_decoder(make_network(data, recipe), data, recipe, "cpu", Hooks(None, log, stop), LoopOptions(log_steps=1))
    assert [row["step"] for row in log.rows()] == [0, 1, 2]


def test_a_loss_that_is_no_number_ends_the_training_before_a_checkpoint(small, make_data, make_network, tmp_path):
    data, recipe = make_data(), small.make_recipe(epochs=4)
    network = make_network(data, recipe)
    with torch.no_grad():
        network.backbone.backbone_linear.weight.fill_(torch.inf)
    checkpoints = CheckpointFolder(tmp_path / "checkpoints")
    with pytest.raises(Diverged, match="step 0"):
        fit_decoder(network, data, recipe, "cpu", Hooks(checkpoints), LoopOptions(checkpoint_steps=1))
    assert checkpoints.latest() is None


def test_the_generators_of_the_caller_are_left_as_they_were(small, make_data, make_network):
    data, recipe = make_data(), small.make_recipe(epochs=2)
    network = make_network(data, recipe, dropout=True)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit_decoder(network, data, recipe, "cpu", Hooks())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("share", [1.0, 0.0], ids=["BiMixCo", "SoftCLIP"])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(small, make_data, make_network, tmp_path, share):
    data = make_data(2)
    found = []
    for parts in (1, 2, 4):
        losses = Losses(mixing_share=share)
        recipe = small.make_recipe(batch=4, micro_batches=parts, epochs=4, trials_a_session=8, losses=losses)
        log = TrainingLog(tmp_path / f"{parts}.jsonl")
        network = make_network(data, recipe)
        fit_decoder(network, data, recipe, "cpu", Hooks(log=log))
        found.append([row["loss"] for row in log.rows()])
    assert len(found[0]) == 12
    assert found[1] == pytest.approx(found[0], rel=5e-4)
    assert found[2] == pytest.approx(found[0], rel=5e-4)


def test_two_processes_train_as_one_does_each_its_part_in_two(worker, tmp_path):
    one = worker.train(tmp_path / "one", dropout=False, epochs=4, losses=Losses(mixing_share=0.5))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    changes = '{"dropout": false, "epochs": 4, "losses": {"mixing_share": 0.5}, "micro_batches": 2}'
    folder = tmp_path / "two"
    pair = [start(folder, changes, RANK=rank, LOCAL_RANK=rank, **shared) for rank in ("0", "1")]
    assert [process.wait(120) for process in pair] == [0, 0]
    assert [row["step"] for row in rows(folder)] == list(range(one.steps))
    for name in ("loss", "clip", "contrast", "prior", "absolute", "top1"):
        found, expected = ([row[name] for row in rows(tmp_path / kind)] for kind in ("two", "one"))
        assert found == pytest.approx(expected, rel=1e-4), name
    assert {row["mixed"] for row in rows(folder)} == {0.0, 1.0}


def test_a_batch_that_can_not_be_shared_out_is_refused(monkeypatch):
    from voxelight.models.training import processes

    monkeypatch.setattr(processes, "count", lambda: 4)
    with pytest.raises(BadInput, match="4 processes"):
        processes.share(6)
