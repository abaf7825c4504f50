"""Reconstruct pictures in one go."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelight.app.cli.answers import WorkAnswer
from voxelight.app.cli.follow import carry_out, embedded_worker, refuse_unfinished
from voxelight.app.cli.intake import CONSENTS
from voxelight.app.cli.shell import Shell, Verb, ask
from voxelight.app.schemas import DatasetChange, DatasetRequest, JobRequest, ResultAnswer, ResultQuery, ScanRequest
from voxelight.models.errors import BadInput, NotFound, Refused

if TYPE_CHECKING:
    from voxelight.app.schemas import JobAnswer
    from voxelight.app.services import Services

_PICTURES = ("stimulus", "reconstruction")
_LABEL_DIGITS = 12


@click.command(cls=Verb)
@click.argument("dataset")
@click.option("--recipe", required=True, help="What to reconstruct; see voxelight recipes list.")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for pictures and scores.",
)
@click.option("--permutations", type=click.IntRange(min=0), help="Draws of the null; default: the recipe's.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed; 0: the recipe's.")
@click.option("--consent", type=click.Choice(CONSENTS), help="For a .mat: on what ground it may be decoded.")
@click.option("--purpose", help="For a .mat: what it may be used for.")
@click.pass_obj
def reconstruct(
    shell: Shell, /, dataset: str, recipe: str, out: Path, permutations: int | None, seed: int, **grounds: str | None
) -> None:
    """Reconstruct seen pictures from betas.

    DATASET is the name of a stored data set, or the path of a .mat with betas and stimuli, which is stored first.
    Writes pictures/ (stimulus and reconstruction), contact_sheet.png, scores.json and provenance.json. Only pictures
    that the decoder never saw are reconstructed. Needs no server. Ctrl-C cancels at the next item.
    """
    services = shell.services
    known = [row.name for row in services.jobs.list_recipes() if row.kind == "reconstruct"]
    if recipe not in known:
        raise NotFound(f"no reconstruction recipe {recipe!r}", f"one of {', '.join(known)}", "Correct the name.")
    name = _find_dataset(services, dataset, grounds)
    options: dict[str, Any] = {} if permutations is None else {"permutations": permutations}
    job = services.jobs.submit(
        ask(JobRequest, kind="reconstruct", recipe=recipe, dataset=name, seed=seed, options=options)
    )
    with embedded_worker(shell):
        job = carry_out(shell, job)
    results = list(services.results.walk(ResultQuery(job=job.id)))
    written = export_reconstructions(services, job, results, out)
    from voxelight.app.cli.tables import show_metrics

    title = f"{job.recipe} on {job.dataset}{' (SIMULATED, not measured)' if job.simulated else ''}"
    shell.answer(
        WorkAnswer(job=job, results=results, files=written, refused=[]),
        *([show_metrics(job.metrics, title)] if job.metrics else []),
        f"{len(written)} files in {out}. {job.notice}",
    )
    refuse_unfinished(shell, job)


def export_reconstructions(
    services: "Services", job: "JobAnswer", results: Sequence[ResultAnswer], out: Path
) -> list[Path]:
    """Write pictures, contact sheet, scores and provenance of a job into a folder."""
    chosen = [(result, [a for a in result.artifacts if a.role in _PICTURES]) for result in results]
    names = Counter(artifact.name for _, artifacts in chosen for artifact in artifacts)
    apart = any(count > 1 for count in names.values())  # a stimulus that several folds held out
    written = []
    for result, artifacts in chosen:
        folder = out / "pictures" / (result.item.replace("/", "_") if apart else "")
        written += services.results.export(artifacts, folder)
    written += services.results.export(job.artifacts, out)
    provenance = {result.item: result.provenance for result in sorted(results, key=lambda result: result.item)}
    return [*written, write_json(out / "provenance.json", {"simulated": job.simulated, "runs": provenance})]


def write_json(path: Path, content: Any) -> Path:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(f"{json.dumps(content, indent=2)}\n", encoding="utf-8")
    return temporary.replace(path)


def _find_dataset(services: "Services", given: str, grounds: dict[str, str | None]) -> str:
    """Return the name of the data set; that of a file is made from the hash of its content."""
    stated = {name: value for name, value in grounds.items() if value is not None}
    if not given.lower().endswith(".mat"):
        if stated:
            raise BadInput(
                f"{' and '.join(f'--{name}' for name in stated)} for a stored data set",
                "these for a .mat only",
                f"Say it of the data set: voxelight datasets change {given}",
            )
        return services.datasets.show(given).name
    path = Path(given)
    if not path.is_file():
        raise BadInput(f"no file {path}", "a .mat file or the name of a data set", "Check the path.")
    if len(stated) < len(grounds) or stated["consent"] == "none" or not stated["purpose"].strip():
        raise Refused(
            f"{path.name} without consent or purpose",
            "--consent given, public or simulated, and --purpose",
            "Decoded content is sensitive: say on what ground and what for these data may be decoded.",
        )
    return _store(services, path, stated)


def _store(services: "Services", path: Path, stated: dict[str, str]) -> str:
    from voxelight.storage.artifacts import hash_file

    name = f"shell-{hash_file(path)[:_LABEL_DIGITS]}"
    simulated = stated["consent"] == "simulated"
    there = services.datasets.ensure(ask(DatasetRequest, name=name, simulated=simulated, **stated))
    if (there.consent, there.purpose) != (stated["consent"], stated["purpose"]):
        services.datasets.change(name, ask(DatasetChange, **stated))
    if not there.scans:
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset=name))
    return name
