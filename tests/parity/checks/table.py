"""Every kind of file, by the name of the file."""

import re

from checks import agunet
from checks.cases import Case
from checks.files import BrokenFixture, Fixture, find_fixtures
from checks.later import LATER

# `seg_<set>_<kind>` for segmentation, the bare name for MindEye.
KINDS = {
    r"seg_.+_agunet": agunet.KIND.plan,
    **LATER,
}


def plan(fixture: Fixture) -> list[Case]:
    """Return the cases of a file; a file that cannot be used is a case that fails."""
    try:
        plans = [plan for pattern, plan in KINDS.items() if re.fullmatch(pattern, fixture.path.stem)]
        if len(plans) != 1:
            raise BrokenFixture(f"{fixture.path.name} is of no known kind: write a check for it in tests/parity/checks")
        return plans[0](fixture)
    except BrokenFixture as error:
        return [Case(fixture, "file", problem=str(error))]


def plan_folder(folder) -> list[Case]:
    """Return the cases of every file below a folder."""
    return [case for fixture in find_fixtures(folder) for case in plan(fixture)]
