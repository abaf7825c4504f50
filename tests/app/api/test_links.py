"""A link opens one file for some minutes, as its maker may, and nothing else."""

import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from starlette.testclient import TestClient

from voxelight.app.api import create_api
from voxelight.app.bootstrap import open_services
from voxelight.app.client import Client
from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.app.schemas_access import AccountRequest, KeyRequest, MemberRequest, ProjectRequest
from voxelight.app.settings import Settings
from voxelight.storage.schema import Run

BASE = "http://localhost/api/v1/"


@pytest.fixture
def house(tmp_path):
    opened = open_services(Settings(home=tmp_path / "home", auth="keys"))
    opened.access.add_account(AccountRequest(name="ana"))
    opened.access.set_member("default", "ana", MemberRequest(role="viewer"))
    opened.access.add_project(ProjectRequest(name="other"))
    yield opened
    opened.close()


@pytest.fixture
def key(house):
    return house.access.add_key(KeyRequest(account="ana", name="laptop"))


@pytest.fixture
def ana(house, key):
    headers = {"Authorization": f"Bearer {key.key}"}
    return TestClient(create_api(house), BASE, headers=headers, root_path="/api")


@pytest.fixture
def anyone(house):
    """Without a key."""
    return TestClient(create_api(house), BASE, root_path="/api", raise_server_exceptions=False)


@pytest.fixture
def artifacts(house, crops, store_label_map, tmp_path):
    """Addresses of a label map and of the scan that it was drawn on."""
    import nibabel as nib

    house.datasets.create(DatasetRequest(name="d", consent="public", purpose="p"))
    image = tmp_path / "brain.nii.gz"
    nib.save(nib.load(crops[0]), image)
    shape = nib.load(image).shape
    labels = np.zeros(shape, np.uint8)
    labels[2:6, 2:6, 2:6] = 1
    run_id = store_label_map(house, image, labels, {1: "anterior"}, "d")
    with house.stores.sessions() as session:
        scan = session.get_one(Run, run_id).scan_id
    (artifact,) = house.results.show(run_id).artifacts
    return f"/api/v1/artifacts/{artifact.id}", f"/api/v1/scans/{scan}/content", run_id


def make(client, path, **more):
    answer = client.post("links", json={"path": path, **more})
    assert answer.status_code == 201, answer.text
    return f"http://localhost{answer.json()['url']}"


def test_a_link_opens_its_file_without_a_key_whole_and_in_part(ana, anyone, artifacts):
    artifact, scan, run_id = artifacts
    for path in (artifact, scan, f"/api/v1/exports/metrics.csv?run={run_id}"):
        own = ana.get(f"http://localhost{path}")
        assert own.status_code == 200
        link = make(ana, path)
        assert anyone.get(f"http://localhost{path}").status_code == 401
        assert anyone.get(link).content == own.content
    part = anyone.get(make(ana, artifact), headers={"Range": "bytes=2-9"})
    assert (part.status_code, part.content) == (206, ana.get(f"http://localhost{artifact}").content[2:10])
    assert anyone.head(make(ana, artifact)).status_code == 200


def test_a_link_opens_nothing_else(ana, anyone, artifacts):
    artifact, scan, run_id = artifacts
    link = make(ana, artifact)
    signature = link.partition("?")[2]
    others = [scan, "/api/v1/datasets", "/api/v1/me", f"/api/v1/artifacts/{uuid.uuid4()}"]
    for path in others:
        refused = anyone.get(f"http://localhost{path}?{signature}")
        assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json"), path
    assert anyone.get(f"{link}&more=1").status_code == 403
    export = make(ana, f"/api/v1/exports/metrics.csv?run={run_id}")
    assert anyone.get(export.replace("run=", "job=")).status_code == 403
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert anyone.request(method, link).status_code in (403, 405)
    assert anyone.delete(f"http://localhost/api/v1/results/{run_id}?{signature}&confirm={run_id}").status_code == 403


def test_a_link_that_was_changed_or_is_over_is_refused(ana, anyone, artifacts, monkeypatch):
    artifact, _, _ = artifacts
    link = make(ana, artifact, seconds=60)
    place = link.index("link=") + 5
    silent = []
    for at in range(place, len(link), 7):
        changed = link[:at] + ("A" if link[at] != "A" else "B") + link[at + 1 :]
        if anyone.get(changed).status_code != 403:
            silent.append(at)
    assert silent == []
    assert anyone.get(link).status_code == 200
    import voxelight.app.signing as signing

    now = signing.time.time()
    monkeypatch.setattr(signing.time, "time", lambda: now + 61)
    over = anyone.get(link)
    assert (over.status_code, "time is over" in over.json()["found"]) == (403, True)


def test_a_link_ends_with_the_key_the_role_and_the_account_of_who_made_it(house, key, ana, anyone, artifacts):
    link = make(ana, artifacts[0])
    house.access.remove_member("default", "ana")
    assert anyone.get(link).status_code in (403, 404)
    house.access.set_member("default", "ana", MemberRequest(role="viewer"))
    assert anyone.get(link).status_code == 200
    house.access.disable_account("ana")
    assert anyone.get(link).status_code == 401
    house.access.enable_account("ana")
    house.access.revoke_key(key.prefix)
    assert anyone.get(link).status_code == 401


def test_a_link_gives_nobody_what_its_maker_may_not_see(house, ana, anyone, artifacts):
    house.access.move_dataset("d", "other")
    assert anyone.get(make(ana, artifacts[0])).status_code in (403, 404)


@pytest.mark.parametrize(
    "path",
    ["/api/v1/datasets", "https://evil.example/api/v1/artifacts/x", "//evil.example", "/api/v1/artifacts/../me", ""],
)
def test_addresses_of_no_file_are_not_signed(ana, path):
    assert ana.post("links", json={"path": path}).status_code == 422
    assert ana.post("links", json={"path": path, "seconds": 10**6}).status_code == 422


def test_data_that_may_not_leave_does_not_leave_by_a_link(house, ana, anyone, crops):
    house.datasets.create(DatasetRequest(name="ward", consent="given", purpose="p", keeps_headers=True))
    scan = house.scans.ingest_path(crops[0], ScanRequest(name=crops[0].name, dataset="ward"))
    assert anyone.get(make(ana, f"/api/v1/scans/{scan.id}/image")).status_code == 403


def test_a_program_makes_one(ana, anyone, artifacts):
    with ana as http:
        http.base_url = "http://localhost"
        client = Client(http=http)
        artifact = uuid.UUID(artifacts[0].rsplit("/", 1)[1])
        link = client.links.make_for_artifact(artifact, seconds=30)
        assert 20 < (link.until - datetime.now(UTC)).total_seconds() <= 30
        assert anyone.get(f"http://localhost{link.url}").content == client.artifacts.read(artifact)
