"""Evaluate a job that decoded with a trained decoder: what its training knew is recorded nowhere here, and said so."""

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
from voxelight.app.pipelines.inputs import BetasInput, read_betas
from voxelight.app.provenance import find_device
from voxelight.models.errors import BadInput, Unavailable
from voxelight.models.values import Betas, Stimuli
from voxelight.neuro.evaluate.agreement import agree_captions, agree_pictures, fit_agreement, map_deviation, share_words
from voxelight.neuro.evaluate.compared import Compared
from voxelight.neuro.evaluate.controls import DECODED, derange
from voxelight.neuro.evaluate.evaluation import Column, Evaluation, Grid, MetricFacts, Row
from voxelight.neuro.evaluate.guards import GUARDS, Guard, check_gallery
from voxelight.neuro.evaluate.pixels import bring, score_structure
from voxelight.neuro.evaluate.similarity import own_correlation
from voxelight.neuro.evaluate.uncertainty import Coverage, check_retrieval, find_coverage
from voxelight.neuro.profiles import find_profile
from voxelight.neuro.splits import Labels
from voxelight.storage.formats.images import decode_png
from voxelight.storage.results import read_outputs
from voxelight.storage.schema import Job, Reconstruction, Run
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.neuro.evaluate.judge import Judge

Floats = NDArray[np.floating[Any]]

_TOP = "retrieval_top"
_NO_CEILING = "It was not asked for: --ceiling generates from the tokens of the pictures."
_UNKNOWN = "What the decoder was trained on is not recorded here."
_SHOWN_SHUFFLES = 2
_FEWEST_CALIBRATED = 40


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
    found = _collect(session, stores, runs, stimuli)
    orders, told = draw_orders(betas, found.ids, found.ids, wishes.permutations, job.seed)
    gallery = 0 if stimuli is None else len(stimuli.ids)
    others = [derange(len(found.ids), seed) for seed in range(SHUFFLES)]
    judges, missing = load_judges(wishes, stores.weights)
    compared = judge_pictures(judges, found.pictures, found.shown, native=False)
    retrieved = _compare_retrieved(found)
    structure = (found.pictures, found.shown)
    ceiling = None
    if wishes.ceiling and stimuli is not None:
        ceiling = _generate_ceiling(stores, job, found, stimuli, wishes.device)
    return Evaluation(
        title=f"{job.recipe}: {job.dataset.name}",
        conditions=state(job, wishes, _find_conditions(betas, job, found, gallery)),
        metrics=(*_describe_retrieval(gallery, retrieved), *describe_metrics(judges, native=False)),
        stimulus_ids=found.ids,
        clusters=found.ids,
        rows=(
            Row(DECODED, compared.score() | retrieved.score() | score_structure(*structure)),
            Row(
                "shuffled_betas", compared.score(others) | retrieved.score(others) | score_structure(*structure, others)
            ),
            _score_ceiling(judges, ceiling, found),
            Row("nearest_training", absent=_UNKNOWN),
        ),
        nulls=compared.draw_null(orders) | retrieved.draw_null(orders),
        guards=_guard(found),
        grids=(_draw_grid(found, others, ceiling),),
        coverages=_check_coverage(found, compared),
        provenance=describe_job(job, runs),
        notes=(told, *_note(found), *missing),
    )


def _collect(session: Session, stores: Stores, runs: Sequence[Run], stimuli: Stimuli | None) -> _Decoded:
    known = set() if stimuli is None else set(stimuli.ids.tolist())
    ids, pictures, captions, retrieved = [], [], [], []
    for run in runs:
        stored = read_outputs(stores, run.id, "reconstruction")
        if run.item_key not in known or not stored:
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
            f"{len(ids)} decoded pictures of stimuli that the data set has pictures of",
            f"{FEWEST} or more",
            "Decode up to pictures, and store the stimuli beside the betas.",
        )
    shown = bring(stimuli.select(np.array(ids)).images)
    return _Decoded(np.array(ids), shown, np.stack(pictures, axis=1), tuple(captions), tuple(retrieved))


def _generate_ceiling(stores: Stores, job: Job, found: _Decoded, stimuli: Stimuli, device: str) -> Floats:
    """Generate from the tokens of the pictures themselves, array (seed, item, row, column, 3); nothing is blended in.

    Raises
    ------
    Unavailable
        The image encoder or the generator can't be had.
    """
    from voxelight.app.pipelines.loaded import find_gallery, find_networks
    from voxelight.neuro.reconstruct import reconstruct_tokens
    from voxelight.storage.cache import StageCache

    options = DecodeOptions(**job.params["options"])
    profile = find_profile(job.recipe)
    profile = profile if options.subject is None else profile.select_subject(options.subject)
    device = find_device(device)
    shown, cache = stimuli.select(found.ids), StageCache(stores.cache)
    gallery = find_gallery(profile, stores.weights, options.generation, device, shown, cache)
    if gallery.tokens is None:
        raise Unavailable(gallery.missing, "tokens of the pictures", "Fetch the image encoder, or leave out --ceiling.")
    networks = find_networks(profile, stores.weights, options.generation, device)
    made = reconstruct_tokens(networks, gallery.tokens, range(len(found.ids)), options.generation, cache=cache)
    pictures = np.stack([each.image for each in made if each.image is not None])
    return bring(pictures).reshape(len(found.ids), options.samples, *found.shown.shape[1:]).swapaxes(0, 1)


def _score_ceiling(judges: Sequence["Judge"], ceiling: Floats | None, found: _Decoded) -> Row:
    if ceiling is None:
        return Row("generator_ceiling", absent=_NO_CEILING)
    scores = judge_pictures(judges, ceiling, found.shown, native=False).score()
    return Row("generator_ceiling", scores | score_structure(ceiling, found.shown))


def _find_conditions(betas: Betas, job: Job, found: _Decoded, gallery: int) -> dict[str, Any]:
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
    }


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


def _guard(found: _Decoded) -> tuple[Guard, ...]:
    reasons = dict.fromkeys(GUARDS, _UNKNOWN)
    reasons["normalisation"] = "Betas were taken as stored; how they were normalised is not recorded here."
    reasons["alone"] = "Not repeated for this job: stimuli are decoded independently of those beside them."
    del reasons["gallery"]
    unchecked = (Guard(name, "not checked", reason) for name, reason in reasons.items())
    return (*unchecked, check_gallery(found.ids, found.shown))


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


def _check_coverage(found: _Decoded, compared: Compared) -> tuple[Coverage, ...]:
    if len(found.ids) < _FEWEST_CALIBRATED:
        return ()
    own = np.arange(len(found.ids))
    correlations = compared.similarity["two_way"].mean(0)
    checks = [check_retrieval(correlations, own)]
    if found.seeds > 1:
        agreement = agree_pictures(found.pictures.swapaxes(0, 1))
        scores = own_correlation(correlations, own)
        half = np.random.default_rng(0).permutation(len(own)) < len(own) // 2
        low, high = fit_agreement(agreement[half], scores[half]).interval(agreement[~half])
        inside = (low <= scores[~half]) & (scores[~half] <= high)
        checks.append(find_coverage("pixel correlation, from agreement across seeds", 0.9, inside, high - low))
    return tuple(checks)


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
