"""Look after the database and the files."""

import click

from voxelight.app.cli.answers import RekeyAnswer, SweepAnswer, UpgradeAnswer
from voxelight.app.cli.moving import backup, backups, migrate, prune, restore, verify
from voxelight.app.cli.shell import Group, Shell, older_than_option
from voxelight.models.errors import BadInput


@click.group(cls=Group)
def storage() -> None:
    """Look after the database and the files."""


for _command in (migrate, backup, backups, verify, restore, prune):
    storage.add_command(_command)


@storage.command("upgrade")
@click.pass_obj
def upgrade(shell: Shell) -> None:
    """Apply the migrations that are missing; every other command does so too when it starts."""
    from voxelight.storage.database import is_current, open_engine

    shell.settings.home.mkdir(parents=True, exist_ok=True)
    engine = open_engine(shell.settings.resolved_database_url)
    applied = not is_current(engine)
    engine.dispose()
    kind = shell.services.check_health().database
    shell.answer(
        UpgradeAnswer(database=kind, applied=applied),
        f"{kind}: {'brought up to date' if applied else 'was up to date'}",
    )


@storage.command("sweep")
@older_than_option("Leave younger files, which a running upload or job may be writing.")
@click.pass_obj
def sweep(shell: Shell, older_than_h: float) -> None:
    """Remove files that nothing in the database names, left by a crash for one."""
    removed = shell.services.sweep(older_than_h * 3600)
    shell.answer(SweepAnswer(removed=removed), f"{len(removed)} removed", *removed)


@storage.command("rekey")
@click.option("--new-key", is_flag=True, help="First put a new key before those of the file of keys.")
@click.option("--plain", is_flag=True, help="Store every blob as it is, without a key.")
@click.pass_obj
def rekey(shell: Shell, new_key: bool, plain: bool) -> None:
    """Seal every blob by the first key, whether it was plain or under another one.

    The keys are those of VOXELIGHT_BLOB_KEYS, or of the file VOXELIGHT_BLOB_KEY_FILE. Drop an old key once this has
    ended, and keep a copy of the new one apart from the blobs: without it nothing opens them. It can run beside servers
    and workers that have been started with the new key.
    """
    from voxelight.storage.sealed import add_key

    settings = shell.settings
    if new_key:
        if settings.blob_key_file is None or settings.blob_keys.get_secret_value():
            raise BadInput(
                "no file of keys in force",
                "VOXELIGHT_BLOB_KEY_FILE, and no VOXELIGHT_BLOB_KEYS",
                "Set it, then repeat.",
            )
        add_key(settings.blob_key_file)
    elif not plain and not settings.blob_keys.get_secret_value() and settings.blob_key_file is None:
        raise BadInput("no key", "VOXELIGHT_BLOB_KEYS or VOXELIGHT_BLOB_KEY_FILE", "Set one of them, then repeat.")
    changed = sum(1 for _ in shell.services.stores.blobs.reseal(plain))
    shell.answer(RekeyAnswer(changed=changed), f"{changed} {'opened' if plain else 'sealed'}")
