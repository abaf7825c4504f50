"""Who works on the queues, and what waits there."""

import click

from voxelight.app.cli.shell import Group, Shell, Verb


@click.group(cls=Group)
def workers() -> None:
    """Show who works on the queues."""


@workers.command("list")
@click.option("--alive", is_flag=True, help="Only those that live; else also those that are gone for a day.")
@click.pass_obj
def list_workers(shell: Shell, alive: bool) -> None:
    """List the workers: where each runs, what it has and what it keeps loaded."""
    from voxelight.app.cli.tables import make_table

    found = shell.services.workers.list(alive)
    columns = ("worker", "state", "queues", "jobs", "memory GiB", "card GiB", "kept loaded", "seen")
    rows = []
    for row in found:
        warm = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in sorted(row.warm_bytes.items()))
        memory = ["" if each is None else f"{each:.1f}" for each in (row.memory_gib, row.card_gib)]
        seen = f"{row.seen_at.astimezone():%Y-%m-%d %H:%M:%S}"
        rows.append((row.name, row.state, " ".join(row.queues), row.at_work, *memory, warm, seen))
    shell.answer(found, make_table(columns, rows))


@click.command(cls=Verb)
@click.pass_obj
def queues(shell: Shell) -> None:
    """Show how much waits on each queue and for how long."""
    from voxelight.app.cli.tables import make_table

    found = shell.services.workers.queues()
    columns = ("queue", "waiting", "running", "items left", "oldest s", "owners", "workers", "idle", "no worker")
    rows = [
        (row.queue, row.waiting, row.running, row.items, round(row.oldest_s, 1), row.owners, row.workers,
         row.idle_workers, row.without_worker)
        for row in found
    ]  # fmt: skip
    shell.answer(found, make_table(columns, rows))
