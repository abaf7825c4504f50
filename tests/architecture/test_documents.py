"""The documents say what is there."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def anchors(text: str) -> set[str]:
    """Anchors that the headings of a Markdown text make."""
    headings = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(group: click.Command, name: str = "voxelight") -> Iterator[tuple[str, click.Command]]:
    """Every command of the shell with its full name."""
    yield name, group
    if isinstance(group, click.Group):
        for child in group.commands.values():
            yield from commands(child, f"{name} {child.name}")


@pytest.fixture(scope="module")
def shell() -> dict[str, click.Command]:
    from voxelight.app.cli import main

    return dict(commands(main))


@pytest.fixture(scope="module")
def documents(texts) -> dict[Path, str]:
    return {path: text for path, text in texts.items() if path.suffix == ".md"}


def test_every_link_leads_somewhere(root, documents):
    broken = []
    for path, text in documents.items():
        for link in (first or second for first, second in LINK.findall(text)):
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            place = (root / path.parent / target).resolve() if target else root / path
            if not place.exists() or (anchor and anchor not in anchors(place.read_text())):
                broken.append(f"{path}: {link}")
    assert not broken


def test_every_named_file_exists(root, documents):
    missing = [
        f"{path}: {name}"
        for path, text in documents.items()
        for name in re.findall(r"`((?:app|docker|medseg|models|neuro|storage|tests)/[\w./-]*)`", text)
        if not (root / name).exists()
    ]
    assert not missing


def test_the_layout_names_every_part(root, built):
    """Files and folders of the first level; what lies deeper is for the folder to say."""
    page = (root / "docs/layout.md").read_text()
    code = [path for path in built if path.parts[0] != "docs"]  # the documents have an index of their own
    parts = {"/".join(path.parts[:2]) + ("/" if len(path.parts) > 2 else "") for path in code}
    told = {part for part in parts if f"`{part}`" in page or part.endswith(("__init__.py", "py.typed"))}
    hidden = sorted(parts - told)
    assert not hidden, f"say in docs/layout.md what they are for: {hidden}"


def test_every_document_is_reached_from_the_index(root, documents):
    index = (root / "docs/README.md").read_text()
    linked = {first or second for first, second in LINK.findall(index)}
    pages = {path.relative_to("docs").as_posix() for path in documents if path.parts[0] == "docs"} - {"README.md"}
    assert pages, "no page was found, so nothing was checked"
    assert not pages - linked, "link the page in docs/README.md"


def test_a_decision_says_why(documents):
    decisions = {path: text for path, text in documents.items() if path.parts[:2] == ("docs", "decisions")}
    for path, text in decisions.items():
        parts = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
        assert parts == ["Context", "Decision", "Evidence", "Consequence"], f"{path} has the parts {parts}"
        assert len(text.splitlines()) <= 60, f"{path} is longer than a page"


def test_the_readme_needs_two_commands(root):
    blocks = re.findall(r"^```\w*\n(.*?)^```", (root / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    first = [line.partition("#")[0].strip() for line in blocks[0].splitlines()]
    assert first == ["make demo", "make test"]
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), flags=re.MULTILINE))
    named = {name for block in blocks for name in re.findall(r"^make ([a-z-]+)", block, flags=re.MULTILINE)}
    assert not named - targets


def test_every_named_recipe_exists(documents, root):
    recipes = {path.stem for folder in ("neuro", "medseg") for path in (root / folder / "recipes").glob("*.toml")}
    recipes |= {path.stem for path in (root / "neuro" / "training").glob("*.toml")}
    recipes |= {f"train-{name}" for name in (*recipes, "planned")}  # what a job that trains calls them
    named = {
        (str(path), name)
        for path, text in documents.items()
        for name in re.findall(r"--recipe[ =]([a-z0-9][\w-]*)", text)
    }
    assert not {(path, name) for path, name in named if name not in recipes}


def test_every_command_and_option_has_a_help_text(shell):
    silent = [name for name, command in shell.items() if not command.help]
    silent += [
        f"{name} {option.opts[0]}"
        for name, command in shell.items()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert not silent


def test_every_command_is_documented(shell, root):
    page = (root / "docs/shell.md").read_text()
    assert not [name for name in shell if name not in page]


def test_no_document_names_a_command_that_is_not_there(shell, documents):
    wrong = set()
    for path, text in documents.items():
        for line in re.findall(r"(?:^|`)(?:\.venv/bin/)?voxelight ([^`\n]*)", text, flags=re.MULTILINE):
            words = re.split(r"\s+(?:[^a-z\s].*)?$|\s+", line)
            name = "voxelight"
            for word in words:
                command = shell[name]
                if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z][a-z-]*", word or ""):
                    break
                name = f"{name} {word}"
                if name not in shell:
                    wrong.add((str(path), name))
                    break
    assert not wrong


def test_the_changelog_names_the_version(root):
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    text = (root / "CHANGELOG.md").read_text()
    assert f"## [{version}]" in text
    assert "## [Unreleased]" in text
