"""Bring the contrasts of a visit onto one grid."""

from pathlib import Path

import click

from voxelight.app.cli.answers import AlignedFile
from voxelight.app.cli.intake import VOLUMES, find_files
from voxelight.app.cli.shell import Shell, Verb


@click.command(cls=Verb)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option(
    "--reference",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Image whose grid and place hold.",
)
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Where to write."
)
@click.option("--even/--no-even", default=True, show_default=True, help="Take out uneven brightness first (N4).")
@click.pass_obj
def align(shell: Shell, paths: tuple[Path, ...], reference: Path, out: Path, even: bool) -> None:
    """Align the contrasts of one visit to one of them, by a rotation and a shift each.

    PATH is an image or a folder of images of one person and visit. Writes STEM_aligned.nii.gz on the grid of the
    reference. Images of two visits may differ by more than a rotation and a shift. An image that can't be aligned is
    told at the end and stops no other. Nothing is stored.
    """
    from voxelight.app.cli.tables import make_table
    from voxelight.app.verbs.alignment import align_files

    files = find_files(paths, VOLUMES)
    done, refused = align_files(files, reference, out, even, lambda path: shell.note(f"Aligning {path.name}"))
    answer = [
        AlignedFile(source=each.source, file=each.file, shift_mm=round(each.shift_mm, 3),
                    turn_degrees=round(each.turn_degrees, 3), similarity=round(each.similarity, 4))
        for each in done
    ]  # fmt: skip
    rows = [(each.file.name, f"{each.shift_mm:.2f} mm", f"{each.turn_degrees:.2f}°") for each in answer]
    shell.answer(answer, make_table(("Image", "Shift", "Turn"), rows))
    for error in refused[1:]:
        shell.note(str(error))
    if refused:
        raise refused[0]
