"""Watch a folder."""

from pathlib import Path
from typing import Any

import click

from voxelight.app.cli.processes import stopping
from voxelight.app.cli.shell import Shell, Verb


@click.command(cls=Verb)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--dataset", required=True, help="Name of the data set.")
@click.option("--subject", default="", help="Label of the subject; else the name of a folder in FOLDER, or 01.")
@click.option("--session", default="01", show_default=True, help="Label of the visit.")
@click.option("--recipe", default="", help="Segment what came in, as a job of this recipe.")
@click.option("--settle", "settle_s", default=5.0, show_default=True, type=click.FloatRange(min=0.1),
              help="Seconds that sizes and times must not change.")  # fmt: skip
@click.option("--every", default=2.0, show_default=True, type=click.FloatRange(min=0.05), help="Seconds between looks.")
@click.pass_obj
def watch(shell: Shell, /, folder: Path, every: float, **given: Any) -> None:
    """Take in whatever appears in a folder, until stopped.

    Each file, and each folder as a whole, is moved to done/ or refused/ below FOLDER once it is handled, with a .json
    file that says what it became. Nothing is ever deleted. Names that end in .part or .tmp are left until renamed.
    """
    from voxelight.app.hospital.inbox import only_one
    from voxelight.app.hospital.watch import STATE, Watch, Watched

    shell.services.datasets.show(given["dataset"])
    watching = Watch(shell.services, Watched(folder, **given), shell.note)
    with stopping() as stop, only_one(folder / STATE, f"watches {folder}"):
        shell.note(f"Watching {folder} (Ctrl-C stops)")
        while not stop.wait(every):
            watching.step()
    shell.note(f"Stopped watching {folder}")
