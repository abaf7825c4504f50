"""Deletion over HTTP: said before it is done, confirmed, and with a receipt."""

import uuid

import pytest


def test_a_scan_goes_once_its_id_is_repeated(client, upload, make, is_problem):
    scan = upload("t1.nii.gz", make.nifti())
    url = f"scans/{scan['id']}"
    planned = client.delete(url, params={"dry_run": True})
    assert planned.json()["counts"]["scans"] == 1
    assert planned.json()["receipt"] is None
    assert scan["sha256"] in planned.json()["sha256s"]
    is_problem(client.delete(url), 422)
    is_problem(client.delete(url, params={"confirm": "yes"}), 422)
    assert client.get(url).status_code == 200
    asked = {"confirm": scan["id"], "author": "Ada", "reason": "wrong person"}
    done = client.delete(url, params=asked, headers={"If-Match": planned.headers["ETag"]})
    assert done.status_code == 200, done.text
    assert done.json()["counts"] == planned.json()["counts"]
    is_problem(client.get(url), 404)
    is_problem(client.delete(url, params=asked), 404)
    receipt = client.get(done.json()["url"].removeprefix("/api/v1/"))
    assert receipt.json()["author"] == "Ada"
    assert f"receipt-{done.json()['receipt']}.json" in receipt.headers["content-disposition"]
    assert client.get("receipts").json()["items"] == [receipt.json()]


def test_what_changed_since_the_dry_run_is_not_deleted(client, upload, make, dataset, is_problem):
    upload("a.png", make.png(1))
    seen = client.delete(f"datasets/{dataset}", params={"dry_run": True}).headers["ETag"]
    upload("b.png", make.png(2))
    is_problem(client.delete(f"datasets/{dataset}", params={"confirm": dataset}, headers={"If-Match": seen}), 412)
    version = client.get(f"datasets/{dataset}").headers["ETag"]
    done = client.delete(f"datasets/{dataset}", params={"confirm": dataset}, headers={"If-Match": version})
    assert done.json()["counts"]["scans"] == 2
    is_problem(client.get(f"datasets/{dataset}"), 404)


def test_results_jobs_and_subjects_go_too(client, finished, dataset):
    run = finished(status="done")
    result = client.get(f"results/{run}")
    gone = client.delete(f"results/{run}", params={"confirm": str(run)}, headers={"If-Match": result.headers["ETag"]})
    assert gone.json()["counts"]["jobs"] == 1, "a job without an item left is none"
    second = finished(b"another", status="done")
    job = client.get(f"results/{second}").json()["job"]
    assert client.delete(f"jobs/{job}", params={"confirm": job}).json()["counts"]["results"] == 1
    subject = client.delete(f"datasets/{dataset}/subjects/07", params={"confirm": "07"}).json()
    assert subject["counts"]["scans"] == 1
    assert client.get("scans").json()["items"] == []


def test_a_job_that_waits_is_not_deleted(client, finished, is_problem):
    run = finished(status="queued")
    job = client.get(f"results/{run}").json()["job"]
    problem = is_problem(client.delete(f"jobs/{job}", params={"confirm": job}), 409)
    assert "Cancel it" in problem["remedy"]


@pytest.mark.parametrize("path", ["scans/{}", "jobs/{}", "results/{}", "datasets/figures/subjects/x", "datasets/none"])
def test_what_is_not_there_is_not_found(client, dataset, is_problem, path):
    is_problem(client.delete(path.format(uuid.uuid4()), params={"confirm": "x"}), 404)
