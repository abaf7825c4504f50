"""Regions of the same recording in an evaluation: brain correlation, its ceiling, and the best of several samples."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.pipelines.evaluated_trained import Knowledge
from voxelight.app.pipelines.inputs import BetasInput
from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.neuro.evaluate.brain import Brain, BrainScores, Region, score_regions
from voxelight.neuro.evaluate.controls import DECODED, Places
from voxelight.neuro.evaluate.evaluation import Evaluation, Row
from voxelight.neuro.splits import Labels
from voxelight.storage.checks_data import BetasFiles, read_betas
from voxelight.storage.formats.fmri.registered import read_region
from voxelight.storage.formats.nifti import read_mask
from voxelight.storage.queries import find_row
from voxelight.storage.schema import ImagingSession, Scan
from voxelight.storage.stores import Stores

Floats = NDArray[np.floating[Any]]


def add_brain(
    evaluation: Evaluation, brain: Brain, pictures: Floats, orders: tuple[Places, Sequence[Places]], seed: int
) -> Evaluation:
    """Return an evaluation with the rows of the brain.

    Parameters
    ----------
    evaluation : of decoded pictures
    brain : regions of the recording
    pictures : array (seed, item, row, column, 3), in the order of the evaluation
    orders : draws of the null, and what stands in for shuffled betas
    seed : of the folds
    """
    found = score_regions(brain, pictures, evaluation.stimulus_ids, seed)
    scores = {DECODED: found.compared.score(), "shuffled_betas": found.compared.score(orders[1])}
    rows = [replace(row, scores={**row.scores, **scores.get(row.name, {})}) for row in evaluation.rows]
    few = "A stimulus was shown once: without repeats there is no ceiling."
    rows += [
        Row("seen_picture", found.seen),
        Row("noise_ceiling", found.ceiling, "" if found.ceiling else few),
        _choose(found, next(row for row in rows if row.name == DECODED)),
    ]
    said = () if found.best is None else (
        f"{found.best[0].signal} Not scored by {found.best[1]}, which chose.",
    )  # fmt: skip
    return replace(
        evaluation,
        metrics=(*evaluation.metrics, *found.facts),
        rows=tuple(rows),
        nulls={**evaluation.nulls, **found.compared.draw_null(orders[0])},
        notes=(*evaluation.notes, *said),
    )


def read_brain(
    session: Session, stores: Stores, inputs: BetasInput, names: Sequence[str], stimuli: Stimuli, knowledge: Knowledge,
    stimulus_ids: Labels,
) -> Brain:  # fmt: skip
    """Read regions beside that of the decoder.

    Parameters
    ----------
    session, stores : open
    inputs : of the decoding
    names : of masks of the same subject, with or without their endings, or of regions of a registered folder
    stimuli, knowledge : of the data set
    stimulus_ids : array (trial,), as the decoder's betas have them

    Raises
    ------
    BadInput
        The betas have no grid, or a region's trials are others.
    NotFound
        There is no such region.
    """
    read = _read_registered if find_row(session, Scan, inputs.betas).kind == "recording" else _read_masked
    regions, voxels = read(session, stores, inputs, list(dict.fromkeys(names)))
    trained = knowledge.trained_on if knowledge.decoder is not None else None
    colours = np.broadcast_to(stimuli.images, (*stimuli.images.shape[:3], 3))
    return Brain(regions, stimulus_ids, dict(zip(stimuli.ids.tolist(), colours, strict=True)), trained, voxels)


def _choose(found: BrainScores, decoded: Row) -> Row:
    """Return the scores of the chosen samples, but for the one that they were chosen by."""
    if found.best is None:
        return Row("best_of_samples", absent=found.reason)
    best, by = found.best
    items = np.arange(len(best.samples))
    return Row(
        "best_of_samples",
        {name: scores[best.samples, items][None] for name, scores in decoded.scores.items() if name != by},
    )


def _read_masked(
    session: Session, stores: Stores, inputs: BetasInput, names: Sequence[str]
) -> tuple[tuple[Region, ...], NDArray[np.intp]]:
    if inputs.mask is None or inputs.events is None:
        raise BadInput("betas without a grid: a .mat names no voxel's place", "betas as a 4-D NIfTI image with masks",
                       "Upload betas, masks and events as NIfTI, and decode these.")  # fmt: skip
    query = select(Scan).join(ImagingSession).where(
        ImagingSession.subject_id == inputs.subject_id, Scan.kind == "volume", Scan.held == ""
    )  # fmt: skip
    masks = {key: scan for scan in session.scalars(query) for key in (scan.name, scan.name.split(".")[0])}
    if missing := [name for name in names if name not in masks]:
        known = ", ".join(sorted({scan.name for scan in masks.values()}))
        raise NotFound(f"no mask {missing[0]!r} of subject {inputs.subject}", f"one of {known}", "Name one.")
    with ExitStack() as stack:

        def fetch(scan: Scan) -> Any:
            return stack.enter_context(stores.blobs.local_file(scan.blob_sha256, scan.name))

        betas, events = (fetch(find_row(session, Scan, each)) for each in (inputs.betas, inputs.events))
        own = np.flatnonzero(read_mask(fetch(find_row(session, Scan, inputs.mask)))[0])
        regions = []
        for name in names:
            mask = fetch(masks[name])
            found, _ = read_betas(stores.checks, BetasFiles(betas, mask, events), inputs.subject)
            regions.append(Region(name.split(".")[0], found.values, np.flatnonzero(read_mask(mask)[0])))
    return tuple(regions), own


def _read_registered(
    session: Session, stores: Stores, inputs: BetasInput, names: Sequence[str]
) -> tuple[tuple[Region, ...], NDArray[np.intp]]:
    scan = find_row(session, Scan, inputs.betas)
    with stores.blobs.local_file(scan.blob_sha256, scan.name) as path:
        _, own = read_region(path, None)
        found = [(name, *read_region(path, name)) for name in names]
    return tuple(Region(name, betas.values, places) for name, betas, places in found), own
