"""Take in files."""

from pathlib import Path
from typing import Any

import click

from voxelight.app.cli.answers import IngestAnswer, RefusedFile
from voxelight.app.cli.drops import Found, find_drop, group
from voxelight.app.cli.intake import CONSENTS, reading_options
from voxelight.app.cli.shell import Shell, Verb, ask
from voxelight.app.errors import find_answer
from voxelight.app.schemas import DatasetRequest, ScanAnswer
from voxelight.app.schemas_uploads import AssignAnswer, AssignedName, Place, ReadPlace
from voxelight.models.errors import BadInput


@click.command(cls=Verb)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, help="Name of the data set.")
@click.option("--subject", default="01", show_default=True, help="Label of the subject; no personal name.")
@click.option("--session", default="01", show_default=True, help="Label of the visit.")
@click.option("--pattern", default="", help="Tell both by the names: 'sub-{subject}_ses-{session}_*.nii.gz' for one.")
@click.option("--rename", default="", help="With --pattern: new names, made of its parts.")
@reading_options
@click.option("--dry-run", is_flag=True, help="With --pattern: show where files would go, and store nothing.")
@click.option("--create", is_flag=True, help="Make the data set where it is missing.")
@click.option("--consent", type=click.Choice(CONSENTS), help="With --create: on what ground the data may be decoded.")
@click.option("--purpose", help="With --create: what the data may be used for.")
@click.option("--simulated", is_flag=True, default=None, help="With --create: made by a model, not measured.")
@click.pass_obj
def ingest(shell: Shell, /, paths: tuple[Path, ...], dataset: str, dry_run: bool, **given: Any) -> None:
    """Check files and store them in a data set.

    PATH is a file, or a folder for every NIfTI, NRRD, MetaImage, DICOM, ZIP, .mat, .tsv, PNG, JPEG and TIFF file below
    it. DICOM files become one scan a series, or a volume where a series has several. A file that is refused does not
    stop the others; where one was, the exit code is 2.
    """
    found = find_drop(paths)
    names = {key: given.pop(key) for key in ("pattern", "rename", "subject", "session")}
    reading = {key: given.pop(key) for key in ("prefer", "volume")}
    rows = _assign(found, dataset, **names)
    if dry_run:
        _answer_rows(shell, rows)
        return
    _find_dataset(shell, dataset, **given)
    scans, refused = _take_in(shell, found, rows, dataset=dataset, **reading)
    from voxelight.app.cli.tables import show_scans

    shell.answer(IngestAnswer(scans=scans, refused=refused), *([show_scans(scans)] if scans else []))
    if refused:
        raise click.exceptions.Exit(find_answer(BadInput("", "", ""))[1])


def _assign(
    found: list[Found], dataset: str, pattern: str, rename: str, subject: str, session: str
) -> list[AssignedName]:
    """Tell where each file goes: by its name where there is a pattern, else where all go."""
    from voxelight.app.verbs.naming import assign_names

    ask(Place, dataset=dataset, subject=subject, session=session)
    if pattern:
        return assign_names([each.name for each in found], pattern, rename, subject, session)
    if rename:
        raise BadInput("--rename without --pattern", "both", "Add --pattern, which names the parts.")
    return [
        AssignedName(name=each.name, subject=subject, session=session, as_name=each.path.name, problem="")
        for each in found
    ]


def _answer_rows(shell: Shell, rows: list[AssignedName]) -> None:
    from voxelight.app.cli.tables import make_table

    good = [row for row in rows if not row.problem]
    columns = ("file", "subject", "session", "stored as", "problem")
    table = make_table(columns, ((row.name, row.subject, row.session, row.as_name, row.problem) for row in rows))
    answer = AssignAnswer(rows=rows, assigned=len(good), subjects=len({row.subject for row in good}))
    shell.answer(answer, table, f"{len(good)} of {len(rows)} files, {answer.subjects} subjects; nothing is stored")


def _take_in(
    shell: Shell, found: list[Found], rows: list[AssignedName], **where: Any
) -> tuple[list[ScanAnswer], list[RefusedFile]]:
    """Store files one by one, loose DICOM files of one place together; one that is refused does not stop the others."""
    from voxelight.app.problem import describe_problem
    from voxelight.app.verbs.drops import Dropped

    scans: list[ScanAnswer] = []
    refused: list[RefusedFile] = []

    def refuse(path: Path, problem: RefusedFile) -> None:
        shell.note(f"Refused {path}: {problem.problem.detail}")
        refused.append(problem)

    for each, row in zip(found, rows, strict=True):
        if row.problem:
            error = BadInput(f"{row.name}: {row.problem}", "a name that fits", "Rename it, or change the pattern.")
            refuse(each.path, RefusedFile(path=each.path, problem=describe_problem(error)))
    with shell.progress() as progress:
        for batch in progress.track(group(found, rows), description="Taking in"):
            place = ask(ReadPlace, subject=batch[0][1].subject, session=batch[0][1].session, **where)
            outcome = shell.services.drops.take_in([Dropped(each.path, row.as_name) for each, row in batch], place)
            scans.extend(outcome.scans)
            for part in outcome.problems:
                path = batch[0][0].path if len(batch) == 1 else Path(part.name)
                refuse(path, RefusedFile(path=path, problem=part.problem))
    return scans, refused


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
