"""Estimate single-trial betas from runs of BOLD in one go."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelight.app.cli.answers import WorkAnswer
from voxelight.app.cli.follow import carry_out, embedded_worker, refuse_unfinished
from voxelight.app.cli.intake import CONSENTS
from voxelight.app.cli.shell import Shell, Verb, ask
from voxelight.app.cli.train import parse_setting
from voxelight.app.schemas import DatasetRequest, JobRequest, ResultQuery
from voxelight.models.errors import BadInput

if TYPE_CHECKING:
    from voxelight.app.schemas import JobAnswer
    from voxelight.app.services import Services

_FOLDER = click.Path(path_type=Path, file_okay=False)
_MARK = "SIMULATED"  # file that says so
_KEPT = ("series", "volume", "events")


@click.command(cls=Verb)
@click.argument("source")
@click.option("--recipe", default="glm-single-trial", show_default=True, help="How; see voxelight recipes list.")
@click.option(
    "--out", required=True, metavar="DIR", type=_FOLDER, help="Folder for betas, maps and the page of quality."
)
@click.option(
    "--dataset", help="For a folder: name of the data set that its runs are stored in; default: the folder's."
)
@click.option("--derivatives", type=_FOLDER, help="For a folder: derivatives of fMRIPrep, where they lie elsewhere.")
@click.option("--task", help="For a folder: the task, where there are several.")
@click.option("--space", help="For a folder: the space of derivatives, where there are several; T1w for one.")
@click.option(
    "--mask",
    type=click.Path(path_type=Path, dir_okay=False),
    help="For a folder: the mask, in place of those of derivatives.",
)
@click.option("--pictures", type=_FOLDER, help="For a folder: pictures that were seen; default: its stimuli/.")
@click.option("--consent", type=click.Choice(CONSENTS), help="For a folder: on what ground the betas may be decoded.")
@click.option("--purpose", help="For a folder: what the data may be used for.")
@click.option("--name", help="Name of the data set of betas that comes out.")
@click.option("--confound", "confounds", multiple=True, metavar="NAME", help="Column to take out, with *; repeat; "
              "default: six of motion.")  # fmt: skip
@click.option("--stimulus", metavar="COLUMN", help="Column of the events that says what was shown.")
@click.option(
    "--hold-out", "held_out", multiple=True, metavar="ITEM", help="Run that takes no part in any choice; repeat."
)
@click.option(
    "--option", "options", multiple=True, metavar="NAME=JSON", help="Option of the estimation; repeat for more."
)
@click.pass_obj
def glm(shell: Shell, /, source: str, recipe: str, out: Path, **given: Any) -> None:
    """Estimate single-trial betas from runs of BOLD.

    SOURCE is a folder in BIDS, raw or with derivatives of fMRIPrep, whose runs are stored first; or the name of a
    stored data set of such runs. The betas become a data set of their own, to decode from. Writes them as
    sub-NN_betas.nii.gz with mask and events, maps of reliability, noise ceiling and responses, and betas.html, the page
    of their quality. Needs no server. Ctrl-C cancels between blocks of voxels; voxelight jobs retry goes on.
    """
    folder = Path(source)
    own = {
        key: given.pop(key)
        for key in ("dataset", "derivatives", "task", "space", "mask", "pictures", "consent", "purpose")
    }
    if folder.is_dir():
        dataset = _store(shell, folder, **own)
    else:
        stated = [f"--{key}" for key, value in own.items() if value is not None]
        if stated:
            raise BadInput(
                f"{' and '.join(stated)} for a stored data set", "these for a folder only", "Leave them out."
            )
        dataset = shell.services.datasets.show(source).name
    options = {key: given[key] for key in ("name", "stimulus", "confounds", "held_out") if given[key]}
    if given["options"]:
        options["model"] = dict(map(parse_setting, given["options"]))
    request = ask(JobRequest, kind="glm", recipe=recipe, dataset=dataset, queue="cpu", options=options)
    job = shell.services.jobs.submit(request)
    with embedded_worker(shell):
        job = carry_out(shell, job)
    results = list(shell.services.results.walk(ResultQuery(job=job.id)))
    refuse_unfinished(shell, job)
    written = _write(shell.services, job, out)
    _answer(shell, WorkAnswer(job=job, results=results, files=written, refused=[]), out)


def _store(shell: Shell, folder: Path, dataset: str | None, **given: Any) -> str:
    """Store the runs of a folder in a data set, which is made where it is missing."""
    from voxelight.app.pipelines.glm_intake import store_runs
    from voxelight.storage.formats.fmri.bold import index_bold

    runs = index_bold(folder, given["derivatives"], given["task"], given["space"])
    stimuli = given["pictures"] or (folder / "stimuli" if (folder / "stimuli").is_dir() else None)
    name = dataset or folder.resolve().name
    facts = {key: given[key] for key in ("consent", "purpose") if given[key] is not None}
    services = shell.services
    there = services.datasets.ensure(ask(DatasetRequest, name=name, simulated=(folder / _MARK).is_file(), **facts))
    if there.scans:
        raise BadInput(
            f"the data set {name!r}, which holds {there.scans} files already",
            "a new data set for the runs of a folder",
            f"Estimate what is stored (voxelight glm {name}), or choose another --dataset.",
        )
    with shell.progress() as progress:
        bar = progress.add_task("Storing", total=None)
        store_runs(
            services,
            runs,
            name,
            stimuli,
            given["mask"],
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
    return name


def _write(services: "Services", job: "JobAnswer", out: Path) -> list[Path]:
    """Write what the job gave, and the data set of betas as a folder that can be read as one."""
    written = services.results.export(job.artifacts, out)
    name = json.loads((out / "betas.json").read_text(encoding="utf-8"))["dataset"]
    for scan in services.scans.list(name, limit=500).items:
        if scan.kind in _KEPT:
            with services.stores.blobs.local_file(scan.sha256, scan.name) as path:
                shutil.copyfile(path, out / scan.name)
            written.append(out / scan.name)
    return written


def _answer(shell: Shell, answer: WorkAnswer, out: Path) -> None:
    from voxelight.app.cli.tables import show_metrics

    job = answer.job
    told = json.loads((out / "betas.json").read_text(encoding="utf-8"))
    title = f"{job.recipe} on {job.dataset}{' (SIMULATED, not measured)' if job.simulated else ''}"
    shell.answer(
        answer,
        *([show_metrics(job.metrics, title)] if job.metrics else []),
        f"Betas of {job.done} runs are the data set {told['dataset']}; {len(answer.files)} files in {out}.",
        job.notice,
    )
