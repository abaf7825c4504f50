"""DICOM series, scans that wait for a person, and results that go back to their study."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from voxelight.app.cli.answers import FilesAnswer, SeriesAnswer
from voxelight.app.cli.dicom_nodes import query, receive, retrieve, store
from voxelight.app.cli.shell import Group, Shell, ask
from voxelight.app.problem import describe_problem
from voxelight.app.schemas_privacy import Decision, RelinkRequest
from voxelight.models.errors import BadInput


def decision(command: Callable[..., Any]) -> Callable[..., Any]:
    """Ask a command who decides and why."""
    for option in (
        click.option("--reason", required=True, help="Why; it is kept."),
        click.option("--author", required=True, help="Who decides; it is kept."),
    ):
        command = option(command)
    return command


@click.group(cls=Group)
def dicom() -> None:
    """Look at DICOM series, decide on held scans, give results back; talk to archives."""


for node in (receive, query, retrieve, store):
    dicom.add_command(node)


@dicom.command("list")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.pass_obj
def list_series(shell: Shell, paths: tuple[Path, ...]) -> None:
    """List the series below files, folders and ZIP archives, and what keeps one from being taken in.

    Nothing is stored: voxelight ingest takes them in.
    """
    from voxelight.app.cli.tables import make_table
    from voxelight.storage.formats.dicom.bundle import check_series, name_all

    found = []
    for name, series in name_all(paths):
        try:
            shape, problem = check_series(series).shape, None
        except BadInput as error:
            shape, problem = None, describe_problem(error)
        found.append(
            SeriesAnswer(name=name, modality=series.modality, files=len(series.files), shape=shape, problem=problem)
        )
    rows = [
        (each.name, str(each.files), "x".join(map(str, each.shape)) if each.shape else "", _say(each)) for each in found
    ]
    shell.answer(found, make_table(("Name", "Files", "Voxels", "Problem"), rows))


@dicom.command("held")
@click.option("--dataset", help="Only of this data set.")
@click.option("--limit", default=50, show_default=True, help="Rows, newest first.")
@click.option("--cursor", help="next_cursor of the answer before, for what follows it.")
@click.pass_obj
def held(shell: Shell, dataset: str | None, limit: int, cursor: str | None) -> None:
    """List scans that may show a name in their picture; no job takes them until a person has looked."""
    from voxelight.app.cli.tables import make_table

    page = shell.services.privacy.list_held(dataset, limit, cursor)
    rows = [(scan.id, f"{scan.dataset}/{scan.subject}/{scan.session}/{scan.name}", scan.held) for scan in page.items]
    shell.answer(page, make_table(("Scan", "Place", "Why it is held"), rows))


@dicom.command("release")
@click.argument("scan", type=click.UUID)
@decision
@click.pass_obj
def release(shell: Shell, scan: uuid.UUID, author: str, reason: str) -> None:
    """Let jobs take a held scan, once a person has looked at its picture."""
    answer = shell.services.privacy.release(scan, ask(Decision, author=author, reason=reason))
    shell.answer(answer, f"{answer.name} is released.")


@dicom.command("reject")
@click.argument("scan", type=click.UUID)
@decision
@click.pass_obj
def reject(shell: Shell, scan: uuid.UUID, author: str, reason: str) -> None:
    """Remove a held scan with everything that is stored of it; a receipt stays."""
    answer = shell.services.privacy.reject(scan, ask(Decision, author=author, reason=reason))
    shell.answer(answer, f"{answer.scan} is removed; receipt {answer.receipt}.")


@dicom.command("deface")
@click.argument("scan", type=click.UUID)
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Only draw it before and after, PNG.")
@click.option("--author", default="", help="Who asks; it is kept.")
@click.option("--reason", default="", help="Why; it is kept.")
@click.pass_obj
def deface(shell: Shell, scan: uuid.UUID, picture: Path | None, author: str, reason: str) -> None:
    """Take the face out of a stored head, NIfTI or DICOM, for good; held where it can't be taken out.

    With --picture nothing is stored: it shows the face, so mind where you write it.
    """
    if picture is not None:
        picture.write_bytes(shell.services.privacy.preview_face(scan))
        shell.answer(FilesAnswer(files=[picture]), f"{picture}: before above, after below.")
        return
    answer = shell.services.privacy.deface(scan, ask(Decision, author=author, reason=reason))
    shell.answer(answer, f"{answer.name}: {answer.deid_status}. {answer.held}")


@dicom.command("relink")
@click.argument("target", metavar="JOB_OR_RESULT", type=click.UUID)
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Where to write."
)
@click.option("--artifact", type=click.UUID, help="A certain label map; else the newest correction, else the model's.")
@decision
@click.pass_obj
def relink(shell: Shell, /, target: uuid.UUID, out: Path, artifact: uuid.UUID | None, author: str, reason: str) -> None:
    """Write label maps as DICOM-SEG that belong to their original studies again.

    They name the patient. Needs identity.key in the home folder, and writes into the log of the job who asked and why.
    """
    privacy = shell.services.privacy
    request = ask(RelinkRequest, author=author, reason=reason, artifact=artifact, key=privacy.read_key())
    files = privacy.relink_all(target, request, out)
    shell.answer(FilesAnswer(files=files), f"{len(files)} files in {out}. They name the patient. Not for clinical use.")


def _say(series: SeriesAnswer) -> str:
    return f"{series.problem.found}. {series.problem.remedy}" if series.problem else ""
