"""Take results home: an archive, a report or a table, whichever the name of the file asks for."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from voxelight.app.cli.answers import FilesAnswer
from voxelight.app.cli.results import conditions
from voxelight.app.cli.shell import Shell, Verb, ask
from voxelight.app.schemas import ResultQuery
from voxelight.app.schemas_exports import ExportFormat
from voxelight.models.errors import BadInput

if TYPE_CHECKING:
    from voxelight.app.verbs.exports import Exports

    Make = Callable[[Exports, ResultQuery, tuple[uuid.UUID, ...], tuple[ExportFormat, ...]], Iterator[bytes]]

MAKERS: "dict[str, Make]" = {
    ".zip": lambda exports, query, runs, formats: exports.stream(query, runs, formats),
    ".html": lambda exports, query, runs, _: iter([exports.report(query, runs)]),
    ".pdf": lambda exports, query, runs, _: iter([exports.report(query, runs, pdf=True)]),
    ".csv": lambda exports, query, runs, _: exports.tabulate(query, runs),
    ".parquet": lambda exports, query, runs, _: exports.tabulate(query, runs, parquet=True),
}


@click.command(cls=Verb)
@click.argument("runs", nargs=-1, metavar="[RUN]...", type=click.UUID)
@conditions
@click.option("--search", metavar="SLUG", help="Conditions of a saved search.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(get_args(ExportFormat)),
    help="Of an archive; may be repeated. Default: all.",
)
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Where to write: {', '.join(MAKERS)}.",
)
@click.pass_obj
def export(
    shell: Shell,
    /,
    runs: tuple[uuid.UUID, ...],
    search: str | None,
    formats: tuple[ExportFormat, ...],
    out: Path,
    **query: Any,
) -> None:
    """Take results home as one file, with provenance and citations.

    Give ids of runs, or conditions; with neither, everything is written. The suffix of the file says what it becomes:
    an archive of BIDS derivatives, NIfTI, DICOM-SEG, RTSTRUCT, surfaces, colour tables, pictures, tables and report, or
    a report or a table alone.
    """
    from voxelight.storage.formats.streams import replacing

    if out.suffix not in MAKERS:
        raise BadInput(f"a file {out.name}", f"a name that ends in {', '.join(MAKERS)}", "Change the suffix.")
    given = {name: value for name, value in query.items() if value not in (None, ())}
    if runs and (given or search):
        raise BadInput("both runs and conditions", "one of the two", "Leave one out.")
    saved = shell.services.searches.read(search).model_dump(exclude_unset=True) if search else {}
    content = MAKERS[out.suffix](
        shell.services.exports, ask(ResultQuery, **saved | given), runs, formats or get_args(ExportFormat)
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        file.writelines(content)
    shell.answer(FilesAnswer(files=[out]), f"{out}: {out.stat().st_size} bytes. Not for clinical use.")
