"""From a file of fixtures to the cases that are run on it."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from checks.compare import Figure, Tolerance, compare
from checks.files import BrokenFixture, Fixture


class Beside(NamedTuple):
    """A value with one to compare it with that is not an output of the file."""

    found: Any
    expected: Any


Found = Mapping[str, Any]
"""Name of an output of the file -> what we compute; any other name brings a `Beside`."""


@dataclass(frozen=True)
class Case:
    """What one test does.

    Parameters
    ----------
    fixture : the file
    name : of the case within the file
    outputs : tensors of the file that the case must compute
    compute : returns them, and pairs of other things that must agree
    tolerance : part of the tolerances of the file, where it states several
    rounding : absolute tolerance beside that of the file, of its `Kind`
    problem : why the case cannot be run
    within : tolerance of a file that states none
    """

    fixture: Fixture
    name: str
    outputs: tuple[str, ...] = ()
    compute: Callable[[], Found] | None = None
    tolerance: str | None = None
    rounding: float = 0.0
    problem: str = ""
    within: Tolerance | None = None

    @property
    def id(self) -> str:
        """Name of the test."""
        return f"{self.fixture.name}/{self.name}"

    def run(self) -> list[Figure]:
        """Return the errors of every output."""
        if self.problem or self.compute is None:
            raise BrokenFixture(self.problem or f"{self.id} computes nothing")
        found = self.compute()
        missing = sorted(set(self.outputs) - set(found))
        if missing:
            raise BrokenFixture(f"nothing was compared with {missing}")
        stated = self.within or Tolerance.read(self.fixture.fact("tolerance"), self.tolerance)
        tolerance = replace(stated, absolute=stated.absolute + self.rounding)
        return [
            compare((self.fixture.name, name), *self._pair(name, value), tolerance) for name, value in found.items()
        ]

    def _pair(self, name: str, value: Any) -> Beside:
        return value if isinstance(value, Beside) else Beside(value, self.fixture.given(name))


Compute = Callable[[Fixture, re.Match[str]], Any]


class Also(NamedTuple):
    """A case that computes no output of its own.

    Parameters
    ----------
    needs : patterns of tensors, each of which the file must hold for the case to be run
    compare : returns the pairs that must agree
    """

    needs: tuple[str, ...]
    compare: Callable[[Fixture], Found]

    def applies(self, fixture: Fixture) -> bool:
        """Return whether the file holds what is needed."""
        return all(any(re.fullmatch(pattern, name) for name in fixture.shapes) for pattern in self.needs)


@dataclass(frozen=True)
class Kind:
    """What is known of one kind of file.

    Parameters
    ----------
    outputs : pattern of an output's name, and how it is computed from the file and the match
    also : further cases
    known : entries of the configuration that are read, or that change no number
    fixed : entries that must have one value, since nothing else was published
    tolerance : pattern of an output's name -> part of the tolerances, where the file states several
    rounding : by how much outputs of the published code itself differ between processors
    """

    outputs: Mapping[str, Compute]
    also: Mapping[str, Also] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    tolerance: Mapping[str, str] = field(default_factory=dict)
    rounding: float = 0.0

    def plan(self, fixture: Fixture) -> list[Case]:
        """Return a case for each group of outputs; `out.a.b` and `out.a.c` are of one group, `a`."""
        groups: dict[str, list[str]] = {}
        unknown = []
        for name in list_outputs(fixture):
            if len(self._checks(name)) == 1:
                groups.setdefault(_find_group(name), []).append(name)
            else:
                problem = f"{len(self._checks(name))} checks compute {name}; expected one"
                unknown.append(Case(fixture, name, problem=problem))
        cases = [self._case(fixture, group, names) for group, names in groups.items()]
        if not cases:
            unknown.append(Case(fixture, "outputs", problem="the file holds no output that a check knows"))
        also = [name for name, more in self.also.items() if more.applies(fixture)]
        return cases + unknown + [Case(fixture, name, (), self._also(fixture, name)) for name in also]

    def _case(self, fixture: Fixture, group: str, names: Iterable[str]) -> Case:
        def compute() -> Found:
            check_config(fixture.config, self.known, self.fixed)
            pairs = {name: self._checks(name)[0] for name in names}
            return {name: check(fixture, match) for name, (match, check) in pairs.items()}

        parts = {part for pattern, part in self.tolerance.items() for name in names if re.fullmatch(pattern, name)}
        return Case(fixture, group, tuple(names), compute, *parts, rounding=self.rounding)

    def _also(self, fixture: Fixture, name: str) -> Callable[[], Found]:
        def compute() -> Found:
            check_config(fixture.config, self.known, self.fixed)
            return self.also[name].compare(fixture)

        return compute

    def _checks(self, name: str) -> list[tuple[re.Match[str], Compute]]:
        found = ((re.fullmatch(pattern, name), check) for pattern, check in self.outputs.items())
        return [(match, check) for match, check in found if match]


def _find_group(output: str) -> str:
    kind, name, *_ = output.split(".")
    return name if kind == "out" else f"{kind}.{name}"


def list_outputs(fixture: Fixture) -> list[str]:
    """Return everything that is neither weight nor input, said to be there or found."""
    names = {*fixture.facts.get("tensors", {}), *fixture.shapes}
    return sorted(name for name in names if not name.startswith(("w.", "in.")))


def check_config(config: Mapping[str, Any], known: Iterable[str], fixed: Mapping[str, Any]) -> None:
    """Refuse a configuration that asks for something no check looks at."""
    unknown = sorted(set(config) - set(known) - set(fixed) - {"released"})
    if unknown:
        raise BrokenFixture(f"the configuration has entries that no check reads: {unknown}")
    other = {name: config[name] for name, value in fixed.items() if config.get(name, value) != value}
    if other:
        raise BrokenFixture(f"no check knows {other}; expected { ({name: fixed[name] for name in other}) }")
