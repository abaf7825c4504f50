"""Every condition and every order, against the same answered in Python over everything that is stored."""

import itertools
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from voxelight.app.schemas import ResultQuery
from voxelight.models.errors import BadInput
from voxelight.storage import search
from voxelight.storage.schema import (
    Artifact,
    Blob,
    Dataset,
    ImagingSession,
    Job,
    Metric,
    Model,
    Reconstruction,
    ResultWord,
    Review,
    Run,
    Scan,
    Subject,
)
from voxelight.storage.words import split_words

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
CAPTIONS = ("a dog on a beach", "two dogs and a cat", "Ein Straßenhund", "")


@pytest.fixture
def stored(services):
    """Some 120 results of two data sets, with ties in time and in scores; the facts of each."""
    rng, facts = np.random.default_rng(5), []
    with services.stores.sessions.begin() as session:
        session.add(Blob(sha256="a" * 64, size=1, media_type="image/png"))
        models = [Model(name=name, version="1", task="any") for name in ("one", "other")]
        scans = []
        for name, simulated in (("first", False), ("second", True)):
            dataset = Dataset(name=name, consent="public", purpose="tests", simulated=simulated)
            subjects = {label: Subject(dataset=dataset, label=label) for label in ("01", "02", "10")}
            scans += [
                Scan(
                    imaging_session=ImagingSession(subject=subject, label=visit),
                    name=f"sub-{label}_ses-{visit}.nii.gz",
                    kind="volume",
                    blob_sha256="a" * 64,
                )
                for (label, subject), visit in itertools.product(subjects.items(), ("1", "2"))
            ]
        session.add_all(scans)
        for number in range(6):
            chosen = [
                scan for scan in scans if scan.imaging_session.subject.dataset.name == ("first", "second")[number % 2]
            ]
            job = Job(
                kind=("segment", "decode")[number // 3],
                recipe=f"recipe-{number % 3}",
                dataset=chosen[0].imaging_session.subject.dataset,
                model=models[number % 2],
                queue="cpu",
                status="done",
            )
            session.add(job)
            session.flush()
            facts += [add_run(session, rng, job, chosen[place % 6], place) for place in range(20)]
            job.done = 20
    return facts


def add_run(session, rng, job, scan, place) -> dict:
    """One run with what hangs on it; every ninth has given nothing."""
    done = place % 9 != 8
    ended = NOON + timedelta(minutes=int(rng.integers(40)))
    run = Run(
        job_id=job.id,
        item_key=f"item-{place}",
        position=place,
        subject=scan.imaging_session.subject,
        scan=scan,
        status="done" if done else "failed",
        finished_at=ended,
    )
    session.add(run)
    session.flush()
    metrics = {("dice", ""): round(float(rng.random()), 1)} if place % 4 else {}
    metrics |= {("volume", label): round(float(rng.random()), 2) for label in ("left", "right") if rng.random() < 0.7}
    for (name, label), value in metrics.items():
        session.add(Metric(job_id=job.id, run_id=run.id, name=name, label=label, value=value))
    verdicts = {reader: str(rng.choice(["accept", "reject", "unsure"])) for reader in ("a", "b") if rng.random() < 0.3}
    session.add_all(Review(run_id=run.id, reviewer=reader, verdict=verdict) for reader, verdict in verdicts.items())
    caption = CAPTIONS[place % 4] if job.kind == "decode" else ""
    words = set()
    if job.kind == "decode":
        artifact = Artifact(job_id=job.id, run_id=run.id, role="reconstruction", name="a.png", blob_sha256="a" * 64)
        session.add(artifact)
        session.flush()
        stimulus = f"coco_{place:04d}"
        decoded = {"stimulus_id": stimulus, "artifact_id": artifact.id, "seed": 0, "caption": caption}
        session.add(Reconstruction(run_id=run.id, subject_id=run.subject_id, **decoded))
        words = split_words(stimulus, caption)
        session.add_all(ResultWord(word=word, run_id=run.id) for word in words)
    return {
        "id": run.id, "done": done, "at": ended, "dataset": job.dataset.name, "simulated": job.dataset.simulated,
        "model": job.model.name, "kind": job.kind, "recipe": job.recipe, "job": job.id,
        "subject": run.subject.label, "subject_id": run.subject_id, "session": scan.imaging_session.label,
        "scan": scan.name, "metrics": metrics, "verdicts": set(verdicts.values()), "words": words,
    }  # fmt: skip


def fits(row, **asked) -> bool:
    """The conditions once more, in plain Python."""
    for name, value in asked.items():
        if name == "metric":
            held = all(any(match(key, score, each) for key, score in row["metrics"].items()) for each in value)
        elif name == "words":
            held = all(any(word.startswith(each) for word in row["words"]) for each in value.lower().split())
        elif name == "verdict":
            held = not row["verdicts"] if value == "none" else value in row["verdicts"]
        elif name == "scan" and "*" in value:
            held = row["scan"].startswith(value.rstrip("*"))
        elif name in ("since", "until"):
            held = (row["at"] >= value) if name == "since" else (row["at"] < value)
        else:
            held = row[name] == value
        if not held:
            return False
    return row["done"]


def match(key, score, text) -> bool:
    name, _, between = text.rpartition(":")
    low, high = (float(end) if end else None for end in between.split("..", 1))
    label = name.partition("[")[2].rstrip("]") or None
    named = key[0] == name.partition("[")[0] and label in (None, key[1])
    return named and (low is None or score >= low) and (high is None or score <= high)


def place_of(row, sort, metric=()):
    """Where a row stands, ids being compared as the database does."""
    name = sort.lstrip("-")
    if name == "time":
        return (row["at"], row["id"])
    if name == "subject":
        return (row["subject"], row["subject_id"], row["at"], row["id"])
    asked = [text for text in metric if text.rpartition(":")[0] == name] or [f"{name}:.."]
    values = [score for key, score in row["metrics"].items() if match(key, score, asked[0])]
    return ((max if sort.startswith("-") else min)(values), row["id"]) if values else None


def walk(services, query, limit):
    found, cursor = [], None
    while True:
        page = services.results.query(query, limit, cursor)
        found += [result.id for result in page.items]
        if (cursor := page.next_cursor) is None:
            return found


CONDITIONS = [
    {},
    {"dataset": "first"},
    {"dataset": "second", "subject": "02"},
    {"subject": "10"},
    {"subject": "10", "session": "2"},
    {"session": "1", "kind": "decode"},
    {"scan": "sub-01_ses-1.nii.gz"},
    {"scan": "sub-0*", "dataset": "first"},
    {"model": "other", "recipe": "recipe-1"},
    {"simulated": True, "kind": "segment"},
    {"since": NOON + timedelta(minutes=10), "until": NOON + timedelta(minutes=25)},
    {"verdict": "accept"},
    {"verdict": "none", "dataset": "first"},
    {"metric": ["dice:0.5.."]},
    {"metric": ["dice:0.2..0.8", "volume[left]:..0.5"]},
    {"metric": ["volume:0.9.."], "verdict": "reject"},
    {"words": "dog"},
    {"words": "DOGS cat"},
    {"words": "strass"},
    {"words": "coco 0003"},
    {"dataset": "nowhere"},
]
ORDERS = ["-time", "time", "subject", "-subject", "-dice", "dice", "-volume", "volume[right]"]


@pytest.mark.parametrize("gathered", [0, search.GATHERED], ids=["walked", "gathered"])
def test_conditions_and_orders_answer_as_python_does(services, stored, monkeypatch, gathered):
    """Both plans, page by page; few rows would always be gathered, so the limit is taken away once."""
    monkeypatch.setattr(search, "GATHERED", gathered)
    for asked, sort in itertools.product(CONDITIONS, ORDERS):
        rows = [row for row in stored if fits(row, **asked)]
        rows = [row for row in rows if place_of(row, sort, asked.get("metric", ())) is not None]
        rows.sort(key=lambda row: place_of(row, sort, asked.get("metric", ())), reverse=sort.startswith("-"))
        limit = 17 if len(rows) > 20 else 4
        found = walk(services, ResultQuery(**asked, sort=sort), limit)
        assert found == [row["id"] for row in rows], (asked, sort)


def test_a_job_holds_its_own_results_alone(services, stored):
    job = stored[0]["job"]
    assert set(walk(services, ResultQuery(job=job), 5)) == {r["id"] for r in stored if r["job"] == job and r["done"]}
    assert walk(services, ResultQuery(job=uuid.uuid4()), 5) == []


def test_a_cursor_of_another_order_is_refused(services, stored):
    cursor = services.results.query(ResultQuery(), 3).next_cursor
    for sort in ("time", "subject", "-dice"):
        with pytest.raises(BadInput, match="another order"):
            services.results.query(ResultQuery(sort=sort), 3, cursor)


def test_fields_are_those_of_the_whole_answer(services, stored):
    query = ResultQuery(kind="decode")
    whole = services.results.query(query, 50).items
    for fields in (["metrics"], ["decoded", "stimuli"], ["notice", "scan", "session"], ["artifacts", "labels"]):
        part = services.results.pick(query, fields, 50).items
        assert [set(each) for each in part] == [{"id", *fields}] * len(whole)
        for one, other in zip(part, whole, strict=True):
            assert all(one[name] == getattr(other, name) for name in one)
    with pytest.raises(BadInput, match="colour"):
        services.results.pick(query, ["colour"])


@pytest.mark.parametrize("bad", [{"metric": ["dice:0.9..0.1"]}, {"words": "--"}])
def test_a_condition_that_nothing_can_meet_is_refused(services, bad):
    with pytest.raises(BadInput):
        services.results.query(ResultQuery(**bad))


@pytest.mark.parametrize("text", ["dice", "dice:", "dice:a..", ":0..1", "dice:0.5", "a]b:0..1"])
def test_a_range_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="metric"):
        ResultQuery(metric=[text])


def test_metrics_are_named_once(services, stored):
    assert services.results.list_metrics() == ["dice", "volume"]


def test_words_know_no_case_and_no_marks():
    assert split_words("A Dog, on_a BEACH.png", "Straße") == {"a", "dog", "on", "beach", "png", "strasse"}
