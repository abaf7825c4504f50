"""Tokens of an identity provider: which hold, whom they name, and how a browser comes by one."""

import base64
import hmac
import json
import time
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.testclient import TestClient

from voxelight.app import oidc
from voxelight.app.api import create_api
from voxelight.app.auth import COOKIE
from voxelight.app.bootstrap import open_services
from voxelight.app.oidc import Identity, Provider, name_account, read_roles
from voxelight.app.schemas_access import AccountRequest, MemberRequest, ProjectRequest
from voxelight.app.settings import Settings
from voxelight.models.errors import BadInput, Refused, Unauthenticated, Unavailable

CLIENT, SECRET = "voxelight", "a secret of the client"
BASE = "http://localhost/api/v1/"


@pytest.fixture
def provider(identity_provider):
    return Provider(identity_provider.url, (CLIENT,))


@pytest.fixture
def house(tmp_path, identity_provider):
    settings = Settings(
        home=tmp_path / "home",
        auth="oidc",
        oidc_issuer=identity_provider.url,
        oidc_client_id=CLIENT,
        oidc_client_secret=SECRET,
        oidc_roles={"lab-readers": "default:viewer", "lab": "default:operator", "chiefs": "tumours:admin"},
    )
    services = open_services(settings)
    services.access.add_project(ProjectRequest(name="tumours"))
    yield services
    services.close()


@pytest.fixture
def client(house):
    return TestClient(create_api(house), BASE, root_path="/api", follow_redirects=False)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_a_token_names_who_it_was_made_for(identity_provider, provider):
    found = provider.verify(identity_provider.token(groups=["lab"]))
    assert found == Identity(identity_provider.url, "248289761001", "ana@lab.example", "ana", ("lab",))
    assert provider.verify(identity_provider.token(aud=["other", CLIENT])).subject == "248289761001"
    assert identity_provider.asked == ["describe", "jwks"]  # asked for once


BAD = {
    "another audience": {"aud": "another client"},
    "no audience": {"aud": None},
    "another issuer": {"iss": "https://evil.example"},
    "over": {"exp": int(time.time()) - 120},
    "without end": {"exp": None},
    "not yet": {"nbf": int(time.time()) + 3600},
    "without subject": {"sub": None},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_a_token_for_another_or_at_another_time_does_not_hold(identity_provider, provider, change):
    with pytest.raises(Unauthenticated, match="does not hold"):
        provider.verify(identity_provider.token(**change))


def test_a_token_that_nobody_or_somebody_else_signed_does_not_hold(identity_provider, provider):
    token = identity_provider.token()
    head, claims, signature = token.split(".")
    public = identity_provider.keys[0].as_pem(private=False)
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    # The key that everybody knows, as if it were a secret that both sides share.
    said = json.dumps({"alg": "HS256", "kid": identity_provider.keys[0].kid}).encode()
    begun = f"{base64.urlsafe_b64encode(said).rstrip(b'=').decode()}.{claims}"
    mac = hmac.new(public, begun.encode(), "sha256").digest()
    shared = f"{begun}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    changed = identity_provider.token(sub="somebody else").split(".")[1]
    stranger = identity_provider.make_key()
    impostor = identity_provider.token(stranger, {"kid": identity_provider.keys[0].kid})
    bad = {
        "unsigned": f"{none}.{claims}.",
        "shared key": shared,
        "changed": f"{head}.{changed}.{signature}",
        "cut": f"{head}.{claims}.",
        "signed by another": impostor,
        "unknown key": identity_provider.token(stranger),
        "no token": "a.b.c",
        "empty": "",
    }
    for name, each in bad.items():
        with pytest.raises(Unauthenticated) as raised:
            provider.verify(each)
        assert not each or each not in str(raised.value), name
    assert provider.verify(token).subject


def test_the_nonce_of_another_sign_in_does_not_hold(identity_provider, provider):
    assert provider.verify(identity_provider.token(nonce="n1"), nonce="n1")
    for token in (identity_provider.token(nonce="n2"), identity_provider.token()):
        with pytest.raises(Unauthenticated):
            provider.verify(token, nonce="n1")


def test_a_provider_that_changes_its_keys_is_asked_again_but_not_for_every_bad_token(
    identity_provider, provider, monkeypatch
):
    provider.verify(identity_provider.token())
    old, new = identity_provider.keys[0], identity_provider.make_key()
    identity_provider.keys.append(new)
    with pytest.raises(Unauthenticated):
        provider.verify(identity_provider.token(new))  # a moment after the keys were read
    assert identity_provider.asked.count("jwks") == 1
    monkeypatch.setattr(oidc, "_AGAIN_S", 0.0)
    assert provider.verify(identity_provider.token(new))
    assert identity_provider.asked.count("jwks") == 2
    identity_provider.keys.remove(old)
    monkeypatch.setattr(oidc, "_FRESH_S", 0.0)
    with pytest.raises(Unauthenticated):
        provider.verify(identity_provider.token(old))


def test_a_provider_that_is_another_or_silent_or_without_tls_is_refused(identity_provider):
    with pytest.raises(Unavailable, match="calls itself"):
        Provider(f"{identity_provider.url}/", (CLIENT,)).describe()
    with pytest.raises(Unavailable, match="no answer"):
        Provider("http://127.0.0.1:9", (CLIENT,)).describe()
    with pytest.raises(Refused, match="https"):
        Provider("http://idp.example", (CLIENT,))


def test_groups_give_the_highest_role_and_other_words_are_refused():
    mapping = {"a": "p:viewer", "b": "p:reviewer", "c": "q:admin"}
    assert read_roles(mapping, ("a", "b")) == {"p": "reviewer", "q": ""}
    for wrong in ("p", "p:chief", ":viewer"):
        with pytest.raises(BadInput):
            read_roles({"a": wrong}, ())
    shown = Identity("i", "s", "ana@lab.example", "", ())
    assert name_account(shown) == "ana-lab.example"


def test_a_program_shows_a_token_and_has_the_roles_of_its_groups(identity_provider, house, client):
    assert client.get("datasets").status_code == 401
    stranger = client.get("datasets", headers=bearer(identity_provider.token(groups=["elsewhere"])))
    assert (stranger.status_code, "--issuer" in stranger.json()["remedy"]) == (401, True)
    me = client.get("me", headers=bearer(identity_provider.token(groups=["lab", "lab-readers"]))).json()
    assert (me["name"], me["admin"], me["roles"]) == ("ana", False, {"default": "operator"})
    down = client.get("me", headers=bearer(identity_provider.token(groups=["lab-readers", "chiefs"]))).json()
    assert down["roles"] == {"default": "viewer", "tumours": "admin"}
    assert client.get("me", headers=bearer(identity_provider.token())).json()["roles"] == {}
    assert client.get("datasets", headers=bearer(identity_provider.token())).status_code == 403
    assert house.access.list_accounts()[0].roles == {}
    house.access.disable_account("ana")
    assert client.get("me", headers=bearer(identity_provider.token(groups=["lab"]))).status_code == 401


def test_nobody_becomes_another_by_calling_themselves_so(identity_provider, house, client):
    house.access.add_account(AccountRequest(name="ana", admin=True))
    taken = client.get("me", headers=bearer(identity_provider.token(groups=["lab"])))
    assert (taken.status_code, taken.json()["type"]) == (409, "urn:voxelight:problem:conflict")
    house.access.add_account(AccountRequest(name="boss", issuer=identity_provider.url, subject="7"))
    house.access.add_project(ProjectRequest(name="by-hand"))
    house.access.set_member("by-hand", "boss", MemberRequest(role="viewer"))
    me = client.get("me", headers=bearer(identity_provider.token(sub="7"))).json()
    assert (me["name"], me["admin"], me["roles"]) == ("boss", False, {"by-hand": "viewer"})


def walk(client, identity_provider):
    """Go to the provider and back, as a browser does; return the answer to what the provider sent it to."""
    went = client.get("session/provider")
    assert went.status_code == 303
    asked = parse_qs(urlsplit(went.headers["location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == ["http://localhost/api/v1/session/provider/callback"]
    sent = httpx.get(went.headers["location"], follow_redirects=False)
    return client.get(sent.headers["location"])


def test_a_browser_goes_to_the_provider_and_comes_back_signed_in(identity_provider, house, client):
    assert client.get("session").json() == {"asks": True, "provider": "/api/v1/session/provider"}
    identity_provider.person["groups"] = ["lab"]
    back = walk(client, identity_provider)
    assert (back.status_code, back.headers["location"]) == (303, "/api/v1/pages/sign-in")
    cookies = [each.lower() for each in back.headers.get_list("set-cookie")]
    (own,) = [each for each in cookies if each.startswith(COOKIE)]
    assert "httponly" in own
    assert "samesite=strict" in own
    assert client.get("me").json()["name"] == "ana"
    assert ("sign in", "provider") in {(each.action, each.detail.get("by")) for each in house.audit.list().items}
    assert client.delete("session", headers={"Origin": "http://localhost"}).status_code == 204
    assert client.get("me").status_code == 401


def test_a_way_back_that_this_browser_did_not_begin_signs_nobody_in(identity_provider, house, client):
    identity_provider.person["groups"] = ["lab"]
    went = client.get("session/provider")
    sent = httpx.get(went.headers["location"], follow_redirects=False).headers["location"]
    other = TestClient(create_api(house), BASE, root_path="/api", follow_redirects=False)
    assert other.get(sent).status_code == 403
    assert client.get(sent.replace("state=", "state=x")).status_code == 403
    identity_provider.change = {"nonce": "of another"}
    assert client.get(sent).status_code == 401
    identity_provider.change = {}
    assert client.get(sent).status_code == 401  # a code works once
    assert client.get("session/provider/callback", params={"error": "access_denied"}).status_code == 401
    assert COOKIE not in client.cookies


def test_a_person_without_a_place_is_told_so_on_a_page(identity_provider, house, client):
    identity_provider.person["groups"] = ["elsewhere"]
    went = client.get("session/provider")
    sent = httpx.get(went.headers["location"], follow_redirects=False).headers["location"]
    shown = client.get(sent, headers={"Accept": "text/html"})
    assert (shown.status_code, shown.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert f"--issuer {identity_provider.url} --subject 248289761001" in shown.text
    assert COOKIE not in client.cookies
    assert not house.access.list_accounts()


def test_without_a_provider_there_is_no_way_to_one(tmp_path):
    services = open_services(Settings(home=tmp_path / "home", auth="keys"))
    client = TestClient(create_api(services), BASE, root_path="/api", follow_redirects=False)
    assert client.get("session").json() == {"asks": True, "provider": None}
    assert client.get("session/provider").status_code == 409
    services.close()
