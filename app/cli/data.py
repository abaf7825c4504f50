"""Fetch public data sets."""

from pathlib import Path

import click

from voxelight.app.cli.answers import DataAnswer, FilesAnswer
from voxelight.app.cli.shell import Group, Shell


@click.group(cls=Group)
def data() -> None:
    """Fetch public data sets."""


@data.command("list")
@click.pass_obj
def list_data(shell: Shell) -> None:
    """List the data sets that can be fetched, and which are here."""
    from voxelight.app.cli.tables import make_table
    from voxelight.storage.fetch import PUBLIC_DATA, find_betas_files

    found = [
        DataAnswer(
            name=row.name,
            title=row.title,
            source=row.source,
            size=row.size,
            recipe=row.recipe,
            fetched=find_betas_files(_folder(shell, row.name) / "betas", row.name) is not None,
        )
        for row in PUBLIC_DATA.values()
    ]
    columns = ("name", "what", "source", "size", "recipe", "fetched")
    shell.answer(found, make_table(columns, (tuple(dict(row).values()) for row in found)))


@data.command("fetch")
@click.argument("name")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for it; default: data/NAME in the home folder, where the demo looks.",
)
@click.pass_obj
def fetch(shell: Shell, name: str, out: Path | None) -> None:
    """Fetch a data set and make betas of it; needs a network."""
    from voxelight.storage.fetch import find_public_data

    row = find_public_data(name)
    folder = out or _folder(shell, name)
    shell.note(f"Fetching {row.size} into {folder}. {row.source}")
    files = row.fetch(folder)
    shell.answer(
        FilesAnswer(files=list(files.paths)),
        f"{len(files.paths)} files in {files.betas.parent}. Take them in, then decode them:",
        f"voxelight ingest {files.betas.parent} --dataset {name} --create --consent public --purpose '...'",
        f"voxelight reconstruct {name} --recipe {row.recipe} --out {name}-out",
    )


def _folder(shell: Shell, name: str) -> Path:
    return shell.settings.home / "data" / name
