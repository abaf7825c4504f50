"""What the shell answers about moves and backups."""

from pathlib import Path

from voxelight.app.schemas import Wire


class TableProofAnswer(Wire):
    """A table on both sides: its rows, and the sum of their SHA-256 modulo 2^256."""

    table: str
    rows: int
    source: str
    target: str


class MovedAnswer(Wire):
    """What was brought to a place, with its proof: rows by table, files by hash; jobs that wait again."""

    source: str
    target: str
    blobs_target: str
    tables: list[TableProofAnswer]
    blobs: int
    bytes: int
    copied: int
    requeued: list[str]
    graphs: list[str]


class BackupAnswer(Wire):
    """A backup: what it holds, and how many of its contents were new where it was taken."""

    name: str
    revision: str
    software: str
    rows: int
    blobs: int
    bytes: int
    files: list[Path]
    keys: bool
    added: int | None = None


class BackupsAnswer(Wire):
    """The backups of a place, the oldest first."""

    backups: list[BackupAnswer]


class PruneAnswer(Wire):
    """Backups that were forgotten, and how many contents went with them."""

    forgotten: list[str]
    contents: int
