"""Take in files."""

from pathlib import Path
from typing import Any

import click

from voxelight.app.cli.answers import IngestAnswer
from voxelight.app.cli.intake import CONSENTS, SUFFIXES, find_files, take_in
from voxelight.app.cli.shell import Shell, Verb, ask
from voxelight.app.errors import find_answer
from voxelight.app.schemas import DatasetRequest, ScanAnswer, ScanRequest
from voxelight.models.errors import BadInput


@click.command(cls=Verb)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, help="Name of the data set.")
@click.option("--subject", default="01", show_default=True, help="Label of the subject; no personal name.")
@click.option("--session", default="01", show_default=True, help="Label of the visit.")
@click.option("--create", is_flag=True, help="Make the data set where it is missing.")
@click.option("--consent", type=click.Choice(CONSENTS), help="With --create: on what ground the data may be decoded.")
@click.option("--purpose", help="With --create: what the data may be used for.")
@click.option("--simulated", is_flag=True, default=None, help="With --create: made by a model, not measured.")
@click.pass_obj
def ingest(shell: Shell, /, paths: tuple[Path, ...], dataset: str, subject: str, session: str, **given: Any) -> None:
    """Check files and store them in a data set.

    PATH is a file, or a folder for every NIfTI, .mat, .tsv, PNG and JPEG file below it. A file that is refused does not
    stop the others; where one was, the exit code is 2.
    """
    files = find_files(paths, SUFFIXES)
    _find_dataset(shell, dataset, **given)

    def ingest_one(path: Path) -> ScanAnswer:
        request = ask(ScanRequest, name=path.name, dataset=dataset, subject=subject, session=session)
        return shell.services.scans.ingest_path(path, request)

    scans, refused = take_in(shell, files, ingest_one)
    from voxelight.app.cli.tables import show_scans

    shell.answer(IngestAnswer(scans=scans, refused=refused), *([show_scans(scans)] if scans else []))
    if refused:
        raise click.exceptions.Exit(find_answer(BadInput("", "", ""))[1])


def _find_dataset(shell: Shell, /, name: str, create: bool, **given: Any) -> None:
    """Make sure that the data set is there, made where that was asked for."""
    facts = {fact: value for fact, value in given.items() if value is not None}
    if create:
        shell.services.datasets.ensure(ask(DatasetRequest, name=name, **facts))
    elif facts:
        raise BadInput(
            " and ".join(f"--{fact}" for fact in facts) + " without --create",
            "--create, which makes the data set",
            f"Add --create, or change the data set that is there: voxelight datasets change {name}",
        )
    else:
        shell.services.datasets.show(name)
