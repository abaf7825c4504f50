"""The tree of commands: light to start, and every word explained."""

import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from voxelight.app.cli import COMMANDS, main

PAGE = Path(__file__).resolve().parents[3] / "docs/shell.md"


def commands(group: click.Group, name: str):
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


LEAVES = dict(commands(main, "voxelight"))


def run(tmp_path, *words: str) -> tuple[str, set[str], float]:
    """What a fresh process prints, which modules it has loaded at its end, and how long it took."""
    code = (
        "import sys\n"
        "from voxelight.app.cli import main\n"
        "try:\n    main(sys.argv[1:], 'voxelight')\n"
        "finally:\n    print(*sorted({n.partition('.')[0] for n in sys.modules}), file=sys.stderr)\n"
    )
    before = time.perf_counter()
    command = [sys.executable, "-c", code, "--home", str(tmp_path / "home"), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    return done.stdout, set(done.stderr.splitlines()[-1].split()), time.perf_counter() - before


def test_the_help_loads_neither_network_nor_database_nor_page(tmp_path):
    text, loaded, seconds = run(tmp_path, "--help")
    print(f"voxelight --help: {seconds:.2f} s")
    assert all(name in text for name in COMMANDS)
    assert not loaded & {"torch", "sqlalchemy", "streamlit", "dbos", "fastapi", "pydantic", "numpy", "nilearn"}
    assert not (tmp_path / "home").exists()


def test_asking_the_database_loads_no_network(tmp_path):
    _, loaded, seconds = run(tmp_path, "jobs", "list")
    print(f"voxelight jobs list, with a new database: {seconds:.2f} s")
    assert "sqlalchemy" in loaded
    assert not loaded & {"torch", "monai", "streamlit", "fastapi", "nilearn"}


@pytest.mark.parametrize("words", [("segment", "--help"), ("jobs", "submit", "--help"), ("worker", "--help")])
def test_the_help_of_a_command_loads_no_database(tmp_path, words):
    _, loaded, seconds = run(tmp_path, *words)
    print(f"voxelight {' '.join(words)}: {seconds:.2f} s")
    assert not loaded & {"torch", "sqlalchemy", "dbos", "streamlit"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name):
    assert main.commands[name].help.splitlines()[0] == COMMANDS[name][1]


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_answers_in_json_and_explains_itself(name):
    command = LEAVES[name]
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert command.help
    assert all(option.help for option in options)
    assert ["--json"] in [option.opts for option in options]


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_and_option_stands_in_the_document(name):
    option_names = {option.opts[0] for option in LEAVES[name].params if isinstance(option, click.Option)} - {"--json"}
    told = "".join(section for section in PAGE.read_text().split("\n### ") if f"`{name}" in section)
    assert told
    assert not {option for option in option_names if option not in told}
