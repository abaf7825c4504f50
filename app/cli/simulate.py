"""Simulate subjects onto disk, and into a data set."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from voxelight.app.cli.answers import SimulateAnswer
from voxelight.app.cli.shell import INTERRUPTED, Shell, Verb, ask
from voxelight.models.errors import BadInput

if TYPE_CHECKING:
    from voxelight.neuro.simulation import Encoder
    from voxelight.storage.formats.picture_sets import PictureArray, PictureFiles
    from voxelight.storage.formats.simulated import Make

_SHOWN, _SHARED = 10_000, 10  # pictures of a subject in NSD; one in so many is shared
_STORED = 64 * 10**6  # values of one subject that are stored as an image


@click.command(cls=Verb)
@click.argument("pictures", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the subjects.",
)
@click.option(
    "--kind",
    type=click.Choice(["mismatched", "matched"]),
    default="mismatched",
    show_default=True,
    help="matched is linear in --features: an oracle check only.",
)
@click.option("--features", type=click.Path(path_type=Path, dir_okay=False), help=".npy or .npz, one row a picture.")
@click.option("--encoder", help="With --features: the model and layer that they come from.")
@click.option("--subjects", type=click.IntRange(min=1), default=8, show_default=True, help="Number of subjects.")
@click.option("--sessions", type=click.IntRange(min=1), help="Sessions of each, at most; default: as in NSD.")
@click.option("--voxels", type=click.IntRange(min=5), help="Voxels of each; default: as in NSD.")
@click.option("--shown", type=click.IntRange(min=2), help="Pictures that a subject sees; default: 10000, or all.")
@click.option("--shared", type=click.IntRange(min=0), help="Of these, seen by every subject; default: one in ten.")
@click.option(
    "--size", type=click.IntRange(min=16), default=64, show_default=True, help="Side of the pictures of a folder."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of every random draw.")
@click.option("--dataset", help="Also store small subjects in this data set, which is made where it is missing.")
@click.pass_obj
def simulate(
    shell: Shell,
    /,
    pictures: Path,
    out: Path,
    features: Path | None,
    encoder: str | None,
    size: int,
    dataset: str | None,
    **planned: int | str | None,
) -> None:
    """Simulate subjects who look at pictures.

    PICTURES is a folder of PNG and JPEG files, a .npy (picture, row, column, channel), or a .npz with images and ids.
    Without further words the simulation has NSD's size. Ctrl-C stops it; the same command goes on.
    """
    from voxelight.storage.formats.picture_sets import open_pictures

    seen = open_pictures(pictures, size)
    make = _plan(len(seen.ids), **planned)  # type: ignore[arg-type]  # click has checked them
    if dataset is not None:
        _refuse_large(make)
    responds = _find_encoder(seen.ids, make.options.kind, features, encoder)
    folders = _write(shell, out, seen, make, responds)
    if dataset is not None:
        _store(
            shell, out, seen, make, dataset, f"simulated ({make.options.kind}, {responds.name}) from {pictures.name}"
        )
    shell.answer(
        SimulateAnswer(simulated=True, kind=make.options.kind, encoder=responds.name, folders=folders, dataset=dataset),
        f"{len(folders)} SIMULATED subjects ({make.options.kind}, {responds.name}) in {out}",
        *([f"voxelight datasets show {dataset}"] if dataset else []),
    )


def _plan(
    available: int,
    kind: str,
    subjects: int,
    seed: int,
    sessions: int | None,
    voxels: int | None,
    shown: int | None,
    shared: int | None,
) -> "Make":
    from voxelight.neuro.simulation import DesignOptions, SubjectOptions
    from voxelight.storage.formats.simulated import Make

    seen = shown or min(_SHOWN, available)
    design = ask(DesignOptions, pictures=seen, shared=seen // _SHARED if shared is None else shared)
    options = ask(SubjectOptions, kind=kind, voxels=voxels, seed=seed)
    return Make(subjects=tuple(range(1, subjects + 1)), sessions=sessions, design=design, options=options)


def _find_encoder(
    ids: "np.typing.NDArray[np.str_]", kind: str, features: Path | None, encoder: str | None
) -> "Encoder":
    from voxelight.neuro.simulation import TEXTURE, features_by_id
    from voxelight.storage.formats.picture_sets import read_rows_by_id

    if (features is None) != (encoder is None) or (features is None and kind == "matched"):
        raise BadInput(
            f"{'--features' if features else '--encoder' if encoder else '--kind matched'} by itself",
            "--features and --encoder together, and both for matched",
            "Name the file, and the model and layer that it comes from.",
        )
    if features is None or encoder is None:
        return TEXTURE
    rows, named = read_rows_by_id(features, "features")
    # Rows that only have numbers are those of the pictures, in their order.
    in_order = features.suffix.lower() == ".npy" and len(rows) == len(ids)
    return features_by_id(encoder, rows, ids if in_order else named)


def _write(
    shell: Shell, out: Path, pictures: "PictureArray | PictureFiles", make: "Make", encoder: "Encoder"
) -> list[Path]:
    """Simulate under a bar; what an interruption leaves is taken up by the same command."""
    from voxelight.storage.formats.simulated import write_simulated

    with shell.progress() as progress:
        bar = progress.add_task(f"Simulating {len(make.subjects)} subjects", total=None)

        def show(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        try:
            return write_simulated(out, pictures, make, encoder, show)
        except KeyboardInterrupt:
            shell.note(f"Stopped. The same command goes on with what is in {out}")
            raise click.exceptions.Exit(INTERRUPTED) from None


def _refuse_large(make: "Make") -> None:
    from voxelight.neuro.simulation.ceilings import count_voxels, find_nsd_subject

    sizes = [
        sum(count_voxels(find_nsd_subject(number), make.options.voxels).values())
        * min(make.count_sessions(number) * make.design.trials, make.design.pictures * make.design.repeats)
        for number in make.subjects
    ]
    if max(sizes) > _STORED:
        raise BadInput(
            f"{max(sizes):,} values of one subject for --dataset",
            f"at most {_STORED:,}",
            "Ask for fewer voxels or sessions, or leave --dataset out and read the folder.",
        )


def _store(
    shell: Shell, out: Path, pictures: "PictureArray | PictureFiles", make: "Make", dataset: str, source: str
) -> None:
    """Take the subjects in as one would a person's files."""
    from voxelight.app.cli.intake import keep_once
    from voxelight.app.schemas import DatasetRequest, ScanRequest
    from voxelight.storage.formats.export import write_betas
    from voxelight.storage.formats.simulated import read_simulated

    purpose = "simulation: work without a person's data"
    request = ask(DatasetRequest, name=dataset, consent="simulated", purpose=purpose, source=source, simulated=True)
    shell.services.datasets.ensure(request)
    place = {name: row for row, name in enumerate(pictures.ids.tolist())}
    for number in make.subjects:
        betas = read_simulated(out, number)
        seen = pictures.read(np.array([place[name] for name in dict.fromkeys(betas.stimulus_ids.tolist())]))
        with tempfile.TemporaryDirectory() as folder:
            files = write_betas(Path(folder), betas.subject, betas, seen)
            keep_once(shell.services, files.paths, ScanRequest(name="betas", dataset=dataset, subject=betas.subject))
