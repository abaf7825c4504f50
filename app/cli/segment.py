"""Segment files in one go."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import click

from voxelight.app.cli.answers import RefusedFile, WorkAnswer
from voxelight.app.cli.follow import carry_out, embedded_worker, refuse_unfinished
from voxelight.app.cli.intake import PICTURES, VOLUMES, find_files, keep_once, reading_options, take_in
from voxelight.app.cli.shell import Shell, Verb, ask
from voxelight.app.errors import find_answer
from voxelight.app.schemas import DatasetRequest, JobRequest, ResultQuery, ScanAnswer, ScanRequest
from voxelight.app.schemas_exports import ExportFormat
from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.formats.names import image_stem

DATASET = "shell"
_LABEL_DIGITS = 32


def _inference(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how a recipe is applied; what is left out is as the recipe says."""
    for option in (
        click.option("--confidence", is_flag=True, default=None, help="Write STEM_confidence.nii.gz too."),
        click.option("--uncertainty", is_flag=True, default=None, help="Write STEM_uncertainty.nii.gz too."),
        click.option("--half", is_flag=True, default=None, help="Compute in half precision, on a GPU."),
        click.option("--fill-holes/--no-fill-holes", default=None, help="Give holes to the label around them."),
        click.option("--smallest-ml", type=click.FloatRange(min=0), help="Leave out pieces with less volume."),
        click.option("--temperature", type=click.FloatRange(min=0, min_open=True), help="Soften probabilities by it."),
        click.option("--folds", type=click.IntRange(min=1), help="Average so many weights of an ensemble."),
        click.option("--mirror/--no-mirror", default=None, help="Average every window with its mirror images."),
    ):
        command = option(command)
    return command


@click.command(cls=Verb)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--recipe", required=True, help="What to segment; see voxelight recipes list.")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the label maps.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of every random draw.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(get_args(ExportFormat)),
    help="Write this form too, in a folder of its own below DIR; may be repeated.",
)
@_inference
@reading_options
@click.pass_obj
def segment(
    shell: Shell,
    /,
    paths: tuple[Path, ...],
    recipe: str,
    out: Path,
    seed: int,
    prefer: Literal["sform", "qform"] | None,
    volume: int | None,
    formats: tuple[ExportFormat, ...],
    **wishes: Any,
) -> None:
    """Segment volumes or pictures and write their label maps.

    PATH is a NIfTI, NRRD or MetaImage file, a DICOM series packed as .dcm.zip, or a folder of these; for a recipe of
    pictures PNG, JPEG or TIFF. Writes STEM_dseg.nii.gz on the grid of the image, STEM_dseg.json with provenance and
    volumes in ml, and STEM_overlay.png; of a picture also STEM_dseg.png, and STEM_instances.png where objects are told
    apart. Needs no server. Ctrl-C cancels at the next window; what is done stays stored.
    """
    services = shell.services
    known = {row.name: row for row in services.jobs.list_recipes() if row.kind == "segment"}
    if recipe not in known:
        raise NotFound(f"no segmentation recipe {recipe!r}", f"one of {', '.join(known)}", "Correct the name.")
    files = find_files(paths, PICTURES if "picture" in known[recipe].takes else VOLUMES)
    _refuse_one_stem_twice(files)
    services.datasets.ensure(DatasetRequest(name=DATASET, purpose="files segmented from the shell"))
    scans, refused = take_in(shell, files, lambda path: _keep(shell, path, prefer, volume))
    if not scans:
        raise _as_error(refused[0])
    job = services.jobs.submit(
        ask(
            JobRequest,
            kind="segment",
            recipe=recipe,
            dataset=DATASET,
            scans=[scan.id for scan in scans],
            seed=seed,
            options={name: value for name, value in wishes.items() if value is not None},
        )
    )
    with embedded_worker(shell):
        job = carry_out(shell, job)
    results = list(services.results.walk(ResultQuery(job=job.id)))
    written = [path for result in results for path in services.results.export(result.artifacts, out)]
    if formats and results:
        written += _write_formats(shell, ResultQuery(job=job.id), formats, out)
    from voxelight.app.cli.tables import show_volumes

    answer = WorkAnswer(job=job, results=results, files=written, refused=refused)
    shell.answer(answer, show_volumes(results), f"{len(written)} files in {out}. {job.notice}")
    refuse_unfinished(shell, job)
    if refused:
        raise click.exceptions.Exit(find_answer(_as_error(refused[0]))[1])


def _write_formats(shell: Shell, query: ResultQuery, formats: tuple[ExportFormat, ...], out: Path) -> list[Path]:
    from voxelight.storage.formats.streams import replacing

    written = []
    for member in shell.services.exports.list_members(query, (), formats):
        path = out / member.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.writelines(member.content)
        written.append(path)
    return written


def _refuse_one_stem_twice(files: list[Path]) -> None:
    places: dict[str, Path] = {}
    for path in files:
        stem = image_stem(path.name)
        if stem in places:
            raise BadInput(
                f"{places[stem]} and {path}, whose label maps would have one name",
                "file names that differ",
                "Rename one, or segment them into two folders.",
            )
        places[stem] = path


def _keep(shell: Shell, path: Path, prefer: Literal["sform", "qform"] | None, volume: int | None) -> ScanAnswer:
    """Store a file under the hash of its content, unless it is there already."""
    from voxelight.storage.artifacts import hash_file

    if not path.is_file():
        raise BadInput(f"no file {path}", "a file", "Check the path.")
    chosen = "-".join(str(part) for part in (prefer, volume) if part is not None)
    label = "-".join(filter(None, (hash_file(path)[:_LABEL_DIGITS], chosen)))
    request = ScanRequest(name=path.name, dataset=DATASET, subject=label, prefer=prefer, volume=volume)
    return keep_once(shell.services, [path], request)[0]


def _as_error(refused: RefusedFile) -> BadInput:
    problem = refused.problem
    return BadInput(problem.found, problem.expected, problem.remedy)
