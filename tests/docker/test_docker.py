"""What the images run exists, and what the web image holds suffices."""

import ast
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}


def dockerfile_commands() -> list[tuple[str, list[str]]]:
    return [
        (path.name, json.loads(line))
        for path in sorted((ROOT / "docker").glob("*.Dockerfile"))
        for line in re.findall(r"^CMD (\[.*\])$", path.read_text(), flags=re.MULTILINE)
    ]


COMMANDS = dockerfile_commands() + [(name, service["command"]) for name, service in OURS.items()]


@pytest.mark.parametrize(("place", "words"), COMMANDS, ids=[place for place, _ in COMMANDS])
def test_the_command_exists(place, words):
    from voxelight.app.cli import main

    command, words = main, [str(word) for word in words]
    while hasattr(command, "commands"):
        assert words, f"{place} names a group of commands, not a command"
        assert words[0] in command.commands, f"{place}: {shlex.join(words)}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, words)  # raises where an option is unknown


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_is_confined(name):
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "USER 10001:10001" in (ROOT / service["build"]["dockerfile"]).read_text()


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_is_confined_and_tells_how_it_is(name):
    """Ours by their images' own check; what ends has none."""
    service = COMPOSE["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    if name == "objects-owner":
        assert (service["cap_add"], service["network_mode"]) == (["CHOWN"], "none")
    else:
        assert service.get("user", "10001:10001" if name in OURS else "root") != "root"
    dockerfile = (ROOT / service["build"]["dockerfile"]).read_text() if name in OURS else ""
    ends = service.get("healthcheck") == {"disable": True}
    assert ends is (name in {"migrate", "objects-owner"})
    assert ends or "healthcheck" in service or re.search(r"^HEALTHCHECK --", dockerfile, flags=re.MULTILINE)


def test_the_names_of_the_settings_are_right():
    from voxelight.app.settings import Settings

    known = {f"VOXELIGHT_{field.upper()}" for field in Settings.model_fields}
    used = {key for service in OURS.values() for key in service["environment"] if key.startswith("VOXELIGHT_")}
    assert used
    assert not used - known


def web_packages() -> list[Requirement]:
    lines = (ROOT / "docker/web.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def closure(asked: list[Requirement]) -> set[str]:
    """Names of everything that an installation of these brings along."""
    found: set[tuple[str, str]] = set()
    while asked:
        wanted = asked.pop()
        for extra in {"", *wanted.extras}:
            if (key := (canonicalize_name(wanted.name), extra)) in found:
                continue
            found.add(key)
            try:
                further = [Requirement(line) for line in requires(wanted.name) or []]
            except PackageNotFoundError:
                continue
            asked += [need for need in further if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


@pytest.fixture(scope="module")
def absent() -> set[str]:
    """Modules that are installed here and not in the web image."""
    present = closure(web_packages())
    return {
        module
        for module, providers in packages_distributions().items()
        if module not in {"voxelight", "pip", "setuptools", "pkg_resources", "_distutils_hack"}
        and not {canonicalize_name(provider) for provider in providers} & present
    } - set(sys.stdlib_module_names)


def test_the_web_image_asks_for_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    declared |= {canonicalize_name(Requirement(line).name) for line in [*extras["postgres"], *extras["s3"]]}
    assert not {canonicalize_name(need.name) for need in web_packages()} - declared


@pytest.fixture(scope="module")
def web_environment(absent, tmp_path_factory) -> dict[str, str]:
    """Variables under which Python finds only what the web image holds."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        f"absent = {sorted(absent)!r}\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in absent:\n"
        "            raise ModuleNotFoundError(f'{name} is not in the web image', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    return os.environ | {"PYTHONPATH": str(folder), "VOXELIGHT_HOME": str(folder / "home")}


@pytest.mark.parametrize("package", ["app/api", "app/ui", "app/verbs", "storage"])
def test_the_web_image_holds_what_its_modules_import(package, web_environment, tmp_path):
    """Pages are scripts, which run when imported: their own imports are asked for in their place."""
    names = set()
    # Data are fetched, models imported and trained ones loaded by the shell and by workers alone.
    late = ("fetch.py", "trained.py", "decoders.py", "linear.py")
    elsewhere = {*(ROOT / "storage" / name for name in late), *(ROOT / "storage").glob("import*.py")}
    for path in set((ROOT / package).rglob("*.py")) - elsewhere:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    done = subprocess.run(
        [sys.executable, "-c", code, *sorted(names)], cwd=tmp_path, env=web_environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_web_image_starts_with_what_it_holds(absent, web_environment, tmp_path):
    assert {"torch", "monai", "transformers", "pytest"} <= absent
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [Path(sys.executable).with_name("voxelight"), "serve", "--no-worker", "--port", str(port)]
    with (tmp_path / "log").open("w+") as log:
        server = subprocess.Popen(words, cwd=tmp_path, env=web_environment, stdout=log, stderr=log)
        try:
            for path in ("/api/v1/health", "/api/v1/models", "/"):
                assert answered(f"http://127.0.0.1:{port}{path}", server), (tmp_path / "log").read_text()
        finally:
            server.terminate()
            server.wait(timeout=30)


def answered(url: str, server: subprocess.Popen) -> bool:
    for _ in range(150):
        if server.poll() is not None:
            return False
        try:
            with urlopen(url, timeout=5) as answer:
                return answer.status == 200
        except OSError:  # refused, reset, or slow to begin with
            time.sleep(0.2)
    return False
