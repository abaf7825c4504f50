"""Fixtures of systems that are not built yet; their cases are named, so that an unknown one still fails."""

from dataclasses import dataclass

from checks.cases import Case
from checks.files import Fixture


@dataclass(frozen=True)
class WholeFile:
    """A kind of file that is wholly of a system not built yet."""

    system: str

    def plan(self, fixture: Fixture) -> list[Case]:
        """Return one case, if the file can be read."""
        return [Case(fixture, "file", later=self.system)] if fixture.facts else []


MINDEYE1 = WholeFile("MindEye1")
