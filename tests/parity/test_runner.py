"""The runner itself: it passes what agrees whatever its size, and fails whatever does not or is not known."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checks.cases import Case
from checks.files import BrokenFixture, Fixture
from checks.table import plan, plan_folder
from references import backbone, curves, losses, mindeye1, prior, unet
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fixtures of our own in two folders: other sizes, depths, subjects and case lists than the published ones."""
    folder, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(20240317)
    curves.write_schedules(folder)
    losses.write_losses(folder, rng)
    losses.write_converter(folder, rng)
    backbone.write_backbone(folder, rng, "me2_backbone", seq_len=1)
    backbone.write_backbone(folder, rng, "me2_backbone_seq3", seq_len=3)
    mindeye1.write_backbone(folder, rng)
    mindeye1.write_low_level(folder, rng)
    prior.write_sampling(folder, rng, prior.write_prior(folder, rng))
    unet.write_unet(folder, rng, layers=1)
    unet.write_unet(folder / "three", rng, layers=3)
    (folder / "index.json").write_text("{}")
    return folder


@pytest.fixture
def copy(own_folder: Path, tmp_path: Path) -> Path:
    """A copy of some of them, to be spoilt."""
    for name in ("losses", "bigg_to_l"):
        for suffix in (".json", ".safetensors"):
            shutil.copy(own_folder / f"{name}{suffix}", tmp_path)
    return tmp_path


def run_shell(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env={**kept, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=280
    )


@pytest.fixture
def run_here(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Run the fixtures of a folder in this process, and return the result."""
    monkeypatch.delenv("VOXELIGHT_NO_SKIPS", raising=False)
    options = ("-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider", ROOT / "tests" / "parity" / "test_fixtures.py")
    return lambda *arguments: pytester.runpytest_inprocess(*options, *arguments)


def find_line(done: pytest.RunResult, words: str) -> int:
    return next(number for number, line in enumerate(done.outlines) if words in line)


def edit(path: Path, **facts: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def find_case(folder: Path, name: str) -> Case:
    (case,) = [case for case in plan_folder(folder) if case.id == name]
    return case


def fails(case: Case) -> bool:
    """Whether the case is refused, or an output disagrees."""
    try:
        with torch.no_grad():
            return not all(figure.agrees for figure in case.run())
    except BrokenFixture:
        return True


def move(value: torch.Tensor, tolerance: dict[str, float]) -> torch.Tensor:
    """Return a tensor with its last entry moved by ten times what is allowed."""
    moved = value.clone().flatten()
    if value.dtype.is_floating_point:
        moved[-1] += 10 * (tolerance["atol"] + tolerance["rtol"] * moved[-1].abs())
    else:
        moved[-1] += 1
    return moved.reshape(value.shape)


def test_fixtures_of_other_sizes_pass(own_folder, run_here):
    done = run_here("--fixtures", own_folder)
    done.assert_outcomes(passed=len(plan_folder(own_folder)))
    rows = done.outlines[find_line(done, "largest errors beside") :]
    outputs = [name for case in plan_folder(own_folder) for name in case.outputs]
    assert len(outputs) > 80
    missing = [name for name in outputs if not any(f" {name} " in row for row in rows)]
    assert not missing, "the table has a row for each output"


def test_the_shell_takes_a_folder_from_where_it_is_and_gathers_the_table_from_a_process(copy):
    tests = ROOT / "tests"
    fixtures = ("--fixtures", os.path.relpath(copy, tests))
    done = run_shell("parity/test_fixtures.py", "--numprocesses", "1", *fixtures, folder=tests)
    assert done.returncode == 0, done.stdout + done.stderr
    for case in plan_folder(copy):
        assert all(f" {name} " in done.stdout for name in case.outputs)


def test_a_changed_value_of_any_output_fails(shared_fixtures, compared: Case | None):
    """So no output of the folder is only looked at."""
    assert compared, f"{shared_fixtures} holds no fixture that is compared"
    fixture = Fixture(compared.fixture.path, compared.fixture.name)
    (case,) = [case for case in plan(fixture) if case.name == compared.name]
    stated = fixture.fact("tolerance")
    stated = stated[case.tolerance] if case.tolerance else stated
    assert not fails(case)
    for name in case.outputs:
        if name.endswith(".step"):
            continue  # steps of a run are what its rates are asked for
        kept, fixture.tensors[name] = fixture.tensors[name], move(fixture.tensors[name], stated)
        assert fails(case), f"{name} was changed, and nothing noticed"
        fixture.tensors[name] = kept


def test_what_is_wrong_or_unknown_fails(copy, run_here):
    fixture = Fixture(copy / "losses.json", "losses")
    save_file(
        {**fixture.tensors, "out.nce_plain_0.2": fixture.tensors["out.nce_plain_0.2"] + 0.1, "out.new": torch.ones(1)},
        copy / "losses.safetensors",
    )
    (copy / "me3_backbone.json").write_text("{}")
    (copy / "broken.safetensors").write_bytes(b"")
    done = run_here("--fixtures", copy)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    failed = set(re.findall(r"^FAILED .+\[(.+?)\]", done.stdout.str(), re.MULTILINE))
    assert failed == {"losses/nce_plain_0", "losses/out.new", "me3_backbone/file", "broken/file"}
    done.stdout.re_match_lines([r"losses out\.nce_plain_0\.2 .+ DISAGREES"])
    done.assert_outcomes(failed=len(failed), passed=len(plan_folder(copy)) - len(failed))


@pytest.mark.parametrize("kind", ["agunet", "cdal", "msga"])
def test_an_unknown_case_of_segmentation_fails(tmp_path, kind):
    path = tmp_path / f"seg_own_{kind}.json"
    torch_file = {"novelty/out/y": torch.ones(2)}
    save_file(torch_file, path.with_suffix(".safetensors"))
    path.write_text(json.dumps({"cases": {}, "tolerance": {"atol": 1, "rtol": 1}}))
    case = find_case(tmp_path, f"seg_own_{kind}/novelty")
    assert fails(case)


def test_an_unknown_option_fails(copy):
    config = json.loads((copy / "bigg_to_l.json").read_text())["config"]
    edit(copy / "bigg_to_l.json", config={**config, "activation": "gelu"})
    assert fails(find_case(copy, "bigg_to_l/y"))


def test_weights_of_another_file_that_is_not_there_fail(own_folder, tmp_path):
    for suffix in (".json", ".safetensors"):
        shutil.copy(own_folder / f"me2_prior_sampling{suffix}", tmp_path)
    case = find_case(tmp_path, "me2_prior_sampling/sample")
    with pytest.raises(BrokenFixture, match=r"me2_prior\.json, which is not beside it"):
        case.run()


@pytest.mark.parametrize("missing", ["bigg_to_l.json", "bigg_to_l.safetensors"])
def test_half_a_fixture_fails(copy, missing):
    (copy / missing).unlink()
    assert fails(find_case(copy, "bigg_to_l/file"))


def test_an_output_that_is_listed_and_not_there_fails(copy):
    facts = json.loads((copy / "losses.json").read_text())
    edit(copy / "losses.json", tensors={**facts["tensors"], "out.nce_plain_0.9": ["float32", [1]]})
    assert fails(find_case(copy, "losses/nce_plain_0"))


def test_a_file_without_outputs_fails(tmp_path):
    save_file({"in.x": torch.ones(1)}, tmp_path / "losses.safetensors")
    (tmp_path / "losses.json").write_text(json.dumps({"config": {}, "tolerance": {"atol": 1, "rtol": 1}}))
    assert fails(find_case(tmp_path, "losses/outputs"))


@pytest.mark.parametrize("name", ["absent", "."])
def test_a_folder_without_fixtures_is_a_wrong_call(run_here, name):
    done = run_here("--fixtures", name)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.re_match_lines([rf"ERROR: --fixtures: {'found no parity fixture' if name == '.' else 'there is no'}.*"])


def test_a_clone_without_the_shared_folder_says_why_it_skips(run_here, tmp_path, monkeypatch):
    monkeypatch.setattr("checks.folder.DEFAULT", tmp_path / "fixtures")
    done = run_here("-rs")
    done.assert_outcomes(skipped=1)
    done.stdout.re_match_lines([r"SKIPPED .* needs the folder fixtures of the shared data beside the checkout.*"])


def test_the_list_of_pytests_own_fixtures_keeps_its_other_name(run_here):
    done = run_here("--funcargs")
    assert done.ret == pytest.ExitCode.OK
    done.stdout.re_match_lines([r"shared_fixtures .*"])
