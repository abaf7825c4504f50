"""Data sets over HTTP."""

import pytest


def test_a_new_data_set_says_where_it_is(client):
    answer = client.post("datasets", json={"name": "mri", "licence": "CC0"})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/v1/datasets/mri"
    shown = client.get("datasets/mri")
    assert shown.json() == answer.json()
    assert shown.headers["etag"] == answer.headers["etag"]
    assert shown.headers["x-notice"] == "Not for clinical use."


def test_a_name_is_taken_once(client, dataset, state, is_problem):
    before = state()
    problem = is_problem(client.post("datasets", json={"name": dataset}), 409)
    assert dataset in problem["found"]
    assert state() == before


def test_a_change_meets_the_version_it_was_meant_for(client, dataset, is_problem):
    tag = client.get(f"datasets/{dataset}").headers["etag"]
    changed = client.patch(f"datasets/{dataset}", json={"licence": "CC0"}, headers={"If-Match": tag})
    assert changed.status_code == 200
    assert changed.json()["licence"] == "CC0"
    assert changed.headers["etag"] != tag
    is_problem(client.patch(f"datasets/{dataset}", json={"licence": "none"}, headers={"If-Match": tag}), 412)
    assert client.get(f"datasets/{dataset}").json()["licence"] == "CC0"
    for match in ({"If-Match": "*"}, {}):
        assert client.patch(f"datasets/{dataset}", json={"source": "x"}, headers=match).status_code == 200


@pytest.mark.parametrize("tag", ["3", 'W/"1"', '"one"', '"1", "2"'])
def test_a_tag_that_is_none_changes_nothing(client, dataset, is_problem, tag):
    is_problem(client.patch(f"datasets/{dataset}", json={"licence": "x"}, headers={"If-Match": tag}), 422)
    assert client.get(f"datasets/{dataset}").json()["licence"] == ""


def test_pages_walk_every_data_set_once_newest_first(client):
    names = [f"set-{number}" for number in range(7)]
    for name in names:
        client.post("datasets", json={"name": name})
    seen, cursor = [], None
    while True:
        page = client.get("datasets", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == names[::-1]
