"""The tiny profile trained from the shell, at sizes that a processor bears, on drawn shapes in place of photographs."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomlkit
import torch
from PIL import Image
from safetensors.torch import load_file

from voxelight.neuro.tiny.recipe import find_tiny_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "train_tiny.py"
NAMES = ("red disc", "blue square")
STAGES = ("image_text", "autoencoder", "unclip", "captions", "subject")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """80 pictures of 32 x 32 pixels in two classes."""
    folder, chance = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    images = []
    for number in range(80):
        picture = chance.integers(90, 160, (32, 32, 3)).astype(np.uint8)
        picture[8:24, 8:24] = (220, 40, 30) if number % 2 == 0 else (30, 60, 220)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        images.append(buffer.getvalue())
    labels = pa.array([number % 2 for number in range(80)], pa.int16())
    table = pa.table({"key": [f"shape_{number}" for number in range(80)], "image": images, "label": labels})
    pq.write_table(table, folder / "train-0.parquet")
    (folder / "classes.json").write_text(json.dumps([{"name": name} for name in NAMES]))
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The packaged recipe at small sizes, with two steps a stage."""
    content = find_tiny_recipe().model_dump()
    networks = content["networks"]
    networks["image_encoder"] |= {"width": 32, "layers": 1, "side": 32, "output_dim": 16}
    networks["autoencoder"] |= {"channels": [16, 16, 32], "layers": 1, "groups": 8}
    networks["unclip"] |= {"channels": [32, 32], "context_dim": 32}
    networks["converter"] |= {"dim_in": 32, "dim_out": 16, "tokens_in": 16, "tokens_out": 17}
    networks["captioner"] |= {"width": 32, "layers": 1, "heads": 2, "mlp_width": 32, "vocabulary": 12}
    networks["captioner"] |= {"dim_in": 16, "tokens": 17}
    for stage in STAGES[:-1]:
        content[stage]["descent"] |= {"steps": 2, "batch": 16, "warm_up": 1}
        content[stage] |= {"views": 1} if "views" in content[stage] else {}
    prior = {"dim": 32, "depth": 1, "dim_head": 16, "heads": 2, "tokens": 16}
    content["subject"] |= {"voxels": 60, "design": {"pictures": 40, "shared": 12, "trials": 60, "runs": 2}}
    content["subject"]["decoder"] |= {"sessions": 2, "trials_a_session": 42, "batch": 14, "epochs": 2}
    content["subject"]["decoder"]["config"] = {
        "hidden": 16,
        "tokens": 16,
        "dim": 32,
        "low_level": False,
        "prior": prior,
    }
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(
        tomlkit.dumps(content | {"held_out": 16, "side": 32, "text": {"width": 16, "heads": 2, "layers": 1}})
    )
    return path


def test_stages_are_trained_once_recorded_and_shipped(ask, pictures, recipe, tmp_path):
    out = tmp_path / "out"
    words = ("train", "tiny", *STAGES, "--pictures", pictures, "--out", out, "--recipe", recipe, "--device", "cpu")
    shipped = {path.rpartition("/")[2] for path in ask(*words)["files"]}
    assert {f"tiny-{name}.safetensors" for name in ("image-text", "autoencoder", "unclip", "captions")} < shipped
    assert {"tiny-decoder.safetensors", "tiny-sample.safetensors", "tiny-sample.json", "tiny-words.json"} < shipped
    record = json.loads((out / "unclip.json").read_text())
    assert (record["seed"], record["steps"], record["device"]) == (0, 2, "cpu")
    assert set(map(len, record["pictures"].values())) == {64}
    halves = load_file(out / "shipped" / "tiny-image-text.safetensors")
    assert {value.dtype for value in halves.values()} == {torch.float16}
    assert not any(name.startswith(("guide.", "pixels.")) for name in halves)
    words_of = json.loads((out / "shipped" / "tiny-words.json").read_text())
    assert words_of["classes"] == list(NAMES)
    assert len(words_of["vocabulary"]) == 12
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    ask(*words)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")} == before
    # Deterministic by seed: another folder, the same weights.
    again = tmp_path / "again"
    told = ask(
        "train", "tiny", "image_text", "--pictures", pictures, "--out", again, "--recipe", recipe, "--device", "cpu"
    )
    assert told["files"] == []
    one, other = (load_file(folder / "image_text.safetensors") for folder in (out, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_stage_without_those_before_it_says_which_to_run(shell, pictures, recipe, tmp_path):
    words = ("train", "tiny", "unclip", "--pictures", pictures, "--out", tmp_path / "out", "--recipe", recipe)
    assert "Run autoencoder first" in shell(*words, "--device", "cpu", code=3).stderr


def test_pictures_that_are_not_there_are_named_with_their_source_and_terms(shell, recipe, tmp_path):
    words = ("train", "tiny", "--pictures", tmp_path / "nowhere", "--out", tmp_path / "out", "--recipe", recipe)
    said = shell(*words, code=2).stderr
    assert "Tiny ImageNet" in said
    assert "ImageNet's terms" in said
    assert not (tmp_path / "out").exists()


def test_a_stage_that_is_none_is_refused(shell, pictures, tmp_path):
    assert "teacher" in shell("train", "tiny", "dreams", "--pictures", pictures, "--out", tmp_path, code=2).stderr


def test_the_script_for_a_bare_machine_trains_the_same_stages(pictures, recipe, tmp_path):
    words = ("image_text", "subject", "tokens", "--recipe", recipe, "--device", "cpu", "--ship", tmp_path / "ship")
    command = [sys.executable, SCRIPT, pictures, tmp_path / "work", *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "ship" / "report.json").read_text())
    assert [stage["stage"] for stage in report["stages"]] == ["image_text", "subject"]
    assert {"oracle_12", "subject betas", "subject shuffled"} <= report["figures"][-1].keys()
    assert load_file(tmp_path / "ship" / "subject.safetensors")["ridge.linears.0.weight"].dtype == torch.float16


def test_the_script_for_a_bare_machine_needs_no_server(tmp_path):
    heavy = "{'sqlalchemy', 'dbos', 'streamlit', 'fastapi', 'nibabel', 'skimage', 'rich'}"
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import train_tiny; print({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "set()"
