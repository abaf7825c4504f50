"""From a file of fixtures to the cases that are run on it."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from checks.compare import Figure, Tolerance, compare
from checks.files import BrokenFixture, Fixture
from torch import Tensor


class Beside(NamedTuple):
    """A value with one to compare it with that is not an output of the file."""

    found: Any
    expected: Any


Found = Tensor | Beside | Any


@dataclass(frozen=True)
class Case:
    """What one test does.

    Parameters
    ----------
    fixture : the file
    name : of the case within the file
    outputs : tensors of the file that the case must compute, neither fewer nor more
    compute : returns them; a value under another name brings what it is compared with
    tolerance : part of the tolerances of the file, where it states several
    later : the system that is not built yet, so that nothing can be compared
    problem : why the case cannot be run at all
    """

    fixture: Fixture
    name: str
    outputs: tuple[str, ...] = ()
    compute: Callable[[], Mapping[str, Found]] | None = None
    tolerance: str | None = None
    later: str = ""
    problem: str = ""

    @property
    def id(self) -> str:
        """Name of the test."""
        return f"{self.fixture.name}/{self.name}"

    def run(self) -> list[Figure]:
        """Return the errors of every output."""
        if self.problem or self.compute is None:
            raise BrokenFixture(self.problem or f"{self.id} has nothing to compute")
        found = self.compute()
        missing = set(self.outputs) - set(found)
        if missing:
            raise BrokenFixture(f"nothing was compared with {sorted(missing)}")
        tolerance = Tolerance.read(self.fixture.facts, self.tolerance)
        return [
            compare((self.fixture.name, name), *self._pair(name, value), tolerance) for name, value in found.items()
        ]

    def _pair(self, name: str, value: Found) -> Beside:
        return value if isinstance(value, Beside) else Beside(value, self.fixture.given(name))


Compute = Callable[[Fixture, re.Match[str]], Found]
Also = Callable[[Fixture], Mapping[str, Found]]


class Kind(NamedTuple):
    """What is known of one kind of file.

    Parameters
    ----------
    outputs : pattern of an output's name, after `out.` or with `mid.`, and how it is computed
    also : further cases, each with the pairs that it compares
    known : entries of the configuration that are read, or that change no number
    fixed : entries that must have one value, since nothing else was published
    tolerance : part of the tolerances by pattern of the output's name
    """

    outputs: dict[str, Compute]
    also: dict[str, Also] = {}
    known: frozenset[str] = frozenset()
    fixed: dict[str, Any] = {}
    tolerance: dict[str, str] = {}

    def plan(self, fixture: Fixture) -> list[Case]:
        """Return a case for each group of outputs: `out.a.b` and `out.a.c` are of one group."""
        groups: dict[str, dict[str, re.Match[str]]] = {}
        computes: dict[str, Compute] = {}
        cases = []
        for name in list_outputs(fixture):
            matches = [(match, compute) for p, compute in self.outputs.items() if (match := re.fullmatch(p, name))]
            if len(matches) != 1:
                cases.append(Case(fixture, name, problem=f"{name}: {len(matches)} checks compute it; expected one"))
                continue
            group = name.removeprefix("out.").split(".")[0] if name.startswith("out.") else name
            groups.setdefault(group, {})[name], computes[name] = matches[0]
        for group, names in groups.items():
            cases.append(
                Case(fixture, group, tuple(names), self._computing(fixture, names, computes), self._part(names))
            )
        for name, also in self.also.items():
            cases.append(Case(fixture, name, (), lambda also=also: self._checked(fixture, lambda: also(fixture))))
        if not groups:
            cases.append(Case(fixture, "outputs", problem="the file holds no output to compare with"))
        return cases

    def _computing(self, fixture, names, computes):
        return lambda: self._checked(
            fixture, lambda: {name: computes[name](fixture, match) for name, match in names.items()}
        )

    def _checked(self, fixture: Fixture, compute):
        check_config(fixture.config, self.known, self.fixed)
        return compute()

    def _part(self, names: Iterable[str]) -> str | None:
        return next((part for p, part in self.tolerance.items() if any(re.fullmatch(p, name) for name in names)), None)


def list_outputs(fixture: Fixture) -> list[str]:
    """Return everything that is neither weight nor input, said to be there or found."""
    names = dict.fromkeys([*fixture.facts.get("tensors", {}), *fixture.shapes])
    return sorted(name for name in names if not name.startswith(("w.", "in.")))


def check_config(config: Mapping[str, Any], known: Iterable[str], fixed: Mapping[str, Any]) -> None:
    """Refuse a configuration that asks for something no check looks at."""
    unknown = sorted(set(config) - set(known) - set(fixed) - {"released"})
    if unknown:
        raise BrokenFixture(f"the configuration has entries that no check reads: {unknown}")
    other = {name: config[name] for name, value in fixed.items() if name in config and config[name] != value}
    if other:
        raise BrokenFixture(f"no check knows the options {other}; expected { {name: fixed[name] for name in other} }")
