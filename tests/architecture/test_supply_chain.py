"""Every package that is installed has a licence that was looked at, and a bill of materials can be written."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def chain():
    spec = importlib.util.spec_from_file_location("supply_chain", ROOT / ".ci" / "supply_chain.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_package_that_is_installed_may_stay(chain):
    rows = chain.list_licences()
    assert len(rows) > 100
    assert [row for row in rows if row["verdict"].startswith("not allowed")] == []
    assert {row["package"] for row in rows if row["needed"] == "always"} >= {"numpy", "torch", "streamlit", "fastapi"}


@pytest.mark.parametrize(
    ("licence", "verdict"),
    [
        ("MIT", "permissive"),
        ("Apache-2.0 AND BSD-3-Clause", "permissive"),
        ("(MIT OR Apache-2.0) AND PSF-2.0", "permissive"),
        ("BSD License; Apache Software License", "permissive"),
        ("Mozilla Public License 2.0 (MPL 2.0)", "weak copyleft"),
        ("MPL-2.0 AND MIT", "weak copyleft"),
        ("GPL-3.0-only", "not allowed: GPL-3.0-only"),
        ("MIT AND AGPL-3.0-or-later", "not allowed: MIT AND AGPL-3.0-or-later"),
        ("MIT License; Other/Proprietary License", "not allowed: MIT License; Other/Proprietary License"),
        ("", "not allowed: no licence"),
    ],
)
def test_a_licence_that_nobody_looked_at_fails(chain, licence, verdict):
    assert chain.judge("a-new-package", licence) == verdict


def test_packages_that_are_not_permissive_are_named_one_by_one(chain):
    assert all(licence and why for licence, why in chain.KNOWN.values())
    installed = {row["package"] for row in chain.list_licences()}
    assert set(chain.KNOWN) - installed <= {"cuda-toolkit", "atheris"}  # on other machines; what is gone goes from here


def test_vulnerabilities_that_nobody_was_asked_about_are_not_called_none(chain, tmp_path, monkeypatch, capsys):
    target = tmp_path / "build" / "found.json"

    def answer(packages):
        def run(command, **_):
            target.write_text(json.dumps({"dependencies": packages}))
            return subprocess.CompletedProcess(command, 0, b"", b"")

        return run

    skipped = {"name": "a", "skip_reason": "not found"}
    monkeypatch.setattr(chain.subprocess, "run", answer([skipped]))
    assert chain.report_vulnerabilities(target) == 0
    assert "NOT AUDITED" in capsys.readouterr().out
    bad = {"name": "b", "version": "1", "vulns": [{"id": "CVE-1"}]}
    monkeypatch.setattr(chain.subprocess, "run", answer([skipped, bad]))
    assert chain.report_vulnerabilities(target) == 1
    assert "1 of 2 packages audited, 1 vulnerabilities" in capsys.readouterr().out
    nothing = subprocess.CompletedProcess([], 1, b"", b"no network")
    monkeypatch.setattr(chain.subprocess, "run", lambda *_, **__: nothing)
    assert chain.report_vulnerabilities(target) == 0
    assert "NOT AUDITED" in capsys.readouterr().out


def test_a_bill_of_materials_lists_what_is_installed(tmp_path):
    target = tmp_path / "sbom.json"
    command = [
        "cyclonedx_py",
        "environment",
        "--pyproject",
        str(ROOT / "pyproject.toml"),
        "--no-validate",
        "--of",
        "JSON",
    ]
    subprocess.run(
        [sys.executable, "-m", *command, "--output-file", str(target), sys.executable], check=True, timeout=120
    )
    bill = json.loads(target.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    parts = {part["name"]: part for part in bill["components"]}
    assert parts["numpy"]["purl"].startswith("pkg:pypi/numpy@")
    assert bill["metadata"]["component"]["name"] == "voxelight"
