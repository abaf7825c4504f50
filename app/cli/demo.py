"""Run the main job end to end."""

from pathlib import Path

import click

from voxelight.app.cli.answers import DemoAnswer
from voxelight.app.cli.follow import carry_out, embedded_worker, refuse_unfinished
from voxelight.app.cli.shell import Shell, Verb
from voxelight.models.errors import BadInput


@click.command(cls=Verb)
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with fmri_miyawaki2008/*.mat, a real recording, and tiny_imagenet_64; what is not there is simulated.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the pictures; default: demo in the home folder.",
)
@click.pass_obj
def demo(shell: Shell, data: Path | None, out: Path | None) -> None:
    """Run the main job end to end.

    Segments both hippocampi of the T1 template that nilearn ships, decodes brain activity to pictures, and
    reconstructs and captions pictures that the tiny profile has not seen: each is taken in, submitted, run by a worker,
    stored in the database and queried back.
    """
    from voxelight.app import demo as steps
    from voxelight.app.cli.tables import show_captions, show_metrics, show_volumes

    if data is not None and not data.is_dir():
        raise BadInput(f"no folder {data}", "a folder", "Check the path.")
    out = out or shell.settings.home / "demo"
    with embedded_worker(shell):
        shell.note("1. Segmenting both hippocampi of the ICBM 152 template")
        mri = steps.segment_template(shell.services, lambda job: carry_out(shell, job), out)
        refuse_unfinished(shell, mri.job)
        shell.note("2. Decoding brain activity to pictures")
        brain = steps.decode(shell.services, lambda job: carry_out(shell, job), out, data)
        refuse_unfinished(shell, brain.job)
        shell.note("3. Reconstructing and captioning 16 unseen pictures from simulated betas")
        unseen = steps.decode_unseen(shell.services, lambda job: carry_out(shell, job), out, data)
        refuse_unfinished(shell, unseen.job)
    subject = "a SIMULATED subject, not measured" if brain.job.simulated else "a real recording"
    pictures = sum(len(result.stimuli) for result in brain.results)
    title = f"{pictures} pictures from {subject}: {brain.job.recipe} on {brain.job.dataset}"
    shell.answer(
        DemoAnswer(segmentation=mri.job, reconstruction=brain.job, decoding=unseen.job, folder=out),
        show_volumes(mri.results, "Hippocampi of a template, the average of 152 people: there is no ground truth"),
        f"Label map and overlay: {mri.folder}\n",
        show_metrics(brain.job.metrics, title),
        f"Pictures and contact sheet: {brain.folder}\n",
        show_captions([each for result in unseen.results for each in result.decoded]),
        show_metrics(
            unseen.job.metrics, f"Unseen pictures from a SIMULATED subject: {unseen.job.recipe} on {unseen.job.dataset}"
        ),
        f"Stimulus, from true tokens, from betas, from shuffled betas: {unseen.folder / 'grid.png'}",
        f"Report with all control rows: {unseen.folder / 'report.html'}\n",
        f"Stored in {shell.settings.home}. Ask again: voxelight results list --job {brain.job.id}",
        "Look at everything in the browser: make serve, or voxelight serve",
        brain.job.notice,
    )
