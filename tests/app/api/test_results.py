"""Results over HTTP: every page once, every condition held."""

import base64
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from voxelight.app.settings import Settings
from voxelight.storage.schema import Run

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path, database_url) -> Settings:
    """An installation on each kind of database."""
    return Settings(home=tmp_path / "home", database_url=database_url)


def walk(client, **asked) -> list[str]:
    """Ids of all results, page by page."""
    seen, cursor = [], None
    while True:
        page = client.get("results", params=asked | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["id"] for item in page["items"]]
        assert len(page["items"]) <= asked.get("limit", 100)
        if (cursor := page["next_cursor"]) is None:
            return seen


def end_at(services, run_id, moment: datetime) -> None:
    with services.stores.sessions.begin() as session:
        session.execute(update(Run).where(Run.id == run_id).values(finished_at=moment))


@pytest.mark.parametrize("limit", [1, 3, 4, 100])
def test_pages_walk_every_result_once_though_many_ended_at_one_moment(client, services, finished, limit):
    runs = [finished(content=bytes([number])) for number in range(9)]
    for number, run_id in enumerate(runs):
        end_at(services, run_id, NOON + timedelta(seconds=number // 4))
    seen = walk(client, limit=limit)
    assert len(seen) == len(set(seen))
    assert set(seen) == {str(run_id) for run_id in runs}
    assert seen[0] == str(runs[8])


def test_what_comes_in_meanwhile_moves_no_page(client, finished):
    early = [str(finished()) for _ in range(4)]
    page = client.get("results", params={"limit": 2}).json()
    finished()
    rest = client.get("results", params={"limit": 10, "cursor": page["next_cursor"]}).json()
    assert [item["id"] for item in page["items"] + rest["items"]] == early[::-1]


def test_every_condition_that_is_set_holds(client, services, finished):
    first, second = finished(), finished()
    end_at(services, first, NOON)
    end_at(services, second, NOON + timedelta(hours=1))
    shown = client.get(f"results/{first}").json()
    for found, conditions in [
        ([first], {"model": shown["model"]}),
        ([first], {"job": shown["job"]}),
        ([second, first], {"dataset": "figures", "subject": "07", "kind": "segment"}),
        ([], {"kind": "reconstruct"}),
        ([], {"subject": "08"}),
        ([], {"dataset": "nowhere"}),
        ([second, first], {"since": "2026-11-24T12:00:00Z"}),
        ([first], {"until": "2026-11-24T13:00:00Z"}),
        ([second], {"since": "2026-11-24T13:00:01+01:00"}),
        ([first], {"until": "2026-11-24T12:00:01"}),
        ([], {"model": shown["model"], "since": "2026-11-24T12:00:01Z"}),
    ]:
        assert walk(client, **conditions) == [str(run_id) for run_id in found], conditions


def test_a_result_is_shown_as_it_is_listed(client, finished):
    run_id = finished(name="a.bin")
    shown = client.get(f"results/{run_id}").json()
    assert client.get("results").json()["items"] == [shown]
    assert shown["provenance"] == {"seed": 1}
    assert shown["artifacts"][0]["name"] == "a.bin"
    assert shown["notice"] == "Not for clinical use."


def test_a_run_that_has_given_nothing_is_no_result(client, services, finished, is_problem):
    run_id = finished()
    with services.stores.sessions.begin() as session:
        session.execute(update(Run).where(Run.id == run_id).values(status="running", finished_at=None))
    assert client.get("results").json()["items"] == []
    assert "running" in is_problem(client.get(f"results/{run_id}"), 404)["found"]


def test_models_are_listed_with_the_hash_of_their_weights(client, finished):
    finished()
    models = client.get("models").json()
    assert models["next_cursor"] is None
    assert [model["weights_sha256"] for model in models["items"]] == [""]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00", "9999-12-31T23:59:59Z"])
def test_a_moment_at_the_edge_of_time_is_a_moment(client, finished, moment):
    finished()
    assert len(walk(client, since=moment) + walk(client, until=moment)) == 1


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+12:00", "9999-12-31T23:59:59-12:00"])
def test_a_moment_beyond_time_is_refused(client, is_problem, moment):
    is_problem(client.get("results", params={"since": moment}), 422)
    cursor = base64.urlsafe_b64encode(f"{moment}|{uuid.uuid4()}".encode()).decode()
    is_problem(client.get("results", params={"cursor": cursor}), 422)


def test_text_that_a_database_can_not_hold_is_no_fault_of_the_software(client, state, is_problem):
    before = state()
    answer = client.post("datasets", json={"name": "nul", "purpose": "a\0b"})
    if answer.status_code == 201:
        assert client.get("datasets/nul").json()["purpose"] == "a\0b"
    else:
        is_problem(answer, 422)
        assert state() == before
    assert client.get("results", params={"subject": "a\0b"}).status_code in (200, 422)


@pytest.mark.parametrize("between", ["0...8", "0....8", ".1...8", "+0.e0..8.", "..", "-1E-2...5"])
def test_numbers_of_a_range_may_begin_and_end_with_their_point(client, between):
    answer = client.get("results", params={"metric": f"dice:{between}"})
    assert (answer.status_code, answer.json()["items"]) == (200, [])
