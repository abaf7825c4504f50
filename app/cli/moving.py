"""Move an installation to other stores; keep it, and bring it back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelight.app.cli.answers_storage import BackupAnswer, BackupsAnswer, MovedAnswer, PruneAnswer, TableProofAnswer
from voxelight.app.cli.shell import Shell, Verb, older_than_option
from voxelight.models.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from voxelight.app.settings import Settings
    from voxelight.storage.backup import BackupPlace, Snapshot
    from voxelight.storage.moving import Moved, Place, Progress

_MODELS = ("segmentation", "decoders")  # folders of weights that were made here, and can't be fetched again
_options = click.option("--options", default="", metavar="JSON", help="Passed to fsspec, an endpoint for one.")
_place = click.argument("place", metavar="PLACE")


@click.command("migrate", cls=Verb)
@click.option("--to-database", "database_url", required=True, metavar="URL", help="Empty database to move to.")
@click.option("--to-blobs", "blobs_url", metavar="URL", help="Where the files go; else they stay and are verified.")
@_options
@click.option("--queued", is_flag=True, help="Put jobs that wait or run on the queues of the target.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Also write the answer as JSON.")
@click.pass_obj
def migrate(
    shell: Shell, database_url: str, blobs_url: str | None, options: str, queued: bool, report: Path | None
) -> None:
    """Copy this installation to another database, SQLite or PostgreSQL, and prove that both are equal.

    The source is only read: stop its page and its workers first. Run the command again where it was cut off.
    """
    from voxelight.app.queue import JobQueue
    from voxelight.storage.database import open_engine
    from voxelight.storage.moving import Place, move

    before = shell.settings
    changed: dict[str, Any] = {"database_url": database_url}
    if blobs_url is not None:
        changed |= {"blobs_url": blobs_url, "blobs_options": _parse(options)}
    after = before.model_copy(update=changed)
    if before.resolved_database_url == after.resolved_database_url:
        raise BadInput("the database in use as the target", "another one", "Name an empty database.")
    source = _open(before)
    same = before.resolved_blobs_url == after.resolved_blobs_url
    target = Place(open_engine(database_url), source.blobs) if same else _open(after)
    queue = JobQueue(database_url)
    _refuse_unreachable(target.engine)
    try:
        with _telling(shell) as tell:
            name = source.engine.url.render_as_string(hide_password=True)
            moved = move(source, target, name, queue, queued, tell)
    finally:
        source.engine.dispose()
        target.engine.dispose()
    answer = _say_moved(moved, name, after)
    if report:
        report.write_text(answer.model_dump_json(indent=2) + "\n")
    _answer_moved(shell, answer)


@click.command("backup", cls=Verb)
@_place
@_options
@click.option("--with-keys", is_flag=True, help="Keep the secrets too: whoever has the backup then has them.")
@click.pass_obj
def backup(shell: Shell, place: str, options: str, with_keys: bool) -> None:
    """Keep all that is stored, in a folder or an object store; a second time, only what is new.

    It may run beside a page and workers: what is kept is one state. Models that were trained or imported here come
    along. identity.key, voxelight.toml and the keys of sealed files do so with --with-keys only: keep them elsewhere.
    Weights that can be fetched, caches and uploads that have not ended are left out.
    """
    from voxelight.app.version import find_version
    from voxelight.storage.backup import Besides, take_backup

    settings, kept = shell.settings, _open_backups(shell, place, options)
    besides = Besides(settings.home.resolve(), tuple(_list_files(settings, with_keys)), with_keys)
    with _telling(shell) as tell:
        stores = shell.services.stores
        taken = take_backup(_as_place(stores), kept, besides, find_version(), tell)
    answer = _say_backup(taken.name, taken.snapshot, taken.added)
    shell.answer(answer, *_describe(answer), f"{taken.added} files were new")


@click.command("backups", cls=Verb)
@_place
@_options
@click.pass_obj
def backups(shell: Shell, place: str, options: str) -> None:
    """List the backups of a place, the oldest first."""
    kept = _open_backups(shell, place, options)
    found = [_say_backup(*kept.read(name)) for name in kept.list()]
    shell.answer(BackupsAnswer(backups=found), *(line for each in found for line in _describe(each)))


@click.command("verify", cls=Verb)
@_place
@_options
@click.option("--snapshot", "name", help="Name of the backup; else the newest.")
@click.pass_obj
def verify(shell: Shell, place: str, options: str, name: str | None) -> None:
    """Read a whole backup and compare it with its hashes."""
    from voxelight.storage.backup import verify_backup

    kept = _open_backups(shell, place, options)
    name, snapshot = kept.read(name)
    with _telling(shell) as tell:
        verify_backup(kept, snapshot, tell)
    answer = _say_backup(name, snapshot)
    shell.answer(answer, *_describe(answer), "whole, and as it was kept")


@click.command("restore", cls=Verb)
@_place
@_options
@click.option("--snapshot", "name", help="Name of the backup; else the newest.")
@click.pass_obj
def restore(shell: Shell, place: str, options: str, name: str | None) -> None:
    """Bring a backup back into the database and the files of the settings in force, which must be empty.

    All of it is read and compared with its hashes before anything is written. Jobs that waited or ran go on.
    """
    from voxelight.app.queue import JobQueue
    from voxelight.storage.restore import restore as bring_back

    settings, kept = shell.settings, _open_backups(shell, place, options)
    name, snapshot = kept.read(name)
    settings.home.mkdir(parents=True, exist_ok=True)
    target, queue = _open(settings), JobQueue(settings.resolved_database_url)
    try:
        with _telling(shell) as tell:
            moved = bring_back(kept, name, snapshot, target, settings.home, queue, tell)
    finally:
        target.engine.dispose()
    _answer_moved(shell, _say_moved(moved, name, settings))


@click.command("prune", cls=Verb)
@_place
@_options
@click.option("--keep", required=True, type=click.IntRange(min=1), help="How many backups stay, the newest.")
@older_than_option("Leave younger contents, which may belong to a backup that is being taken.")
@click.pass_obj
def prune(shell: Shell, place: str, options: str, keep: int, older_than_h: float) -> None:
    """Forget old backups, and remove what only they needed. What was deleted is gone from backups only so."""
    from voxelight.storage.backup import prune as forget

    forgotten, contents = forget(_open_backups(shell, place, options), keep, older_than_h * 3600)
    shell.answer(
        PruneAnswer(forgotten=forgotten, contents=len(contents)),
        f"{len(forgotten)} backups forgotten, {len(contents)} contents removed",
    )


def _open(settings: "Settings") -> "Place":
    from voxelight.app.bootstrap import open_blobs
    from voxelight.storage.database import open_engine
    from voxelight.storage.moving import Place

    return Place(open_engine(settings.resolved_database_url), open_blobs(settings))


def _refuse_unreachable(engine: "Engine") -> None:
    from sqlalchemy.exc import OperationalError

    try:
        engine.connect().close()
    except OperationalError:
        raise Unavailable(
            f"no database at {engine.url.render_as_string(hide_password=True)}",
            "one that answers, to this name and password",
            "Check the address, and that the database was made: createdb.",
        ) from None


def _as_place(stores: Any) -> "Place":
    from voxelight.storage.moving import Place

    return Place(stores.engine, stores.blobs)


def _open_backups(shell: Shell, place: str, options: str) -> "BackupPlace":
    from voxelight.app.bootstrap import open_blobs
    from voxelight.storage.backup import BackupPlace

    asked = _parse(options)
    url = place if "://" in place else str(Path(place).resolve())
    contents = open_blobs(shell.settings.model_copy(update={"blobs_url": url, "blobs_options": asked}))
    return BackupPlace(url, contents, asked)


def _list_files(settings: "Settings", with_keys: bool) -> Iterator[Path]:
    """Yield what no row names and nobody can fetch again, as far as it lies in the home folder."""
    home = settings.home.resolve()
    for folder in _MODELS:
        found = (settings.weights.resolve() / folder).rglob("*")
        yield from sorted(each for each in found if each.is_file() and each.is_relative_to(home))
    if (home / "audit.head").is_file():
        yield home / "audit.head"
    if with_keys:
        secrets = {*home.glob("*.key"), *settings.keys.resolve().glob("*.key"), home / "voxelight.toml"}
        secrets |= {settings.blob_key_file.resolve()} if settings.blob_key_file else set()
        yield from sorted(each for each in secrets if each.is_file() and each.is_relative_to(home))


@contextmanager
def _telling(shell: Shell) -> "Iterator[Progress]":
    with shell.progress() as progress:
        bars: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            bar = bars.get(what)
            if bar is None:
                bar = bars[what] = progress.add_task(what, total=total)
            progress.update(bar, completed=done, total=total)

        yield tell


def _parse(options: str) -> dict[str, Any]:
    import json

    try:
        parsed = json.loads(options or "{}")
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise BadInput("a text for --options that is none", "a JSON object", "Quote it, for one '{\"anon\": true}'.")
    return parsed


def _say_moved(moved: "Moved", source: str, settings: "Settings") -> MovedAnswer:
    from sqlalchemy import make_url

    return MovedAnswer(
        source=source,
        target=make_url(settings.resolved_database_url).render_as_string(hide_password=True),
        blobs_target=settings.shown_blobs_url,
        tables=[
            TableProofAnswer(table=each.table, rows=each.rows, source=each.source, target=each.target)
            for each in moved.tables
        ],
        blobs=moved.blobs,
        bytes=moved.bytes,
        copied=moved.copied,
        requeued=moved.requeued,
        graphs=moved.graphs,
    )


def _answer_moved(shell: Shell, answer: MovedAnswer) -> None:
    shell.answer(
        answer,
        *(f"{each.table:20} {each.rows:>10}  {each.target[:16]}" for each in answer.tables if each.rows),
        f"{sum(each.rows for each in answer.tables)} rows in {len(answer.tables)} tables, equal by their hashes",
        f"{answer.blobs} files of {answer.bytes} bytes, each read and equal to its hash; {answer.copied} copied now",
        f"{len(answer.requeued)} jobs and actions wait again",
        f"database: {answer.target}",
        f"files: {answer.blobs_target}",
    )


def _say_backup(name: str, snapshot: "Snapshot", added: int | None = None) -> BackupAnswer:
    return BackupAnswer(
        name=name,
        revision=snapshot.revision,
        software=snapshot.software,
        rows=sum(table.rows for table in snapshot.tables),
        blobs=snapshot.blobs,
        bytes=snapshot.bytes,
        files=[Path(file.path) for file in snapshot.files],
        keys=snapshot.keys,
        added=added,
    )


def _describe(answer: BackupAnswer) -> list[str]:
    secrets = "with keys" if answer.keys else "without identity.key, voxelight.toml and keys of sealed files"
    return [
        f"{answer.name}: {answer.rows} rows, {answer.blobs} files of {answer.bytes} bytes, "
        f"{len(answer.files)} files of models and keys, {secrets}"
    ]
