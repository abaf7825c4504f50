"""Checkpoints are whole or not there, whatever cuts off their writing, and hold nothing that could be executed."""

import json

import numpy as np
import pytest
import torch

from voxelight.models.errors import BadInput
from voxelight.models.training.state import NamedCheckpoints, pack, unpack
from voxelight.storage.checkpoints import CheckpointFolder


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {"a/b": rng.normal(size=(3, 4)).astype(np.float32), "c": np.arange(5), "d": np.float32([2.5]).reshape(())}


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype


@pytest.mark.parametrize("shard_bytes", [1, 60, 1 << 20])
def test_what_is_written_is_read_again(tmp_path, shard_bytes):
    CheckpointFolder(tmp_path, shard_bytes=shard_bytes).write(7, arrays().items(), {"rate": 0.1, "words": ["ä", None]})
    found = CheckpointFolder(tmp_path).latest()
    assert (found.step, found.facts) == (7, {"rate": 0.1, "words": ["ä", None]})
    assert_same(found.arrays, arrays())
    files = sorted(path.suffix for path in (tmp_path / "step-000000007").iterdir())
    assert set(files) == {".json", ".safetensors"}
    assert files.count(".safetensors") == {1: 3, 60: 2, 1 << 20: 1}[shard_bytes]


def test_the_last_few_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in (5, 10, 15, 20):
        folder.write(step, arrays(step).items(), {})
    assert folder.steps() == [20, 15]
    assert_same(folder.latest().arrays, arrays(20))


def test_an_interrupted_write_leaves_the_one_before(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.write(1, arrays(1).items(), {})

    def broken():
        yield "a", np.zeros(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.write(2, broken(), {})
    assert folder.latest().step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    left = tmp_path / "step-000000009.0123abcd.part"
    left.mkdir()
    (left / "tensors-00000.safetensors").write_bytes(b"half")
    folder = CheckpointFolder(tmp_path)
    assert folder.latest() is None
    folder.write(1, arrays().items(), {})
    assert folder.steps() == [1]
    assert not left.exists()


@pytest.mark.parametrize("harm", ["tensor bit", "no tensors", "half a state", "edited state", "no state"])
def test_a_damaged_one_is_passed_over(tmp_path, harm):
    folder = CheckpointFolder(tmp_path)
    folder.write(1, arrays(1).items(), {})
    folder.write(2, arrays(2).items(), {"rate": 0.25})
    tensors, state = (tmp_path / "step-000000002" / name for name in ("tensors-00000.safetensors", "state.json"))
    if harm == "tensor bit":
        content = bytearray(tensors.read_bytes())
        content[-1] ^= 1
        tensors.write_bytes(content)
    elif harm == "no tensors":
        tensors.unlink()
    elif harm == "half a state":
        state.write_bytes(state.read_bytes()[:40])
    elif harm == "edited state":
        state.write_text(state.read_text().replace("0.25", "0.35"))
    else:
        state.unlink()
    found = folder.latest()
    assert found.step == 1
    assert_same(found.arrays, arrays(1))


def test_a_folder_that_keeps_nothing_is_refused(tmp_path):
    with pytest.raises(BadInput, match="0 checkpoints"):
        CheckpointFolder(tmp_path, keep=0)


def test_the_state_of_a_real_optimiser_goes_through(tmp_path):
    network = torch.nn.Linear(4, 3)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.randn(2, 4)).sum().backward()
    optimiser.step()
    state = {
        "optimiser": optimiser.state_dict(),
        "network": dict(network.state_dict()),
        "half": torch.randn(3, 2).bfloat16(),
        "generator": torch.get_rng_state(),
        "scalar": torch.tensor(3.5),
        "view": torch.arange(6.0).reshape(2, 3).T,
    }
    packed, facts = pack(state)
    CheckpointFolder(tmp_path).write(3, packed, facts)
    stored = CheckpointFolder(tmp_path).latest()
    found = unpack(stored.facts, stored.arrays)
    assert found["optimiser"]["param_groups"] == state["optimiser"]["param_groups"]
    assert found["optimiser"]["state"].keys() == {0, 1}
    for number, moments in state["optimiser"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(found["optimiser"]["state"][number][name], value)
    for name in ("half", "generator", "scalar", "view"):
        assert torch.equal(found[name], state[name])
        assert found[name].dtype == state[name].dtype
    torch.optim.AdamW(network.parameters()).load_state_dict(found["optimiser"])


def test_what_is_neither_tensor_nor_json_is_refused():
    with pytest.raises(BadInput, match="a function at /rates/1"):
        pack({"rates": [1.0, abs.__class__ and (lambda: 0)]})


def test_stages_of_a_training_have_checkpoints_by_name(tmp_path):
    named = NamedCheckpoints(lambda name: CheckpointFolder(tmp_path / name, keep=1))
    assert named.find("teacher") is None
    named.write("teacher", {"step": 4, "weights": {"w": torch.ones(2)}})
    named.write("teacher", {"step": 8, "weights": {"w": torch.zeros(2)}})
    named.write("student", {"step": 1, "weights": {}})
    assert named.find("teacher")["step"] == 8
    assert torch.equal(named.find("teacher")["weights"]["w"], torch.zeros(2))
    assert named.find("student") == {"step": 1, "weights": {}}
    assert json.loads((tmp_path / "teacher" / "step-000000008" / "state.json").read_text()).keys() == {
        "sha256",
        "state",
    }
