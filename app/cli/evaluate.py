"""Evaluate what a job decoded or segmented: a report to read, and the same as JSON and CSV."""

import uuid
from pathlib import Path
from typing import Any

import click

from voxelight.app.cli.answers import FilesAnswer
from voxelight.app.cli.evaluate_maps import MapOptions, evaluate_instances, evaluate_maps, map_options
from voxelight.app.cli.shell import Shell, Verb
from voxelight.models.errors import BadInput

MOST_JOBS = 2
NO_NETWORK = "none"


@click.command(cls=Verb)
@click.argument("jobs", nargs=-1, metavar="[JOB [JOB]]", type=click.UUID)
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Where to write."
)
@click.option("--betas-version", metavar="TEXT", help="Version of the betas, where they were measured.")
@click.option("--sessions", metavar="TEXT", help="Sessions that the decoder was trained on, where the data don't say.")
@click.option("--test-set", metavar="TEXT", help="How the scored stimuli were chosen; default: what the job says.")
@click.option("--permutations", default=999, show_default=True, type=click.IntRange(min=19), help="Draws of the null.")
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NAME",
    help="Network that judges pictures, or `none`; may be repeated. Default: efficientnet-lite0, where it is here.",
)
@click.option("--ceiling", is_flag=True, help="Generate from the tokens of the pictures too: as long as the job took.")
@click.option(
    "--captions",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Reference captions, JSON of stimulus and captions: decoded ones are scored.",
)
@click.option("--caption-set", metavar="NAME", help="With --captions: what they are, such as coco captions.")
@click.option("--brain-region", "brain_regions", multiple=True, metavar="NAME", help="Mask of the same subject, or "
              "region of a registered folder: its encoder scores pictures, and chooses samples; repeat.")  # fmt: skip
@map_options
@click.pass_obj
def evaluate(
    shell: Shell,
    /,
    jobs: tuple[uuid.UUID, ...],
    out: Path,
    betas_version: str | None,
    sessions: str | None,
    test_set: str | None,
    permutations: int,
    networks: tuple[str, ...],
    ceiling: bool,
    captions: Path | None,
    caption_set: str | None,
    brain_regions: tuple[str, ...],
    **maps: Any,
) -> None:
    """Evaluate what a job decoded or segmented, or compare two jobs.

    Writes report.html, which asks nobody for anything, report.json and report.csv: every score with its interval, and
    provenance. What was decoded is scored beside all control rows. Label maps are scored against --references or
    --corrections, those of a job or of the folder --found. With a second job, or --against, both are compared item by
    item.
    """
    if (options := MapOptions(**maps)).given:
        return (evaluate_instances if options.instances else evaluate_maps)(shell, jobs, out, options)
    from voxelight.app.pipelines.evaluated import Wishes, compare
    from voxelight.app.pipelines.evaluated import evaluate as evaluate_job
    from voxelight.app.pipelines.evaluated_captions import read_captions
    from voxelight.neuro.evaluate.page import write_page
    from voxelight.neuro.evaluate.tables import NOTICE, find_marks, write_csv, write_json
    from voxelight.storage.formats.streams import replacing

    if not 1 <= len(jobs) <= MOST_JOBS:
        raise BadInput(f"{len(jobs)} jobs", "one, or two to be compared", "Compare two at a time.")
    judges = tuple(name for name in networks if name != NO_NETWORK) if networks else None
    if (captions is None) != (caption_set is None):
        raise BadInput("one of --captions and --caption-set", "both or none", "Name the set, and give its file.")
    references = None if captions is None or caption_set is None else (caption_set, read_captions(captions))
    wishes = Wishes(
        betas_version,
        sessions,
        test_set,
        permutations,
        judges,
        ceiling,
        shell.settings.device,
        references,
        brain_regions,
    )
    found = [evaluate_job(shell.services.stores, job, wishes) for job in jobs]
    evaluation = compare(*found) if len(found) > 1 else found[0]
    texts = {"html": write_page(evaluation), "json": write_json(evaluation), "csv": write_csv(evaluation)}
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, text in texts.items():
        written.append(out / f"report.{suffix}")
        with replacing(written[-1]) as file:
            file.write(text.encode())
    marks = "".join(f" {mark}" for mark in find_marks(evaluation))
    return shell.answer(
        FilesAnswer(files=written), f"{evaluation.title}: {', '.join(map(str, written))}.{marks} {NOTICE}"
    )
