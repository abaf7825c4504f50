"""The line of MindEye2 trained from the shell: a decoder of simulated subjects, the UNet, the converter."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from voxelight.app.schemas import Problem
from voxelight.models.diffusion.unet import UNetConfig
from voxelight.neuro.profiles import find_profile
from voxelight.neuro.simulation import DesignOptions, SubjectOptions
from voxelight.storage.formats.picture_sets import open_pictures
from voxelight.storage.formats.simulated import Make, write_simulated

SMALL = (
    "--profile", "random-small", "--device", "cpu", "--training", "batch=8", "--training", "epochs=3",
    "--training", "precision=fp32", "--training", 'losses={"low_level": 0}', "--config", "hidden=16",
    "--config", "low_level=false",
    "--config", 'prior={"dim": 64, "depth": 1, "dim_head": 32, "heads": 1, "tokens": 16, "timesteps": 10}',
)  # fmt: skip


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Two simulated subjects on disk, and the pictures that they saw."""
    folder = tmp_path_factory.mktemp("simulated")
    images = (255 * np.random.default_rng(0).uniform(size=(36, 16, 16, 3))).astype(np.uint8)
    np.save(folder / "pictures.npy", images)
    torch.set_num_threads(1)
    pictures = open_pictures(folder / "pictures.npy")
    design = DesignOptions(pictures=20, shared=6, repeats=2, trials=20, runs=2)
    make = Make(subjects=(1, 2), design=design, options=SubjectOptions(voxels=30))
    write_simulated(folder / "subjects", pictures, make)
    return folder


def test_a_decoder_of_two_subjects_is_trained_kept_and_fitted_to_more(ask, shell, simulated, tmp_path):
    place = ("--data", simulated / "subjects", "--pictures", simulated / "pictures.npy")
    answer = ask("train", "decoder", "mindeye2-one-subject", *place, "--out", tmp_path / "two", "--keep", "two", *SMALL)
    scores, curve, card = map(Path, answer["files"])
    told = json.loads(scores.read_text())
    assert told["simulated"]
    assert set(told["scores"]) == {"simulated-mismatched-01", "simulated-mismatched-02"}
    assert "mismatched" in told["data"]["source"]
    told_by = {score["name"]: score for score in told["scores"]["simulated-mismatched-01"]}
    two_way = told_by["two_way_tokens"]
    assert two_way["oracle"] > 0.9, "the simulated signal tells six pictures apart"
    assert two_way["fraction_of_oracle"] == pytest.approx(
        (two_way["value"] - two_way["null_mean"]) / (two_way["oracle"] - two_way["null_mean"])
    )
    assert [line for line in told["guards"] if line.startswith("held") and "scaler" in line]
    with curve.open() as file:
        assert len(list(csv.DictReader(file))) == 3 * (40 // 16)
    assert "SIMULATED" in card.read_text()
    # The one-hour protocol: one session of a new subject, on what the others share.
    more = ("--start-from", "two", "--subject", "1", "--sessions", "1", "--adapter-rank", "3")
    ask("train", "decoder", "mindeye2-finetune", *place, "--out", tmp_path / "one", "--keep", "one", *more, *SMALL)
    assert "one" in {row["name"] for row in ask("recipes", "list", "--kind", "decode")}
    refused = shell(
        "train", "decoder", "mindeye2-finetune", *place, "--out", tmp_path / "no", "--keep", "no", *SMALL, "--json",
        code=2,
    )  # fmt: skip
    assert "start_from" in Problem.model_validate_json(refused.stderr).expected
    assert not (tmp_path / "no").exists()


def test_the_unet_and_the_converter_are_trained(ask, shell, simulated, tmp_path):
    common = (
        "--pictures", simulated / "pictures.npy", "--out", tmp_path, "--profile", "random-small", "--device", "cpu",
        "--training", "batch=4", "--training", "precision=fp32", "--steps", "2",
    )  # fmt: skip
    unclip, record, curve = map(Path, ask("train", "unclip", *common, "--training", "warm_up=0")["files"])
    weights = load_file(unclip)
    built = UNetConfig(**find_profile("random-small").parts["unclip"].config).build()
    assert weights.keys() == built.state_dict().keys()
    told = json.loads(record.read_text())
    assert (told["descent"]["offset"], told["descent"]["steps"], told["random_encoder"]) == (0.04, 2, True)
    with curve.open() as file:
        assert [float(row["lr"]) for row in csv.DictReader(file)] == [1e-5, 1e-5]
    np.save(tmp_path / "tokens.npy", np.random.default_rng(1).normal(size=(36, 17, 32)).astype(np.float32))
    converter = ask("train", "converter", *common, "--caption-tokens", tmp_path / "tokens.npy")["files"][0]
    assert load_file(converter)["linear2.weight"].shape == (32, 64)
    np.save(tmp_path / "wrong.npy", np.zeros((36, 5, 32), np.float32))
    refused = shell("train", "converter", *common, "--caption-tokens", tmp_path / "wrong.npy", "--json", code=2)
    assert "(17, 32)" in Problem.model_validate_json(refused.stderr).expected


def test_the_help_of_each_says_what_it_takes(shell):
    for word, option in (("decoder", "--adapter-rank"), ("unclip", "--start-from"), ("converter", "--caption-tokens")):
        assert option in shell("train", word, "--help").stdout
