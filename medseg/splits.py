"""Who is held out: a recorded division of the cases by person."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from voxelight.models.errors import BadInput


@dataclass(frozen=True)
class Split:
    """Folds of cases; no person is in two.

    Parameters
    ----------
    folds : case names of each fold; the first is what is held out when a recipe is trained
    person_of : case -> person

    Raises
    ------
    BadInput
        A case is in two folds, or a person is.
    """

    folds: tuple[tuple[str, ...], ...]
    person_of: dict[str, str]

    def __post_init__(self) -> None:
        fold_of: dict[str, set[int]] = {}
        for number, fold in enumerate(self.folds):
            for case in fold:
                fold_of.setdefault(self.person_of[case], set()).add(number)
        torn = sorted(person for person, numbers in fold_of.items() if len(numbers) > 1)
        cases = [case for fold in self.folds for case in fold]
        if torn or len(cases) != len(set(cases)):
            raise BadInput(
                f"{len(torn)} persons in more than one fold, {len(cases) - len(set(cases))} cases twice",
                "every case once, and all cases of a person in one fold",
                "Divide the persons, not the cases.",
            )

    def rest(self, fold: int) -> tuple[str, ...]:
        """Return the cases of all folds but one, in order."""
        return tuple(sorted(case for number, cases in enumerate(self.folds) if number != fold for case in cases))


def find_split(recipe: str, cases: Sequence[str], seed: int = 0) -> Split:
    """Return the recorded split if it knows every case, else draw one with each case a person of its own.

    Parameters
    ----------
    recipe : name of the recipe; its split lies beside its weights
    cases : names
    seed : of the draw
    """
    recorded = files("voxelight.models.shipped").joinpath(f"{recipe}.split.toml")
    if recorded.is_file():
        split = _read(tomllib.loads(recorded.read_text("utf-8")))
        if set(cases) <= set(split.person_of):
            known = set(cases)
            return Split(tuple(tuple(c for c in fold if c in known) for fold in split.folds), split.person_of)
    return draw_split({case: case for case in cases}, seed)


def choose_split(
    recorded: str, cases: Sequence[str], seed: int, person_of: Mapping[str, str] | None = None, folds: int = 5
) -> Split:
    """Return a split by the persons that are named, else the recorded one, else one with each case its own person.

    Parameters
    ----------
    recorded : name of a recorded split
    cases : names
    seed : of a draw
    person_of : case -> person, or any other group that is to stay together; None: not told
    folds : of a draw

    Raises
    ------
    BadInput
        Somebody is not told of, or there are fewer persons than two.
    """
    if person_of is not None and (lonely := sorted(set(cases) - set(person_of))):
        raise BadInput(f"{len(lonely)} cases without a group, {lonely[0]} for one", "a group for every case",
                       "Add them to the table of groups.")  # fmt: skip
    owners = {case: case if person_of is None else person_of[case] for case in cases}
    if len(set(owners.values())) < 2:
        raise BadInput(f"{len(set(owners.values()))} person among {len(cases)} cases", "two or more, to hold one out",
                       "Add cases, or hold nothing out.")  # fmt: skip
    found = None if person_of is not None or folds != 5 else find_split(recorded, cases, seed)
    return found or draw_split(owners, seed, folds)


def draw_split(person_of: dict[str, str], seed: int, folds: int = 5) -> Split:
    """Deal persons into folds at random.

    Parameters
    ----------
    person_of : case -> person
    seed : of the draw
    folds : how many, at most one a person
    """
    persons = sorted(set(person_of.values()))
    dealt = np.random.default_rng(seed).permutation(len(persons))
    fold_of = {persons[who]: place % folds for place, who in enumerate(dealt.tolist())}
    members = tuple(
        tuple(sorted(case for case, person in person_of.items() if fold_of[person] == number))
        for number in range(min(folds, len(persons)))
    )
    return Split(members, dict(person_of))


def _read(table: dict[str, dict[str, list[str]]]) -> Split:
    folds = tuple(tuple(case for cases in fold.values() for case in cases) for fold in table.values())
    person_of = {case: person for fold in table.values() for person, cases in fold.items() for case in cases}
    return Split(folds, person_of)
