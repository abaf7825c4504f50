"""Jobs over HTTP: submitted once, followed, cancelled, repeated; refused without a trace."""

import json
import time
from typing import Any

import numpy as np
import pytest

from voxelight.app.worker import working

RECIPE = {"kind": "reconstruct", "recipe": "miyawaki-ridge", "queue": "cpu", "options": {"permutations": 9}}


@pytest.fixture
def order(upload, make) -> dict[str, Any]:
    """A request that can be carried out: betas of six pictures."""
    scan = upload("betas.mat", make.betas_mat())
    return RECIPE | {"dataset": "figures", "scans": [scan["id"]]}


@pytest.fixture
def submit(client, order):
    def _submit(**headers: str) -> dict[str, Any]:
        answer = client.post("jobs", json=order, headers=headers)
        assert answer.status_code == 201, answer.text
        assert answer.headers["location"] == f"/api/v1/jobs/{answer.json()['id']}"
        return answer.json()

    return _submit


def wait(client, job: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
    """Ask until the job has ended."""
    until = time.monotonic() + seconds
    while job["status"] in ("queued", "running"):
        assert time.monotonic() < until, job
        time.sleep(0.05)
        job = client.get(f"jobs/{job['id']}").json()
    return job


def read_events(text: str) -> list[dict[str, str]]:
    """Server-sent events as their fields, comments left out."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block]
    return [dict(line.split(": ", 1) for line in lines) for lines in blocks if not lines[0].startswith(":")]


def test_a_job_goes_from_submission_to_pictures_over_http_alone(client, services, submit):
    job = submit()
    assert (job["status"], job["total"], job["done"]) == ("queued", 6, 0)
    with working(services):
        events = read_events(client.get(f"jobs/{job['id']}/events").text)
    states = [json.loads(event["data"]) for event in events]
    assert {event["event"] for event in events} == {"job"}
    assert [state["done"] for state in states] == sorted(state["done"] for state in states)
    assert (states[-1]["status"], states[-1]["done"]) == ("done", 6), states[-1]["error"]
    assert states[-1] == client.get(f"jobs/{job['id']}").json()
    results = client.get("results", params={"job": job["id"]}).json()["items"]
    assert len(results) == 6
    for result in results:
        roles = {artifact["role"]: artifact for artifact in result["artifacts"]}
        assert client.get("http://localhost" + roles["reconstruction"]["url"]).content.startswith(b"\x89PNG")
        assert "Not for clinical use" in result["notice"]
    again = client.get(f"jobs/{job['id']}/events", headers={"Last-Event-ID": events[-1]["id"]})
    assert again.status_code == 204


def test_the_same_key_gives_the_same_job(client, order, submit, state, is_problem):
    job = submit(**{"Idempotency-Key": "k-1"})
    before = state()
    assert submit(**{"Idempotency-Key": "k-1"})["id"] == job["id"]
    is_problem(client.post("jobs", json=order | {"seed": 5}, headers={"Idempotency-Key": "k-1"}), 409)
    assert state() == before
    assert submit(**{"Idempotency-Key": "k-2"})["id"] != job["id"]
    assert submit()["id"] != submit()["id"]


@pytest.mark.parametrize("key", ["", "k" * 201])
def test_a_key_that_can_not_be_kept_is_refused(client, order, state, is_problem, key):
    before = state()
    is_problem(client.post("jobs", json=order, headers={"Idempotency-Key": key}), 422)
    assert state() == before


def test_a_cancelled_job_is_repeated_where_it_stopped(client, services, submit, is_problem):
    job = submit()
    cancelled = client.post(f"jobs/{job['id']}/cancel")
    assert cancelled.json()["status"] == "cancelled"
    runs = client.get(f"jobs/{job['id']}/runs", params={"status": "cancelled"}).json()
    assert len(runs["items"]) == 6
    assert client.get(f"jobs/{job['id']}/runs", params={"status": "done"}).json()["items"] == []
    assert len(read_events(client.get(f"jobs/{job['id']}/events").text)) == 1
    again = client.post(f"jobs/{job['id']}/retry").json()
    assert (again["status"], again["attempt"]) == ("queued", 2)
    with working(services):
        ended = wait(client, again)
    assert (ended["status"], ended["done"]) == ("done", 6), ended["error"]
    is_problem(client.post(f"jobs/{job['id']}/retry"), 409)
    is_problem(client.post(f"jobs/{job['id']}/cancel"), 409)


def test_jobs_are_listed_by_data_set(client, submit):
    jobs = [submit()["id"] for _ in range(3)]
    client.post("datasets", json={"name": "other"})
    listed = client.get("jobs", params={"dataset": "figures"}).json()["items"]
    assert [job["id"] for job in listed] == jobs[::-1]
    assert client.get("jobs", params={"dataset": "other"}).json()["items"] == []
    assert client.get("health").json()["queued"] == {"cpu": 3, "gpu": 0}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"recipe": "no-such-recipe"}, 404),
        ({"dataset": "nowhere"}, 404),
        ({"kind": "dream"}, 422),
        ({"queue": "tpu"}, 422),
        ({"seed": -1}, 422),
        ({"options": {"permutations": -1}}, 422),
        ({"options": {"alpha": 1}}, 422),
        ({"scans": ["00000000-0000-0000-0000-000000000000"]}, 404),
        ({"scans": ["x"]}, 422),
        ({"priority": 9}, 422),
    ],
)
def test_a_job_that_can_not_be_done_leaves_nothing(client, order, state, is_problem, change, status):
    before = state()
    is_problem(client.post("jobs", json=order | change), status)
    assert state() == before


@pytest.mark.parametrize("change", [{"consent": "none"}, {"purpose": " "}])
def test_brain_data_without_consent_or_purpose_are_not_decoded(client, order, state, is_problem, change):
    client.patch("datasets/figures", json=change)
    before, files = state()
    problem = is_problem(client.post("jobs", json=order), 403)
    assert "purpose" in problem["expected"]
    told = {"audit_event": before["audit_event"] + 1}  # that somebody asked
    assert state() == (before | told, files)


def on_another_grid(make) -> bytes:
    return make.nifti((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0]))


INPUTS = {
    "mask on another grid": lambda make: {"mask.nii.gz": on_another_grid(make), "events.tsv": make.events_tsv(5)},
    "mask of another shape": lambda make: {"mask.nii.gz": make.nifti((3, 4, 4)), "events.tsv": make.events_tsv(5)},
    "fewer events than volumes": lambda make: {"mask.nii.gz": make.nifti((4, 4, 4)), "events.tsv": make.events_tsv(4)},
    "no events": lambda make: {"mask.nii.gz": make.nifti((4, 4, 4))},
    "no mask": lambda make: {"events.tsv": make.events_tsv(5)},
}


@pytest.mark.parametrize("fault", INPUTS)
def test_inputs_that_do_not_fit_each_other_leave_nothing(client, upload, state, make, is_problem, fault):
    files = {"betas.nii.gz": make.nifti((4, 4, 4, 5)), "p0.png": make.png(0), "p1.png": make.png(1)}
    ids = [upload(name, content)["id"] for name, content in (files | INPUTS[fault](make)).items()]
    before = state()
    problem = is_problem(client.post("jobs", json=RECIPE | {"dataset": "figures", "scans": ids}), 422)
    assert problem["remedy"]
    assert state() == before


def test_a_series_where_a_volume_is_due_leaves_nothing(client, upload, state, make, is_problem):
    scan = upload("bold.nii.gz", make.nifti((4, 4, 4, 5)))
    before = state()
    body = {"kind": "segment", "recipe": "hippocampus-agunet", "dataset": "figures", "scans": [scan["id"]]}
    assert "3-D" in is_problem(client.post("jobs", json=body), 422)["expected"]
    assert state() == before


def test_recipes_are_listed_for_every_kind(client):
    recipes = client.get("recipes").json()["items"]
    assert {recipe["kind"] for recipe in recipes} == {
        "segment",
        "reconstruct",
        "decode",
        "train-segmenter",
        "train-decoder",
        "train-linear",
        "glm",
    }
    assert len({recipe["name"] for recipe in recipes}) == len(recipes)
    assert [recipe["name"] for recipe in recipes if recipe["random_weights"]] == [
        "random-small",
        "train-linear-random-small",
    ]
    assert "miyawaki-ridge" in {recipe["name"] for recipe in recipes}
