"""Files of segmentation fixtures: `<case>/<w|in|out>/<name>`."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from checks.cases import Beside, Case
from checks.files import Fixture

Found = dict[str, Any]


class SegmentationKind(NamedTuple):
    """What is known of one kind of file.

    Parameters
    ----------
    cases : pattern of a case's name, and how its outputs are computed
    """

    cases: Mapping[str, Callable[[Fixture, str], Found]]

    def plan(self, fixture: Fixture) -> list[Case]:
        """Return a case for each case of the file, named in the JSON or by a tensor."""
        names = {*fixture.fact("cases"), *(name.split("/")[0] for name in fixture.shapes)}
        return [self._case(fixture, name) for name in sorted(names)]

    def _case(self, fixture: Fixture, name: str) -> Case:
        runs = [run for pattern, run in self.cases.items() if re.fullmatch(pattern, name)]
        if len(runs) != 1:
            return Case(fixture, name, problem=f"{len(runs)} checks know the case {name}; expected one")

        def compute() -> Found:
            return _under(name, runs[0](fixture, name))

        if "unbuildable" in fixture.fact("cases").get(name, {}):  # the published code does not run: no output of it
            return Case(fixture, name, (), compute)
        start = f"{name}/out/"
        said = {*fixture.facts.get("tensors", {}), *fixture.shapes}
        outputs = tuple(sorted(output for output in said if output.startswith(start)))
        if not outputs:
            return Case(fixture, name, problem=f"the file holds no output of the case {name}")
        return Case(fixture, name, outputs, compute)


def _under(case: str, found: Found) -> Found:
    return {f"{case}/{'' if isinstance(value, Beside) else 'out/'}{name}": value for name, value in found.items()}
