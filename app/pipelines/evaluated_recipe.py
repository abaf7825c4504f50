"""Evaluate a job that reconstructed pictures by a recipe: all of its parts can be refitted, so all is checked."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from sqlalchemy.orm import Session

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
from voxelight.app.pipelines.inputs import BetasInput, read_seen
from voxelight.app.pipelines.reconstruct import find_recipe_of
from voxelight.models.errors import BadInput
from voxelight.models.values import Betas, ClipTokens, Stimuli
from voxelight.neuro.evaluate.baselines import BASELINES
from voxelight.neuro.evaluate.bottleneck import sweep_bottleneck
from voxelight.neuro.evaluate.ceiling import describe_ceiling
from voxelight.neuro.evaluate.compare import FEWEST_PICTURES, Curve, find_distance, score_by_distance
from voxelight.neuro.evaluate.compared import Compared
from voxelight.neuro.evaluate.controls import DECODED, derange
from voxelight.neuro.evaluate.evaluation import Column, Evaluation, Grid, Row
from voxelight.neuro.evaluate.guards import Guard, Side, check_gallery, check_overlap
from voxelight.neuro.evaluate.leakage import check_recipe
from voxelight.neuro.evaluate.null import find_rows, is_linear, permute_by_refitting, permute_fast
from voxelight.neuro.evaluate.pixels import score_structure
from voxelight.neuro.evaluate.report import find_units
from voxelight.neuro.evaluate.similarity import METRICS, correlate, two_way
from voxelight.neuro.evaluate.uncertainty import Coverage, check_retrieval, check_tokens
from voxelight.neuro.folds import find_pictures, plan_folds, plan_inner_folds, prepare_fold, resize_pictures
from voxelight.neuro.recipes import ReconstructionRecipe
from voxelight.neuro.splits import Fold, Labels
from voxelight.storage.results import read_output
from voxelight.storage.schema import Job, Run
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.neuro.evaluate.judge import Judge

Floats = NDArray[np.floating[Any]]

_BOTTLENECKS = (1, 2, 4, 8, 16, 32, 64)
_SWEPT_FOLDS = 120  # a longer sweep would take longer than the job
_SHOWN_SHUFFLES = 3
_FEWEST_CALIBRATED = 20


def evaluate_recipe(session: Session, stores: Stores, job: Job, runs: Sequence[Run], wishes: Wishes) -> Evaluation:
    """Evaluate a job of the kind ``reconstruct``: see `evaluated.evaluate`."""
    recipe = find_recipe_of(job)
    betas, stimuli = read_seen(session, stores, BetasInput(**job.params["inputs"]), job.dataset.simulated)
    folds = plan_folds(betas, recipe)
    guards = _guard(betas, stimuli, recipe, folds)  # a stimulus is in one fold only, or this has ended it
    ids = np.concatenate([fold.stimulus_ids for fold in folds])
    if len(ids) < FEWEST:
        raise BadInput(f"{len(ids)} stimuli", f"{FEWEST} or more", "Score more pictures.")
    by_item = {run.item_key: load_tensors(read_output(stores, run.id, "prediction"))["predictions"] for run in runs}
    predicted = np.concatenate([by_item[fold.key] for fold in folds])
    pictures = resize_pictures(stimuli.select(ids), recipe.picture_side).images
    units = find_units(betas, ids, recipe.unit)
    orders, told = draw_orders(betas, ids, units, wishes.permutations, recipe.seed)
    others = [derange(len(ids), seed) for seed in range(SHUFFLES)]
    judges, missing = load_judges(wishes, stores.weights)
    compared = judge_pictures(judges, predicted[None], pictures, native=True)
    permute = permute_fast if is_linear(recipe) else permute_by_refitting
    baselines = {
        name: find(betas, resize_pictures(stimuli, recipe.picture_side), recipe) for name, find in BASELINES.items()
    }
    made = {"generator_ceiling": pictures, **baselines}
    return Evaluation(
        title=f"{recipe.title}: {job.dataset.name}",
        conditions=state(job, wishes, _find_conditions(betas, recipe, ids, len(folds))),
        metrics=describe_metrics(judges, native=True),
        stimulus_ids=ids,
        clusters=units,
        rows=(
            Row(DECODED, compared.score() | score_structure(predicted[None], pictures)),
            Row("shuffled_betas", compared.score(others) | score_structure(predicted[None], pictures, others)),
            *(Row(name, _score(judges, images, pictures)) for name, images in made.items()),
        ),
        # Of what the recipe can be refitted for, the null is refitted; features see the same predictions exchanged.
        nulls=compared.draw_null(orders) | permute(betas, stimuli.select(ids), recipe, orders),
        guards=guards,
        grids=(_draw_grid(ids, pictures, predicted, others),),
        curves=_draw_curves(betas, stimuli, recipe, folds, compared.score()["two_way"][0]),
        coverages=_check_coverage(predicted, pictures, compared),
        provenance=describe_job(job, runs),
        notes=(told, *_note(betas), *missing),
    )


def _guard(betas: Betas, stimuli: Stimuli, recipe: ReconstructionRecipe, folds: Sequence[Fold]) -> tuple[Guard, ...]:
    for fold in folds:
        train = np.unique(betas.stimulus_ids[fold.train])
        fitted, held_out = (Side(names, find_pictures(stimuli, names)) for names in (train, fold.stimulus_ids))
        ids, pixels, tokens = check_overlap(fitted, held_out)
    told = f"In each of {len(folds)} folds; of the last one: "
    return (
        Guard("ids", ids.status, told + ids.detail),
        Guard("pictures", pixels.status, told + pixels.detail),
        Guard("tokens", tokens.status, "The recipe decodes pixels and has no image encoder."),
        *check_recipe(betas, stimuli, recipe, folds[0]),
        check_gallery(stimuli.ids, stimuli.images),
    )


def _find_conditions(betas: Betas, recipe: ReconstructionRecipe, ids: Labels, n_folds: int) -> dict[str, Any]:
    sessions = betas.labels.get("session")
    return {
        "subject": betas.subject,
        "test_set": f"all {len(ids)} stimuli, each held out once by {recipe.unit} in {n_folds} folds",
        "sessions": f"{len(set(sessions.tolist()))}" if sessions is not None else None,
        "trials": "averaged",
        "reference": f"pixels of the {len(ids)} held-out pictures",
        "normalisation": recipe.normalisation,
        "seeds": 1,
        "random_weights": False,
    }


def _score(judges: Sequence["Judge"], images: Floats, pictures: Floats) -> dict[str, Floats]:
    scores = judge_pictures(judges, images[None], pictures, native=True).score()
    return scores | score_structure(images[None], pictures)


def _draw_grid(ids: Labels, pictures: Floats, predicted: Floats, shuffled: Sequence[NDArray[np.intp]]) -> Grid:
    rows = choose_shown(len(ids))
    others = np.stack([predicted[order[rows]] for order in shuffled[:_SHOWN_SHUFFLES]], axis=1)
    return Grid(
        title="What was seen, and what was reconstructed",
        ids=ids[rows],
        columns=(
            Column("stimulus", pictures[rows][:, None].astype(np.float32)),
            Column("from true latents", pictures[rows][:, None].astype(np.float32)),
            Column("from betas", predicted[rows][:, None].astype(np.float32)),
            Column("from shuffled betas", others.astype(np.float32)),
        ),
    )


def _draw_curves(
    betas: Betas, stimuli: Stimuli, recipe: ReconstructionRecipe, folds: Sequence[Fold], scores: Floats
) -> tuple[Curve, ...]:
    curves = [] if len(folds) > _SWEPT_FOLDS else [_sweep(betas, stimuli, recipe, folds)]
    if len(scores) >= 2 * FEWEST_PICTURES:
        distance = [
            find_distance(
                *(_as_tokens(stimuli, names) for names in (fold.stimulus_ids, betas.stimulus_ids[fold.train]))
            )
            for fold in folds
        ]
        curves.append(score_by_distance(scores, np.concatenate(distance)))
    return tuple(replace(curve, y_label="two-way identification by pixels", level=0.5) for curve in curves)


def _sweep(betas: Betas, stimuli: Stimuli, recipe: ReconstructionRecipe, folds: Sequence[Fold]) -> Curve:
    pictures = resize_pictures(stimuli, recipe.picture_side)
    prepared = [prepare_fold(betas, fold, recipe) for fold in folds]
    ids = np.concatenate([fold.stimulus_ids for fold in folds])
    own = find_rows(pictures.ids, ids)
    config = recipe.decoder_config()

    def decode(number: int, train: Floats, test: Floats) -> Floats:
        rows = prepared[number][0]
        inner = plan_inner_folds(rows, recipe) if config.needs_folds else ()
        targets = find_pictures(pictures, rows.stimulus_ids).astype(np.float64)
        decoded: Floats = config.fit(train, targets, [(each.train, each.test) for each in inner])(test)
        return decoded

    def score(predicted: Floats) -> Floats:
        return two_way(correlate(predicted, pictures.images), own)

    values = [(train.values, test.values) for train, test in prepared]
    return sweep_bottleneck(values, _BOTTLENECKS, decode, score, ids)


def _check_coverage(predicted: Floats, pictures: Floats, compared: Compared) -> tuple[Coverage, ...]:
    if len(pictures) < _FEWEST_CALIBRATED:
        return ()
    similarity = compared.similarity["two_way"][0]
    return check_tokens(predicted, pictures), check_retrieval(similarity, np.arange(len(pictures)))


def _note(betas: Betas) -> list[str]:
    notes = [
        "The decoder is linear and draws pixels itself: one sample of a stimulus is all there is, and its true latents "
        "are the pictures.",
        "Shuffled betas: the picture that another held-out stimulus gave; its decoder may have seen this stimulus.",
        f"The null of {' and '.join(METRICS)} refits the recipe, alpha included; that of a network exchanges pictures.",
    ]
    return [*notes, *describe_ceiling(betas)]


def _as_tokens(stimuli: Stimuli, names: Labels) -> ClipTokens:
    """Return pixels, centred on mid-grey, as the only space of pictures that a recipe knows."""
    images = find_pictures(stimuli, np.unique(names) if len(set(names.tolist())) < len(names) else names)
    flat = images.reshape(len(images), 1, -1) - 0.5
    return ClipTokens(np.where(np.abs(flat).sum(2, keepdims=True) > 0, flat, 1e-6), "pixels")
