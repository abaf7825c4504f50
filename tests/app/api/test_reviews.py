"""Reviews and follow-up over HTTP: versions, pictures, reports, refusals."""

import re
import uuid
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from voxelight.app.schemas import DatasetRequest


@pytest.fixture
def result(services, store_label_map, make, tmp_path):
    """Id of the run of a small label map."""
    services.datasets.create(DatasetRequest(name="heads"))
    path = tmp_path / "head.nii.gz"
    path.write_bytes(make.nifti((12, 12, 12)))
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[3:8, 3:8, 3:8] = 1
    return store_label_map(services, path, labels, {1: "<b>lesion"}, "heads")


def test_a_review_has_a_version_that_a_later_one_must_have_seen(client, result, is_problem):
    address = f"results/{result}/reviews/Reader A"
    first = client.put(address, json={"verdict": "accept", "comment": "fine"})
    assert (first.status_code, first.headers["etag"]) == (200, '"1"')
    assert client.get(address, headers={"If-None-Match": '"1"'}).status_code == 304
    second = client.put(address, json={"verdict": "reject"}, headers={"If-Match": '"1"'})
    assert (second.json()["verdict"], second.json()["comment"], second.headers["etag"]) == ("reject", "", '"2"')
    is_problem(client.put(address, json={"verdict": "accept"}, headers={"If-Match": '"1"'}), 412)
    is_problem(client.delete(address, headers={"If-Match": '"1"'}), 412)
    assert client.delete(address).status_code == 204
    is_problem(client.get(address), 404)


@pytest.mark.parametrize("body", [{"verdict": "perhaps"}, {}, {"verdict": "accept", "mood": 1}, {"verdict": None}])
def test_what_is_no_review_is_refused(client, result, is_problem, body):
    is_problem(client.put(f"results/{result}/reviews/Ada", json=body), 422)


@pytest.mark.parametrize("name", ["%20", "a%00b", "x" * 121, "line%0abreak"])
def test_what_is_no_name_is_refused(client, result, is_problem, name):
    is_problem(client.put(f"results/{result}/reviews/{name}", json={"verdict": "accept"}), 422)


def test_cases_hide_others_until_the_own_view_is_saved(client, result):
    job = client.get(f"results/{result}").json()["job"]
    client.put(f"results/{result}/reviews/Ada", json={"verdict": "reject"})
    [blind] = client.get(f"jobs/{job}/cases", params={"reviewer": "Bob"}).json()["items"]
    assert (blind["others"], blind["hidden"]) == ([], 1)
    client.put(f"results/{result}/reviews/Bob", json={"verdict": "accept"})
    seen = client.get(f"results/{result}/case", params={"reviewer": "Bob"}).json()
    assert [each["reviewer"] for each in seen["others"]] == ["Ada"]
    assert client.get(f"jobs/{job}/progress", params={"reviewer": "Bob"}).json()["reviewed"] == 1
    found = client.get(f"jobs/{job}/agreement", params={"first": "Ada", "second": "Bob"}).json()
    assert (found["items"], found["kappa"], found["observed"]) == (1, 0, 0)
    assert found["notice"] == "Not for clinical use."


def test_the_sheet_is_a_picture_that_is_not_sent_twice(client, result, is_problem):
    answer = client.get(f"results/{result}/sheet")
    assert answer.headers["content-type"] == "image/png"
    with Image.open(BytesIO(answer.content)) as picture:
        assert picture.width > 1000
    again = client.get(f"results/{result}/sheet", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    is_problem(client.get(f"results/{result}/sheet", params={"convention": "other"}), 422)
    is_problem(client.get(f"results/{uuid.uuid4()}/sheet"), 404)


def test_the_group_report_stands_by_itself_and_takes_names_as_text(client, result):
    job = client.get(f"results/{result}").json()["job"]
    client.put(f"results/{result}/reviews/Ada", json={"verdict": "accept"})
    group = client.get(f"jobs/{job}/group").json()
    assert group["cases"] == 1
    assert group["verdicts"] == {"accept": 1, "unsure": 0, "reject": 0}
    page = client.get(f"jobs/{job}/group.html")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "Not for clinical use" in page.text
    assert "<b>lesion" not in page.text
    assert not re.search(r"<script|src=|href=|url\(", page.text)


def test_follow_up_over_http(client, result, is_problem):
    [series] = client.get("datasets/heads/followup").json()["items"]
    address = f"datasets/heads/subjects/{series['subject']}/followup"
    answer = client.get(address, params={"minimal_change_ml": 0.1, "day": ["01:0"]}).json()
    assert answer["structures"][0]["visits"][0]["volume_ml"] == pytest.approx(0.125)
    for wrong in ({"minimal_change_ml": -1}, {"minimal_change_percent": "nan"}, {"day": "x"}, {"colour": "red"}):
        is_problem(client.get(address, params=wrong), 422)
    is_problem(client.get("datasets/heads/subjects/nobody/followup"), 404)
    is_problem(client.get("datasets/nothing/followup"), 404)
