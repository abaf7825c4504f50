"""Plan a segmentation recipe for a folder of cases."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelight.app.cli.answers import PlanAnswer
from voxelight.app.cli.shell import Shell, Verb
from voxelight.models.errors import BadInput

if TYPE_CHECKING:
    from voxelight.medseg.recipes.recipe import LabelRegion


@click.command(cls=Verb)
@click.argument("data", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The recipe, a TOML file; its name without .toml is that of the recipe.",
)
@click.option("--label", "labels", multiple=True, metavar="NUMBER=NAME", help="Name of a label; repeat for each.")
@click.option(
    "--region",
    "regions",
    multiple=True,
    metavar="NAME=NUMBERS",
    help="Learn labels as regions that overlap, e.g. 'whole tumour=1,2,3'; repeat, the outermost first.",
)
@click.option("--network", default="agunet", show_default=True, help="Of the table of segmentation networks.")
@click.option("--memory", default=8.0, show_default=True, type=click.FloatRange(min=0.1), help="GiB of the card.")
@click.option("--dims", type=click.Choice(("2", "3")), help="2: slices, 3: volumes; default: as the images.")
@click.option("--steps", default=10_000, show_default=True, type=click.IntRange(min=1), help="Gradient steps.")
@click.option("--width", default=32, show_default=True, type=click.IntRange(min=4), help="Filters of the finest level.")
@click.option(
    "--context", default=3, show_default=True, type=click.IntRange(min=1), help="Slices that msga and cdal see at once."
)
@click.pass_obj
def plan(
    shell: Shell,
    /,
    data: Path,
    out: Path,
    labels: tuple[str, ...],
    regions: tuple[str, ...],
    dims: str | None,
    **wishes: Any,
) -> None:
    """Plan how a network is trained on a folder of cases, and write it as a recipe to read and edit.

    DATA holds images/ and labels/ with one name a case. Spacing, window, levels, batch and intensities are chosen from
    all cases as nnU-Net does; each choice has its reason behind it in the file. Then: voxelight train FILE --data DATA.
    """
    from voxelight.medseg.fingerprint import look_at, take_fingerprint
    from voxelight.medseg.plan import Wishes, plan_recipe
    from voxelight.storage.formats.cases import walk_cases
    from voxelight.storage.formats.recipes import write_recipe

    if out.suffix != ".toml":
        raise BadInput(f"the file name {out.name}", "one that ends in .toml", "Add it.")
    names = _read_labels(labels)
    facts = []
    with shell.progress() as progress:
        bar = progress.add_task("Looking at cases", total=None)
        for done, total, case in walk_cases(data, names):
            facts.append(look_at(case))
            progress.update(bar, completed=done, total=total)
    chosen = Wishes(
        name=out.stem,
        network=wishes["network"],
        labels=names,
        memory_gib=wishes["memory"],
        dims=None if dims is None else int(dims),  # type: ignore[arg-type]  # one of two
        steps=wishes["steps"],
        width=wishes["width"],
        context=wishes["context"],
        regions=tuple(map(_read_region, regions)),
    )
    found = plan_recipe(take_fingerprint(facts), chosen)
    write_recipe(out, found.recipe, found.reasons)
    recipe = found.recipe
    assert recipe.training is not None
    answer = PlanAnswer(
        file=out, network=recipe.network, spacing_mm=recipe.spacing_mm, window=recipe.patch,
        batch=recipe.training.batch, memory_gib=round(found.memory_gib, 2), cases=len(facts),
    )  # fmt: skip
    sides = " x ".join(map(str, recipe.patch))
    shell.answer(
        answer,
        f"{recipe.network} on {len(facts)} cases: windows of {sides} voxels of "
        f"{' x '.join(f'{side:g}' for side in recipe.spacing_mm)} mm, {recipe.training.batch} a step, "
        f"about {found.memory_gib:.2g} GiB.",
        str(out),
    )


def _read_region(text: str) -> "LabelRegion":
    from voxelight.medseg.recipes.recipe import LabelRegion

    name, _, numbers = text.partition("=")
    parts = [part.strip() for part in numbers.split(",")]
    if not name.strip() or not all(part.isdigit() and int(part) for part in parts):
        raise BadInput(f"the region {text!r}", "a name and label numbers, as in 'whole tumour=1,2,3'", "Correct it.")
    return LabelRegion(name=name.strip(), labels=tuple(map(int, parts)))


def _read_labels(texts: tuple[str, ...]) -> dict[int, str] | None:
    labels: dict[int, str] = {}
    for text in texts:
        number, _, name = text.partition("=")
        if not number.isdigit() or not int(number) or not name.strip():
            raise BadInput(f"the label {text!r}", "a number above 0 and a name, as in 1=anterior", "Correct it.")
        labels[int(number)] = name.strip()
    return labels or None
