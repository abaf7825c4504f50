"""Which person a case belongs to, and which fold: a table with the columns case, person and perhaps fold."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from voxelight.models.errors import BadInput

_PERSON, _GROUP = "person", "group"  # `voxelight train` calls it a group


@dataclass(frozen=True)
class CaseGroups:
    """Persons and folds.

    Parameters
    ----------
    person_of : case -> person
    folds : cases of each fold, in the order of their names; empty where there are none
    """

    person_of: Mapping[str, str]
    folds: tuple[tuple[str, ...], ...] = ()


def read_groups(path: Path) -> CaseGroups:
    """Read a table of persons and folds.

    Parameters
    ----------
    path : ``.tsv``, or ``.csv`` with commas

    Raises
    ------
    BadInput
        A column is missing, a case is there twice, or a cell is empty.
    """
    delimiter = "\t" if path.suffix == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, delimiter=delimiter)
            columns, rows = set(table.fieldnames or ()), list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path.name}: {error}", "a table as text, UTF-8", "Check the file.") from None
    who = _PERSON if _PERSON in columns else _GROUP
    cases = [row.get("case") or "" for row in rows]
    if not rows or not all(row.get("case") and row.get(who) for row in rows):
        raise BadInput(f"{path.name} with the columns {', '.join(sorted(columns)) or 'none'} and {len(rows)} rows",
                       "the columns case and person (or group), filled in every row", "Correct the table.")  # fmt: skip
    if len(set(cases)) < len(cases):
        raise BadInput(
            f"{path.name} with {len(cases) - len(set(cases))} cases twice", "each once", "Correct the table."
        )
    folds: dict[str, list[str]] = {}
    for row in rows:
        if row.get("fold"):
            folds.setdefault(row["fold"], []).append(row["case"])
    persons = {row["case"]: row[who] for row in rows}
    return CaseGroups(persons, tuple(tuple(folds[name]) for name in sorted(folds)))
