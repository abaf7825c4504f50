"""Create, list and change data sets; make one to train on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from voxelight.app.cli.answers import FilesAnswer
from voxelight.app.cli.intake import CONSENTS
from voxelight.app.cli.shell import Group, Shell, ask
from voxelight.app.schemas import DatasetAnswer, DatasetChange, DatasetRequest
from voxelight.app.schemas_recordings import RecordingLook, RecordingRequest
from voxelight.models.errors import BadInput


def facts(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what can be said of a data set to a command."""
    for option in (
        click.option("--source", help="Where the data come from, with their citation."),
        click.option("--licence", help="Under which terms they may be used."),
        click.option("--purpose", help="What they may be used for; decoding asks for it."),
        click.option(
            "--consent-note", help="What the consent says: who approved it and what it covers; names no person."
        ),
        click.option("--consent", type=click.Choice(CONSENTS), help="On what ground they may be decoded."),
    ):
        command = option(command)
    return command


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add to a command what may be chosen where a layout leaves a choice."""
    for option in (
        click.option("--scale", type=float, help="Integers are divided by it, where the layout does not say it."),
        click.option("--missing", type=click.Choice(["refuse", "zero"]), help="What becomes of NaN; default: refuse."),
        click.option("--space", help="Space of the betas where there are several, func1pt8mm for one."),
        click.option("--version", help="Preparation of the betas where there are several, betas_fithrf for one."),
        click.option("--sessions", help="Sessions to take, 1-37 for example; left out: all that are there."),
        click.option("--layout", help="How the files are laid out; left out, told by the files."),
    ):
        command = option(command)
    return command


@click.group(cls=Group)
def datasets() -> None:
    """Create, list and change data sets."""


@datasets.command("create")
@click.argument("name")
@facts
@click.option("--simulated", is_flag=True, help="Made by a model, not measured.")
@click.option(
    "--keeps-headers", is_flag=True, help="Clinical and local: headers keep who was scanned, nothing can be exported."
)
@click.option("--removes-faces", is_flag=True, help="Take faces out of heads on their way in; what keeps one is held.")
@click.pass_obj
def create(shell: Shell, /, name: str, simulated: bool, keeps_headers: bool, removes_faces: bool, **given: Any) -> None:
    """Create a data set."""
    kinds = {"simulated": simulated, "keeps_headers": keeps_headers, "removes_faces": removes_faces}
    request = ask(DatasetRequest, name=name, **kinds, **_stated(given))
    _answer(shell, shell.services.datasets.create(request))


@datasets.command("list")
@click.option("--limit", default=50, show_default=True, help="Rows, newest first.")
@click.option("--cursor", help="next_cursor of the answer before, for what follows it.")
@click.pass_obj
def list_datasets(shell: Shell, limit: int, cursor: str | None) -> None:
    """List data sets, newest first."""
    from voxelight.app.cli.tables import show_datasets

    page = shell.services.datasets.list(limit, cursor)
    shell.answer(page, show_datasets(page.items))


@datasets.command("show")
@click.argument("name")
@click.pass_obj
def show(shell: Shell, name: str) -> None:
    """Show one data set."""
    _answer(shell, shell.services.datasets.show(name))


@datasets.command("change")
@click.argument("name")
@facts
@click.option("--version", type=int, help="Only if the data set still has this version.")
@click.pass_obj
def change(shell: Shell, /, name: str, version: int | None, **given: Any) -> None:
    """Change what is set on a data set."""
    stated = _stated(given)
    if not stated:
        raise BadInput(
            "nothing to change", "one of --consent, --consent-note, --purpose, --licence, --source", "Say what to set."
        )
    _answer(shell, shell.services.datasets.change(name, ask(DatasetChange, **stated), version))


@datasets.command("from-reviews")
@click.argument("name")
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="New folder."
)
@click.option("--recipe", help="Only results of this recipe.")
@click.pass_obj
def from_reviews(shell: Shell, name: str, out: Path, recipe: str | None) -> None:
    """Write what people accepted or corrected as a folder to train on.

    Makes images/, labels/, groups.csv (case and subject, for voxelight train --groups) and training_set.json with the
    provenance of every case. An accepted label map is the network's own: training on it teaches the network what it
    knows already, corrections teach more.
    """
    from voxelight.app.verbs.training_sets import list_kinds, write_training_set

    answer = write_training_set(shell.services.stores, name, out, recipe)
    left = "".join(f"; {count} left out: {reason}" for reason, count in answer.left_out.items())
    shell.answer(
        answer, f"{len(answer.cases)} cases in {out}: {', '.join(list_kinds(answer.cases))}{left}. {answer.notice}"
    )


@datasets.command("layouts")
@click.pass_obj
def layouts(shell: Shell) -> None:
    """List the layouts of fMRI betas that can be read."""
    from voxelight.app.cli.tables import show_layouts

    rows = shell.services.recordings.list_layouts()
    shell.answer(rows, show_layouts(rows))


@datasets.command("index")
@click.argument("path", type=click.Path(path_type=Path))
@reading
@click.pass_obj
def index(shell: Shell, /, path: Path, layout: str | None, **given: Any) -> None:
    """Say what a folder or file of fMRI betas holds; no beta is read.

    Subjects, sessions, runs, trials, stimuli and regions, from tables and headers alone.
    """
    from voxelight.app.cli.tables import show_subjects

    found = shell.services.recordings.look(_look(path, layout, given), trusted=True)
    simulated = ", SIMULATED" if found.simulated else ""
    title = f"{found.title} ({found.layout}{simulated}); terms: {found.terms}"
    shell.answer(found, show_subjects(found.subjects, title), *found.notes)


@datasets.command("add")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@reading
@click.option(
    "--subject", "subjects", multiple=True, help="Subject to register; several times for several, left out: all."
)
@click.option("--roi", help="Region to decode from; left out, the first of each subject.")
@facts
@click.pass_obj
def add(
    shell: Shell, /, name: str, path: Path, layout: str | None, subjects: tuple[str, ...], roi: str | None, **given: Any
) -> None:
    """Register a folder or file of fMRI betas where it lies.

    The data set NAME is made where it is missing; simulated betas make it one that says so. A sample of trials is read,
    to see whether repeats agree. Nothing is copied: keep the files where they are.
    """
    from voxelight.app.cli.tables import show_scans

    stated = {key: given.pop(key) for key in ("source", "licence", "purpose", "consent", "consent_note")}
    look = _look(path, layout, given)
    request = ask(RecordingRequest, **look.model_dump(), subjects=subjects or None, roi=roi)
    dataset = ask(DatasetRequest, name=name, **_stated(stated))
    answer = shell.services.recordings.add(dataset, request, trusted=True)
    warnings = [f"{scan.subject}: {each['found']}. {each['remedy']}" for scan in answer.scans for each in scan.warnings]
    shell.answer(answer, show_scans(answer.scans), *answer.notes, *warnings)


@datasets.command("example")
@click.argument("layout")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the simulation.")
@click.pass_obj
def example(shell: Shell, layout: str, folder: Path, seed: int) -> None:
    """Write a small simulated subject in a LAYOUT, to see the format.

    A file SIMULATED says what it is. The layouts are those of voxelight datasets layouts, but for simulated, which
    voxelight simulate writes; and bold, runs of BOLD in BIDS with derivatives, for voxelight glm.
    """
    if layout == "bold":
        from voxelight.storage.formats.fmri.examples.bold import write_bold_example

        write_bold_example(folder, seed)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        shell.answer(
            FilesAnswer(files=files), f"SIMULATED runs of BOLD in {folder}.", f"voxelight glm {folder} --out betas"
        )
        return
    from voxelight.storage.formats.fmri.examples.write import write_example

    write_example(layout, folder, seed)
    answer = shell.services.recordings.look(ask(RecordingLook, path=str(folder), layout=layout), trusted=True)
    shell.answer(
        answer, f"A SIMULATED subject in the layout {layout} in {folder}.", f"voxelight datasets index {folder}"
    )


@datasets.command("compare")
@click.argument("own", type=click.Path(path_type=Path))
@click.argument("published", type=click.Path(path_type=Path))
@click.option(
    "--subject", help="Subject of OWN; left out, the first. That of PUBLISHED has the same name, or is the first."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="JSON file for the report.")
@click.pass_obj
def compare(shell: Shell, own: Path, published: Path, subject: str | None, out: Path | None) -> None:
    """Compare one's own betas with a published set of the same subject and stimuli.

    Voxel by voxel where both have as many, by the geometry of stimuli in any case, beside what permuted trials give;
    with the reliability and the alignment of both.
    """
    from voxelight.app.cli.recordings import write_json

    looks = [ask(RecordingLook, path=str(each)) for each in (own, published)]
    answer = shell.services.recordings.compare(looks[0], looks[1], subject)
    if out is not None:
        write_json(out, answer.model_dump(mode="json"))
    shell.answer(answer, *answer.lines)


def _look(path: Path, layout: str | None, given: dict[str, Any]) -> RecordingLook:
    sessions = _read_sessions(given.pop("sessions"))
    options = {name: value for name, value in _stated(given).items() if value is not None}
    return ask(RecordingLook, path=str(path.expanduser()), layout=layout, options={"sessions": sessions, **options})


def _read_sessions(text: str | None) -> tuple[int, ...] | None:
    """Read e.g. ``1-37`` or ``1,2,5-9``."""
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.strip().isdigit() or (last and not last.strip().isdigit()):
            raise BadInput(f"the sessions {text!r}", "numbers and ranges, 1-37 or 1,3,5 for example", "Correct them.")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _stated(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _answer(shell: Shell, dataset: DatasetAnswer) -> None:
    from voxelight.app.cli.tables import make_card

    shell.answer(dataset, make_card(dict(dataset)))
