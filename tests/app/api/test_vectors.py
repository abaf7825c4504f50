"""Likeness over HTTP."""

import uuid

import numpy as np
import pytest

from voxelight.storage.formats.images import encode_png


def picture(seed, side=48):
    rng = np.random.default_rng(seed)
    return encode_png(np.kron(rng.integers(0, 255, (6, 6, 3)), np.ones((side // 6, side // 6, 1))).astype(np.uint8))


@pytest.fixture
def pictures(upload):
    return [upload(f"{name}.png", picture(seed)) for seed, name in enumerate(("red-house", "blue-boat", "old-tree"))]


def test_spaces_say_what_they_can_be_asked_by(client, pictures):
    spaces = {space["name"]: space for space in client.get("vectors/spaces").json()["items"]}
    assert set(spaces) == {"edges-and-colours", "words"}
    assert spaces["edges-and-colours"]["count"] == len(pictures)
    assert spaces["edges-and-colours"]["asked_by"] == ["picture", "result", "scan"]
    assert not spaces["words"]["graph"]


def test_a_picture_is_nearest_to_itself(client, pictures):
    found = client.post("vectors/near/picture", content=picture(1), params={"limit": 2}).json()
    assert (found["space"], found["exact"], found["searched"]) == ("edges-and-colours", True, 3)
    assert found["items"][0]["scan"] == pictures[1]["id"]
    assert found["items"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert len(found["items"]) == 2
    shown = client.get(found["items"][0]["picture_url"].removeprefix("/api/v1/"))
    assert shown.headers["content-type"] == "image/png"


def test_words_and_scans_find_what_is_like_them(client, pictures):
    found = client.post("vectors/near", json={"text": "an old tree"}).json()
    assert found["items"][0]["scan_name"] == "old-tree.png"
    found = client.post("vectors/near", json={"scan": pictures[0]["id"]}).json()
    assert {near["scan"] for near in found["items"]} == {pictures[1]["id"], pictures[2]["id"]}
    assert client.post("vectors/near", json={"scan": pictures[0]["id"], "role": "caption"}).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"text": "a", "scan": str(uuid.UUID(int=1))}, 422),
        ({"text": "of the"}, 422),
        ({"text": "tree", "space": "edges-and-colours"}, 422),
        ({"text": "tree", "limit": 1000}, 422),
        ({"text": "tree", "wrong": 1}, 422),
        ({"text": "tree", "dataset": "none"}, 404),
        ({"text": "tree", "method": "graph"}, 422),
        ({"result": str(uuid.UUID(int=1))}, 404),
        ({"scan": str(uuid.UUID(int=1))}, 404),
    ],
)
def test_a_question_without_sense_is_refused(client, pictures, is_problem, body, status):
    is_problem(client.post("vectors/near", json=body), status)


def test_what_is_no_picture_is_refused(client, pictures, is_problem):
    for content in (b"", b"no picture", picture(0)[:100]):
        is_problem(client.post("vectors/near/picture", content=content), 422)
    is_problem(client.post("vectors/near/picture", content=picture(0), params={"space": "words"}), 422)


def test_before_anything_is_stored_nothing_is_near(client, is_problem):
    assert client.get("vectors/spaces").json()["items"] == []
    problem = is_problem(client.post("vectors/near", json={"text": "tree"}), 404)
    assert "search fill" in problem["remedy"]


def test_the_network_is_asked_for_where_it_is_missing(client, pictures, is_problem, monkeypatch):
    monkeypatch.setattr("voxelight.app.embedder.has_network", lambda: False)
    answer = client.post("vectors/near/picture", content=picture(0), params={"space": "efficientnet-lite0"})
    problem = is_problem(answer, 422)
    assert "voxelight[evaluate]" in problem["remedy"]
