"""The ways in: a key, a browser that signed in, the page, the shell; and what each of them refuses."""

import uuid
from datetime import timedelta

import pytest
import streamlit.runtime.context
from sqlalchemy import select
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from streamlit.runtime import Runtime
from streamlit.testing.v1 import AppTest

from voxelight.app.auth import COOKIE, find_principal
from voxelight.app.client import Client
from voxelight.app.schemas import DatasetRequest, JobRequest
from voxelight.app.schemas_access import AccountRequest, KeyRequest, MemberRequest, ProjectRequest
from voxelight.app.settings import Settings
from voxelight.app.ui.navigation import SCREENS
from voxelight.app.web import PAGE, create_app, refuse_open
from voxelight.models.errors import BadInput, Conflict, NotFound, Refused, Unauthenticated
from voxelight.storage.schema import ApiKey, Job, utc_now


@pytest.fixture
def make_key(house):
    """Make a key of an account of its own, which has some roles."""

    def make(roles=None, admin=False, **key):
        name = f"p-{uuid.uuid4().hex[:8]}"
        house.access.add_account(AccountRequest(name=name, admin=admin))
        for project, role in (roles or {}).items():
            house.access.set_member(project, name, MemberRequest(role=role))
        return house.access.add_key(KeyRequest(account=name, **key)).key

    return make


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "voxelight.example"])
def test_nothing_listens_to_others_without_accounts(tmp_path, host):
    with pytest.raises(Refused, match="VOXELIGHT_AUTH=keys"):
        refuse_open(Settings(home=tmp_path), host)
    refuse_open(Settings(home=tmp_path, auth="keys"), host)
    for local in ("127.0.0.1", "::1", "localhost"):
        refuse_open(Settings(home=tmp_path), local)


def test_a_key_is_kept_as_a_hash_alone_and_shown_once(house, things, make_key):
    key = make_key()
    _, prefix, secret = key.split("_", 2)
    assert len(secret) >= 43  # 256 bits in base64
    with house.stores.sessions() as session:
        row = session.scalars(select(ApiKey).where(ApiKey.prefix == prefix)).one()
        columns = " ".join(str(value) for value in vars(row).values())
    assert secret not in columns
    [listed] = [one for one in house.access.list_keys() if one.prefix == prefix]
    assert secret not in listed.model_dump_json()


def test_scopes_and_a_project_narrow_a_key(door, things, make_key):
    both = {"zebras": "admin", "yaks": "admin"}
    reads = bearer(make_key(both, scopes=("read",)))
    assert len(door.get("scans", headers=reads).json()["items"]) == 4
    refused = door.post("searches", json={"title": "x", "query": {}}, headers=reads)
    assert refused.status_code == 403
    assert "by a key for read" in refused.json()["found"]
    one = bearer(make_key(both, project="yaks"))
    assert {scan["dataset"] for scan in door.get("scans", headers=one).json()["items"]} == {"yak-heads"}
    of_admin = bearer(make_key(admin=True, project="yaks"))
    assert {scan["dataset"] for scan in door.get("scans", headers=of_admin).json()["items"]} == {"yak-heads"}
    assert door.get("accounts", headers=of_admin).status_code == 403


def test_who_has_several_roles_is_told_where_a_verb_did_not_look(door, things, make_key):
    key = bearer(make_key({"zebras": "viewer", "yaks": "operator"}))
    job = things["zebra"].named["job_id"]
    assert door.get(f"jobs/{job}", headers=key).status_code == 200
    refused = door.post(f"jobs/{job}/retry", headers=key)
    assert refused.status_code == 404
    assert "the role operator, which you lack in zebras" in refused.json()["remedy"]


def test_a_new_data_set_goes_where_its_maker_may_put_it(door, things, make_key):
    operator = bearer(make_key({"yaks": "operator", "zebras": "viewer"}))
    name = f"own-{uuid.uuid4().hex[:6]}"
    assert door.post("datasets", json={"name": name}, headers=operator).json()["project"] == "yaks"
    elsewhere = door.post("datasets", json={"name": f"{name}-2", "project": "zebras"}, headers=operator)
    assert elsewhere.status_code == 404
    both = bearer(make_key({"yaks": "operator", "zebras": "operator"}))
    unsaid = door.post("datasets", json={"name": f"{name}-3"}, headers=both)
    assert unsaid.status_code == 403
    assert "Name the project" in unsaid.json()["remedy"]
    taken = door.post("datasets", json={"name": "zebra-heads"}, headers=operator)
    assert taken.status_code == 409


def test_an_idempotency_key_is_of_one_account(house, door, things, make_key):
    named = things["zebra"].named
    body = {"kind": "segment", "recipe": "hippocampus-agunet", "dataset": named["dataset"]}
    jobs = set()
    for _ in range(2):
        headers = bearer(make_key({"zebras": "operator"})) | {"Idempotency-Key": "the same"}
        first = door.post("jobs", json=body, headers=headers).json()["id"]
        assert door.post("jobs", json=body, headers=headers).json()["id"] == first
        jobs.add(first)
    assert len(jobs) == 2
    with house.stores.sessions() as session:
        owners = session.scalars(select(Job.owner).where(Job.id.in_(map(uuid.UUID, jobs)))).all()
    assert len(set(owners)) == 2
    assert all(owner.startswith("p-") for owner in owners)
    request = JobRequest(**body)
    assert str(house.jobs.submit(request, "the same").id) not in jobs


def test_counts_are_of_ones_own_jobs(house, door, things, make_key):
    house.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="zebra-heads"))
    whole = door.get("health", headers=bearer(make_key(admin=True))).json()
    own = door.get("health", headers=bearer(make_key({"yaks": "viewer"}))).json()
    assert sum(whole["queued"].values()) > 0
    assert sum(own["queued"].values()) == 0
    nobody = door.get("health").json()
    assert (nobody["status"], nobody["queued"], nobody["version"]) == ("ok", {}, "")


def test_a_browser_signs_in_once_and_its_cookie_ends_with_the_key(house, door, make_key):
    key = make_key({"yaks": "viewer"}, scopes=("read",))
    assert door.post("session", json={"key": f"{key}x"}).status_code == 401
    answer = door.post("session", json={"key": key})
    assert answer.status_code == 201
    assert answer.json()["scopes"] == ["read"]
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert key not in cookie
    assert door.get("me").json()["roles"] == {"yaks": "viewer"}
    assert len([one for one in house.access.list_keys() if one.account == answer.json()["name"]]) == 1
    house.access.revoke_key(key.split("_")[1])
    assert door.get("me").status_code == 401


def test_signing_out_ends_a_cookie_wherever_it_is_kept(door, make_key):
    door.post("session", json={"key": make_key({"yaks": "viewer"})})
    kept = door.cookies[COOKIE]
    assert door.delete("session").status_code == 204
    assert COOKIE not in door.cookies
    assert door.get("me", cookies={COOKIE: kept}).status_code == 401


def test_behind_tls_a_cookie_goes_over_nothing_else(house, make_key):
    from voxelight.app.api import create_api

    door = TestClient(create_api(house), "https://localhost/api/v1/", root_path="/api")
    assert "Secure" in door.post("session", json={"key": make_key()}).headers["set-cookie"]


def test_a_sign_in_ends_by_itself(house, door, make_key):
    door.post("session", json={"key": make_key()})
    with house.stores.sessions.begin() as session:
        prefix = door.cookies[COOKIE].split("_")[1]
        row = session.scalars(select(ApiKey).where(ApiKey.prefix == prefix)).one()
        assert row.expires_at - utc_now() < timedelta(hours=12)
        row.expires_at = utc_now()
    assert door.get("me").status_code == 401


def test_the_page_shows_nothing_before_a_sign_in(house, make_key, monkeypatch):
    monkeypatch.setattr(Runtime, "_instance", None)  # a process has one, and another test may have had it here
    page = TestClient(create_app(house), "http://localhost/", follow_redirects=False)
    for path in ("/", "/results", "/jobs?job=1"):
        answer = page.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/api/v1/pages/sign-in")
    assert page.get("/media/0123.png").status_code == 401
    with pytest.raises(WebSocketDisconnect), page.websocket_connect("/_stcore/stream"):
        pass
    assert page.get("/api/v1/pages/sign-in").status_code == 200
    page.post("/api/v1/session", json={"key": make_key({"yaks": "viewer"})})
    assert page.get("/").status_code == 200
    assert "<title>Streamlit</title>" in page.get("/").text


@pytest.fixture
def look(house, monkeypatch):
    """Open the page in a browser with a cookie."""
    from voxelight.app import web

    monkeypatch.setattr(web._CURRENT, "_shown", house)

    def _look(cookie):
        cookies = property(lambda _self: {COOKIE: cookie} if cookie else {})
        monkeypatch.setattr(streamlit.runtime.context.ContextProxy, "cookies", cookies)
        return AppTest.from_file(PAGE, default_timeout=60).run()

    return _look


def test_the_page_without_a_sign_in_is_the_way_to_one(look):
    app = look("")
    assert not app.exception
    assert [title.value for title in app.title] == ["Voxelight"]
    assert len(app.main) == 2


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_every_page_shows_own_things_and_no_others(look, things, make_key, role):
    app = look(make_key({"yaks": role}))
    own = False
    for screen in SCREENS:
        app = app.switch_page(f"screens/{screen.file}.py").run()
        assert not app.exception, (screen.file, app.exception)
        shown = str(app)
        assert "zebra" not in shown, screen.file
        own = own or "yak-heads" in shown
    assert own
    assert any("Signed in as" in caption.value for caption in app.caption)


def test_who_is_in_no_project_is_told_so(look, make_key):
    app = look(make_key())
    assert not app.exception
    assert any("You belong to no project yet" in text.value for text in app.markdown)
    assert [button.label for button in app.button] == ["Sign out"]


def test_signing_out_on_the_page_ends_the_sign_in(house, look, make_key):
    cookie = make_key({"yaks": "viewer"})
    app = look(cookie)
    [out] = [button for button in app.button if button.label == "Sign out"]
    out.click().run()
    assert find_principal(house, cookie).name  # a key that was made by hand goes on


def test_a_client_sends_the_key_of_the_environment_and_shows_it_nowhere(
    house, things, make_key, serve_api, monkeypatch
):
    key = make_key({"yaks": "viewer"})
    monkeypatch.setenv("VOXELIGHT_API_KEY", key)
    with serve_api(house) as url, Client(url) as client:
        me = client.access.me()
        assert me.roles == {"yaks": "viewer"}
        assert [one.name for one in client.datasets.list()][-1] == "yak-heads"
        with pytest.raises(Refused) as refused:
            client.access.list_accounts()
        shown = f"{client!r} {vars(client)} {vars(client.access._connection)} {refused.value}"
        assert key.split("_", 2)[2] not in shown
        with Client(url, key="") as nobody, pytest.raises(Unauthenticated):
            nobody.access.me()


def test_an_administrator_manages_accounts_from_python(house, make_key, serve_api):
    with serve_api(house) as url, Client(url, key=make_key(admin=True)) as client:
        name, project = f"c-{uuid.uuid4().hex[:6]}", f"c-{uuid.uuid4().hex[:6]}"
        assert client.access.add_account(AccountRequest(name=name)).roles == {}
        with pytest.raises(Conflict):
            client.access.add_account(AccountRequest(name=name))
        client.access.add_project(ProjectRequest(name=project))
        client.access.set_member(project, name, "operator")
        client.access.set_member(project, name, "viewer")
        assert [(one.account, one.role) for one in client.access.list_members(project)] == [(name, "viewer")]
        key = client.access.add_key(KeyRequest(account=name, expires_at=utc_now() + timedelta(days=1)))
        with pytest.raises(BadInput, match="a time to come"):
            client.access.add_key(KeyRequest(account=name, expires_at=utc_now() - timedelta(days=1)))
        with Client(url, key=key.key) as other:
            assert other.access.me().roles == {project: "viewer"}
            client.access.disable_account(name)
            with pytest.raises(Unauthenticated):
                other.access.me()
            client.access.enable_account(name)
            house.datasets.create(DatasetRequest(name=f"{name}-set"))
            with pytest.raises(NotFound):
                other.datasets.show(f"{name}-set")
            client.access.move_dataset(f"{name}-set", project)
            assert other.datasets.show(f"{name}-set").project == project
            client.access.remove_member(project, name)
            with pytest.raises(Refused):
                other.datasets.show(f"{name}-set")
            assert client.access.revoke_key(key.prefix).revoked_at
            with pytest.raises(Unauthenticated):
                other.access.me()
        assert project in [one.name for one in client.access.list_projects()]
        assert name in [one.name for one in client.access.list_accounts()]
        assert key.prefix in [one.prefix for one in client.access.list_keys(name)]


def test_without_accounts_nobody_is_asked(tmp_path):
    from voxelight.app.api import create_api
    from voxelight.app.bootstrap import open_services

    services = open_services(Settings(home=tmp_path))
    door = TestClient(create_api(services), "http://localhost/api/v1/", root_path="/api")
    me = door.get("me").json()
    assert (me["name"], me["admin"], me["roles"], len(me["scopes"])) == ("", True, {}, 4)
    assert door.get("datasets").status_code == 200
    assert door.post("session", json={"key": "vxl_a_b"}).status_code == 409
    services.close()
