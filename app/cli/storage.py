"""Look after the database and the files."""

import click

from voxelight.app.cli.answers import SweepAnswer, UpgradeAnswer
from voxelight.app.cli.shell import Group, Shell


@click.group(cls=Group)
def storage() -> None:
    """Look after the database and the files."""


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
@click.option(
    "--older-than",
    "older_than_h",
    default=24.0,
    show_default=True,
    type=click.FloatRange(min=0),
    metavar="HOURS",
    help="Leave younger files, which a running upload or job may be writing.",
)
@click.pass_obj
def sweep(shell: Shell, older_than_h: float) -> None:
    """Remove files that nothing in the database names, left by a crash for one."""
    removed = shell.services.sweep(older_than_h * 3600)
    shell.answer(SweepAnswer(removed=removed), f"{len(removed)} removed", *removed)
