"""Stored runs by the million, as an installation of two years would hold them, written past the application."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Engine, text

from voxelight.storage.schema import Base
from voxelight.storage.words import split_words

DATASETS, SUBJECTS, SESSIONS, SCANS, MODELS = 20, 100, 2, 5, 12
ITEMS = SUBJECTS * SESSIONS * SCANS  # of a job: every scan of its data set, or as many stimuli
OLD, FEW = 19, 18  # a data set whose jobs all ran at the beginning, and one with three jobs
STIMULI = 73_000
REVIEWED = 0.05
START, DAYS = datetime(2024, 12, 1), 720
NOUNS = ["dog", "cat", "man", "woman", "train", "bus", "pizza", "horse", "kite", "boat", "bird", "clock"]
PLACES = ["beach", "street", "table", "field", "river", "kitchen", "bed", "roof", "road", "snow"]
GEOMETRY = {
    "shape": [176, 256, 256],
    "spacing_mm": [1.0, 1.0, 1.0],
    "orientation": "RAS",
    "affine": [[1, 0, 0, -88], [0, 1, 0, -128], [0, 0, 1, -128], [0, 0, 0, 1]],
}
Row = tuple[Any, ...]
Rng = np.random.Generator
Write = Callable[[str, list[Row]], None]
TABLES = ("run", "metric", "artifact", "segmentation", "reconstruction", "result_word", "review")


def fill(engine: Engine, runs: int) -> dict[str, int]:
    """Write `runs` runs with their scores, files, captions and reviews; return the number of rows by table."""
    later = [index for name in TABLES for index in Base.metadata.tables[name].indexes]
    for index in later:
        index.drop(engine)
    with open_writer(engine) as write:
        jobs = _write_owners(write, runs // ITEMS)
        for number, job in enumerate(jobs):
            for name, rows in _make_job(number, job).items():
                write(name, rows)
    for index in later:
        index.create(engine)
    # What the databases do by themselves after a while.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        sqlite = engine.dialect.name == "sqlite"
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)" if sqlite else "VACUUM ANALYZE"))
    return count_rows(engine)


def count_rows(engine: Engine) -> dict[str, int]:
    """Return the number of rows by table."""
    with engine.connect() as connection:
        return {
            name: connection.scalar(text(f"SELECT count(*) FROM {name}")) or 0
            for name in (*TABLES, "job", "scan", "subject")
        }


@dataclass(frozen=True)
class _JobFacts:
    id: str
    kind: str
    model: int
    dataset: int
    start: datetime
    scans: list[tuple[str, str]]  # of its data set: scan, subject


def _write_owners(write: Write, n_jobs: int) -> list[_JobFacts]:
    """Write data sets, people, scans, models and jobs."""
    at = _say(START)
    datasets, models = _make_ids(DATASETS), _make_ids(MODELS)
    write(
        "dataset",
        [
            (each, at, f"set-{n:02d}", "public", "benchmark", "", "", n in (7, 8), 0, 1)
            for n, each in enumerate(datasets)
        ],
    )
    write("blob", [(_sha(n), 1000 + n, "image/png", at) for n in range(1000)])
    scans: list[list[tuple[str, str]]] = [[] for _ in datasets]
    for dataset, of_dataset in zip(datasets, scans, strict=True):
        subjects, visits, rows = [], [], []
        for person, subject in enumerate(_make_ids(SUBJECTS), 1):
            subjects.append((subject, at, dataset, f"{person:03d}"))
            for number, visit in enumerate(_make_ids(SESSIONS), 1):
                visits.append((visit, at, subject, f"{number:02d}"))
                for place, scan in enumerate(_make_ids(SCANS), 1):
                    name = f"sub-{person:03d}_run-{place}_T1w.nii.gz"
                    facts = (json.dumps(GEOMETRY), "{}", "[]", "clean", "", _sha(person), None)
                    rows.append((scan, at, visit, name, "volume", *facts))
                    of_dataset.append((scan, subject))
        write("subject", subjects)
        write("imaging_session", visits)
        write("scan", rows)
    write(
        "model",
        [(each, at, f"model-{n}", "1", _kind(n), "{}", _sha(n), "Apache-2.0") for n, each in enumerate(models)],
    )
    jobs = [_plan_job(number, n_jobs, scans) for number in range(n_jobs)]
    rows = []
    for number, (job, each) in enumerate(zip(jobs, _make_ids(n_jobs), strict=True)):
        end = _say(job.start + timedelta(hours=3))
        rows.append((job.id, _say(job.start), job.kind, f"recipe-{job.model % 8}", datasets[job.dataset],
                     models[job.model], "gpu", "done", f"key-{number}-{each}", 1, 0, None, "{}", 0, ITEMS, ITEMS, 0, "",
                     _say(job.start), end))  # fmt: skip
    write("job", rows)
    return jobs


def _plan_job(number: int, n_jobs: int, scans: list[list[tuple[str, str]]]) -> _JobFacts:
    rng = np.random.default_rng([1, number])
    dataset = int(rng.integers(FEW))
    if number < n_jobs // 50:
        dataset = OLD
    elif number % max(1, n_jobs // 3) == n_jobs // 6:
        dataset = FEW
    # Data sets of an even number are segmented, the others decoded; two or three jobs run at any time.
    kind = "segment" if dataset % 2 == 0 else "decode"
    model = int(rng.integers(MODELS // 2)) * 2 + (kind == "decode")
    start = START + timedelta(days=DAYS * number / n_jobs)
    return _JobFacts(_make_ids(1)[0], kind, model, dataset, start, scans[dataset])


def _kind(model: int) -> str:
    return "decode" if model % 2 else "segment"


def _make_job(number: int, job: _JobFacts) -> dict[str, list[Row]]:
    """Make the runs of a job with all that hangs on them."""
    rng = np.random.default_rng([2, number])
    ids = _make_ids(ITEMS)
    spread = np.sort(rng.uniform(0, 100_000, ITEMS))  # seconds: as long as the start of the next one and a half jobs
    ends = [_say(job.start + timedelta(seconds=float(each))) for each in spread]
    stimuli = [f"coco_{each:06d}" for each in rng.choice(STIMULI, ITEMS, replace=False)]
    rows: dict[str, list[Row]] = {name: [] for name in TABLES}
    provenance = json.dumps(_PROVENANCE)
    for place, (run, end, (scan, subject)) in enumerate(zip(ids, ends, job.scans, strict=True)):
        key = stimuli[place] if job.kind == "decode" else f"scan-{place:04d}"
        rows["run"].append((run, end, job.id, key, place, subject, scan, "done", 1, provenance, "", "", "", end, end))
    _add_scores(rng, job, ids, ends, rows)
    if job.kind == "segment":
        _add_maps(rng, job, ids, ends, rows)
    else:
        _add_pictures(rng, job, (ids, ends, stimuli), rows)
    for place in np.flatnonzero(rng.random(ITEMS) < REVIEWED):
        verdict = str(rng.choice(["accept", "reject", "unsure"], p=[0.8, 0.15, 0.05]))
        rows["review"].append((*_stamp(ends[place]), ids[place], "reader", verdict, "", ends[place], 1))
    return rows


def _add_scores(rng: Rng, job: _JobFacts, ids: list[str], ends: list[str], rows: dict[str, list[Row]]) -> None:
    if job.kind == "segment":
        scores = {
            ("dice", ""): rng.beta(12, 2, ITEMS),
            ("volume", "anterior"): rng.lognormal(0.5, 0.2, ITEMS),
            ("volume", "posterior"): rng.lognormal(0.4, 0.2, ITEMS),
        }
    else:
        scores = {
            ("two_way", ""): rng.beta(8, 3, ITEMS),
            ("pixel_correlation", ""): rng.normal(0.3, 0.1, ITEMS),
            ("ssim", ""): rng.beta(9, 9, ITEMS),
        }
    for (name, label), values in scores.items():
        unit = "ml" if name == "volume" else ""
        rows["metric"] += [
            (*_stamp(end), job.id, run, name, label, value, None, None, unit, "{}")
            for run, end, value in zip(ids, ends, values.tolist(), strict=True)
        ]


def _add_maps(rng: Rng, job: _JobFacts, ids: list[str], ends: list[str], rows: dict[str, list[Row]]) -> None:
    labels, volumes = '{"1": "anterior", "2": "posterior"}', '{"anterior": 1.6, "posterior": 1.5}'
    maps = _make_ids(ITEMS)
    for place, (run, end, artifact) in enumerate(zip(ids, ends, maps, strict=True)):
        blob = _sha(place)
        rows["artifact"].append((artifact, end, job.id, run, "label_map", f"{place}_dseg.nii.gz", blob))
        rows["artifact"].append((*_stamp(end), job.id, run, "overlay", f"{place}_overlay.png", blob))
        rows["segmentation"].append((*_stamp(end), run, job.scans[place][0], artifact, labels, volumes))


def _add_pictures(
    rng: Rng, job: _JobFacts, made: tuple[list[str], list[str], list[str]], rows: dict[str, list[Row]]
) -> None:
    words = rng.zipf(1.4, (ITEMS, 2)) % 2000
    for place, (run, end, stimulus, artifact) in enumerate(zip(*made, _make_ids(ITEMS), strict=True)):
        noun, where = NOUNS[place % len(NOUNS)], PLACES[(place // 7) % len(PLACES)]
        caption = f"a {noun} beside a thing{words[place, 0]} on the {where} with thing{words[place, 1]}"
        blob = _sha(place)
        rows["artifact"].append((artifact, end, job.id, run, "reconstruction", f"{stimulus}_reconstruction.png", blob))
        rows["artifact"].append((*_stamp(end), job.id, run, "stimulus", f"{stimulus}_stimulus.png", blob))
        decoded = (stimulus, artifact, 0, 0, 0, caption, '["coco_000001", "coco_000002"]')
        rows["reconstruction"].append((*_stamp(end), run, job.scans[place][1], *decoded))
        rows["result_word"] += [(word, run) for word in sorted(split_words(stimulus, caption))]


@contextmanager
def open_writer(engine: Engine) -> Iterator[Write]:
    """Give a function that writes rows of a table, in the order of `COLUMNS`."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            raw: Any = connection.connection.driver_connection

            def copy(table: str, rows: list[Row]) -> None:
                order = f"COPY {table} ({', '.join(COLUMNS[table])}) FROM STDIN"
                with raw.cursor() as cursor, cursor.copy(order) as target:
                    for row in rows:
                        target.write_row(row)

            raw.execute("SET TIME ZONE 'UTC'")
            yield copy
            raw.commit()
        return
    raw = sqlite3.connect(engine.url.database or "")
    for pragma in ("foreign_keys=OFF", "synchronous=OFF", "cache_size=-1500000"):
        raw.execute(f"PRAGMA {pragma}")

    def insert(table: str, rows: list[Row]) -> None:
        places = ", ".join("?" * len(COLUMNS[table]))
        raw.executemany(f"INSERT INTO {table} ({', '.join(COLUMNS[table])}) VALUES ({places})", rows)

    yield insert
    raw.commit()
    raw.close()


def _make_ids(count: int) -> list[str]:
    drawn = os.urandom(16 * count).hex()
    return [drawn[start : start + 32] for start in range(0, 32 * count, 32)]


def _stamp(end: str) -> tuple[str, str]:
    return _make_ids(1)[0], end


def _say(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _sha(number: int) -> str:
    return f"{number:064x}"


_PROVENANCE = {
    "recipe": "recipe-1",
    "weights_sha256": "c" * 64,
    "revision": "0.1.0+g1234567",
    "seed": 0,
    "device": "cuda:0 NVIDIA H100",
    "options": {"preset": "fast", "samples": 1, "dtype": "bfloat16", "normalisation": "as stored"},
    "inputs_sha256": {"betas.mat": "d" * 64, "mask.nii.gz": "e" * 64},
    "versions": {"torch": "2.14.1", "numpy": "2.4.6", "monai": "1.6.1", "diffusers": "0.42.1"},
}
_STAMP = ("id", "created_at")
COLUMNS: dict[str, tuple[str, ...]] = {
    "dataset": (*_STAMP, "name", "consent", "purpose", "licence", "source", "simulated", "keeps_headers", "version"),
    "blob": ("sha256", "size", "media_type", "created_at"),
    "subject": (*_STAMP, "dataset_id", "label"),
    "imaging_session": (*_STAMP, "subject_id", "label"),
    "scan": (*_STAMP, "imaging_session_id", "name", "kind", "geometry", "facts", "warnings", "deid_status", "held",
             "blob_sha256", "thumbnail_sha256"),
    "model": (*_STAMP, "name", "version", "task", "config", "weights_sha256", "licence"),
    "job": (*_STAMP, "kind", "recipe", "dataset_id", "model_id", "queue", "status", "idempotency_key", "attempt",
            "priority", "cloned_from", "params", "seed", "total", "done", "failed", "error", "started_at",
            "finished_at"),
    "run": (*_STAMP, "job_id", "item_key", "position", "subject_id", "scan_id", "status", "attempts", "provenance",
            "error_class", "error_message", "traceback", "started_at", "finished_at"),
    "metric": (*_STAMP, "job_id", "run_id", "name", "label", "value", "low", "high", "unit", "detail"),
    "artifact": (*_STAMP, "job_id", "run_id", "role", "name", "blob_sha256"),
    "segmentation": (*_STAMP, "run_id", "scan_id", "artifact_id", "labels", "volumes_ml"),
    "reconstruction": (*_STAMP, "run_id", "subject_id", "stimulus_id", "artifact_id", "seed", "rank", "simulated",
                       "caption", "retrieved"),
    "result_word": ("word", "run_id"),
    "embedding": ("space_id", "owner", "role", "item", "scan_id", "run_id", "vector", "created_at"),
    "review": (*_STAMP, "run_id", "reviewer", "verdict", "comment", "updated_at", "version"),
}  # fmt: skip
