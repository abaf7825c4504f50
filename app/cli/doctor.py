"""Check this installation."""

import click

from voxelight.app.cli.shell import Shell, Verb, older_than_option

PROBLEM = 1


@click.command(cls=Verb)
@click.option("--audit", is_flag=True, help="Compare the books instead: rows, counters, files, queues, uploads.")
@click.option("--deep", is_flag=True, help="With --audit: read every file and hash it, not its size alone.")
@older_than_option("With --audit: age from which a file that no row names counts as left over.")
@click.pass_obj
def doctor(shell: Shell, audit: bool, deep: bool, older_than_h: float) -> None:
    """Check this installation.

    Looks at Python, torch and the device, the database, the blob store, the shipped weights and the recipes. With
    --audit, compares everything that is written down twice, and lists what does not add up. The exit code is 1 where
    something is wrong.
    """
    if audit:
        _audit(shell, older_than_h * 3600, deep)
        return
    from voxelight.app.cli.tables import make_table
    from voxelight.app.doctor import examine

    checks = examine(shell.settings)
    rows = (("ok" if check.ok else "PROBLEM", check.name, check.found, check.remedy) for check in checks)
    shell.answer(checks, make_table(("", "what", "found", "what to do"), rows))
    if not all(check.ok for check in checks):
        raise click.exceptions.Exit(PROBLEM)


def _audit(shell: Shell, older_than_s: float, deep: bool) -> None:
    from voxelight.app.books import audit
    from voxelight.app.cli.tables import make_table

    found = audit(shell.services, older_than_s, deep)
    rows = ((each.what, each.found, each.expected, each.remedy) for each in found)
    shown = make_table(("what", "found", "expected", "what to do"), rows) if found else "The books balance."
    shell.answer(found, shown)
    if found:
        raise click.exceptions.Exit(PROBLEM)
