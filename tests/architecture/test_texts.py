"""What every text file of the project keeps to."""

import re
import tomllib

import pytest

# Each in two halves, so that this file does not hold what it forbids.
FORBIDDEN = {
    "a note to do later: do it, or open an issue": "TO" + r"DO\b|FIX" + r"ME\b|X" + r"XX\b",
    "a path of one machine: take it from the settings": r"(?<![\w.])/(?:ro" + r"ot|ho" + r"me|wo" + r"rk|Us" + r"ers)/",
    "the host of a package registry: pip knows where to look": (
        r"pyp" + r"i\.org|pythonho" + r"sted\.org|registry\.np" + r"mjs|deb\.deb" + r"ian\.org|download\.pyto" + r"rch"
    ),
}


@pytest.mark.parametrize("reason", FORBIDDEN)
def test_no_text_holds(texts, reason):
    pattern = re.compile(FORBIDDEN[reason])
    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"{reason}\n" + "\n".join(found)


def test_the_pinned_versions_name_no_place(root):
    for line in (root / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), f"{line!r} is not a plain release"


def test_every_dependency_is_pinned(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    names = {re.match(r"[A-Za-z0-9._-]+", line)[0] for line in asked} - {"voxelight"}
    pins = {line.partition("==")[0] for line in (root / "constraints.txt").read_text().splitlines()}

    def plain(found):
        return {re.sub(r"[-_.]+", "-", name).lower() for name in found}

    assert not plain(names) - plain(pins), "pin the newcomer in constraints.txt"
