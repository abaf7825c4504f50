"""Paired differences of two jobs, beside SciPy's own."""

import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import scipy.stats
from sqlalchemy import select

from voxelight.app.schemas import ResultQuery
from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.schema import (
    Artifact,
    Blob,
    Dataset,
    ImagingSession,
    Job,
    Metric,
    Model,
    Reconstruction,
    Run,
    Scan,
    Subject,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
FIRST = np.array([0.80, 0.90, 0.70, 0.85, 0.95, 0.60, 0.75, 0.88])
SECOND = np.array([0.78, 0.84, 0.71, 0.80, 0.90, 0.52, 0.75, 0.80])


@pytest.fixture
def write(services):
    """Write a job that is done: for each (subject, scan) its scores."""

    def _write(scores, kind="segment", model="one", dataset="data", at=NOON, stimuli=()):
        with services.stores.sessions.begin() as session:
            home = session.scalar(select(Dataset).where(Dataset.name == dataset))
            home = home or Dataset(name=dataset, consent="public", purpose="tests")
            job = Job(
                kind=kind,
                recipe=f"recipe-of-{model}",
                dataset=home,
                model=find(session, Model, name=model, version="1", task=kind),
                queue="cpu",
                status="done",
                done=len(scores),
            )
            session.add(job)
            session.flush()
            for place, ((subject, name), values) in enumerate(scores.items()):
                person = find(session, Subject, dataset_id=home.id, label=subject)
                visit = find(session, ImagingSession, subject_id=person.id, label="1")
                sha = f"{abs(hash(name)) % 10**12:064d}"
                if session.get(Blob, sha) is None:
                    session.add(Blob(sha256=sha, size=1, media_type="any"))
                scan = find(session, Scan, imaging_session_id=visit.id, name=name, kind="volume", blob_sha256=sha)
                run = Run(job_id=job.id, item_key=f"{subject}/{name}", position=place, subject=person, scan=scan,
                          status="done", finished_at=at + timedelta(seconds=place))  # fmt: skip
                session.add(run)
                session.flush()
                session.add_all(
                    Metric(job_id=job.id, run_id=run.id, name=metric, label=label, value=float(value))
                    for (metric, label), value in values.items()
                )
                for stimulus in stimuli:
                    file = Artifact(job_id=job.id, run_id=run.id, role="reconstruction", name=stimulus, blob_sha256=sha)
                    session.add(file)
                    session.flush()
                    session.add(
                        Reconstruction(
                            run_id=run.id, subject_id=person.id, stimulus_id=stimulus, artifact_id=file.id, seed=0
                        )
                    )
            return job.id

    return _write


def find(session, table, **columns):
    row = session.scalar(select(table).filter_by(**columns))
    if row is None:
        row = table(**columns)
        session.add(row)
        session.flush()
    return row


def dice(values, persons=8):
    return {(f"{n % persons:02d}", f"scan-{n}.nii.gz"): {("dice", ""): v} for n, v in enumerate(values)}


def test_two_jobs_are_compared_scan_by_scan(services, write):
    first, second = write(dice(FIRST)), write(dice(SECOND), model="other")
    found = services.compare.jobs(first, second)
    [metric] = found.metrics
    difference = FIRST - SECOND
    assert (found.matched, found.only_first, found.only_second, metric.n) == (8, 0, 0, 8)
    assert metric.difference == pytest.approx(difference.mean())
    assert metric.p == pytest.approx(scipy.stats.wilcoxon(difference).pvalue)
    assert metric.q == metric.p
    boot = scipy.stats.bootstrap((difference,), np.mean, method="percentile", n_resamples=9999, rng=0)
    assert (metric.low, metric.high) == pytest.approx(tuple(boot.confidence_interval), abs=0.005)
    assert metric.items[0].difference == pytest.approx(0.08)
    assert found.notice == "Not for clinical use."
    backwards = services.compare.jobs(second, first).metrics[0]
    assert backwards.difference == pytest.approx(-metric.difference)
    assert backwards.p == pytest.approx(metric.p)


def test_whole_subjects_are_drawn_where_each_has_several_scans(services, write):
    """All scans of a person lie together, so that the interval is wider than over scans."""
    own = np.repeat(np.linspace(-0.05, 0.1, 5), 8)
    base = np.full(40, 0.8)
    jobs = write(dice(base + np.tile(np.linspace(-0.05, 0.1, 5), 8), 5)), write(dice(base, 5), model="other")
    found = services.compare.jobs(*jobs).metrics[0]
    assert found.drawn == "subject"
    by_scan = scipy.stats.bootstrap((own,), np.mean, method="percentile", rng=0).confidence_interval
    assert found.high - found.low > 1.5 * (by_scan.high - by_scan.low)


def test_only_what_both_worked_on_counts(services, write):
    some = dict(list(dice(FIRST).items())[:6])
    found = services.compare.jobs(write(some), write(dict(list(dice(SECOND).items())[3:]), model="other"))
    assert (found.matched, found.only_first, found.only_second) == (3, 3, 2)
    [metric] = found.metrics
    assert metric.n == 3
    assert metric.p is None
    assert metric.low is None


def test_structures_are_compared_each_by_itself(services, write):
    def volumes(values):
        return {
            key: {("volume", "left"): v[("dice", "")], ("volume", "right"): 2 * v[("dice", "")]}
            for key, v in dice(values).items()
        }

    found = services.compare.jobs(write(volumes(FIRST)), write(volumes(SECOND), model="other"))
    assert [(m.metric, m.label) for m in found.metrics] == [("volume", "left"), ("volume", "right")]
    assert found.metrics[1].difference == pytest.approx(2 * found.metrics[0].difference)
    assert any("no accuracy" in note for note in found.notes)


def test_pictures_are_matched_by_stimulus_though_the_folds_differ(services, write):
    stimuli = [f"s{n}" for n in range(8)]

    def fold(values, order):
        return {("01", "betas.mat"): {("two_way", stimuli[n]): values[n] for n in order}}

    one = write(fold(FIRST, range(8)), "reconstruct", stimuli=stimuli)
    other = write(fold(SECOND, reversed(range(8))), "reconstruct", "other", stimuli=stimuli[::-1])
    found = services.compare.jobs(one, other)
    [metric] = found.metrics
    assert (found.matched, metric.n, metric.label, metric.drawn) == (8, 8, "", "item")
    assert metric.difference == pytest.approx((FIRST - SECOND).mean())
    assert {item.item for item in metric.items} == set(stimuli)
    assert "photograph of thought" in found.notice


def test_of_several_results_of_a_scan_the_newest_counts(services, write):
    write(dice(FIRST))
    write(dice(FIRST + 0.01), at=NOON + timedelta(hours=1))
    write(dice(SECOND), model="other")
    found = services.compare.models("one", "other", ResultQuery(dataset="data"))
    assert found.metrics[0].first == pytest.approx(FIRST.mean() + 0.01)
    assert any("8 older results" in note for note in found.notes)
    assert found.first.results == 16


def test_equal_jobs_differ_by_nothing(services, write):
    found = services.compare.jobs(write(dice(FIRST)), write(dice(FIRST), model="other")).metrics[0]
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_what_can_not_be_compared_is_refused(services, write):
    job = write(dice(FIRST))
    with pytest.raises(BadInput, match="same twice"):
        services.compare.jobs(job, job)
    with pytest.raises(NotFound):
        services.compare.jobs(job, uuid.uuid4())
    with pytest.raises(BadInput, match="a segment and a decode"):
        services.compare.jobs(job, write(dice(FIRST), "decode", "other"))
    apart = {("99", f"else-{n}.nii.gz"): {("dice", ""): 0.5} for n in range(6)}
    with pytest.raises(BadInput, match="nothing that both"):
        services.compare.jobs(job, write(apart, model="third"))
    with pytest.raises(NotFound, match="model nobody"):
        services.compare.models("one", "nobody", ResultQuery())


def test_decoding_without_scores_of_items_says_where_they_come_from(services, write):
    bare = {("01", f"s{n}"): {} for n in range(6)}
    found = services.compare.jobs(write(bare, "decode"), write(bare, "decode", "other"))
    assert found.matched == 6
    assert not found.metrics
    assert any("Evaluation" in note for note in found.notes)
