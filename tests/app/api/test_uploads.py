"""Uploads over HTTP: what is kept, and that nothing stays of what is refused."""

import gzip
import hashlib
import io
import pickle
from urllib.parse import quote

import numpy as np
import pytest


def claiming_terabytes(content: bytes) -> bytes:
    """The same header with sides of 30000 voxels."""
    dim = np.array([3, 30000, 30000, 30000, 1, 1, 1, 1], "<i2").tobytes()
    return content[:40] + dim + content[56:]


def with_nan_affine(content: bytes) -> bytes:
    """The same header with a sform that is no number."""
    return content[:280] + np.full(4, np.nan, "<f4").tobytes() + content[296:]


def bomb(content: bytes) -> bytes:
    """A small image, and then half a gigabyte that packs into half a megabyte."""
    return gzip.compress(content) + gzip.compress(bytes(1 << 20)) * 512


def numpy_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


BAD_FILES = {
    "wrong suffix": ("scan.txt", lambda plain: plain),
    "no suffix": ("scan", lambda plain: plain),
    "another kind than the name says": ("scan.nii", lambda plain: b"\x89PNG\r\n\x1a\n" + plain),
    "truncated": ("scan.nii", lambda plain: plain[:-100]),
    "truncated gzip": ("scan.nii.gz", lambda plain: gzip.compress(plain)[:-30]),
    "claims terabytes": ("scan.nii", claiming_terabytes),
    "gzip bomb": ("scan.nii.gz", bomb),
    "NaN affine": ("scan.nii", with_nan_affine),
    "empty": ("scan.nii", lambda plain: b""),
    "pickle": ("betas.pkl", lambda plain: pickle.dumps([1, 2])),
    "pickle under the name of a picture": ("seen.png", lambda plain: pickle.dumps([1, 2])),
    "pickle under the name of betas": ("betas.mat", lambda plain: pickle.dumps({"fmriTrn": 1})),
    "NumPy array": ("betas.npy", lambda plain: numpy_array()),
    "damaged MATLAB": ("betas.mat", lambda plain: b"MATLAB 5.0 MAT-file" + bytes(300)),
    "table without stimuli": ("events.tsv", lambda plain: b"onset\tduration\n1\t2\n"),
}
BAD_NAMES = [
    "../evil.nii",
    "../../../etc/passwd",
    "/etc/passwd.nii",
    "a/b.nii",
    "..\\evil.nii",
    ".hidden.nii",
    "nul\0byte.nii",
    "C:scan.nii",
    "x" * 300 + ".nii",
]


def test_an_upload_is_kept_as_it_came(client, services, dataset, make):
    content = make.nifti()
    answer = client.put(
        f"datasets/{dataset}/scans/t1.nii.gz", params={"subject": "02", "session": "b"}, content=content
    )
    assert answer.status_code == 201
    scan = answer.json()
    assert (scan["name"], scan["kind"], scan["subject"], scan["session"]) == ("t1.nii.gz", "volume", "02", "b")
    assert scan["geometry"]["shape"] == [8, 9, 10]
    assert scan["sha256"] == hashlib.sha256(content).hexdigest()
    assert services.stores.blobs.read(scan["sha256"]) == content
    assert client.get(answer.headers["location"].removeprefix("/api/v1/")).json() == scan


def test_a_scan_has_a_small_picture(client, upload, make):
    scan = upload("t1.nii.gz", make.nifti())
    answer = client.get(f"scans/{scan['id']}/thumbnail")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")


def test_what_has_no_picture_says_so(client, upload, make, is_problem):
    scan = upload("events.tsv", make.events_tsv(4))
    is_problem(client.get(f"scans/{scan['id']}/thumbnail"), 404)


@pytest.mark.parametrize("fault", BAD_FILES)
def test_a_bad_file_leaves_nothing(client, dataset, state, make, is_problem, fault):
    name, spoil = BAD_FILES[fault]
    before = state()
    content = spoil(make.nifti(packed=False))
    problem = is_problem(client.put(f"datasets/{dataset}/scans/{name}", content=content), 422)
    assert problem["type"] == "urn:voxelight:problem:bad-input"
    assert state() == before


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_with_a_trick_leaves_nothing(client, dataset, state, make, is_problem, name):
    before = state()
    path = f"datasets/{dataset}/scans/{quote(name, safe='')}"
    problem = is_problem(client.put(path, content=make.nifti(packed=False)), 422)
    assert "file name" in problem["expected"] or "NUL" in problem["found"]
    assert state() == before


def test_a_name_of_two_lines_has_no_route(client, dataset, state, is_problem):
    before = state()
    is_problem(client.put(f"datasets/{dataset}/scans/two%0Alines.nii", content=b"x"), 404)
    assert state() == before


@pytest.mark.parametrize("where", [{"subject": "../x"}, {"session": ""}, {"subject": "a b"}, {"unknown": "x"}])
def test_a_place_that_is_none_leaves_nothing(client, dataset, state, make, is_problem, where):
    before = state()
    is_problem(client.put(f"datasets/{dataset}/scans/t1.nii.gz", params=where, content=make.nifti()), 422)
    assert state() == before


def test_a_name_is_given_once_in_a_session(client, dataset, upload, state, make, is_problem):
    upload("t1.nii.gz", make.nifti())
    before = state()
    is_problem(client.put(f"datasets/{dataset}/scans/t1.nii.gz", content=make.nifti((4, 4, 4))), 409)
    assert state() == before
    upload("t1.nii.gz", make.nifti((4, 4, 4)), session="02")


def test_an_upload_needs_its_data_set(client, state, make, is_problem):
    before = state()
    problem = is_problem(client.put("datasets/nowhere/scans/t1.nii.gz", content=make.nifti()), 404)
    assert "nowhere" in problem["found"]
    assert state() == before


def test_scans_are_listed_by_what_is_asked(client, upload, make):
    upload("a.nii.gz", make.nifti(), subject="01")
    upload("b.nii.gz", make.nifti((4, 4, 4, 3)), subject="01")
    upload("c.nii.gz", make.nifti((5, 5, 5)), subject="02")

    def names(**conditions: str) -> list[str]:
        return [scan["name"] for scan in client.get("scans", params=conditions).json()["items"]]

    assert names() == ["c.nii.gz", "b.nii.gz", "a.nii.gz"]
    assert names(subject="01") == ["b.nii.gz", "a.nii.gz"]
    assert names(kind="series") == ["b.nii.gz"]
    assert names(dataset="figures", kind="volume", subject="02") == ["c.nii.gz"]
    assert client.get("scans", params={"dataset": "nowhere"}).status_code == 404
