"""The log of what was done, through every door; an installation of its own, with accounts."""

import json
import uuid

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from starlette.testclient import TestClient

from voxelight.app.api import create_api
from voxelight.app.bootstrap import open_services
from voxelight.app.cli import main
from voxelight.app.client import Client
from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.app.schemas_access import AccountRequest, KeyRequest
from voxelight.app.schemas_deletion import DeletionRequest, DeletionTarget
from voxelight.app.settings import Settings

BASE = "http://localhost/api/v1/"


@pytest.fixture
def house(tmp_path):
    opened = open_services(Settings(home=tmp_path / "home", auth="keys"))
    yield opened
    opened.close()


@pytest.fixture
def door(house):
    """Make a client with the key of a new account."""

    def make(name, admin=False):
        house.access.add_account(AccountRequest(name=name, admin=admin))
        key = house.access.add_key(KeyRequest(account=name, name="laptop")).key
        return TestClient(create_api(house), BASE, headers={"Authorization": f"Bearer {key}"}, root_path="/api")

    return make


def events(house, **wanted):
    return [(each.actor, each.action, each.target) for each in house.audit.list(**wanted).items]


def test_what_goes_through_the_door_is_noted_with_the_account(house, door):
    ana = door("ana", admin=True)
    body = {"name": "figures", "consent": "public", "purpose": "about Jane Doe"}
    assert ana.post("datasets", json=body).status_code == 201
    assert events(house)[0][:2] == ("ana", "create dataset")
    assert ana.patch("datasets/figures", json={"consent": "given"}, headers={"If-Match": "*"}).status_code == 200
    newest = house.audit.list(limit=1).items[0]
    assert (newest.actor, newest.action, newest.detail["consent"]) == ("ana", "change dataset", "given")
    assert ana.delete("datasets/figures", params={"confirm": "figures", "author": "ana"}).status_code == 200
    assert ("ana", "create receipt") in {event[:2] for event in events(house)}
    assert "Jane" not in "".join(house.audit.export())
    assert house.audit.verify().ok


def test_keys_that_are_none_and_deeds_that_are_not_allowed_are_noted_without_what_was_typed(house, door):
    bob = door("bob")
    assert bob.get("audit").status_code == 403
    assert bob.post("datasets", json={"name": "JaneDoe", "purpose": "p"}).status_code == 403
    bob.headers["Authorization"] = "Bearer vxl_000000000000_canary"
    assert bob.get("datasets/JaneDoe").status_code == 401
    denied = [event for event in events(house) if event[1] == "deny"]
    assert denied == [
        ("", "deny", "GET /datasets/{name}"),
        ("bob", "deny", "POST /datasets"),
        ("bob", "deny", "GET /audit"),
    ]
    said = "".join(house.audit.export())
    assert "canary" not in said
    assert "Jane" not in said


def test_an_erasure_leaves_the_chain_whole_and_nothing_of_the_person_in_it(house, tmp_path, crops):
    house.datasets.create(DatasetRequest(name="d", consent="given", purpose="p"))
    scan = house.scans.ingest_path(crops[0], ScanRequest(name=crops[0].name, dataset="d", subject="JaneDoe"))
    before = house.audit.verify()
    house.deletion.delete(
        DeletionTarget(what="subject", dataset="d", subject="JaneDoe"),
        DeletionRequest(confirm="JaneDoe", author="ana", reason="asked for by Jane Doe"),
    )
    after = house.audit.verify(since=before.head)
    assert after.ok
    assert after.events > before.events
    assert [event[1] for event in events(house, target=f"scan {scan.id}")] == ["create scan"]
    assert "Jane" not in "".join(house.audit.export())


def test_the_shell_says_which_event_was_touched(house, tmp_path):
    for name in ("a", "b", "c"):
        house.datasets.create(DatasetRequest(name=name))
    home = ["--home", str(tmp_path / "home")]
    fine = CliRunner().invoke(main, [*home, "audit", "verify", "--json"])
    assert fine.exit_code == 0
    head = json.loads(fine.stdout)["head"]
    listed = json.loads(CliRunner().invoke(main, [*home, "audit", "list", "--limit", "2", "--json"]).stdout)
    assert [each["seq"] for each in listed] == [3, 2]
    file = tmp_path / "audit.jsonl"
    assert CliRunner().invoke(main, [*home, "audit", "export", str(file)]).exit_code == 0
    assert [json.loads(line)["seq"] for line in file.read_text().splitlines()] == [1, 2, 3]
    assert CliRunner().invoke(main, [*home, "audit", "export", str(file)]).exit_code == 4
    with house.stores.engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_event WHERE seq = 3"))
    cut = CliRunner().invoke(main, [*home, "audit", "verify", "--since", head])
    assert (cut.exit_code, "event 3: missing" in cut.stdout) == (1, True)
    assert CliRunner().invoke(main, [*home, "audit", "verify", "--since", "nonsense"]).exit_code == 2


def test_an_administrator_reads_it_from_python(house, door):
    with door("ana", admin=True) as http:
        http.base_url = "http://localhost"
        client = Client(http=http)
        house.datasets.create(DatasetRequest(name="d"))
        newest = next(client.audit.list(action="create dataset"))
        assert newest.target.startswith("dataset ")
        assert uuid.UUID(newest.target.split()[1])
        assert [each.seq for each in client.audit.export()] == list(range(1, newest.seq + 1))
        found = client.audit.verify()
        assert (found.ok, found.events) == (True, newest.seq)
        assert client.audit.verify(since=found.head).ok
