"""Evaluate what a finished job stored: scores beside every control row, or a refusal."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from voxelight.app.pipelines.inputs import ask_consent
from voxelight.app.provenance import find_revision
from voxelight.models.errors import BadInput, Conflict, Unavailable
from voxelight.models.values import Betas
from voxelight.neuro.evaluate.compare import adjust_p, align_pictures, compare_paired
from voxelight.neuro.evaluate.compared import Compared
from voxelight.neuro.evaluate.conditions import Conditions, state_conditions
from voxelight.neuro.evaluate.controls import Places, draw_exchanges, find_exchange
from voxelight.neuro.evaluate.evaluation import Evaluation, MetricFacts
from voxelight.neuro.evaluate.intervals import draw_permutations, moves_units_whole
from voxelight.neuro.evaluate.pixels import compare_pixels, describe_pixels
from voxelight.neuro.splits import Labels
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Job, Run
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.neuro.evaluate.judge import Judge

Floats = NDArray[np.floating[Any]]

KINDS = ("reconstruct", "decode")
NULL_DRAWS = 999
SHUFFLES = 20
ON_GRID = 24  # stimuli that a report shows
FEWEST = 3

_SPREAD_PICTURES = 10


@dataclass(frozen=True)
class Wishes:
    """What the person who asks for a report states and chooses.

    Parameters
    ----------
    betas : version of the betas
    sessions : that the decoder was trained on
    test_set : how the scored stimuli were chosen
    permutations : draws of the null
    networks : that judge pictures, none for none; None: the one whose weights a Python package carries, where it is
    ceiling : whether to generate from true latents for the ceiling, which takes as long as the job did
    device : where to do so
    captions : reference captions by stimulus, where captions are to be scored, and the name of their set
    regions : of the same recording, by which a brain encoder scores pictures and chooses among samples
    """

    betas: str | None = None
    sessions: str | None = None
    test_set: str | None = None
    permutations: int = NULL_DRAWS
    networks: tuple[str, ...] | None = None
    ceiling: bool = False
    device: str = "auto"
    captions: tuple[str, Mapping[str, Sequence[str]]] | None = None
    regions: tuple[str, ...] = ()


def open_job(session: Session, job_id: uuid.UUID) -> tuple[Job, list[Run]]:
    """Return a finished job of decoding with its runs in their order.

    Raises
    ------
    NotFound
        There is no such job.
    BadInput
        It decoded nothing.
    Conflict
        It is not done.
    Refused
        Consent or purpose were taken back.
    """
    job = find_row(session, Job, job_id)
    if job.kind not in KINDS:
        raise BadInput(f"a job of the kind {job.kind}", f"one of {', '.join(KINDS)}", "Evaluate a job that decoded.")
    if job.status != "done":
        raise Conflict(f"a job that is {job.status}", "one that is done", f"Follow it: voxelight jobs watch {job_id}")
    ask_consent(job.dataset)
    query = select(Run).where(Run.job_id == job_id).order_by(Run.position).options(joinedload(Run.subject))
    return job, list(session.scalars(query))


def evaluate(stores: Stores, job_id: uuid.UUID, wishes: Wishes) -> Evaluation:
    """Evaluate a finished job of any kind that decodes.

    Raises
    ------
    BadInput
        A condition is neither known nor stated, or there are too few pictures.
    Leak
        The split, the scaler or the fit lets something through.
    NotFound, Conflict, Refused
        As `open_job`.
    """
    from voxelight.app.pipelines.evaluated_profile import evaluate_profile
    from voxelight.app.pipelines.evaluated_recipe import evaluate_recipe

    with stores.sessions() as session:
        job, runs = open_job(session, job_id)
        if wishes.regions and job.kind == "reconstruct":
            raise BadInput("regions for a recipe that is fitted to every trial in turn",
                           "a decoding by a decoder that was trained before", "Leave them out.")  # fmt: skip
        return (evaluate_recipe if job.kind == "reconstruct" else evaluate_profile)(session, stores, job, runs, wishes)


def compare(first: Evaluation, second: Evaluation) -> Evaluation:
    """Return the first evaluation with paired tests against the second.

    Raises
    ------
    BadInput
        The runs do not hold the same pictures, or share no metric.
    """
    rows = align_pictures(first.stimulus_ids, second.stimulus_ids)
    one, other = (evaluation.find_row("decoded").scores for evaluation in (first, second))
    shared = [metric.name for metric in first.metrics if metric.name in one and metric.name in other]
    if not shared:
        raise BadInput("two runs without a common metric", "at least one", "Compare runs that give pictures.")
    tests = [compare_paired(name, one[name].mean(0), other[name].mean(0)[rows], first.clusters) for name in shared]
    adjusted = adjust_p(np.array([test.p for test in tests]))
    tested = tuple(replace(test, q=float(q)) for test, q in zip(tests, adjusted, strict=True))
    told = {"compared_with": second.title} | {f"other_{name}": value for name, value in second.provenance.items()}
    return replace(
        first,
        title=f"{first.title}, compared with {second.title}",
        tests=tested,
        provenance=dict(first.provenance) | told,
        notes=(*first.notes, *_find_differences(first, second)),
    )


def load_judges(wishes: Wishes, weights: Path) -> tuple[list["Judge"], list[str]]:
    """Return the networks that judge pictures, and what is to be said where there is none.

    Raises
    ------
    NotFound, Unavailable
        A network that was asked for by name can't be had.
    """
    from voxelight.neuro.evaluate.judge import Judge
    from voxelight.neuro.evaluate.metrics.features import load_extractor
    from voxelight.neuro.evaluate.metrics.networks import DEFAULT_NETWORK

    reason = "None was asked for."
    try:
        names = (DEFAULT_NETWORK,) if wishes.networks is None else wishes.networks
        judges = [Judge(load_extractor(name, weights)) for name in names]
    except Unavailable as error:
        if wishes.networks is not None:
            raise
        judges, reason = [], str(error)
    missing = f"NO NETWORK judged these pictures, so the scores say little of what people see. {reason}"
    return judges, [] if judges else [missing]


def judge_pictures(judges: Sequence["Judge"], pictures: Floats, shown: Floats, native: bool) -> Compared:
    """Compare pictures (seed, item, ...) with what was seen, by pixels and by every network."""
    compared = compare_pixels(pictures, shown, native)
    if judges:
        from voxelight.neuro.evaluate.judge import compare_features

        for judge in judges:
            compared = compared.join(compare_features(judge, pictures, shown))
    return compared


def describe_metrics(judges: Sequence["Judge"], native: bool) -> tuple[MetricFacts, ...]:
    """Return what the scores of `judge_pictures` and structural similarity mean."""
    facts: list[MetricFacts] = []
    if judges:
        from voxelight.neuro.evaluate.judge import describe_network

        facts += [fact for judge in judges for fact in describe_network(judge)]
    return (*facts, *describe_pixels(native))


def draw_orders(betas: Betas, ids: Labels, units: Labels, draws: int, seed: int) -> tuple[Places, str]:
    """Draw which stimulus stands in for which, within session where sessions are known, and say so.

    Stimuli that were held out together, as the crops of one photograph, change places together where sessions allow.
    """
    known = "session" in betas.labels
    sessions = betas.labels["session"] if known else np.full(len(betas.values), "all")
    exchange = find_exchange(betas.stimulus_ids, sessions, ids)
    if exchange.fixed == 1:
        exchange, known = find_exchange(betas.stimulus_ids, np.full(len(betas.values), "all"), ids), False
    if len(np.unique(exchange.groups)) == 1 and moves_units_whole(units):
        return draw_permutations(units, draws, seed), f"Null: whole held-out units permuted, {draws} draws."
    within = f"within {exchange.within}" if known else "over all trials, sessions being unknown or of one stimulus each"
    return draw_exchanges(exchange, draws, seed), f"Null: whole stimuli permuted {within}, {draws} draws."


def state(job: Job, wishes: Wishes, found: Mapping[str, Any]) -> Conditions:
    """Return the conditions as the data and the person say them; simulated betas are their own version.

    Raises
    ------
    BadInput
        One is neither known nor stated.
    """
    stated = dict(found) | {
        "betas": wishes.betas or ("simulated" if job.dataset.simulated else None),
        "sessions": wishes.sessions or found.get("sessions"),
        "test_set": wishes.test_set or found.get("test_set"),
        "simulated": job.dataset.simulated,
    }
    options = {"betas": "--betas-version", "sessions": "--sessions", "test_set": "--test-set"}
    missing = [name for name in options if not stated[name]]
    if missing:
        raise BadInput(
            f"data that do not say {' and '.join(missing)}",
            "conditions under which the scores can be compared",
            f"State {' and '.join(f'{options[name]} TEXT' for name in missing)}.",
        )
    return state_conditions(stated)


def describe_job(job: Job, runs: Sequence[Run]) -> dict[str, Any]:
    """Return what a report was made from."""
    return {
        "job": str(job.id),
        "recipe": job.recipe,
        "data set": job.dataset.name,
        "model": f"{job.model.name} {job.model.version}",
        "weights_sha256": sorted({run.provenance.get("weights_sha256", "") for run in runs})[:_SPREAD_PICTURES],
        "inputs_sha256": runs[0].provenance.get("inputs_sha256", {}),
        "options": job.params.get("options", {}),
        "seed": job.seed,
        "decoded by": sorted({str(run.provenance.get("revision", "")) for run in runs}),
        "evaluated by": find_revision(),
        "licence of the weights": job.model.licence,
    }


def choose_shown(count: int) -> NDArray[np.intp]:
    """Return the stimuli of the grid, spread over all."""
    return np.unique(np.linspace(0, count - 1, min(count, ON_GRID)).round().astype(np.intp))


def _find_differences(first: Evaluation, second: Evaluation) -> list[str]:
    one, other = first.conditions.model_dump(), second.conditions.model_dump()
    return [
        f"The two runs differ in {name}: {one[name]} here, {other[name]} there."
        for name in one
        if one[name] != other[name]
    ]
