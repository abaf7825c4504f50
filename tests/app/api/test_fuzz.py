"""What nobody would send, to every operation of the schema: no fault, and every answer as the schema says.

pytest tests/app/api/test_fuzz.py --hypothesis-profile=long
"""

import io
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import (
    ChecksConfig,
    CoveragePhaseConfig,
    GenerationConfig,
    PhasesConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.config._checks import MissingRequiredHeaderConfig
from schemathesis.schemas import BaseSchema
from sqlalchemy import create_engine, make_url, text

from voxelight.app.api import create_api
from voxelight.app.bootstrap import open_services
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.app.schemas_deletion import DeletionRequest, DeletionTarget
from voxelight.app.schemas_reviews import ReviewRequest
from voxelight.app.schemas_search import SearchRequest
from voxelight.app.schemas_uploads import UploadRequest
from voxelight.app.services import Services
from voxelight.app.settings import Settings

LONG = settings.get_current_profile_name() == "long"
EXAMPLES = settings.default.max_examples if LONG else 3
DRAWN = settings(
    suppress_health_check=list(HealthCheck), max_examples=EXAMPLES, deadline=None, database=None, derandomize=not LONG
)
PLANTED = 0.7  # share of values that name something stored: drawn ones alone would find nothing
load_all_checks()
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
# 0 is taken for false, which a schema can't say; and a name that is taken is refused, though the schema allows it.
LEFT_OUT = [CHECKS.get_one(name) for name in ("negative_data_rejection", "positive_data_acceptance")]
# These are names of operations, and ids of uploads to the routes of tus, which have other methods.
SHADOWED = ("/v1/uploads/assign", "/v1/uploads/batches")
METHODS = [CHECKS.get_one(name) for name in ("unsupported_method", "allow_header_conformance")]


def read_schema(corners: bool) -> BaseSchema:
    """The schema of the API, to be asked by requests that are drawn, and with `corners` by every odd value too."""
    project = ProjectConfig(
        generation=GenerationConfig(max_examples=EXAMPLES, deterministic=not LONG, no_shrink=True),
        phases=PhasesConfig(coverage=CoveragePhaseConfig(enabled=corners, unexpected_methods={"TRACE"})),
        # tus 1.0 answers 412 where its version is missing.
        checks=ChecksConfig(missing_required_header=MissingRequiredHeaderConfig(expected_statuses=["4XX"])),
    )
    config = SchemathesisConfig(seed=1, projects=ProjectsConfig(default=project))
    nobody: Any = SimpleNamespace(settings=Settings())  # the schema asks nobody
    return schemathesis.openapi.from_dict(create_api(nobody).openapi(), config=config)


CORNERS, DRAWS = read_schema(corners=True), read_schema(corners=False)
if not LONG:  # files for each of a hundred odd values take their time
    CORNERS = CORNERS.exclude(path_regex="^/v1/exports")


ORDER = JobRequest(
    kind="reconstruct", recipe="miyawaki-ridge", dataset="figures", queue="cpu", options={"permutations": 0}
)


@dataclass
class Target:
    """What is asked: its address, what lies there by the name of a parameter, and how often each was asked."""

    url: str
    stored: dict[str, list[Any]]
    turns: Counter[str] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory, plant_all, serve_api) -> Iterator[Target]:
    services = open_services(Settings(home=tmp_path_factory.mktemp("fuzzed") / "home", poll_s=0.05))
    with closing(services), serve_api(services) as url:
        yield Target(url, plant_all(services))


@pytest.fixture(scope="module")
def on_postgresql(postgres, tmp_path_factory, plant_all, serve_api) -> Iterator[Target]:
    name, engine = f"test_{uuid.uuid4().hex}", create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    address = make_url(postgres).set(database=name).render_as_string(hide_password=False)
    services = open_services(
        Settings(home=tmp_path_factory.mktemp("fuzzed") / "home", database_url=address, poll_s=0.05)
    )
    with closing(services), serve_api(services) as url:
        yield Target(url, plant_all(services))
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@CORNERS.parametrize()
@DRAWN
def test_no_request_is_a_fault(case, on_sqlite):
    ask(case, on_sqlite)


@DRAWS.parametrize()
@DRAWN
def test_no_request_is_a_fault_on_postgresql(case, on_postgresql):
    ask(case, on_postgresql)


def ask(case: schemathesis.Case, target: Target) -> None:
    """Send a request, and compare the answer with the schema."""
    plant(case, target)
    left_out = LEFT_OUT + (METHODS if case.path in SHADOWED else [])
    case.call_and_validate(base_url=f"{target.url}/api", excluded_checks=left_out, timeout=60)


def plant(case: schemathesis.Case, target: Target) -> None:
    """Put what is stored in place of what was drawn, here and there, the same way in every run."""
    label = case.operation.label
    target.turns[label] += 1
    rng = random.Random(f"{label} {target.turns[label]}")
    known = dict(target.stored)
    if "/datasets/{name}" in label:
        known["name"] = known["dataset"]
    elif "/recipes/{name}" in label:
        known["name"] = known["recipe"]
    if label.startswith(("POST", "PATCH")) and "/jobs/{job_id}" in label:
        known["job_id"] = [*known["job_id"], *known["waiting"]]
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            plant_in(part, known, rng)


def plant_in(part: dict[str, Any], known: dict[str, list[Any]], rng: random.Random) -> None:
    for name, value in part.items():
        if isinstance(value, dict):
            plant_in(value, known, rng)
        elif name in known and rng.random() < PLANTED:
            part[name] = rng.choice(known[name])


@pytest.fixture(scope="module")
def plant_all(make, store_label_map, tmp_path_factory) -> Callable[[Services], dict[str, list[Any]]]:
    """Store something of everything; return by the name of a parameter what a request may put there."""

    def _plant_all(services: Services) -> dict[str, list[Any]]:
        services.datasets.create(DatasetRequest(name="figures", consent="public", purpose="tests of the software"))
        place = {"dataset": "figures", "subject": "01", "session": "01"}
        betas = services.scans.ingest(io.BytesIO(make.betas_mat()), ScanRequest(name="betas.mat", **place))
        seen = services.scans.ingest(io.BytesIO(make.png(seed=3, side=8)), ScanRequest(name="seen.png", **place))
        image = tmp_path_factory.mktemp("sent") / "t1.nii.gz"
        image.write_bytes(make.nifti())
        labels = np.zeros(nib.load(image).shape, np.uint8)
        labels[2:5, 3:6, 4:7] = 1
        drawn = services.results.show(store_label_map(services, image, labels, {1: "lesion"}, "figures"))
        [volume] = services.scans.list("figures", kind="volume").items
        ended, waiting = (services.jobs.submit(ORDER) for _ in range(2))
        carry_out(services, ended.id)
        decoded = services.results.query(ResultQuery(job=ended.id), 2).items
        search = services.searches.create(SearchRequest(title="all", query=ResultQuery(dataset="figures")))
        services.reviews.save(drawn.id, "Reader A", ReviewRequest(verdict="accept"), None)
        upload = services.uploads.create(UploadRequest(name="later.nii", size=5000, **place))
        services.datasets.create(DatasetRequest(name="mistake"))
        target = DeletionTarget(what="dataset", dataset="mistake")
        gone = services.deletion.delete(target, DeletionRequest(confirm="mistake"))
        files = [str(file.id) for row in (drawn, *decoded) for file in row.artifacts]
        scans, runs = [str(row.id) for row in (betas, seen, volume)], [str(row.id) for row in (drawn, *decoded)]
        return {
            "dataset": ["figures"], "subject": ["01"], "session": ["01"], "kind": ["reconstruct", "segment"],
            "recipe": ["miyawaki-ridge", "hippocampus-agunet"], "model": [ended.model], "scan_id": scans,
            "scans": [scans[:1], []], "query": [None], "job_id": [str(ended.id)], "waiting": [str(waiting.id)],
            "run_id": runs, "artifact_id": files, "slug": [search.slug], "search": [search.slug],
            "receipt_id": [str(gone.receipt)], "upload_id": [str(upload.id)], "run": [runs], "a": [str(ended.id)],
            "b": [str(ended.id), str(drawn.job)], "job": [str(ended.id)], "base": files[:1], "artifact": files[:1],
            "text": ["a picture"], "metric": [["two_way:0..1"]], "words": ["betas"], "fields": ["id,metrics"],
            "cloned_from": [None], "reviewer": ["Reader A"], "first": ["Reader A"], "second": ["Reader B"],
            "file": ["theme.css"], "filename": ["more.nii.gz"], "space": ["words", "cases", None], "cursor": [None],
        }  # fmt: skip

    return _plant_all


def carry_out(services: Services, job_id: uuid.UUID) -> None:
    """Do the steps of a job here and now."""
    runner = Runner(services)
    for batch in runner.list_batches(job_id):
        runner.run_batch(job_id, batch)
    runner.close(job_id)
