"""A recording as a person names it: a stored data set, or a file that is stored first; and what was decoded from it."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelight.app.cli.answers import WorkAnswer
from voxelight.app.cli.follow import carry_out, embedded_worker, refuse_unfinished
from voxelight.app.cli.intake import CONSENTS
from voxelight.app.cli.shell import Shell, ask
from voxelight.app.schemas import DatasetChange, DatasetRequest, JobRequest, ResultAnswer, ResultQuery, ScanRequest
from voxelight.models.errors import BadInput, Refused

if TYPE_CHECKING:
    from voxelight.app.schemas import JobAnswer
    from voxelight.app.services import Services

_PICTURES = ("stimulus", "reconstruction", "unrefined", "blurry", "retrieved")
_LABEL_DIGITS = 12


def grounds(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add to a command the options that say why a file may be decoded."""
    for option in (
        click.option("--purpose", help="For a .mat: what it may be used for."),
        click.option("--consent", type=click.Choice(CONSENTS), help="For a .mat: on what ground it may be decoded."),
    ):
        command = option(command)
    return command


def out_folder(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add to a command the folder that it writes into."""
    option = click.option(
        "--out",
        required=True,
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder for pictures and scores.",
    )
    return option(command)


def find_dataset(services: "Services", given: str, stated_grounds: dict[str, str | None]) -> str:
    """Return the name of the data set; that of a file is made from the hash of its content.

    Raises
    ------
    BadInput
        Grounds for a data set that has its own, or no such file.
    Refused
        A file without consent or purpose.
    """
    stated = {name: value for name, value in stated_grounds.items() if value is not None}
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
    if len(stated) < len(stated_grounds) or stated["consent"] == "none" or not stated["purpose"].strip():
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


def work_through(shell: Shell, request: JobRequest, out: Path) -> None:
    """Submit a job on a recording, carry it out, write what it gave and show its scores."""
    from voxelight.app.cli.tables import show_captions, show_metrics

    services = shell.services
    job = services.jobs.submit(request)
    with embedded_worker(shell):
        job = carry_out(shell, job)
    results = list(services.results.walk(ResultQuery(job=job.id)))
    written = export_decoded(services, job, results, out)
    title = f"{job.recipe} on {job.dataset}{' (SIMULATED, not measured)' if job.simulated else ''}"
    if job.random_weights:
        title += "\nRANDOM WEIGHTS: means nothing"
    captions = [each for result in results for each in result.decoded if each.caption]
    shell.answer(
        WorkAnswer(job=job, results=results, files=written, refused=[]),
        *([show_captions(captions)] if captions else []),
        *([show_metrics(job.metrics, title)] if job.metrics else []),
        f"{len(written)} files in {out}. {job.notice}",
    )
    refuse_unfinished(shell, job)


def export_decoded(services: "Services", job: "JobAnswer", results: Sequence[ResultAnswer], out: Path) -> list[Path]:
    """Write pictures, captions, tokens, contact sheet, scores and provenance of a job into a folder."""
    chosen = [(result, [a for a in result.artifacts if a.role in _PICTURES]) for result in results]
    names = Counter(artifact.name for _, artifacts in chosen for artifact in artifacts)
    apart = any(count > 1 for count in names.values())  # a stimulus that several folds held out
    written = []
    for result, artifacts in chosen:
        folder = out / "pictures" / (result.item.replace("/", "_") if apart else "")
        written += services.results.export(artifacts, folder)
        written += services.results.export([a for a in result.artifacts if a.role == "tokens"], out / "tokens")
    written += services.results.export(job.artifacts, out)
    by_item = sorted(results, key=lambda result: result.item)
    marks = {"simulated": job.simulated, "random_weights": job.random_weights}
    told = [each.model_dump(mode="json", exclude={"artifact"}) for result in by_item for each in result.decoded]
    if any(each["caption"] for each in told):
        written.append(write_json(out / "captions.json", marks | {"captions": told}))
    provenance = {result.item: result.provenance for result in by_item}
    return [*written, write_json(out / "provenance.json", marks | {"runs": provenance})]


def write_json(path: Path, content: Any) -> Path:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(f"{json.dumps(content, indent=2)}\n", encoding="utf-8")
    return temporary.replace(path)
