"""The betas and pictures of a training of decoders, out of the store: what is planned with, and what is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.pipelines.decoder_recipes import Amount, DecoderOptions
from voxelight.app.pipelines.inputs import BetasInput, find_betas, read_betas
from voxelight.app.schemas import JobRequest, ScanQuery
from voxelight.models.errors import BadInput
from voxelight.neuro.training.recorded import Album, SeenTrials
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Dataset, ImagingSession, Scan, Subject
from voxelight.storage.stores import Stores

SHOWN_SIDE = 256  # that the published decoders were scored with, pixels


@dataclass(frozen=True)
class Planned:
    """The files of every subject, and how much there is."""

    inputs: tuple[BetasInput, ...]
    amount: Amount
    by_session: bool
    notes: tuple[str, ...]


def plan_inputs(
    session: Session, stores: Stores, dataset: Dataset, request: JobRequest, options: DecoderOptions
) -> Planned:
    """Find the files of every subject that is trained on, and count their trials.

    Raises
    ------
    BadInput
        A subject has no betas or no pictures, or files are ambiguous or damaged.
    """
    found: list[BetasInput] = []
    notes: list[str] = []
    for label in _find_labels(session, dataset, request, options):
        own = request
        if label is not None:
            query = (request.query or ScanQuery()).model_copy(update={"subject": label})
            own = request.model_copy(update={"query": query})
        inputs, told = find_betas(session, dataset, own, options.mask)
        found.append(inputs)
        notes += told
    counts = [_count(session, stores, inputs) for inputs in found]
    sessions, trials = counts[0]
    known = all(names is not None for names, _ in counts)
    amount = Amount(len(found), len(sessions) if sessions else 1, trials)
    return Planned(tuple(found), amount, known, tuple(dict.fromkeys(notes)))


def read_seen_trials(
    session: Session, stores: Stores, inputs: BetasInput, simulated: bool, album: Album, mapped: Path
) -> SeenTrials:
    """Read a subject once, and map its betas from a file from then on.

    Parameters
    ----------
    session, stores : open
    inputs : of the subject
    simulated : whether the betas were made by a model
    album : takes up the pictures
    mapped : where the betas are kept as an array while they are trained on

    Raises
    ------
    BadInput
        A file is damaged, or a stimulus has no picture.
    """
    from voxelight.neuro.simulation.pictures import StimuliSet

    betas, stimuli = read_betas(session, stores, inputs, simulated)
    if stimuli is None:
        raise BadInput(f"no picture beside the betas of subject {inputs.subject}",
                       "the pictures that were seen, as PNG or JPEG", "Store them beside the betas.")  # fmt: skip
    keys = album.add(StimuliSet(stimuli), betas.stimulus_ids.tolist())
    if not mapped.is_file():
        mapped.parent.mkdir(parents=True, exist_ok=True)
        part = mapped.with_name(f".{mapped.name}.part.npy")
        np.save(part, betas.values, allow_pickle=False)
        part.replace(mapped)
    values = np.load(mapped, mmap_mode="r", allow_pickle=False)
    return SeenTrials(replace(betas, values=values), tuple(keys[name] for name in betas.stimulus_ids.tolist()))


def _find_labels(
    session: Session, dataset: Dataset, request: JobRequest, options: DecoderOptions
) -> Sequence[str | None]:
    """Return the subjects to train on; None: whatever the scans of the request are."""
    if options.subjects is not None:
        return tuple(dict.fromkeys(options.subjects))
    if request.scans or (request.query is not None and request.query.subject):
        return (None,)
    query = (
        select(Subject.label)
        .join(ImagingSession, ImagingSession.subject_id == Subject.id)
        .join(Scan, Scan.imaging_session_id == ImagingSession.id)
        .where(Subject.dataset_id == dataset.id, Scan.kind.in_(("betas", "series", "recording")), Scan.held == "")
    )
    labels = sorted(set(session.scalars(query)))
    if not labels:
        raise BadInput(
            f"no betas in data set {dataset.name}",
            "a .mat, or 4-D betas with a mask, an events table and the pictures",
            "Upload them, or simulate subjects: voxelight simulate.",
        )
    return labels


def _count(session: Session, stores: Stores, inputs: BetasInput) -> tuple[list[str] | None, int]:
    """Return the sessions of a subject, None where they are not told, and the number of its trials."""
    from voxelight.storage import checks_data
    from voxelight.storage.formats.tables import read_columns

    scan = find_row(session, Scan, inputs.betas if inputs.events is None else inputs.events)
    if scan.kind == "recording":
        return [str(number) for number in range(scan.facts["sessions"])] or None, scan.facts["trials"]
    with stores.blobs.local_file(scan.blob_sha256, scan.name) as path:
        if inputs.events is None:
            betas, _ = checks_data.read_betas(stores.checks, checks_data.BetasFiles(path), inputs.subject)
            return None, len(betas.values)
        columns = {name.lower(): cells for name, cells in read_columns(path).items()}
    named = next((columns[name] for name in ("session", "sess", "ses") if name in columns), None)
    return None if named is None else list(dict.fromkeys(named)), len(next(iter(columns.values()), []))
