"""The shell. A command is imported when it is called, so that the help costs neither torch nor a database."""

from pathlib import Path

import click

from voxelight.app.cli.shell import LazyGroup, Shell

COMMANDS = {
    "serve": ("voxelight.app.cli.processes:serve", "Open the page and the API."),
    "worker": ("voxelight.app.cli.processes:worker", "Run jobs of a queue until stopped."),
    "workers": ("voxelight.app.cli.workers:workers", "Show who works on the queues."),
    "queues": ("voxelight.app.cli.workers:queues", "Show how much waits on each queue and for how long."),
    "ingest": ("voxelight.app.cli.ingest:ingest", "Check files and store them in a data set."),
    "dicom": (
        "voxelight.app.cli.dicom:dicom",
        "Look at DICOM series, decide on held scans, give results back; talk to archives.",
    ),
    "watch": ("voxelight.app.cli.watch:watch", "Take in whatever appears in a folder, until stopped."),
    "segment": ("voxelight.app.cli.segment:segment", "Segment volumes or pictures and write their label maps."),
    "align": (
        "voxelight.app.cli.align:align",
        "Align the contrasts of one visit to one of them, by a rotation and a shift each.",
    ),
    "reconstruct": ("voxelight.app.cli.reconstruct:reconstruct", "Reconstruct seen pictures from betas."),
    "decode": (
        "voxelight.app.cli.decode:decode",
        "Decode seen pictures and their captions from betas with a trained decoder.",
    ),
    "evaluate": (
        "voxelight.app.cli.evaluate:evaluate",
        "Evaluate what a job decoded or segmented, or compare two jobs.",
    ),
    "linear": (
        "voxelight.app.cli.linear:linear",
        "Fit linear decoders, and predict, caption and reconstruct with them.",
    ),
    "captions": ("voxelight.app.cli.captions:captions", "Score decoded captions as BrainHub does."),
    "relevance": (
        "voxelight.app.cli.relevance:relevance",
        "Map where in the brain the decoder of a finished job looks.",
    ),
    "compare": (
        "voxelight.app.cli.compare:compare",
        "Compare two jobs, or two models, over what both worked on.",
    ),
    "plan": (
        "voxelight.app.cli.plan:plan",
        "Plan how a network is trained on a folder of cases, and write it as a recipe to read and edit.",
    ),
    "train": ("voxelight.app.cli.train:train", "Fit the weights of a segmentation recipe."),
    "calibrate": (
        "voxelight.app.cli.calibrate:calibrate",
        "Fit the temperature of a segmentation recipe on held-out cases.",
    ),
    "glm": ("voxelight.app.cli.glm:glm", "Estimate single-trial betas from runs of BOLD."),
    "simulate": ("voxelight.app.cli.simulate:simulate", "Simulate subjects who look at pictures."),
    "data": ("voxelight.app.cli.data:data", "Fetch public data sets."),
    "datasets": ("voxelight.app.cli.datasets:datasets", "Create, list and change data sets."),
    "jobs": ("voxelight.app.cli.jobs:jobs", "Submit, follow, cancel, repeat and copy jobs."),
    "corrections": (
        "voxelight.app.cli.corrections:corrections",
        "List corrections of a label map, and add one that was drawn elsewhere.",
    ),
    "results": ("voxelight.app.cli.results:results", "Query and export what came out."),
    "index": (
        "voxelight.app.cli.index:index",
        "Build an index of pictures, and find in it what a picture or a brain is near.",
    ),
    "search": ("voxelight.app.cli.search:search", "Find stored results, scans and cases by likeness."),
    "export": ("voxelight.app.cli.export:export", "Take results home as one file, with provenance and citations."),
    "delete": ("voxelight.app.cli.delete:delete", "Delete for good: rows, files, vectors and reports, with a receipt."),
    "reviews": ("voxelight.app.cli.reviews:reviews", "Review results, compare reviewers, find cases that stand apart."),
    "followup": (
        "voxelight.app.cli.followup:followup",
        "Follow one subject: volumes by session, and changes beyond what measuring again gives.",
    ),
    "models": ("voxelight.app.cli.models:models", "List models, and import those of other programs."),
    "weights": ("voxelight.app.cli.weights:weights", "Fetch and convert published weights."),
    "recipes": ("voxelight.app.cli.recipes:recipes", "List what a job can do."),
    "access": ("voxelight.app.cli.access:access", "Say who may do what, and make keys."),
    "audit": ("voxelight.app.cli.audit:audit", "Read, verify and export the log of what was done, by whom."),
    "storage": ("voxelight.app.cli.storage:storage", "Look after the database and the files."),
    "doctor": ("voxelight.app.cli.doctor:doctor", "Check this installation."),
    "demo": ("voxelight.app.cli.demo:demo", "Run the main job end to end."),
}


@click.group(cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for everything that is stored; else VOXELIGHT_HOME, else ~/.voxelight.",
)
@click.version_option(package_name="voxelight", help="Print the version.")
@click.pass_context
def main(context: click.Context, home: Path | None) -> None:
    """Decode brain activity to images and segment medical images. Not for clinical use.

    Every command takes --json: the answer goes to standard output as JSON, an error to standard error as JSON.

    Exit codes: 0 done, 1 failed, 2 bad input, 3 not found, 4 conflict, 5 refused, 6 unavailable, 130 interrupted.
    """
    context.obj = Shell(home)


__all__ = ["main"]
