"""A refusal says what was found, what was expected and what to do, and its exit code says of which kind it is."""

import json
import uuid

import pytest
from click.testing import CliRunner

from voxelight.app.cli import main
from voxelight.app.schemas import Problem

NOBODY = str(uuid.UUID(int=0))
REFUSALS = {
    "bad input": (2, ["datasets", "create", "no blanks"]),
    "bad path": (2, ["ingest", "nowhere.nii", "--dataset", "there"]),
    "bad cursor": (2, ["jobs", "list", "--cursor", "x"]),
    "bad limit": (2, ["datasets", "list", "--limit", "0"]),
    "bad option": (2, ["jobs", "submit", "there", "--recipe", "miyawaki-ridge", "--option", "permutations"]),
    "nothing to change": (2, ["datasets", "change", "there"]),
    "nothing to segment": (2, ["jobs", "submit", "there", "--recipe", "hippocampus-agunet"]),
    "unknown job": (3, ["jobs", "show", NOBODY]),
    "unknown run": (3, ["results", "show", NOBODY]),
    "unknown data set": (3, ["datasets", "show", "absent"]),
    "unknown recipe": (3, ["recipes", "show", "absent"]),
    "unknown recipe of a job": (3, ["jobs", "submit", "there", "--recipe", "absent"]),
    "unknown public data": (3, ["data", "fetch", "absent"]),
    "nothing to export": (3, ["results", "export", "--out", "out"]),
    "a name that is taken": (4, ["datasets", "create", "there"]),
    "a version that is past": (4, ["datasets", "change", "there", "--purpose", "x", "--version", "7"]),
    "no consent": (5, ["reconstruct", "there", "--recipe", "miyawaki-ridge", "--out", "out"]),
}


@pytest.fixture
def there(shell, tmp_path, monkeypatch):
    """A data set without consent, and an empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    shell("datasets", "create", "there")


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_told_to_a_person(shell, there, case):
    code, words = REFUSALS[case]
    result = shell(*words, code=code)
    assert [line.split()[0] for line in result.stderr.splitlines()[-3:]] == ["Found", "Expected", "To"]
    assert "Traceback" not in result.stderr
    assert not result.stdout


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_a_problem_in_json(shell, there, case):
    code, words = REFUSALS[case]
    result = shell(*words, "--json", code=code)
    problem = Problem.model_validate_json(result.stderr)
    assert problem.status == {2: 422, 3: 404, 4: 409, 5: 403}[code]
    assert problem.found
    assert problem.expected
    assert problem.remedy
    assert not result.stdout


@pytest.mark.parametrize("words", [["jobs", "show"], ["segment", "a.nii"], ["jobs", "list", "--nonsense"]])
def test_words_that_a_command_does_not_take_are_bad_input(shell, words):
    assert f"Usage: voxelight {words[0]}" in shell(*words, code=2).stderr
    assert Problem.model_validate_json(shell(*words, "--json", code=2).stderr).status == 422


def test_a_command_that_is_not_there_is_bad_input(shell):
    assert "No such command 'sgement'" in shell("sgement", code=2).stderr
    assert "No such command 'x'" in shell("jobs", "x", code=2).stderr


def test_a_setting_that_makes_no_sense_is_bad_input(shell, monkeypatch):
    monkeypatch.setenv("VOXELIGHT_MAX_ATTEMPTS", "many")
    assert "max_attempts" in shell("jobs", "list", code=2).stderr


def test_the_home_folder_comes_from_the_environment_too(home, monkeypatch):
    monkeypatch.setenv("VOXELIGHT_HOME", str(home))
    assert CliRunner().invoke(main, ["datasets", "create", "by-environment"]).exit_code == 0
    answer = CliRunner().invoke(main, ["--home", str(home), "datasets", "list", "--json"])
    assert [row["name"] for row in json.loads(answer.stdout)["items"]] == ["by-environment"]


def test_without_a_network_a_fetch_says_what_it_could_not_reach(shell, home, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens on the discard port
    result = shell("data", "fetch", "miyawaki2008", code=6)
    assert "www.nitrc.org" in result.stderr
    assert not [path for path in (home / "data").rglob("*") if path.is_file()]
