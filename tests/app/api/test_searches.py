"""Saved searches, sparse answers and comparisons over HTTP."""

import uuid

import pytest


@pytest.fixture
def saved(client):
    body = {"title": "Dice above 0.8, best first", "query": {"metric": ["dice:0.8.."], "sort": "-dice"}}
    answer = client.post("searches", json=body)
    assert answer.status_code == 201
    return answer


def test_a_search_is_saved_under_an_address_of_its_own(client, saved):
    shown = saved.json()
    assert shown["slug"] == "dice-above-0-8-best-first"
    assert shown["url"] == "/results?search=dice-above-0-8-best-first"
    assert saved.headers["etag"] == '"1"'
    assert saved.headers["location"] == "/api/v1/searches/dice-above-0-8-best-first"
    assert client.get(f"searches/{shown['slug']}").json() == shown
    assert client.get("searches").json()["items"] == [shown]


def test_a_saved_search_answers_as_its_conditions_do(client, services, finished, saved):
    from voxelight.storage.schema import Metric, Run

    runs = [finished(name=f"{n}.bin") for n in range(3)]
    with services.stores.sessions.begin() as session:
        for run_id, value in zip(runs, (0.7, 0.85, 0.95), strict=True):
            job = session.get_one(Run, run_id).job_id
            session.add(Metric(job_id=job, run_id=run_id, name="dice", label="", value=value))
    named = client.get("results", params={"search": saved.json()["slug"]}).json()["items"]
    asked = client.get("results", params={"metric": "dice:0.8..", "sort": "-dice"}).json()["items"]
    assert named == asked
    assert [item["id"] for item in named] == [str(runs[2]), str(runs[1])]
    other = client.get("results", params={"search": saved.json()["slug"], "sort": "dice"}).json()["items"]
    assert [item["id"] for item in other] == [str(runs[1]), str(runs[2])]


def test_a_change_needs_the_version_that_was_seen(client, saved, is_problem):
    place = f"searches/{saved.json()['slug']}"
    changed = client.patch(place, json={"title": "Better"}, headers={"If-Match": '"1"'})
    assert (changed.json()["title"], changed.headers["etag"]) == ("Better", '"2"')
    is_problem(client.patch(place, json={"title": "Late"}, headers={"If-Match": '"1"'}), 412)
    is_problem(client.patch(place, json={"title": "Odd"}, headers={"If-Match": "one"}), 422)
    is_problem(client.delete(place, headers={"If-Match": '"1"'}), 412)
    assert client.get(place).json()["title"] == "Better"
    assert client.delete(place, headers={"If-Match": '"2"'}).status_code == 204
    is_problem(client.get(place), 404)


def test_what_can_not_be_saved_is_refused(client, saved, is_problem):
    again = {"title": "Dice above 0.8, best first", "query": {}}
    is_problem(client.post("searches", json=again), 409)
    for body in (
        {"title": "", "query": {}},
        {"title": "脳", "query": {}},
        {"title": "a", "query": {"metric": ["dice"]}},
        {"title": "a", "query": {"colour": "red"}},
        {"title": "a", "query": {"metric": ["dice:1..0"]}},
    ):
        is_problem(client.post("searches", json=body), 422)
    assert client.post("searches", json={"title": "脳", "slug": "brain", "query": {}}).status_code == 201
    is_problem(client.get("results", params={"search": "nothing"}), 404)


def test_an_answer_is_not_sent_twice(client, finished, saved):
    for place in (f"results/{finished()}", f"searches/{saved.json()['slug']}"):
        first = client.get(place)
        tag = first.headers["etag"]
        again = client.get(place, headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert client.get(place, headers={"If-None-Match": '"other"'}).json() == first.json()


def test_fields_are_the_only_ones_that_come(client, finished, is_problem):
    finished()
    [item] = client.get("results", params={"fields": "metrics, scan"}).json()["items"]
    assert set(item) == {"id", "metrics", "scan"}
    assert "colour" in is_problem(client.get("results", params={"fields": "colour"}), 422)["found"]


@pytest.mark.parametrize(
    "asked",
    [
        {"metric": "dice"},
        {"sort": "--dice"},
        {"sort": ""},
        {"verdict": "maybe"},
        {"metric": ["a:1.."] * 9},
        {"words": "…"},
    ],
)
def test_a_condition_that_is_none_is_refused(client, is_problem, asked):
    is_problem(client.get("results", params=asked), 422)


def test_a_comparison_needs_two_sides(client, finished, is_problem):
    is_problem(client.get("compare"), 422)
    is_problem(client.get("compare", params={"a": str(uuid.uuid4())}), 422)
    is_problem(client.get("compare", params={"a": str(uuid.uuid4()), "b": str(uuid.uuid4())}), 404)
    jobs = [client.get(f"results/{finished()}").json()["job"] for _ in range(2)]
    answer = client.get("compare", params={"a": jobs[0], "b": jobs[1]}).json()
    assert (answer["matched"], answer["metrics"]) == (1, [])
    assert answer["first"]["jobs"] == [jobs[0]]
