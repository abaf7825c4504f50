"""Check this installation."""

import click

from voxelight.app.cli.shell import Shell, Verb

PROBLEM = 1


@click.command(cls=Verb)
@click.pass_obj
def doctor(shell: Shell) -> None:
    """Check this installation.

    Looks at Python, torch and the device, the database, the blob store, the shipped weights and the recipes. The exit
    code is 1 where something is wrong.
    """
    from voxelight.app.cli.tables import make_table
    from voxelight.app.doctor import examine

    checks = examine(shell.settings)
    rows = (("ok" if check.ok else "PROBLEM", check.name, check.found, check.remedy) for check in checks)
    shell.answer(checks, make_table(("", "what", "found", "what to do"), rows))
    if not all(check.ok for check in checks):
        raise click.exceptions.Exit(PROBLEM)
