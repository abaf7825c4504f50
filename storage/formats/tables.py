"""Delimited text: events of an experiment and label rows, as columns of strings."""

import csv
from pathlib import Path

from voxelight.models.errors import BadInput
from voxelight.storage.formats.sniff import NAMES, sniff
from voxelight.storage.formats.streams import readable, refuse_if

MAX_TABLE_BYTES = 64 * 2**20
_DELIMITERS = {".tsv": "\t", ".csv": ","}


def read_rows(path: Path, name: str = "") -> list[list[str]]:
    """Read every row of a ``.tsv`` or ``.csv`` file, blank lines left out.

    Parameters
    ----------
    path : UTF-8 text, with or without a byte order mark
    name : what the person calls the file, where that is not the name on disk

    Raises
    ------
    BadInput
        The file is no such table, is empty or too long, or its rows differ in length.
    """
    name = name or path.name
    kind, suffix = sniff(path), Path(name).suffix.lower()
    refuse_if(
        kind != "text" or suffix not in _DELIMITERS,
        f"{NAMES[kind]} under the name {name}",
        "a table as UTF-8 text, in .tsv or .csv",
        "Export it as tab- or comma-separated text.",
    )
    size = path.stat().st_size
    refuse_if(
        size > MAX_TABLE_BYTES, f"{name} of {readable(size)}", f"at most {readable(MAX_TABLE_BYTES)}", "Split it."
    )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file, delimiter=_DELIMITERS[suffix], strict=True) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{name} that can't be read as a table ({error})", "UTF-8 text", "Export it again.") from error
    refuse_if(not rows, f"{name} without a row", "a table with rows", "Export it again.")
    for number, row in enumerate(rows, start=1):
        refuse_if(
            len(row) != len(rows[0]),
            f"{name} with {len(row)} cells in row {number} and {len(rows[0])} in the first",
            "rows of one length",
            "Check for missing or stray separators.",
        )
    return rows


def read_columns(path: Path, name: str = "") -> dict[str, list[str]]:
    """Read a table with a header row as column name -> cells.

    Raises
    ------
    BadInput
        As `read_rows`, or the header holds a blank or a repeated name, or nothing stands below it.
    """
    name = name or path.name
    header, *rows = read_rows(path, name)
    refuse_if(
        "" in header or len(set(header)) != len(header),
        f"{name} with the header {', '.join(header)}",
        "column names, none blank and none twice",
        "Name every column once.",
    )
    refuse_if(not rows, f"{name} with a header and no row below it", "at least one row", "Export it again.")
    return {column: [row[place] for row in rows] for place, column in enumerate(header)}
