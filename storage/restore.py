"""Bring a backup back into an empty installation, and prove that it is what was kept."""

import uuid
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, text

from voxelight.models.errors import BadInput, Conflict, Unavailable
from voxelight.storage.artifacts import CHUNK_BYTES, BlobStore, hash_file
from voxelight.storage.backup import BackupPlace, KeptFile, Snapshot, read_table, verify_backup
from voxelight.storage.database import refuse_unknown, upgrade
from voxelight.storage.moving import Moved, Place, Progress, Queues, TableProof, copy_blobs, empty, prepare, put_back
from voxelight.storage.portable import in_blocks, set_counters, take_tally, write_lines, writing_all_or_nothing


def restore(
    place: BackupPlace, name: str, snapshot: Snapshot, target: Place, home: Path, queues: Queues, tell: Progress
) -> Moved:
    """Write a backup into an empty database, a blob store and a home folder.

    All of it is read and compared with its hashes first. A restore that is cut off is run again.

    Parameters
    ----------
    place, name, snapshot : the backup
    target : database and files
    home : folder for the other files
    queues : on which jobs that waited or ran are put again
    tell : called with what is done

    Raises
    ------
    Unavailable
        Something of the backup is missing or was changed.
    Conflict
        The database or the folder holds something already, or the backup is of a newer version.
    """
    refuse_unknown(snapshot.revision)
    sizes = verify_backup(place, snapshot, tell)
    for file in snapshot.files:
        _refuse_other(home, file)
    prepare(target.engine, name, snapshot.revision)
    queues.create_tables()
    copied = copy_blobs(sizes, place.contents, target.blobs, tell)
    for file in snapshot.files:
        _write_file(place.contents, file, home / file.path)
    with writing_all_or_nothing(target.engine) as writing:
        proofs = _write_tables(writing, place, snapshot, tell)
        writing.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": snapshot.revision})
    upgrade(target.engine)
    with writing_all_or_nothing(target.engine) as writing:
        requeued = put_back(writing, queues)
    return Moved(proofs, len(sizes), sum(sizes.values()), copied, requeued)


def _write_tables(writing: Connection, place: BackupPlace, snapshot: Snapshot, tell: Progress) -> list[TableProof]:
    shapes, proofs = [table.shape for table in snapshot.tables], []
    empty(writing, shapes)
    for number, table in enumerate(snapshot.tables, 1):
        for lines in in_blocks(read_table(place.contents, table)):
            write_lines(writing, table.shape, lines)
        proofs.append(TableProof(table.name, table.rows, table.sha256_sum, take_tally(writing, table.shape).sha256_sum))
        tell("tables", number, len(snapshot.tables))
    set_counters(writing, shapes, snapshot.counters)
    differing: Sequence[str] = [proof.table for proof in proofs if proof.source != proof.target]
    if differing:
        raise Unavailable(
            f"other rows in the database than in the backup, in {', '.join(differing)}",
            "the same",
            "No row was kept. Report this: it is a fault of the software.",
        )
    return proofs


def _refuse_other(home: Path, file: KeptFile) -> None:
    path = home / file.path
    if Path(file.path).is_absolute() or ".." in Path(file.path).parts:
        raise BadInput(f"a file {file.path!r} in the backup", "a path below the home folder", "Take another backup.")
    if path.exists() and hash_file(path) != file.sha256:
        raise Conflict(
            f"another file {path}", "a home folder without it", "Choose an empty home folder, or move the file away."
        )


def _write_file(contents: BlobStore, file: KeptFile, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with contents.open(file.sha256) as source, temporary.open("xb") as target:
            temporary.chmod(0o600)  # secrets may be among them
            while chunk := source.read(CHUNK_BYTES):
                target.write(chunk)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
