"""Fetch and convert published weights."""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from voxelight.app.cli.shell import Group, Shell
from voxelight.app.schemas import Wire

if TYPE_CHECKING:
    from voxelight.models.published import PublishedFile

State = Literal["", "fetched", "converted"]
agreement = click.option("--accept-licence", is_flag=True, help="Agree to the licence without being asked.")


class WeightsAnswer(Wire):
    """A published file: what it is, its terms, and what of it is here."""

    name: str
    what: str
    repository: str
    file: str
    size: int | None
    sha256: str
    licence: str
    licence_url: str
    terms: str
    gated: bool
    parts: list[str]
    needs: list[str]
    note: str
    accepted: bool
    state: State


@click.group(cls=Group)
def weights() -> None:
    """Fetch and convert published weights."""


@weights.command("list")
@click.option("--verify", is_flag=True, help="Read every converted file again and compare its hash.")
@click.pass_obj
def list_weights(shell: Shell, verify: bool) -> None:
    """List the published weights, their licences, and which are here."""
    from voxelight.app.cli.tables import make_table
    from voxelight.models.published import PUBLISHED

    if verify:
        _verify(shell)
    found = [_describe(shell, row) for row in PUBLISHED.values()]
    columns = ("weights", "gives", "size", "licence", "here")
    rows = ((a.name, ", ".join(a.parts), _size(a.size), a.licence, a.state) for a in found)
    shell.answer(found, make_table(columns, rows))


@weights.command()
@click.argument("name")
@click.pass_obj
def show(shell: Shell, name: str) -> None:
    """Show where weights come from, their licence and what it restricts."""
    from voxelight.app.cli.tables import make_card
    from voxelight.models.published import find_published

    answer = _describe(shell, find_published(name))
    facts = answer.model_dump() | {
        "parts": ", ".join(answer.parts),
        "needs": ", ".join(answer.needs),
        "size": _size(answer.size),
        "here": answer.state or "no",
    }
    facts.pop("state")
    shell.answer(answer, make_card({key.replace("_", " "): value for key, value in facts.items()}))


@weights.command()
@click.argument("name")
@click.pass_obj
def accept(shell: Shell, name: str) -> None:
    """Agree to the licence of weights; which and when is written down, not who."""
    from voxelight.models.published import find_published
    from voxelight.models.records import accept_licence

    row = find_published(name)
    _tell_terms(shell, row)
    done = accept_licence(shell.settings.weights, row)
    shell.answer(done, f"Agreed to {done.licence} for {done.name}.")


@weights.command()
@click.argument("name")
@agreement
@click.pass_obj
def fetch(shell: Shell, name: str, accept_licence: bool) -> None:
    """Fetch weights, with the files that they need; an interrupted transfer goes on where it stopped."""
    from voxelight.models.fetch import fetch as fetch_file
    from voxelight.models.published import find_published

    if shell.json:  # the hub's client has remarks of its own
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    row = find_published(name)
    rows = [row, *map(find_published, row.needs)]
    _agree(shell, rows, accept_licence)
    folder = shell.settings.weights
    fetched = []
    for wanted in rows:
        shell.note(f"Fetching {wanted.file} of {wanted.repository} ({_size(wanted.size)}) into {folder}")
        fetched.append(fetch_file(wanted, folder))
    lines = [f"{done.name}: {done.stored.size} bytes, sha256 {done.stored.sha256}" for done in fetched]
    then = [f"voxelight weights convert {name}"] if row.parts else []
    shell.answer(fetched, *lines, *then)


@weights.command()
@click.argument("name")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(["keep", "float16", "bfloat16"]),
    default="keep",
    show_default=True,
    help="Precision of the matrices; norms, biases and schedules are never rounded.",
)
@click.option(
    "--sizes",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="JSON of {part: configuration}, for weights of other sizes than the published ones.",
)
@click.option("--discard", is_flag=True, help="Remove the fetched files once they are converted.")
@agreement
@click.pass_obj
def convert(
    shell: Shell,
    name: str,
    files: tuple[Path, ...],
    dtype: str,
    sizes: Path | None,
    discard: bool,
    accept_licence: bool,
) -> None:
    """Convert weights once into the parts that a profile opens.

    Without FILE, what was fetched is converted; otherwise the file, then those that it needs.
    """
    from voxelight.app.cli.shell import ask
    from voxelight.models.convert import ConvertOptions, find_sources
    from voxelight.models.convert import convert as convert_files
    from voxelight.models.published import find_published
    from voxelight.models.records import find_manifest

    row, folder = find_published(name), shell.settings.weights
    options = ask(ConvertOptions, dtype=dtype, sizes=_read_sizes(sizes))
    before = find_manifest(folder, name)
    if before is None:
        _agree(shell, [row, *map(find_published, row.needs)], accept_licence)
    paths = list(files) or ([Path()] * (1 + len(row.needs)) if before else find_sources(folder, row))
    with shell.progress() as progress:
        bar = progress.add_task(f"{name} [bytes]", total=None)
        manifest = convert_files(
            row, paths, folder, options, lambda done, total: progress.update(bar, completed=done, total=total)
        )
    if discard and not files:
        _discard(folder, [name, *row.needs])
    lines = [
        f"{part}: {record.tensors} tensors, {record.elements:,} numbers, files: {len(record.files)}"
        for part, record in manifest.parts.items()
    ]
    shell.answer(manifest, f"{folder / name}{', there already' if before else ''}", *lines)


def _describe(shell: Shell, row: "PublishedFile") -> WeightsAnswer:
    from voxelight.models.records import fetched_folder, find_acceptance, find_fetched, find_manifest

    folder = shell.settings.weights
    fetched = find_fetched(folder, row.name)
    state: State = ""
    if find_manifest(folder, row.name):
        state = "converted"
    elif fetched and (fetched_folder(folder, row.name) / fetched.stored.file).is_file():
        state = "fetched"
    return WeightsAnswer(
        name=row.name,
        what=row.what,
        repository=row.repository,
        file=row.file,
        size=row.size,
        sha256=row.sha256 or (fetched.stored.sha256 if fetched else ""),
        licence=row.licence,
        licence_url=row.licence_url,
        terms=row.terms,
        gated=row.gated,
        parts=list(row.parts),
        needs=list(row.needs),
        note=row.note,
        accepted=find_acceptance(folder, row) is not None,
        state=state,
    )


def _verify(shell: Shell) -> None:
    from voxelight.models.published import PUBLISHED
    from voxelight.models.records import find_manifest
    from voxelight.models.weights import verify_parts

    folder = shell.settings.weights
    for name in PUBLISHED:
        manifest = find_manifest(folder, name)
        if manifest:
            shell.note(f"Reading {folder / name}")
            verify_parts(folder, manifest)


def _agree(shell: Shell, rows: "Sequence[PublishedFile]", accepted: bool) -> None:
    """Show each licence that was not agreed to yet, and ask."""
    from voxelight.models.records import accept_licence, find_acceptance, require_acceptance

    folder = shell.settings.weights
    for row in rows:
        if find_acceptance(folder, row):
            continue
        _tell_terms(shell, row)
        asked = not accepted and not shell.json and sys.stdin.isatty()
        if accepted or (asked and click.confirm(f"Do you agree to the licence of {row.name}?", err=True)):
            accept_licence(folder, row)
        require_acceptance(folder, row)


def _tell_terms(shell: Shell, row: "PublishedFile") -> None:
    shell.note(f"{row.name}: {row.licence}, {row.licence_url}\n{row.terms}")


def _read_sizes(path: Path | None) -> dict[str, Any]:
    from voxelight.models.errors import BadInput

    if path is None:
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadInput(f"{path} ({error})", "JSON", "Correct it and try again.") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path} with a {type(found).__name__}", "an object {part: configuration}", "Correct it.")
    return found


def _discard(folder: Path, names: Sequence[str]) -> None:
    from voxelight.models.records import fetched_folder, find_fetched

    for name in names:
        fetched = find_fetched(folder, name)
        if fetched:
            (fetched_folder(folder, name) / fetched.stored.file).unlink(missing_ok=True)


def _size(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
