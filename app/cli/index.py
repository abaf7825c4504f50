"""Build an index of pictures, and find in it what a picture or a brain is near."""

from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from voxelight.app.cli.shell import Group, Shell


class Near(BaseModel):
    """One of the nearest."""

    name: str
    cosine: float


@click.group(cls=Group)
def index() -> None:
    """Build an index of pictures, and find in it what a picture or a brain is near."""


@index.command("build")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--by",
    default="edges-and-colours",
    show_default=True,
    help="What embeds pictures: edges-and-colours, efficientnet-lite0, or a profile, whose image encoder does.",
)
@click.option("--space", help="What made the vectors, where SOURCE holds vectors.")
@click.option("--method", type=click.Choice(["exact", "approximate"]), help="Default: approximate above a million.")
@click.option("--device", default="auto", show_default=True, help="Where a network embeds.")
@click.pass_obj
def build_index(shell: Shell, /, source: Path, folder: Path, device: str, **wishes: Any) -> None:
    """Build an index of pictures or vectors.

    SOURCE is a folder of PNG or JPEG files, or a .npy or .npz of pictures (picture, row, column, channel) or of vectors
    (row, number); a .npz has its ids beside them. An approximate index states its recall: the share of the true ten
    nearest that it finds.
    """
    from voxelight.app.cli.tables import make_table
    from voxelight.app.galleries import build

    with shell.progress() as progress:
        bar = progress.add_task("Embedding", total=None)
        facts = build(
            source,
            folder,
            weights=shell.settings.weights,
            device=device,
            on_rows=lambda done, total: progress.update(bar, completed=done, total=total),
            **wishes,
        )
    row = (facts.space, facts.count, facts.dim, facts.method, f"{facts.recall:.3f}")
    shell.answer(facts, make_table(("space", "vectors", "numbers", "method", "recall at 10"), [row]))


@index.command("search")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--picture", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="PNG or JPEG file.")
@click.option(
    "--tokens",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Tokens of a decoded stimulus, from voxelight decode; the first of its retrieval tokens is asked for.",
)
@click.option("--limit", default=10, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--device", default="auto", show_default=True, help="Where a network embeds.")
@click.pass_obj
def search_index(
    shell: Shell, /, folder: Path, picture: Path | None, tokens: Path | None, limit: int, device: str
) -> None:
    """Find what is near a picture, or near what a brain saw."""
    from voxelight.app.cli.tables import make_table
    from voxelight.app.galleries import search_picture, search_tokens

    if picture is not None and tokens is None:
        found = search_picture(folder, picture, limit, shell.settings.weights, device)
    elif tokens is None or picture is not None:
        raise click.UsageError("Name either --picture or --tokens.")
    else:
        found = search_tokens(folder, tokens, limit)
    near = [Near(name=name, cosine=cosine) for name, cosine in found]
    shell.answer(near, make_table(("cosine", "name"), ((f"{one.cosine:.3f}", one.name) for one in near)))
