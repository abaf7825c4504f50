"""Map where in the brain the decoder of a finished job looks."""

import uuid
from pathlib import Path
from typing import get_args

import click

from voxelight.app.cli.answers import FilesAnswer
from voxelight.app.cli.shell import Shell, Verb
from voxelight.app.schemas import DECODING_NOTICE
from voxelight.app.schemas_exports import Space


@click.command(cls=Verb)
@click.argument("job", type=click.UUID)
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Where to write."
)
@click.option(
    "--space", type=click.Choice(get_args(Space)), help="Of the betas. Default: as the header of the mask says."
)
@click.pass_obj
def relevance(shell: Shell, job: uuid.UUID, out: Path, space: str | None) -> None:
    """Map where in the brain the decoder of a finished job looks.

    Writes maps as NIfTI on the grid of the betas, pictures, and relevance.json with the method and what limits it. In
    MNI152 the pictures are a glass brain and the surface; elsewhere projections of the image itself.
    """
    from voxelight.app.pipelines.relevance import make_relevance
    from voxelight.storage.formats.streams import replacing

    outcome = make_relevance(shell.services.stores, job, {"space": space}, shell.settings.device)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for found in outcome.files:
        written.append(out / found.name)
        with replacing(written[-1]) as file:
            file.write(found.content)
    shell.answer(FilesAnswer(files=written), f"{', '.join(map(str, written))}. {DECODING_NOTICE}")
