"""Find what is stored by likeness, and look after the vectors."""

import uuid
from pathlib import Path
from typing import Any, get_args

import click

from voxelight.app.cli.shell import Group, Shell, ask
from voxelight.app.schemas_vectors import Method, NearConditions, NearRequest, NeighboursAnswer


def conditions(command: Any) -> Any:
    """Add what narrows a search to a command."""
    for option in (
        click.option("--method", type=click.Choice(get_args(Method)), default="exact", help="graph is approximate."),
        click.option("--role", help="Only this: reconstruction, stimulus, caption, labels, scan or case."),
        click.option("--dataset", help="Only what belongs to this data set."),
        click.option("--space", help="Another space than the one that fits: voxelight search spaces."),
        click.option("--limit", default=10, show_default=True, help="How many."),
    ):
        command = option(command)
    return command


@click.group(cls=Group)
def search() -> None:
    """Find stored results, scans and cases by likeness."""


@search.command("text")
@click.argument("words", nargs=-1, required=True)
@conditions
@click.pass_obj
def find_text(shell: Shell, /, words: tuple[str, ...], **narrowed: Any) -> None:
    """Find captions, label maps and files that share words."""
    _answer(shell, shell.services.vectors.find_near(ask(NearRequest, text=" ".join(words), **narrowed)))


@search.command("picture")
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@conditions
@click.pass_obj
def find_picture(shell: Shell, /, path: Path, **narrowed: Any) -> None:
    """Find pictures that look like a PNG or JPEG file."""
    _answer(shell, shell.services.vectors.find_near_picture(path.read_bytes(), ask(NearConditions, **narrowed)))


@search.command("like")
@click.argument("identity", metavar="ID", type=click.UUID)
@click.option("--item", help="Which item of a result; else its first.")
@click.option("--scan", is_flag=True, help="The id is that of a scan.")
@conditions
@click.pass_obj
def find_like(shell: Shell, /, identity: uuid.UUID, item: str | None, scan: bool, **narrowed: Any) -> None:
    """Find what is like a stored result, or a stored scan."""
    asked = {"scan": identity} if scan else {"result": identity, "item": item}
    _answer(shell, shell.services.vectors.find_near(ask(NearRequest, **asked, **narrowed)))


@search.command("spaces")
@click.pass_obj
def list_spaces(shell: Shell) -> None:
    """List what can be searched: what made the vectors, and what they can be asked by."""
    from voxelight.app.cli.tables import make_table

    spaces = shell.services.vectors.list_spaces()
    rows = ((s.name, s.kind, s.dim, s.count, ", ".join(s.asked_by), s.graph, s.about) for s in spaces)
    shell.answer(spaces, make_table(("space", "kind", "numbers", "vectors", "asked by", "graph", "about"), rows))


@search.command("fill")
@click.pass_obj
def fill(shell: Shell) -> None:
    """Embed the results and scans that were stored without it, and bring the index files in line."""
    with shell.progress() as progress:
        bar = progress.add_task("Embedding", total=None)
        done = shell.services.vectors.fill(lambda now, total: progress.update(bar, completed=now, total=total))
    shell.services.vectors.follow()
    shell.answer(done, f"{done.vectors} vectors of {done.runs} results and {done.scans} scans")
    for problem in done.problems:
        shell.note(problem)


@search.command("graph")
@click.argument("space")
@click.pass_obj
def build_graph(shell: Shell, space: str) -> None:
    """Build the approximate index of a space, on PostgreSQL with pgvector."""
    answer = shell.services.vectors.build_graph(space)
    shell.answer(answer, f"{answer.name}: {answer.count} vectors under a graph; search with --method graph")


def _answer(shell: Shell, found: NeighboursAnswer) -> None:
    from voxelight.app.cli.tables import make_table

    rows = (
        (f"{n.score:.3f}", n.role, n.item or n.scan_name, n.caption, n.kind, n.dataset, n.subject, n.result or n.scan)
        for n in found.items
    )
    columns = ("cosine", "what", "item", "caption", "kind", "data set", "subject", "result or scan")
    shell.answer(found, make_table(columns, rows, found.space))
