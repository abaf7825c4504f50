"""Label maps that people corrected: list them, add one."""

import uuid
from pathlib import Path

import click

from voxelight.app.cli.shell import Group, Shell, ask


@click.group(cls=Group)
def corrections() -> None:
    """List corrections of a label map, and add one that was drawn elsewhere."""


@corrections.command("list")
@click.argument("run", type=click.UUID)
@click.pass_obj
def list_corrections(shell: Shell, run: uuid.UUID) -> None:
    """List the label maps of a result: the model's own first, then its corrections, the oldest first."""
    from rich.table import Table

    versions = shell.services.corrections.list(run)
    table = Table("Label map", "Author", "Note", "Volumes (ml)", "Artifact", box=None)
    for version in versions:
        volumes = ", ".join(f"{name} {volume:.3f}" for name, volume in version.volumes_ml.items())
        table.add_row(version.name, version.author or "the model", version.note, volumes, str(version.artifact))
    shell.answer(versions, table)


@corrections.command("add")
@click.argument("run", type=click.UUID)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--author", required=True, help="Who corrected it.")
@click.option("--note", default="", help="What was wrong.")
@click.option("--base", type=click.UUID, help="Artifact that was corrected; else the model's own label map.")
@click.pass_obj
def add(shell: Shell, /, run: uuid.UUID, file: Path, author: str, note: str, base: uuid.UUID | None) -> None:
    """Store a corrected label map, NIfTI on the grid of its base, as a new file beside it."""
    from voxelight.app.schemas_viewer import CorrectionRequest

    request = ask(CorrectionRequest, author=author, note=note, base=base)
    version = shell.services.corrections.keep_path(file, run, request)
    changed = ", ".join(f"{name} +{change.added} −{change.removed}" for name, change in version.changes.items())
    shell.answer(version, f"Stored {version.name}, voxels changed: {changed}")
