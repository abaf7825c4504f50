"""Every kind of file, by the name of the file."""

import re
from pathlib import Path

from checks import agunet, backbone, converter, losses, prior, prior_sampling, schedules, size_vector, unet
from checks.cases import Case
from checks.files import BrokenFixture, Fixture, find_fixtures
from checks.later import LATER

# `seg_<set>_<kind>` for segmentation, the bare name for MindEye.
KINDS = {
    r"seg_.+_agunet": agunet.KIND.plan,
    r"me2_backbone(_seq\d+)?": backbone.KIND.plan,
    r"me2_prior": prior.KIND.plan,
    r"me2_prior_sampling": prior_sampling.KIND.plan,
    r"bigg_to_l": converter.KIND.plan,
    r"losses": losses.KIND.plan,
    r"schedules": schedules.KIND.plan,
    r"sgm_unet_edm": unet.KIND.plan,
    r"vector_cond": size_vector.KIND.plan,
    **LATER,
}


def plan(fixture: Fixture) -> list[Case]:
    """Return the cases of a file; a file that cannot be used is a case that fails."""
    plans = [plan for pattern, plan in KINDS.items() if re.fullmatch(pattern, fixture.path.stem)]
    if len(plans) != 1:
        return [Case(fixture, "file", problem=f"{fixture.path.name} is of no known kind: write a check for it")]
    try:
        return plans[0](fixture)
    except BrokenFixture as error:
        return [Case(fixture, "file", problem=str(error))]


def plan_folder(folder: Path) -> list[Case]:
    """Return the cases of every file in a folder and below."""
    return [case for fixture in find_fixtures(folder) for case in plan(fixture)]
