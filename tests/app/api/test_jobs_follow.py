"""Jobs over HTTP: their log, copies, order, single items, and the recipes that they name."""

import json
import uuid

import pytest

from voxelight.app.runner import Runner

RECIPE = {"kind": "reconstruct", "recipe": "miyawaki-ridge", "queue": "cpu", "options": {"permutations": 0}}


@pytest.fixture
def order(upload, make):
    """A request that can be carried out: betas of six pictures."""
    return RECIPE | {"dataset": "figures", "scans": [upload("betas.mat", make.betas_mat())["id"]]}


@pytest.fixture
def job(client, order):
    return client.post("jobs", json=order).json()


@pytest.fixture
def carry_out(client, services):
    """Do the steps of a job here and now."""

    def _carry_out(job):
        runner, job_id = Runner(services), uuid.UUID(job["id"])
        for batch in runner.list_batches(job_id):
            runner.run_batch(job_id, batch)
        runner.close(job_id)
        return client.get(f"jobs/{job['id']}").json()

    return _carry_out


def read_events(text):
    """Server-sent events as their fields, comments left out."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block]
    return [dict(line.split(": ", 1) for line in lines) for lines in blocks if not lines[0].startswith(":")]


def test_the_log_comes_as_pages_and_as_events_and_goes_on_where_it_stopped(client, job, carry_out, is_problem):
    assert carry_out(job)["status"] == "done"
    url = f"jobs/{job['id']}/log"
    whole = client.get(url, params={"limit": 500}).json()["items"]
    assert whole[0]["message"] == "Submitted with 6 items on queue cpu."
    assert whole[-1]["message"] == "Ended: 6 of 6 items done."
    first = client.get(url, params={"limit": 4}).json()
    assert first["items"] == whole[:4]
    assert client.get(url, params={"limit": 500, "cursor": first["next_cursor"]}).json()["items"] == whole[4:]
    assert client.get(url, params={"limit": 2, "newest": True}).json()["items"] == whole[-2:]
    events = read_events(client.get(f"{url}/events").text)
    assert {event["event"] for event in events} == {"line"}
    assert [json.loads(event["data"]) for event in events] == whole
    assert [event["id"] for event in events] == [line["cursor"] for line in whole]
    later = client.get(f"{url}/events", headers={"Last-Event-ID": events[5]["id"]})
    assert [json.loads(event["data"]) for event in read_events(later.text)] == whole[6:]
    assert client.get(f"{url}/events", headers={"Last-Event-ID": events[-1]["id"]}).status_code == 204
    is_problem(client.get(f"{url}/events", headers={"Last-Event-ID": "nonsense"}), 422)
    is_problem(client.get(url, params={"cursor": "nonsense"}), 422)
    is_problem(client.get("jobs/00000000-0000-0000-0000-000000000000/log"), 404)


def test_the_priority_of_a_waiting_job_changes_if_it_is_as_it_was_seen(client, order, job, is_problem):
    second = client.post("jobs", json=order | {"priority": -2}).json()
    assert (second["place"], second["priority"]) == (2, -2)
    seen = client.get(f"jobs/{second['id']}").headers["etag"]
    url = f"jobs/{second['id']}"
    changed = client.patch(url, json={"priority": 2}, headers={"If-Match": seen})
    assert (changed.status_code, changed.json()["place"]) == (200, 1)
    assert changed.headers["etag"] != seen
    is_problem(client.patch(url, json={"priority": 0}, headers={"If-Match": seen}), 412)
    assert client.get(url).json()["priority"] == 2
    for wrong in ({"priority": 3}, {"priority": "high"}, {}, {"priority": 0, "seed": 1}):
        is_problem(client.patch(url, json=wrong), 422)
    client.post(f"{url}/cancel")
    is_problem(client.patch(url, json={"priority": 0}), 409)


def test_a_copy_names_what_it_was_copied_from(client, job, is_problem):
    key = {"Idempotency-Key": "copy"}
    answer = client.post(f"jobs/{job['id']}/clone", json={"seed": 3}, headers=key)
    assert answer.status_code == 201
    copy = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{copy['id']}"
    assert (copy["cloned_from"], copy["seed"], copy["options"]) == (job["id"], 3, {"permutations": 0})
    assert client.post(f"jobs/{job['id']}/clone", json={"seed": 3}, headers=key).json()["id"] == copy["id"]
    is_problem(client.post(f"jobs/{job['id']}/clone", json={"seed": 4}, headers=key), 409)
    assert client.post(f"jobs/{job['id']}/clone").json()["seed"] == 0
    is_problem(client.post(f"jobs/{job['id']}/clone", json={"speed": 4}), 422)
    is_problem(client.post(f"jobs/{job['id']}/clone", json={"recipe": "none"}), 404)
    is_problem(client.post("jobs/00000000-0000-0000-0000-000000000000/clone"), 404)


def test_what_was_asked_can_be_asked_again(client, order, job):
    asked = client.get(f"jobs/{job['id']}/request").json()
    assert {name: asked[name] for name in order} == order
    again = client.post("jobs", json=asked)
    assert again.status_code == 201
    assert again.json()["id"] != job["id"]


def test_chosen_items_are_repeated_and_no_others(client, job, carry_out, is_problem):
    client.post(f"jobs/{job['id']}/cancel")
    runs = client.get(f"jobs/{job['id']}/runs").json()["items"]
    url = f"jobs/{job['id']}/retry"
    is_problem(client.post(url, json={"runs": ["00000000-0000-0000-0000-000000000000"]}), 422)
    assert client.post(url, json={"runs": [runs[2]["id"]]}).json()["status"] == "queued"
    ended = carry_out(job)
    assert (ended["status"], ended["done"]) == ("cancelled", 1)
    is_problem(client.post(url, json={"runs": [runs[2]["id"]]}), 409)
    took = client.get(f"jobs/{job['id']}/runs", params={"status": "done"}).json()["items"]
    assert [run["id"] for run in took] == [runs[2]["id"]]
    assert took[0]["seconds"] > 0


def test_items_and_jobs_are_narrowed_and_paged(client, order, job, is_problem):
    url = f"jobs/{job['id']}/runs"
    first = client.get(url, params={"limit": 4}).json()
    rest = client.get(url, params={"limit": 4, "cursor": first["next_cursor"]}).json()
    assert (len(first["items"]), len(rest["items"]), rest["next_cursor"]) == (4, 2, None)
    is_problem(client.get(url, params={"cursor": "x"}), 422)
    is_problem(client.get(url, params={"limit": 0}), 422)
    client.post(f"jobs/{client.post('jobs', json=order).json()['id']}/cancel")
    listed = client.get("jobs", params={"status": ["queued", "running"]}).json()["items"]
    assert [each["id"] for each in listed] == [job["id"]]
    is_problem(client.get("jobs", params={"status": "asleep"}), 422)


def test_scans_are_found_by_a_query_or_named_not_both(client, upload, make, order, state, is_problem):
    for name in ("a_T1w.nii", "b_T1w.nii", "b_T2w.nii"):
        upload(name, make.nifti(packed=False), subject=name[0])
    body = {"kind": "segment", "recipe": "hippocampus-agunet", "dataset": "figures", "queue": "cpu"}
    job = client.post("jobs", json=body | {"query": {"name": "*T1w*"}}).json()
    items = [run["item"] for run in client.get(f"jobs/{job['id']}/runs").json()["items"]]
    assert items == ["a/01/a_T1w.nii", "b/01/b_T1w.nii"]
    choices = client.get("recipes/hippocampus-agunet/scans", params={"dataset": "figures", "name": "*t1W*"}).json()
    assert [scan["name"] for scan in choices["items"]] == ["a_T1w.nii", "b_T1w.nii"]
    before = state()
    is_problem(client.post("jobs", json=body | {"query": {"name": "none*"}}), 422)
    is_problem(client.post("jobs", json=body | {"query": {"colour": "red"}}), 422)
    is_problem(client.post("jobs", json=body | {"query": {}, "scans": order["scans"]}), 422)
    assert state() == before


def test_a_recipe_shows_its_card_its_cost_and_what_to_mind(client, job, carry_out, is_problem):
    shown = client.get("recipes/hippocampus-agunet").json()
    assert shown["card"].startswith("#")
    assert shown["takes"] == ["volume"]
    assert len(shown["weights_sha256"]) == 64
    assert shown["warnings"][0] == "Not for clinical use."
    assert {cost["queue"] for cost in shown["costs"]} <= {"cpu", "gpu"}
    carry_out(job)
    here = client.get("recipes/miyawaki-ridge").json()
    cpu = next(cost for cost in here["costs"] if cost["queue"] == "cpu")
    assert "6 finished items here" in cpu["source"]
    assert cpu["seconds_an_item"] > 0
    assert "permutations" in here["options"]["properties"]
    assert any("Random weights" in text for text in client.get("recipes/random-small").json()["warnings"])
    assert any("weights are not here" in text for text in client.get("recipes/mindeye2").json()["warnings"])
    is_problem(client.get("recipes/none"), 404)
    is_problem(client.get("recipes/none/scans", params={"dataset": "figures"}), 404)
