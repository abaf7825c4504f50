"""Every error is a problem that says what to do."""

import uuid
from html import escape

import pytest
from sqlalchemy.exc import OperationalError

from voxelight.app.services import Services

NOBODY = uuid.uuid4()
BAD_REQUESTS = {
    "unknown route": ("GET", "nowhere", {}, 404),
    "unknown data set": ("GET", "datasets/nowhere", {}, 404),
    "unknown scan": ("GET", f"scans/{NOBODY}", {}, 404),
    "unknown job": ("GET", f"jobs/{NOBODY}", {}, 404),
    "unknown job's runs": ("GET", f"jobs/{NOBODY}/runs", {}, 404),
    "unknown job's events": ("GET", f"jobs/{NOBODY}/events", {}, 404),
    "unknown job cancelled": ("POST", f"jobs/{NOBODY}/cancel", {}, 404),
    "unknown job retried": ("POST", f"jobs/{NOBODY}/retry", {}, 404),
    "unknown result": ("GET", f"results/{NOBODY}", {}, 404),
    "unknown artifact": ("GET", f"artifacts/{NOBODY}", {}, 404),
    "no id": ("GET", "jobs/seven", {}, 422),
    "wrong method": ("DELETE", "datasets", {}, 405),
    "limit of zero": ("GET", "datasets", {"params": {"limit": 0}}, 422),
    "limit too large": ("GET", "results", {"params": {"limit": 501}}, 422),
    "cursor that is none": ("GET", "datasets", {"params": {"cursor": "x"}}, 422),
    "cursor of nonsense": ("GET", "datasets", {"params": {"cursor": "eHx4"}}, 422),
    "condition of another name": ("GET", "results", {"params": {"datset": "a"}}, 422),
    "date that is none": ("GET", "results", {"params": {"since": "yesterday"}}, 422),
    "kind that is none": ("GET", "results", {"params": {"kind": "dream"}}, 422),
    "no body": ("POST", "datasets", {}, 422),
    "no JSON": ("POST", "datasets", {"content": b'{"name":', "headers": {"content-type": "application/json"}}, 422),
    "JSON too deep": (
        "POST",
        "datasets",
        {"content": b"[" * 10**5, "headers": {"content-type": "application/json"}},
        400,
    ),
    "JSON under another name": ("POST", "datasets", {"content": b'{"name":"a"}'}, 422),
    "key of another name": ("POST", "datasets", {"json": {"name": "a", "owner": "me"}}, 422),
    "name with a slash": ("POST", "datasets", {"json": {"name": "a/b"}}, 422),
    "consent that is none": ("POST", "datasets", {"json": {"name": "a", "consent": "maybe"}}, 422),
    "NUL in a path": ("GET", "datasets/a%00b", {}, 422),
}


@pytest.mark.parametrize("fault", BAD_REQUESTS)
def test_a_bad_request_is_a_problem_and_leaves_nothing(client, state, is_problem, fault):
    method, path, extra, status = BAD_REQUESTS[fault]
    before = state()
    problem = is_problem(client.request(method, path, **extra), status)
    assert problem["found"] in problem["detail"]
    assert state() == before


def test_a_fault_of_validation_names_the_place_and_what_was_there(client, is_problem):
    problem = is_problem(client.get("datasets", params={"limit": "many"}), 422)
    assert "'many' as query limit" in problem["found"]
    assert "query limit: Input should be a valid integer" in problem["expected"]
    assert "no body name" in is_problem(client.post("datasets", json={}), 422)["found"]


def test_a_wrong_method_is_told_the_right_ones(client, is_problem):
    answer = client.delete("datasets")
    assert answer.headers["allow"] == "GET, POST"
    assert is_problem(answer, 405)["expected"] == "GET, POST"
    assert client.put("artifacts/x").headers["allow"] == "GET, HEAD"


def test_a_document_that_is_too_large_is_not_read(client, state, is_problem):
    before = state()
    sent = 0

    def endless():
        nonlocal sent
        for _ in range(10_000):
            sent += 1 << 16
            yield bytes(1 << 16)

    is_problem(client.post("datasets", content=endless(), headers={"content-type": "application/json"}), 413)
    assert state() == before


def test_an_unforeseen_error_says_nothing_of_the_inside(client, monkeypatch, is_problem):
    def break_down(self: Services) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(Services, "check_health", break_down)
    answer = client.get("health")
    is_problem(answer, 500)
    assert "secret" not in answer.text


def test_a_database_that_does_not_answer_is_unavailable(client, monkeypatch, is_problem):
    def refuse(self: Services) -> None:
        raise OperationalError("SELECT 1", {}, Exception("password of the database"))

    monkeypatch.setattr(Services, "check_health", refuse)
    answer = client.get("health")
    assert "database" in is_problem(answer, 503)["found"]
    assert "password" not in answer.text


def test_health_and_notice_are_told(client):
    health = client.get("health")
    assert health.json()["status"] == "ok"
    assert health.json()["notice"] == health.headers["x-notice"] == "Not for clinical use."


@pytest.mark.parametrize(
    ("method", "address", "body"),
    [
        ("POST", "datasets", {"name": "a", "purpose": "to see\0"}),
        ("POST", "datasets", {"name": "a", "purpose\0": ""}),
        ("POST", "searches", {"title": "a", "query": {"words": "dog\0"}}),
        ("POST", "jobs", {"kind": "segment", "recipe": "r", "dataset": "a", "options": {"deep": [{"er": "\0"}]}}),
        ("POST", "vectors/near", {"text": "\0"}),
        ("GET", "scans?dataset=a%00", None),
        ("GET", "recipes/a%00b", None),
        ("PUT", "datasets/a/scans/t1%00.nii", None),
    ],
)
def test_a_nul_character_is_refused_wherever_it_stands(client, state, is_problem, method, address, body):
    before = state()
    problem = is_problem(client.request(method, address, json=body), 422)
    assert "NUL" in problem["detail"]
    assert state() == before


def test_a_browser_shows_a_person_a_page_and_a_program_gets_the_same_as_json(client, is_problem):
    shown = client.get(f"jobs/{NOBODY}", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (shown.status_code, shown.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "default-src 'self'" in shown.headers["content-security-policy"]
    told = is_problem(client.get(f"jobs/{NOBODY}"), 404)
    assert all(escape(told[part]) in shown.text for part in ("title", "found", "expected", "remedy"))
    unknown = client.get("nowhere", headers={"Accept": "text/html"})
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "no route GET /api/v1/nowhere" in unknown.text
    marked = client.get("pages/<img src=x onerror=alert(1)>", headers={"Accept": "text/html"})
    assert marked.status_code == 404
    assert "&lt;img" in marked.text
    assert "<img" not in marked.text
    is_problem(client.post("datasets", json={"name": "a/b"}, headers={"Accept": "text/html"}), 422)
