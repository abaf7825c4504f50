"""Exports, evaluations and controls over HTTP."""

import io
import uuid
import zipfile

import pandas as pd
import pypdf
import pytest

from voxelight.app.actions import run_action
from voxelight.app.runner import Runner


@pytest.fixture
def job(client, services, upload, make):
    upload("betas.mat", make.betas_mat())
    body = {
        "kind": "reconstruct",
        "recipe": "miyawaki-ridge",
        "dataset": "figures",
        "queue": "cpu",
        "options": {"permutations": 19},
    }
    asked = client.post("jobs", json=body)
    assert asked.status_code == 201, asked.text
    runner, identity = Runner(services), uuid.UUID(asked.json()["id"])
    for batch in runner.list_batches(identity):
        runner.run_batch(identity, batch)
    runner.close(identity)
    return client.get(f"jobs/{identity}").json()


def test_a_plan_then_each_file(client, job):
    plan = client.get("exports", params={"job": job["id"]}).json()
    assert plan["results"] == job["done"]
    assert {one["name"] for one in plan["formats"] if one["files"]} == {"bids", "pictures", "tables", "report"}
    answer = client.get("exports/archive.zip", params={"job": job["id"], "format": ["bids", "tables"]})
    assert answer.headers["content-type"] == "application/zip"
    assert "attachment" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert tops == {"bids", "tables", "provenance.jsonl", "CITATIONS.txt", "LICENCES.txt", "README.txt"}
    assert client.get("exports/report.html", params={"job": job["id"]}).text.startswith("<!doctype html>")
    pdf = client.get("exports/report.pdf", params={"job": job["id"]}).content
    assert "Not for clinical use." in pypdf.PdfReader(io.BytesIO(pdf)).pages[0].extract_text()
    rows = pd.read_csv(io.BytesIO(client.get("exports/metrics.csv", params={"dataset": "figures"}).content))
    packed = client.get("exports/metrics.parquet", params={"dataset": "figures"}).content
    assert len(pd.read_parquet(io.BytesIO(packed))) == len(rows) > job["done"]


def test_results_by_id_and_by_a_saved_search(client, job):
    [first, *_] = client.get("results", params={"job": job["id"]}).json()["items"]
    plan = client.get("exports", params={"run": first["id"]}).json()
    assert plan["results"] == 1
    search = {"title": "All of the figures", "query": {"dataset": "figures"}}
    slug = client.post("searches", json=search).json()["slug"]
    assert client.get("exports", params={"search": slug}).json()["results"] == job["done"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("exports?subject=nobody", 404),
        ("exports/archive.zip?subject=nobody", 404),
        ("exports/report.pdf?subject=nobody", 404),
        ("exports/archive.zip?format=docx", 422),
        ("exports/archive.tar", 422),
        ("exports?run=00000000-0000-0000-0000-000000000000", 404),
        ("exports?search=nothing", 404),
        ("exports?colour=red", 422),
        ("exports/metrics.csv?metric=nonsense", 422),
    ],
)
def test_what_can_not_be_exported_is_a_problem(client, job, path, status):
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["remedy"]


def test_an_evaluation_over_http(client, services, job):
    path = f"jobs/{job['id']}/evaluation"
    assert client.get(path).status_code == 404
    asked = client.post(path, json={"betas": "as published", "sessions": "one", "permutations": 19, "networks": []})
    assert asked.status_code == 202
    assert asked.json()["status"] == "queued"
    run_action(services, uuid.UUID(asked.json()["id"]))
    done = client.get(path).json()
    assert done["status"] == "done", done["problem"]
    page = next(file for file in done["artifacts"] if file["role"] == "evaluation")
    assert "Guard-rails" in client.get(page["url"].removeprefix("/api/v1/")).text
    assert client.post(path, json={"permutations": 1}).status_code == 422
    assert client.post(f"jobs/{job['id']}/relevance", json={}).status_code == 422
    [first, *_] = client.get("results", params={"job": job["id"]}).json()["items"]
    control = client.get(f"results/{first['id']}/controls").json()
    assert control["shuffled_item"] != first["item"]
    assert client.get(control["shuffled"][0]["url"].removeprefix("/api/v1/")).status_code == 200
