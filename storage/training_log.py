"""The curve of a training: one JSON object a line, readable while it is written."""

import csv
import json
from pathlib import Path

from voxelight.storage.formats.streams import replacing


class TrainingLog:
    """Rows of losses in one file.

    Parameters
    ----------
    path : made when the first row is written
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, rows: list[dict[str, float]]) -> None:
        """Add rows, each with its ``step``."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def rewind(self, step: int) -> None:
        """Forget the rows from this step on, and a last line that was cut off."""
        if self._path.exists():
            kept = [row for row in self.rows() if row["step"] < step]
            with replacing(self._path) as file:
                file.writelines(json.dumps(row).encode() + b"\n" for row in kept)

    def rows(self, since: int = 0) -> list[dict[str, float]]:
        """Return the rows from a step on; a line that is being written is left out."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text("utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if row["step"] >= since:
                found.append(row)
        return found

    def export_csv(self, path: Path) -> None:
        """Write all rows as a table; what a row does not have is left empty."""
        rows = self.rows()
        names = list(dict.fromkeys(name for row in rows for name in row))
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, names, restval="")
            table.writeheader()
            table.writerows(rows)
