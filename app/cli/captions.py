"""Score decoded captions as BrainHub does."""

from pathlib import Path

import click
from pydantic import BaseModel

from voxelight.app.cli.shell import Group, Shell


class CaptionScore(BaseModel):
    """One score of one way to make captions, as its library gives it."""

    captions: str
    score: str
    value: float
    low: float | None = None
    high: float | None = None
    spread: float | None = None


class CaptionScores(BaseModel):
    """What the benchmark says."""

    pictures: int
    complete: bool
    no_better_than_shuffled: float
    reference_set: str
    scores: list[CaptionScore]
    missing: dict[str, str]
    notes: list[str]


@click.group(cls=Group)
def captions() -> None:
    """Score decoded captions as BrainHub does."""


@captions.command("score")
@click.argument("decoded", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("references", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--reference-set", default="coco captions", show_default=True, help="What the references are.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of shuffles and intervals.")
@click.option("--words-only", is_flag=True, help="Leave METEOR and SPICE out, which start Java.")
@click.pass_obj
def score_captions(
    shell: Shell, /, decoded: Path, references: Path, reference_set: str, seed: int, words_only: bool
) -> None:
    """Score decoded captions against reference captions, with what needs no brain beside them.

    DECODED is JSON of picture and caption, REFERENCES of picture and captions, both also in COCO's form. Published
    tables are of 982 pictures with five references each.
    """
    from voxelight.app.cli.tables import make_table
    from voxelight.neuro.evaluate.brainhub import run_benchmark
    from voxelight.storage.formats.captions import read_caption_sets, read_decoded_captions

    found = run_benchmark(
        read_decoded_captions(decoded), read_caption_sets(references), reference_set, seed, slow=not words_only
    )
    scores = []
    for result in found.decoded:
        low, high = found.intervals.get(result.name, (None, None))
        scores.append(CaptionScore(captions="decoded", score=result.name, value=result.value, low=low, high=high))
    scores += [
        CaptionScore(captions=row.name, score=name, value=value, spread=row.spread.get(name))
        for row in found.controls
        for name, value in row.values.items()
    ]
    answer = CaptionScores(
        pictures=found.pictures,
        complete=found.complete,
        no_better_than_shuffled=found.no_better,
        reference_set=reference_set,
        scores=scores,
        missing=dict(found.missing),
        notes=list(found.notes),
    )
    names = list(dict.fromkeys(one.score for one in scores))
    rows = []
    for way in dict.fromkeys(one.captions for one in scores):
        values = {one.score: one.value for one in scores if one.captions == way}
        rows.append((way, *(f"{100 * values[name]:.1f}" if name in values else "" for name in names)))
    shell.answer(answer, make_table(("times 100", *names), rows, f"{found.pictures} pictures, {reference_set}"))
    for note in (*answer.notes, *(f"{name}: {why}" for name, why in answer.missing.items())):
        shell.note(note)
