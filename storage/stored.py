"""What lies in a folder, or in a listing of an object store, while others write there: name, size, age."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ListedFile:
    """A file as it lies: its name, its size in bytes and its age in seconds."""

    name: str
    size: int
    age_s: float


def list_folder(root: Path) -> Iterator[tuple[Path, ListedFile]]:
    """Yield every file below a folder; one that others take away meanwhile is left out."""
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            with suppress(FileNotFoundError):
                lying = path.lstat()
                yield path, ListedFile(path.name, lying.st_size, time.time() - lying.st_mtime)


def read_listed(path: str, facts: dict[str, Any]) -> ListedFile:
    """Return a file as fsspec lists it; one whose time is not told counts as young."""
    now, modified = time.time(), facts.get("LastModified") or facts.get("mtime")
    at = float(modified.timestamp() if isinstance(modified, datetime) else modified or now)
    return ListedFile(path.rsplit("/", 1)[1], int(facts["size"]), now - at)
