"""A folder of modules is a package that the build knows, and the built wheel runs by itself."""

import ast
import re
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest


def plain(name: str) -> str:
    """Name of a distribution as an index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wheel_name(path: Path) -> str:
    """Where a file of the checkout lies in the wheel."""
    inside = path.relative_to("app/facade") if path.is_relative_to("app/facade") else path
    return f"voxelight/{inside.as_posix()}"


@pytest.fixture(scope="module")
def wheel(root, files, run, tmp_path_factory) -> Path:
    """A wheel built from the project's own files, away from what earlier builds left."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in files:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes((root / path).read_bytes())
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, run, tmp_path_factory) -> Path:
    """A new environment with the wheel, which borrows only what the wheel depends on."""
    place = tmp_path_factory.mktemp("fresh") / "env"
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=place.parent)
    python = place / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--no-input")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=place.parent)
    (site,) = place.glob("lib/python*/site-packages")
    # Plain paths in a .pth file run no other .pth file, so the editable install stays out.
    (site / "dependencies.pth").write_text("\n".join(part for part in sys.path if part.endswith("site-packages")))
    return place


def test_every_folder_of_modules_is_listed_as_a_package(root, built):
    listed = set(tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {path.parent for path in built if path.suffix == ".py"}
    needed = {
        "voxelight" if folder == Path("app/facade") else ".".join(("voxelight", *folder.parts)) for folder in folders
    }
    assert needed, "no package was found, so nothing was checked"
    missing, stale = sorted(needed - listed), sorted(listed - needed)
    assert not missing, f"add {missing} to [tool.setuptools] packages in pyproject.toml: the wheel would lack them"
    assert not stale, f"take {stale} out of [tool.setuptools] packages in pyproject.toml: no module lies there"
    bare = sorted(str(folder) for folder in folders if folder / "__init__.py" not in built)
    assert not bare, f"give {bare} an __init__.py: a folder without one may be shadowed by another of its name"


def test_the_wheel_holds_every_file_of_the_house(wheel, built):
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = sorted(str(path) for path in built if wheel_name(path) not in names)
    assert not missing, f"add the suffix to [tool.setuptools.package-data], or the folder to packages: {missing}"
    assert "voxelight/models/py.typed" in names


def test_the_wheel_holds_nothing_else(wheel, built):
    ours = {wheel_name(path) for path in built}
    extra = [name for name in zipfile.ZipFile(wheel).namelist() if name not in ours and ".dist-info/" not in name]
    assert not extra


def test_the_wheel_carries_its_licences(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_runs_in_a_fresh_environment(installed, run):
    code = "import voxelight, voxelight.models.values as ours; print(voxelight.__file__, ours.__file__, sep='\\n')"
    for place in run(installed / "bin" / "python", "-c", code, cwd=installed).stdout.split():
        assert Path(place).is_relative_to(installed)


def test_the_command_of_the_wheel_tells_its_version(installed, root, run):
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assert version in run(installed / "bin" / "voxelight", "--version", cwd=installed).stdout


def test_what_is_imported_is_asked_for(root, built):
    """A package that only comes along with another goes away with it; an option may import what its extra names."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines]
    asked, asked_late = (
        {plain(re.match(r"[\w.-]+", line)[0]) for line in lines}
        for lines in (project["dependencies"], [*project["dependencies"], *extras])
    )
    providers = packages_distributions()
    imported = set()
    for path in built:
        if path.suffix == ".py":
            for node in ast.walk(ast.parse((root / path).read_text())):
                late = getattr(node, "col_offset", 0) > 0
                if isinstance(node, ast.Import):
                    imported |= {(path, alias.name.partition(".")[0], late) for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    imported.add((path, node.module.partition(".")[0], late))
    foreign = {each for each in imported if each[1] not in {*sys.stdlib_module_names, "voxelight"}}
    assert foreign
    unasked = {
        f"{path}: {name}"
        for path, name, late in foreign
        if not {plain(provider) for provider in providers.get(name, ())} & (asked_late if late else asked)
    }
    assert not unasked, f"add to dependencies in pyproject.toml, and pin in constraints.txt: {sorted(unasked)}"
