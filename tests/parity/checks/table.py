"""Every kind of file, by the name of the file."""

import re
from importlib import import_module
from pathlib import Path

from checks.cases import Case
from checks.files import Fixture, find_fixtures

# `seg_<set>_<kind>` for segmentation, the bare name for MindEye -> where its plan is. Imported when a folder holds one.
KINDS = {
    r"seg_.+_agunet": "checks.agunet:KIND",
    r"seg_.+_cdal": "checks.cdal:KIND",
    r"seg_.+_msga": "checks.msga:KIND",
    r"seg_.+_patient_metrics": "checks.patient_metrics:KIND",
    r"me1_backbone": "checks.mindeye1:BACKBONE",
    r"me1_lowlevel": "checks.mindeye1:LOW_LEVEL",
    r"me2_backbone(_seq\d+)?": "checks.backbone:KIND",
    r"me2_prior": "checks.prior:KIND",
    r"me2_prior_sampling": "checks.prior_sampling:KIND",
    r"bigg_to_l": "checks.converter:KIND",
    r"losses": "checks.losses:KIND",
    r"schedules": "checks.schedules:KIND",
    r"sgm_unet_edm": "checks.unet:KIND",
    r"vector_cond": "checks.size_vector:KIND",
}


def plan(fixture: Fixture) -> list[Case]:
    """Return the cases of a file; a file that cannot be used is a case that fails."""
    places = [place for pattern, place in KINDS.items() if re.fullmatch(pattern, fixture.path.stem)]
    if len(places) != 1:
        return [Case(fixture, "file", problem=f"{fixture.path.name} is of no known kind: write a check for it")]
    module, name = places[0].split(":")
    kind = getattr(import_module(module), name)
    try:
        return kind.plan(fixture) or [Case(fixture, "file", problem=f"{fixture.path.name} holds no case")]
    except Exception as error:  # whatever a file holds, the other files are still compared
        return [Case(fixture, "file", problem=f"{type(error).__name__}: {error}")]


def plan_folder(folder: Path) -> list[Case]:
    """Return the cases of every file in a folder and below."""
    return [case for fixture in find_fixtures(folder) for case in plan(fixture)]
