"""Checkpoints are opened whole or refused, run nothing, and take no memory for what is not wanted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from voxelight.models.checkpoints import read_checkpoint
from voxelight.models.errors import BadInput

WEIGHTS = {"linear1.weight": torch.arange(6.0).reshape(3, 2), "linear1.bias": torch.ones(3)}


class RunsOnLoad:
    """A pickle that would run a command where it is loaded without care."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def training_run(**more: object) -> dict[str, object]:
    """What the published training code saves: weights, and much else of many kinds."""
    module = torch.nn.Linear(4, 4)
    optimiser = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 4)).sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=10)
    return {
        "epoch": 149,
        "model_state_dict": WEIGHTS,
        "optimizer_state_dict": optimiser.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "train_losses": [np.float64(0.5), 0.25],
        "lrs": [1e-3],
        **more,
    }


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == WEIGHTS.keys() and all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


def test_only_the_weights_of_a_training_run_are_given(tmp_path):
    torch.save(training_run(), tmp_path / "last.pth")
    assert same(read_checkpoint(tmp_path / "last.pth", "model_state_dict"))
    assert same(read_checkpoint(tmp_path, "model_state_dict"))


def test_a_file_without_the_root_may_be_the_weights_themselves(tmp_path):
    torch.save(WEIGHTS, tmp_path / "pytorch_model.bin")
    assert same(read_checkpoint(tmp_path / "pytorch_model.bin", "model_state_dict"))
    save_file(WEIGHTS, tmp_path / "named.ckpt")
    assert same(read_checkpoint(tmp_path / "named.ckpt", "model_state_dict"))


def test_the_format_before_torch_1_6_is_read(tmp_path):
    torch.save({"model_state_dict": WEIGHTS}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(read_checkpoint(tmp_path / "old.pth", "model_state_dict"))


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_names_of_a_wrapped_model_are_unwrapped(tmp_path, wrapper):
    torch.save({f"{wrapper}{name}": tensor for name, tensor in WEIGHTS.items()}, tmp_path / "last.pth")
    assert same(read_checkpoint(tmp_path / "last.pth"))


def test_old_names_of_attention_become_new_ones(tmp_path):
    block = "decoder.mid_block.attentions.0"
    old = {f"{block}.{name}.weight": torch.ones(2, 2) for name in ("query", "key", "value", "proj_attn")}
    torch.save(old | {"git.encoder.layer.0.attention.self.query.weight": torch.ones(1)}, tmp_path / "vae.pth")
    assert set(read_checkpoint(tmp_path / "vae.pth")) == {
        *(f"{block}.{name}.weight" for name in ("to_q", "to_k", "to_v", "to_out.0")),
        "git.encoder.layer.0.attention.self.query.weight",
    }


def test_objects_beside_the_weights_are_not_needed_to_read_them(tmp_path):
    """Older schedulers hold functions of torch, and logs hold whatever a person put there."""
    run = training_run(arguments=Path("somewhere"), anneal=torch.optim.lr_scheduler.OneCycleLR._annealing_cos)
    torch.save(run, tmp_path / "last.pth")
    assert same(read_checkpoint(tmp_path / "last.pth", "model_state_dict"))


@pytest.mark.parametrize("new_format", [True, False])
def test_nothing_that_a_file_holds_is_run(tmp_path, new_format):
    run = training_run(hook=RunsOnLoad(f"touch {tmp_path}/was-run"))
    torch.save(run, tmp_path / "last.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(BadInput, match="more than weights"):
        read_checkpoint(tmp_path / "last.pth", "model_state_dict")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.99])
def test_a_file_that_ends_early_is_refused_with_what_to_do(tmp_path, kind, kept):
    path, big = tmp_path / "last.pth", {"weight": torch.rand(100, 100)}
    torch.save(big, path) if kind == "torch" else save_file(big, path)
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(BadInput, match=r"last.pth.*voxelight weights fetch goes on"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"not a checkpoint at all", b"<html>404</html>", bytes(100)])
def test_another_kind_of_file_is_refused(tmp_path, content):
    (tmp_path / "last.pth").write_bytes(content)
    with pytest.raises(BadInput, match=r"last\.pth"):
        read_checkpoint(tmp_path / "last.pth")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"model_state_dict": {"name": "text"}}, {}])
def test_a_file_without_weights_says_what_it_holds(tmp_path, content):
    torch.save(content, tmp_path / "last.pth")
    with pytest.raises(BadInput, match="Name"):
        read_checkpoint(tmp_path / "last.pth", "model_state_dict")


def test_a_missing_path_and_a_folder_of_other_things_are_refused(tmp_path):
    with pytest.raises(BadInput, match="no file"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(BadInput, match="Name the file itself"):
        read_checkpoint(tmp_path)


def test_what_deepspeed_left_in_pieces_names_the_step_that_joins_it(tmp_path):
    folder = tmp_path / "run" / "last"
    folder.mkdir(parents=True)
    for rank in range(2):
        torch.save({}, folder / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    with pytest.raises(BadInput, match="ZeRO-to-fp32") as refusal:
        read_checkpoint(tmp_path / "run")
    assert "2 pieces and no last.pth" in refusal.value.found
    assert "zero_to_fp32.py" in refusal.value.remedy


def test_memory_does_not_grow_with_the_optimiser_nor_with_a_tensor(tmp_path):
    """300 MB of weights and 300 MB of moments: the first are mapped and written by pieces, the others not touched."""
    code = """
import json, sys, threading, time
from pathlib import Path
import torch
from voxelight.models.checkpoints import read_checkpoint
from voxelight.models.shards import Entry, write_shard

def held(kind):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) / 1024

torch.rand(10).to(torch.bfloat16).view(torch.uint8).numpy()
before, peak, done = held("RssAnon"), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, held("RssAnon"))
        time.sleep(0.002)
watcher = threading.Thread(target=watch)
watcher.start()
file = Path(sys.argv[1])
found = read_checkpoint(file, "model_state_dict")
mapped = held("RssFile")
write_shard(file.with_name("part.safetensors"), [Entry("weight", found["weight"], torch.bfloat16)], {})
done = True
watcher.join()
print(json.dumps({"grown": peak - before, "mapped_at_first": mapped, "mapped": held("RssFile")}))
"""
    moments = {"state": {0: {"exp_avg": torch.zeros(75, 1_000_000)}}}
    weights = {"weight": torch.ones(75, 1_000_000)}
    torch.save({"model_state_dict": weights, "optimizer_state_dict": moments}, tmp_path / "last.pth")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "last.pth")], capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert found["grown"] < 120, found
    assert found["mapped"] - found["mapped_at_first"] < 350, found
