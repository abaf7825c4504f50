"""What was done, by whom."""

from pathlib import Path

import click

from voxelight.app.cli.shell import Group, Shell

PROBLEM = 1


@click.group(cls=Group)
def audit() -> None:
    """Read, verify and export the log of what was done, by whom."""


@audit.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500), help="Newest events to show.")
@click.option("--action", help="Only this action, 'delete scan' for one.")
@click.option("--target", help="Only this target, 'job ID' for one.")
@click.pass_obj
def list_(shell: Shell, limit: int, action: str | None, target: str | None) -> None:
    """List events, newest first; without an actor: from the shell or a worker."""
    from voxelight.app.cli.tables import make_table

    events = shell.services.audit.list(limit, None, action, target).items
    rows = ((str(each.seq), f"{each.at:%Y-%m-%d %H:%M:%S}", each.actor, each.action, each.target) for each in events)
    shell.answer(events, make_table(("", "when (UTC)", "who", "what", "to what"), rows))


@audit.command("verify")
@click.option("--since", metavar="HEAD", help="An event that was written down before, as this command prints it.")
@click.pass_obj
def verify(shell: Shell, since: str | None) -> None:
    """Compute every hash again; the exit code is 1 where an event was changed, put in, taken out or cut off.

    Keep the line that it prints somewhere else, and hand it to --since next time: then nobody who has this machine can
    cut off the end of the log unseen.
    """
    found = shell.services.audit.verify(since)
    said = f"event {found.wrong}: {found.why}" if found.wrong is not None else "each follows the one before"
    shell.answer(found, f"{found.events} events, {said}", f"newest: {found.head or 'none'}")
    if not found.ok:
        raise click.exceptions.Exit(PROBLEM)


@audit.command("export")
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def export(shell: Shell, target: Path) -> None:
    """Write every event to a file, a line of JSON each."""
    from voxelight.app.cli.answers import FilesAnswer
    from voxelight.models.errors import Conflict

    try:
        with target.open("x") as file:
            file.writelines(shell.services.audit.export())
    except FileExistsError:
        raise Conflict(f"a file {target}", "a name that is free", "Choose another name.") from None
    shell.answer(FilesAnswer(files=[target]), f"{target}")
