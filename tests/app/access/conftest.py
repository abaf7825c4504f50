"""Two projects with the same kinds of things in them, and everybody who may come to the door."""

import gzip
import io
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select
from starlette.testclient import TestClient

from voxelight.app.api import create_api
from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import DatasetRequest, ResultQuery, ScanRequest
from voxelight.app.schemas_access import AccountRequest, KeyRequest, MemberRequest, ProjectRequest
from voxelight.app.schemas_deletion import DeletionRequest, DeletionTarget
from voxelight.app.schemas_reviews import ReviewRequest
from voxelight.app.schemas_search import SearchRequest
from voxelight.app.schemas_uploads import UploadRequest
from voxelight.app.schemas_viewer import CorrectionRequest
from voxelight.app.services import Services
from voxelight.app.settings import Settings
from voxelight.storage.joblog import add_event
from voxelight.storage.schema import (
    Account,
    Action,
    ApiKey,
    Artifact,
    CurvePoint,
    IdentityLink,
    Job,
    Metric,
    QueueEntry,
    Reconstruction,
    ResultWord,
    Run,
    Scan,
    Upload,
    utc_now,
)
from voxelight.storage.vectors import NewEmbedding, Owner, Space, write_embeddings

SHAPE, NAMES = (10, 9, 8), {1: "anterior", 2: "posterior"}
ROLES = ("viewer", "operator", "reviewer", "admin")


@dataclass
class Things:
    """What lies in one project, by the names that routes and verbs give to their parameters."""

    word: str
    named: dict[str, Any] = field(default_factory=dict)

    def texts(self) -> set[str]:
        """The ids of everything in it; its word is part of every name."""
        return {str(value) for value in self.named.values() if isinstance(value, uuid.UUID)}


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def house(request, tmp_path_factory, open_database) -> Iterator[Services]:
    """An installation that asks everybody who they are, once on each kind of database for all tests of this folder."""
    folder = tmp_path_factory.mktemp("house")
    with open_database(request, folder) as url:
        settings = Settings(
            home=folder / "home", database_url=url, poll_s=0.05, auth="keys", data_roots=(folder / "opened",)
        )
        (folder / "opened").mkdir()
        opened = open_services(settings)
        (settings.home / "identity.key").write_text("0" * 64)
        (settings.home / "identity.key").chmod(0o600)
        yield opened
        opened.close()


@pytest.fixture
def door(house: Services) -> TestClient:
    """A client without a key before the API."""
    base = "http://localhost/api/v1/"
    return TestClient(create_api(house), base, raise_server_exceptions=False, root_path="/api")


@pytest.fixture(scope="package")
def things(house: Services, tmp_path_factory, store_label_map: Callable[..., uuid.UUID]) -> dict[str, Things]:
    """One thing of each kind in the projects `zebras` and `yaks`."""
    folder = tmp_path_factory.mktemp("things")
    return {word: fill(house, word, folder, store_label_map) for word in ("zebra", "yak")}


def fill(house: Services, word: str, folder: Path, store_label_map: Callable[..., uuid.UUID]) -> Things:
    """Put one thing of each kind into a project, with its word in every name."""
    project, dataset, subject = f"{word}s", f"{word}-heads", f"{word}01"
    house.access.add_project(ProjectRequest(name=project))
    house.datasets.create(DatasetRequest(name=dataset, project=project, consent="public", purpose=word))
    run_id = store_label_map(house, volume(folder, word), labels(), NAMES, dataset, subject=subject)
    picture = house.scans.ingest(
        io.BytesIO(png(word)), ScanRequest(name=f"{word}.png", dataset=dataset, subject=subject)
    )
    with house.stores.sessions() as session:
        run = session.get_one(Run, run_id)
        job_id, scan_id = run.job_id, run.scan_id
    review = ReviewRequest(verdict="accept", comment=f"as a {word}")
    house.reviews.save(run_id, f"{word}-reader", review)
    search = SearchRequest(title=f"{word} search", query=ResultQuery(dataset=dataset), project=project)
    slug = house.searches.create(search).slug
    batch = uuid.uuid4()
    upload = UploadRequest(name=f"{word}.dcm", dataset=dataset, subject=subject, size=5, batch=batch)
    upload_id = house.uploads.create(upload, f"{word}-key").id
    found = Things(
        word,
        {
            "project": project,
            "dataset": dataset,
            "subject": subject,
            "slug": slug,
            "reviewer": f"{word}-reader",
            "run_id": run_id,
            "job_id": job_id,
            "scan_id": scan_id,
            "picture_id": picture.id,
            "batch": batch,
            "upload_id": upload_id,
        },
    )
    with house.stores.sessions.begin() as session:
        found.named |= write_rest(session, found)
    corrected = labels()
    corrected[0, 0, 0] = 1
    with house.corrections.receive(run_id) as incoming:
        incoming.write(nib.Nifti1Image(corrected, np.eye(4)).to_bytes())
        asked = CorrectionRequest(author=f"{word}-reader", note=word)
        house.corrections.keep(incoming, run_id, asked)
    house.vectors.embed_run(run_id)
    gone = house.scans.ingest(
        io.BytesIO(png(word, 9)), ScanRequest(name=f"{word}9.png", dataset=dataset, subject=subject)
    )
    target, request = DeletionTarget(what="scan", id=gone.id), DeletionRequest(confirm=str(gone.id), reason=word)
    found.named["receipt_id"] = house.deletion.delete(target, request).receipt
    with house.stores.sessions.begin() as session:
        of = found.named["dataset_id"]
        own = NewEmbedding(Space(f"{word}-space", "picture", 4), "tokens", np.ones(4), f"{word}-stimulus")
        write_embeddings(session, Owner(found.named["scan_id"], run_id), [own], replace=False)
        session.add(IdentityLink(dataset_id=of, kind="series", keyed_hash=f"{word:0>64}", sealed=word.encode()))
    return found


def write_rest(session: Any, found: Things) -> dict[str, Any]:
    """Write what a worker would, one row of each table, with the word of the project in it."""
    named, word = found.named, found.word
    run = session.get_one(Run, named["run_id"])
    job = session.get_one(Job, run.job_id)
    job.params = {"request": {"kind": "segment", "recipe": "hippocampus-agunet", "dataset": named["dataset"]}}
    job.owner, job.error, job.idempotency_key, job.total, job.done = f"{word}-owner", word, f"{word}-job", 1, 1
    job.started_at = job.finished_at = utc_now()
    run.provenance, run.traceback = {"note": word}, word
    artifact = session.scalars(select(Artifact).where(Artifact.run_id == run.id)).one()
    add_event(session, job.id, f"a line about a {word}", run_id=run.id)
    session.add_all(
        [
            Metric(job_id=job.id, run_id=run.id, name=f"{word}-score", value=0.5),
            Action(job_id=job.id, kind="evaluate", status="done", params={"note": word}),
            Action(job_id=job.id, kind="evaluate-maps", status="done", params={"note": word}),
            Action(job_id=job.id, kind="relevance", status="done", params={"note": word}),
            Reconstruction(
                run_id=run.id,
                subject_id=run.subject_id,
                stimulus_id=f"{word}-stimulus",
                artifact_id=artifact.id,
                seed=0,
                caption=f"a photo of a {word}",
            ),
            ResultWord(word=word, run_id=run.id),
            QueueEntry(workflow_id=f"{job.id}.1", job_id=job.id, queue="cpu", owner=f"{word}-owner"),
            CurvePoint(run_id=run.id, step=1, values={"train": {"loss": 0.5}}),
        ]
    )
    scan = session.get_one(Scan, named["scan_id"])
    return {
        "artifact_id": artifact.id,
        "model": job.model.name,
        "dataset_id": job.dataset_id,
        "subject_id": run.subject_id,
        "visit_id": scan.imaging_session_id,
    }


@dataclass(frozen=True)
class Person:
    """Somebody at the door: how the matrix calls them, and what they show."""

    name: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """What they send with every request."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


@pytest.fixture(scope="package")
def people(house: Services, things: dict[str, Things]) -> dict[str, Person]:
    """The four roles in the project of the zebras, the admin of the yaks, and one who administers the installation."""
    access = house.access
    keys: dict[str, str] = {}
    for role in ROLES:
        access.add_account(AccountRequest(name=f"a-{role}"))
        access.set_member("zebras", f"a-{role}", MemberRequest(role=role))
        keys[role] = access.add_key(KeyRequest(account=f"a-{role}")).key
    access.add_account(AccountRequest(name="stranger"))
    access.set_member("yaks", "stranger", MemberRequest(role="admin"))
    keys["other project"] = access.add_key(KeyRequest(account="stranger")).key
    access.add_account(AccountRequest(name="root", admin=True))
    keys["installation"] = access.add_key(KeyRequest(account="root")).key
    return {name: Person(name, key) for name, key in {"nobody": "", **keys}.items()}


@pytest.fixture(scope="package")
def outsiders(house: Services, people: dict[str, Person]) -> dict[str, str]:
    """Keys that open nothing any more, or never did, by what is wrong with them."""
    access = house.access
    texts = {}
    for name in ("expired", "revoked", "of a disabled account"):
        account = name.replace(" ", "-")
        access.add_account(AccountRequest(name=account, admin=True))
        texts[name] = access.add_key(KeyRequest(account=account)).key
    with house.stores.sessions.begin() as session:
        prefix = texts["expired"].split("_")[1]
        session.scalars(select(ApiKey).where(ApiKey.prefix == prefix)).one().expires_at = utc_now() - timedelta(
            seconds=1
        )
        session.scalars(select(Account).where(Account.name == "of-a-disabled-account")).one().disabled_at = utc_now()
    access.revoke_key(texts["revoked"].split("_")[1])
    whole = people["admin"].key
    return texts | {
        "made up": "vxl_abc_def",
        "empty": "vxl__",
        "of another secret": whole[:-1] + ("A" if whole[-1] != "A" else "B"),
    }


def volume(folder: Path, word: str) -> Path:
    """A small volume of noise, another for each word."""
    path = folder / f"{word}-brain.nii.gz"
    array = np.random.default_rng(len(word)).integers(0, 900, SHAPE).astype(np.int16)
    path.write_bytes(gzip.compress(nib.Nifti1Image(array, np.eye(4)).to_bytes()))
    return path


def labels() -> np.ndarray:
    """Two labels."""
    array = np.zeros(SHAPE, np.uint8)
    array[2:5, 2:6, 2:6], array[5:8, 2:6, 2:6] = 1, 2
    return array


def png(word: str, seed: int = 0) -> bytes:
    """A grey picture."""
    pixels = np.random.default_rng([seed, len(word)]).integers(0, 255, (6, 6), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def tools() -> Any:
    """What the tests of this folder make their requests of."""

    class Tools:
        labels, png, roles, shape = staticmethod(labels), staticmethod(png), ROLES, SHAPE
        upload = Upload

    return Tools
