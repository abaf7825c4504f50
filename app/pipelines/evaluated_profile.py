"""Evaluate a job that decoded with a trained decoder; what is not recorded of its training is said."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.pipelines.decode import DecodeOptions
from voxelight.app.pipelines.evaluated import (
    FEWEST,
    SHUFFLES,
    Wishes,
    choose_shown,
    describe_job,
    describe_metrics,
    draw_orders,
    judge_pictures,
    load_judges,
    state,
)
from voxelight.app.pipelines.evaluated_brain import add_brain, read_brain
from voxelight.app.pipelines.evaluated_captions import Controls, score_captions
from voxelight.app.pipelines.evaluated_coverage import TokenPair, check_coverage
from voxelight.app.pipelines.evaluated_trained import (
    Knowledge,
    draw_bottleneck,
    draw_distance,
    find_knowledge,
    find_nearest,
    guard,
    read_tokens,
    tell_conditions,
)
from voxelight.app.pipelines.inputs import BetasInput, read_betas
from voxelight.app.pipelines.linear_recipes import find_linear
from voxelight.app.pipelines.profiles import find_decoding_profile
from voxelight.app.provenance import find_device
from voxelight.models.errors import BadInput, Unavailable
from voxelight.models.values import Betas, Stimuli
from voxelight.neuro.evaluate.agreement import agree_captions, agree_pictures, map_deviation, share_words
from voxelight.neuro.evaluate.ceiling import describe_ceiling
from voxelight.neuro.evaluate.compare import Curve
from voxelight.neuro.evaluate.compared import Compared
from voxelight.neuro.evaluate.controls import DECODED, derange
from voxelight.neuro.evaluate.evaluation import Column, Evaluation, Grid, MetricFacts, Row
from voxelight.neuro.evaluate.guards import check_gallery
from voxelight.neuro.evaluate.pixels import bring, score_structure
from voxelight.neuro.evaluate.similarity import own_correlation
from voxelight.neuro.evaluate.spoken import Spoken
from voxelight.neuro.linear import find_linear_recipe
from voxelight.neuro.splits import Labels
from voxelight.storage.formats.images import decode_png
from voxelight.storage.results import read_outputs
from voxelight.storage.schema import Job, Reconstruction, Run
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.app.pipelines.loaded import Gallery
    from voxelight.neuro.evaluate.judge import Judge

Floats = NDArray[np.floating[Any]]

_TOP = "retrieval_top"
_NO_CEILING = "It was not asked for: --ceiling generates from the tokens of the pictures."
_SHOWN_SHUFFLES = 2


@dataclass(frozen=True, eq=False)
class _Decoded:
    """What was decoded of every stimulus that has a picture."""

    ids: Labels
    shown: NDArray[np.float32]
    pictures: NDArray[np.float32]
    captions: tuple[tuple[str, ...], ...]
    retrieved: tuple[tuple[str, ...], ...]

    @property
    def seeds(self) -> int:
        return len(self.pictures)


def evaluate_profile(session: Session, stores: Stores, job: Job, runs: Sequence[Run], wishes: Wishes) -> Evaluation:
    """Evaluate a job of the kind ``decode``: see `evaluated.evaluate`."""
    betas, stimuli = read_betas(session, stores, BetasInput(**job.params["inputs"]), job.dataset.simulated)
    knowledge = find_knowledge(stores, job, stimuli)
    found = _collect(session, stores, runs, stimuli, knowledge)
    orders, told = draw_orders(betas, found.ids, found.ids, wishes.permutations, job.seed)
    gallery = 0 if stimuli is None else len(stimuli.ids)
    others = [derange(len(found.ids), seed) for seed in range(SHUFFLES)]
    judges, missing = load_judges(wishes, stores.weights)
    compared = judge_pictures(judges, found.pictures, found.shown, native=False)
    retrieved = _compare_retrieved(found)
    structure = (found.pictures, found.shown)
    tokens = _find_tokens(stores, job, runs, found, stimuli, knowledge, wishes.device)
    nearest, why = find_nearest(knowledge, tokens.predicted, stimuli, tokens.gallery)
    ceiling: Floats | None = None
    words: list[list[str]] = []
    if wishes.ceiling and stimuli is not None:
        ceiling, words = _generate_ceiling(stores, job, found, stimuli, wishes.device)
    rows = {
        DECODED: Row(DECODED, compared.score() | retrieved.score() | score_structure(*structure)),
        "shuffled_betas": Row(
            "shuffled_betas", compared.score(others) | retrieved.score(others) | score_structure(*structure, others)
        ),
        "generator_ceiling": _score_ceiling(judges, ceiling, found),
        "nearest_training": _score_nearest(judges, nearest, why, stimuli, found),
    }
    metrics = (*_describe_retrieval(gallery, retrieved), *describe_metrics(judges, native=False))
    nulls = compared.draw_null(orders) | retrieved.draw_null(orders)
    notes = [told, *_note(found), *describe_ceiling(betas), *missing]
    spoken = None
    if wishes.captions is not None:
        controls = Controls(knowledge.trained_on, nearest, words)
        spoken = score_captions(
            found.captions, found.ids, wishes.captions, controls, (orders, others), found.shown, stores.weights
        )
        rows, metrics, nulls = _add_words(rows, spoken), (*metrics, *spoken.metrics), nulls | dict(spoken.nulls)
        notes += spoken.notes
    evaluation = Evaluation(
        title=f"{job.recipe}: {job.dataset.name}",
        conditions=state(job, wishes, _find_conditions(betas, job, found, gallery, knowledge)),
        metrics=metrics,
        stimulus_ids=found.ids,
        clusters=found.ids,
        rows=tuple(rows.values()),
        nulls=nulls,
        guards=(*guard(knowledge, found.ids), check_gallery(found.ids, found.shown)),
        grids=(_draw_grid(found, others, ceiling),),
        curves=_draw_curves(knowledge, found, stimuli, tokens, compared, betas.subject),
        coverages=check_coverage(found.pictures, found.captions, compared, tokens, spoken),
        provenance=describe_job(job, runs),
        notes=tuple(notes),
    )  # fmt: skip
    if not wishes.regions or stimuli is None:
        return evaluation
    inputs = BetasInput(**job.params["inputs"])
    brain = read_brain(session, stores, inputs, wishes.regions, stimuli, knowledge, betas.stimulus_ids)
    return add_brain(evaluation, brain, found.pictures, (orders, others), job.seed)


def _find_tokens(
    stores: Stores, job: Job, runs: Sequence[Run], found: _Decoded, stimuli: Stimuli | None, knowledge: Knowledge,
    device: str,
) -> TokenPair:  # fmt: skip
    """Return tokens where it is known what was trained on, which they are compared with."""
    if knowledge.decoder is None or stimuli is None:
        return TokenPair(None, None, None)
    gallery, space = _find_gallery(stores, job, stimuli, find_device(device))
    place = {name: row for row, name in enumerate(stimuli.ids.tolist())}
    shown = None if gallery.tokens is None else gallery.tokens.values[[place[name] for name in found.ids.tolist()]]
    return TokenPair(read_tokens(stores, runs, found.ids, space), gallery.tokens, shown)


def _find_gallery(stores: Stores, job: Job, stimuli: Stimuli, device: str) -> "tuple[Gallery, str]":
    """Return pictures in the space that a job decoded to, and its name."""
    from voxelight.app.pipelines.loaded import find_gallery
    from voxelight.storage.cache import StageCache

    linear = find_linear(stores.weights, job.recipe)
    if linear is not None:
        from voxelight.app.pipelines.linear_targets import find_linear_gallery

        recipe, space = find_linear_recipe(linear.profile), str(linear.config["compared"])
        return find_linear_gallery(recipe, space, stimuli, stores, device), space
    options = DecodeOptions(**job.params["options"])
    profile = find_decoding_profile(stores.weights, job.recipe, options.subject)
    cache = StageCache(stores.cache)
    return find_gallery(profile, stores.weights, options.generation, device, stimuli, cache), profile.space


def _draw_curves(
    knowledge: Knowledge, found: _Decoded, stimuli: Stimuli | None, tokens: TokenPair, compared: Compared, subject: str
) -> tuple[Curve, ...]:
    if stimuli is None:
        return ()
    scores = compared.score()["two_way"].mean(0)
    far = draw_distance(knowledge, found.ids, stimuli, tokens.gallery, scores)
    return (*far, *draw_bottleneck(knowledge, subject))


def _score_nearest(
    judges: Sequence["Judge"], nearest: Labels | None, why: str, stimuli: Stimuli | None, found: _Decoded
) -> Row:
    if nearest is None or stimuli is None:
        return Row("nearest_training", absent=why)
    place = {name: row for row, name in enumerate(stimuli.ids.tolist())}
    pictures = bring(stimuli.images[[place[name] for name in nearest.tolist()]])[None]
    scores = judge_pictures(judges, pictures, found.shown, native=False).score()
    return Row("nearest_training", scores | score_structure(pictures, found.shown))


def _add_words(rows: dict[str, Row], spoken: Spoken) -> dict[str, Row]:
    """Return rows with the scores of captions beside those of pictures."""
    found = {name: Row(name, {**row.scores, **spoken.rows.get(name, {})}, row.absent) for name, row in rows.items()}
    for name in ("constant_caption", "most_frequent_caption"):
        found[name] = Row(name, spoken.rows.get(name, {}), spoken.absent.get(name, ""))
    return found


def _collect(
    session: Session, stores: Stores, runs: Sequence[Run], stimuli: Stimuli | None, knowledge: Knowledge
) -> _Decoded:
    known = set() if stimuli is None else set(stimuli.ids.tolist())
    ids, pictures, captions, retrieved = [], [], [], []
    for run in runs:
        stored = read_outputs(stores, run.id, "reconstruction")
        if run.item_key not in known or not stored or knowledge.refuses(run.item_key):
            continue
        ids.append(run.item_key)
        pictures.append(bring(np.stack([decode_png(each) for each in stored])))
        rows = session.scalars(
            select(Reconstruction).where(Reconstruction.run_id == run.id).order_by(Reconstruction.rank)
        ).all()
        captions.append(tuple(row.caption for row in rows if row.caption))
        retrieved.append(tuple(map(str, rows[0].retrieved)) if rows else ())
    if stimuli is None or len(ids) < FEWEST:
        raise BadInput(
            f"{len(ids)} decoded pictures of stimuli that the data set has pictures of and that were not trained on",
            f"{FEWEST} or more",
            "Decode up to pictures, store the stimuli beside the betas, and hold some out of the training.",
        )
    shown = bring(stimuli.select(np.array(ids)).images)
    return _Decoded(np.array(ids), shown, np.stack(pictures, axis=1), tuple(captions), tuple(retrieved))


def _generate_ceiling(
    stores: Stores, job: Job, found: _Decoded, stimuli: Stimuli, device: str
) -> tuple[Floats, list[list[str]]]:
    """Generate from the tokens of the pictures themselves; nothing is blended in.

    Returns
    -------
    array (seed, item, row, column, 3), and for each item the captions of every seed

    Raises
    ------
    Unavailable
        The image encoder or the generator can't be had.
    """
    from voxelight.app.pipelines.decode_linear import generate_ceiling
    from voxelight.app.pipelines.loaded import find_networks
    from voxelight.neuro.reconstruct import reconstruct_tokens
    from voxelight.storage.cache import StageCache

    options, device = DecodeOptions(**job.params["options"]), find_device(device)
    shown, cache = stimuli.select(found.ids), StageCache(stores.cache)
    if find_linear(stores.weights, job.recipe) is not None:
        made = generate_ceiling(stores, job.recipe, options, shown, device)
    else:
        profile = find_decoding_profile(stores.weights, job.recipe, options.subject)
        gallery, _ = _find_gallery(stores, job, shown, device)
        if gallery.tokens is None:
            raise Unavailable(
                gallery.missing, "tokens of the pictures", "Fetch the image encoder, or leave out --ceiling."
            )
        networks = find_networks(profile, stores.weights, options.generation, device)
        made = reconstruct_tokens(networks, gallery.tokens, range(len(found.ids)), options.generation, cache=cache)
    pictures = np.stack([each.image for each in made if each.image is not None])
    words = [each.caption or "" for each in made]
    by_item = [words[start : start + options.samples] for start in range(0, len(words), options.samples)]
    drawn = bring(pictures).reshape(len(found.ids), options.samples, *found.shown.shape[1:]).swapaxes(0, 1)
    return drawn, by_item


def _score_ceiling(judges: Sequence["Judge"], ceiling: Floats | None, found: _Decoded) -> Row:
    if ceiling is None:
        return Row("generator_ceiling", absent=_NO_CEILING)
    scores = judge_pictures(judges, ceiling, found.shown, native=False).score()
    return Row("generator_ceiling", scores | score_structure(ceiling, found.shown))


def _find_conditions(betas: Betas, job: Job, found: _Decoded, gallery: int, knowledge: Knowledge) -> dict[str, Any]:
    options = DecodeOptions(**job.params["options"])
    return {
        "subject": betas.subject,
        "test_set": f"{len(found.ids)} decoded stimuli; whether the decoder was trained on them is unknown",
        "sessions": None,
        "trials": "averaged",
        "reference": f"pixels of {len(found.ids)} pictures; retrieval among {gallery}",
        "normalisation": "as stored",
        "seeds": options.samples,
        "random_weights": bool(job.model.config.get("random_weights", False)),
    } | tell_conditions(knowledge, options.subject or betas.subject, len(found.ids))


def _compare_retrieved(found: _Decoded) -> Compared:
    """Return whether each picture stands among the first k that were retrieved; no seed draws the retrieval tokens."""
    most = min(len(names) for names in found.retrieved)
    tables = {
        f"{_TOP}{k}": np.tile(
            np.stack([np.isin(found.ids, names[:k]) for names in found.retrieved]), (found.seeds, 1, 1)
        )
        for k in sorted({1, most} - {0})
    }
    return Compared(
        {name: table.astype(float) for name, table in tables.items()}, dict.fromkeys(tables, own_correlation)
    )


def _describe_retrieval(gallery: int, retrieved: Compared) -> tuple[MetricFacts, ...]:
    facts = []
    for name in retrieved.similarity:
        k = int(name.removeprefix(_TOP))
        note = (
            f"For each brain, its picture is among the {k} most similar of {gallery}, by the cosine of tokens. "
            'Published as "brain retrieval" (bwd).'
        )
        facts.append(MetricFacts(name, f"Retrieval, top {k}", "retrieval", chance=k / gallery, note=note))
    return tuple(facts)


def _draw_grid(found: _Decoded, others: Sequence[NDArray[np.intp]], ceiling: Floats | None) -> Grid:
    rows = choose_shown(len(found.ids))
    by_item = found.pictures.swapaxes(0, 1)
    shuffled = np.concatenate([by_item[order[rows]] for order in others[:_SHOWN_SHUFFLES]], axis=1)
    columns = [
        Column("stimulus", found.shown[rows][:, None]),
        Column("from true tokens", absent=_NO_CEILING)
        if ceiling is None
        else Column("from true tokens", ceiling.swapaxes(0, 1)[rows].astype(np.float32)),
        Column("from betas", by_item[rows]),
        Column("from shuffled betas", shuffled),
    ]
    if found.seeds > 1:
        deviation = map_deviation(by_item[rows])
        scaled = (deviation / max(float(deviation.max()), 1e-9)).astype(np.float32)
        columns.append(Column("where seeds differ (bright)", scaled[:, None, :, :, None]))
    captions = tuple(found.captions[row] for row in rows) if any(found.captions) else ()
    return Grid("What was seen, and what was decoded", found.ids[rows], tuple(columns), captions)


def _note(found: _Decoded) -> list[str]:
    notes = [
        "Shuffled betas: what the same decoder and generator made of another stimulus's betas.",
        "Structural similarity has no null here.",
    ]
    if found.seeds == 1:
        notes.append(
            "ONE SAMPLE of each stimulus: how much of it is luck is not known. Decode with --samples 3 or more."
        )
    else:
        agreement = agree_pictures(found.pictures.swapaxes(0, 1)).mean()
        notes.append(f"Agreement across {found.seeds} seeds: pictures correlate by {agreement:.2f} on average.")
        if all(len(each) > 1 for each in found.captions):
            words = agree_captions(found.captions, share_words).mean()
            notes.append(f"Captions of one stimulus share {100 * words:.0f} % of their words on average.")
    return notes
