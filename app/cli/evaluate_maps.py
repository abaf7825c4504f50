"""Evaluate label maps against references: what `voxelight evaluate` does where references are named."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelight.app.cli.answers import FilesAnswer
from voxelight.app.cli.shell import Shell
from voxelight.app.errors import find_answer
from voxelight.models.errors import BadInput

if TYPE_CHECKING:
    from voxelight.app.pipelines.evaluated_maps import Scored, Wishes
    from voxelight.medseg.evaluation import Evaluation

_DIR = click.Path(path_type=Path, file_okay=False, exists=True)


@dataclass(frozen=True)
class MapOptions:
    """What was said of label maps and their references."""

    references: Path | None
    corrections: bool
    instances: bool
    found: Path | None
    against: Path | None
    label: tuple[str, ...]
    region: tuple[str, ...]
    tolerance_mm: float
    groups: Path | None
    missing: str
    seed: int

    @property
    def given(self) -> bool:
        """Whether label maps are to be evaluated, and not what was decoded."""
        return (
            self.corrections
            or self.instances
            or any(each is not None for each in (self.references, self.found, self.against))
        )


def map_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how label maps are scored to a command."""
    for option in (
        click.option("--seed", default=0, show_default=True, help="Seed of the bootstrap over persons."),
        click.option(
            "--missing",
            type=click.Choice(["left-out", "empty"]),
            default="left-out",
            show_default=True,
            help="References without a label map: leave them out, or count them as missed.",
        ),
        click.option(
            "--groups",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False, exists=True),
            help="Table with columns case, person and perhaps fold; .tsv or .csv.",
        ),
        click.option(
            "--tolerance-mm", default=1.0, show_default=True, type=click.FloatRange(min=0), help="Of surface Dice."
        ),
        click.option(
            "--region",
            multiple=True,
            metavar="NAME=LABELS",
            help="Score labels as one besides, e.g. 'whole tumour=edema,core'; repeat.",
        ),
        click.option("--label", multiple=True, metavar="N=NAME", help="Name of a label, where no sidecar has it."),
        click.option("--against", metavar="DIR", type=_DIR, help="Folder of label maps to compare with."),
        click.option("--found", metavar="DIR", type=_DIR, help="Folder of label maps, instead of a job."),
        click.option("--instances", is_flag=True, help="Count objects one by one, of --found against --references."),
        click.option("--corrections", is_flag=True, help="Score a job against what people corrected it to."),
        click.option(
            "--references", metavar="DIR", type=_DIR, help="Folder of reference label maps, named as the scans."
        ),
    ):
        command = option(command)
    return command


def evaluate_maps(shell: Shell, jobs: Sequence[uuid.UUID], out: Path, options: MapOptions) -> None:
    """Score, compare where there are two runs, and write the report in its three forms; what is left out is told."""
    from voxelight.app.pipelines.evaluated_maps import compare, score_pairs
    from voxelight.medseg.report import NOTICE, write_csv, write_json, write_page
    from voxelight.storage.formats.streams import replacing

    wishes = _read_wishes(options)
    runs = _find_runs(shell, jobs, options, wishes)
    with shell.progress() as progress:
        scored: list[Evaluation] = []
        for run in runs:
            bar = progress.add_task(run.title, total=1.0)
            scored.append(score_pairs(run, wishes, lambda share, bar=bar: progress.update(bar, completed=share)))  # type: ignore[misc]
    evaluation = compare(scored[0], scored[1], wishes) if len(scored) > 1 else scored[0]
    texts = {"html": write_page(evaluation), "json": write_json(evaluation), "csv": write_csv(evaluation)}
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, text in texts.items():
        written.append(out / f"report.{suffix}")
        with replacing(written[-1]) as file:
            file.write(text.encode())
    for each in scored:
        for case, reason in each.left_out.items():
            shell.note(f"Left out of {each.title}: {case}. {reason}")
    shell.answer(FilesAnswer(files=written), *_say(evaluation), f"{', '.join(map(str, written))}. {NOTICE}")
    _end(*(each.left_out for each in scored))


def evaluate_instances(shell: Shell, jobs: Sequence[uuid.UUID], out: Path, options: MapOptions) -> None:
    """Count objects one by one, and write what came out."""
    from voxelight.app.cli.recordings import write_json as write
    from voxelight.app.cli.tables import make_table
    from voxelight.app.pipelines.evaluated_instances import score_folders
    from voxelight.medseg.report import NOTICE

    if jobs or options.found is None or options.references is None:
        raise BadInput("instances without two folders", "--found DIR and --references DIR", "Name both, and no job.")
    told = score_folders(options.found, options.references, options.seed)
    file = write(out / "instances.json", told)
    rows = [
        (f"IoU above {iou}", f"{each['f1']:.3f}", f"{each['recall']:.3f}", f"{each['precision']:.3f}", str(each["fn"]),
         str(each["fp"]))
        for iou, each in told["pooled"].items()
    ]  # fmt: skip
    head = ("objects", "F1", "recall", "precision", "missed", "made up")
    for case, reason in told["left_out"].items():
        shell.note(f"Left out: {case}. {reason}")
    shell.answer(
        FilesAnswer(files=[file]), make_table(head, rows, f"{len(told['cases'])} pictures"), f"{file}. {NOTICE}"
    )
    _end(told["left_out"])


def _end(*left_out: Mapping[str, str]) -> None:
    """End as a refusal does where a case was left out; the others are written."""
    if any(left_out):
        raise click.exceptions.Exit(find_answer(BadInput("", "", ""))[1])


def _find_runs(shell: Shell, jobs: Sequence[uuid.UUID], options: MapOptions, wishes: "Wishes") -> "list[Scored]":
    from voxelight.app.pipelines.evaluated_maps import pair_folders, pair_job

    folders = [folder for folder in (options.found, options.against) if folder is not None]
    if (options.references is None) == (not options.corrections):
        raise BadInput("no reference, or two kinds of it", "--references DIR or --corrections", "Name one of the two.")
    if not 1 <= len(jobs) + len(folders) <= 2 or (options.corrections and not jobs):
        raise BadInput(f"{len(jobs)} jobs and {len(folders)} folders", "one run, or two to be compared",
                       "Name a job or --found, and a second job or --against to compare with.")  # fmt: skip
    runs = [pair_job(shell.services.stores, job, options.references, wishes) for job in jobs]
    return runs + [pair_folders(folder, options.references, wishes) for folder in folders if options.references]


def _read_wishes(options: MapOptions) -> "Wishes":
    from voxelight.app.pipelines.evaluated_maps import Wishes
    from voxelight.storage.formats.groups import read_groups

    labels: dict[int, str] = {}
    for text in options.label:
        number, _, name = text.partition("=")
        if not (number.isascii() and number.isdigit() and int(number) > 0 and name):
            raise BadInput(f"the label {text!r}", "NUMBER=NAME, from 1 on", "Write --label 1=anterior.")
        labels[int(number)] = name
    return Wishes(
        tolerance_mm=options.tolerance_mm,
        seed=options.seed,
        missing_as_empty=options.missing == "empty",
        groups=read_groups(options.groups) if options.groups else None,
        labels=labels or None,
        regions=dict(map(_read_region, options.region)),
    )


def _read_region(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, labels = text.partition("=")
    parts = tuple(part.strip() for part in labels.split(","))
    if not name.strip() or not all(parts):
        raise BadInput(f"the region {text!r}", "NAME=LABEL,LABEL", "Write --region 'whole tumour=edema,core'.")
    return name.strip(), parts


def _say(evaluation: "Evaluation") -> list[Any]:
    from voxelight.app.cli.tables import make_table
    from voxelight.medseg.evaluation import METRICS

    rows = [
        (summary.label, METRICS[name], f"{mean.estimate:.3f}", f"[{mean.low:.3f}, {mean.high:.3f}]", str(mean.persons))
        for summary in evaluation.labels
        for name, mean in summary.scores.items()
    ]
    tables = [make_table(("label", "score", "mean", "95 %", "persons"), rows, evaluation.title)]
    tests = [
        (
            label,
            METRICS[metric],
            f"{test.difference:+.4f}",
            f"[{test.low:+.4f}, {test.high:+.4f}]",
            f"{test.p:.3g}",
            test.test,
        )
        for label, metrics in evaluation.tests.items()
        for metric, found in metrics.items()
        for test in found
    ]
    if tests:
        head = ("label", "score", "difference", "95 %", "p", "test")
        tables.append(make_table(head, tests, f"Against {evaluation.other}"))
    return tables
