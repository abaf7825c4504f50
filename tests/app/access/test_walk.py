"""Every route, as everybody: what each role may ask is what `docs/access.md` says, and a stranger learns nothing.

To write the table anew after a change that is meant: VOXELIGHT_WRITE_MATRIX=1 pytest tests/app/access/test_walk.py
"""

import base64
import io
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from voxelight.app.schemas_access import AccountRequest, KeyRequest, MemberRequest
from voxelight.app.schemas_uploads import UploadRequest

PAGE = Path(__file__).parents[3] / "docs" / "access.md"
ROLES = ("viewer", "operator", "reviewer", "admin")
COLUMNS = ("nobody", *ROLES, "other project", "installation")
FEW = ("nobody", "viewer", "other project")  # that the second kind of database is asked as, for speed
BEGIN, END = "<!-- matrix -->\n", "<!-- end -->\n"
WRITES = bool(os.environ.get("VOXELIGHT_WRITE_MATRIX"))
Body = Callable[[Any], dict[str, Any]]


def map_bytes() -> bytes:
    array = np.zeros((10, 9, 8), np.uint8)
    array[2:5, 2:6, 2:6], array[5:8, 2:6, 2:6] = 1, 2
    return nib.Nifti1Image(array, np.eye(4)).to_bytes()


def png_bytes() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(36, dtype=np.uint8).reshape(6, 6)).save(file, "PNG")
    return file.getvalue()


def tus(**more: str) -> dict[str, str]:
    return {"Tus-Resumable": "1.0.0", **more}


def metadata(things) -> str:
    pairs = {"filename": "new.dcm", "dataset": things["dataset"], "batch": str(uuid.uuid4())}
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in pairs.items())


def submit(things) -> dict[str, Any]:
    scans = [str(things["scan_id"])]
    return {"kind": "segment", "recipe": "hippocampus-agunet", "dataset": things["dataset"], "scans": scans}


STALE = {"If-Match": '"0"'}  # so that what may be changed is there for the next person
DRY = {"params": {"dry_run": "true"}}
WHO = {"author": "somebody", "reason": "a test"}
# What a route needs beside the ids in its path, given what lies in the project; those that need nothing are not here.
NEEDS: dict[str, Body] = {
    "POST /datasets": lambda _: {"json": {"name": f"new-{uuid.uuid4().hex[:6]}"}},
    "PATCH /datasets/{name}": lambda _: {"json": {"purpose": "a test"}, "headers": STALE},
    "PUT /datasets/{dataset}/scans/{filename}": lambda _: {"content": b"no scan"},
    "POST /scans/{scan_id}/release": lambda _: {"json": WHO},
    "POST /scans/{scan_id}/reject": lambda _: {"json": WHO},
    "POST /scans/{scan_id}/deface": lambda _: {"json": WHO},
    "POST /links": lambda things: {"json": {"path": f"/api/v1/artifacts/{things['artifact_id']}"}},
    "POST /results/{run_id}/relink": lambda _: {"json": {**WHO, "key": "0" * 64}},
    "GET /recipes/{name}/scans": lambda things: {"params": {"dataset": things["dataset"]}},
    "POST /recordings/index": lambda things: {"json": {"path": str(things["opened"])}},
    "POST /datasets/{name}/recordings": lambda things: {"json": {"path": str(things["opened"])}},
    "POST /jobs": lambda things: {"json": submit(things)},
    "PATCH /jobs/{job_id}": lambda _: {"json": {"priority": 1}},
    "POST /searches": lambda _: {"json": {"title": f"new {uuid.uuid4().hex[:6]}", "query": {}}},
    "PATCH /searches/{slug}": lambda _: {"json": {"title": "renamed"}, "headers": STALE},
    "DELETE /searches/{slug}": lambda _: {"headers": STALE},
    "GET /compare": lambda things: {"params": {"a": str(things["job_id"]), "b": str(things["job_id"])}},
    "GET /jobs/{job_id}/progress": lambda _: {"params": {"reviewer": "Ada"}},
    "GET /jobs/{job_id}/agreement": lambda things: {"params": {"first": things["reviewer"], "second": "Ada"}},
    "PUT /results/{run_id}/reviews/{reviewer}": lambda _: {"json": {"verdict": "accept"}, "headers": STALE},
    "DELETE /results/{run_id}/reviews/{reviewer}": lambda _: {"headers": STALE},
    "POST /vectors/near": lambda things: {"json": {"result": str(things["run_id"])}},
    "POST /vectors/near/picture": lambda _: {"content": png_bytes()},
    "DELETE /datasets/{name}": lambda _: DRY,
    "DELETE /datasets/{name}/subjects/{subject}": lambda _: DRY,
    "DELETE /scans/{scan_id}": lambda _: DRY,
    "DELETE /jobs/{job_id}": lambda _: DRY,
    "DELETE /results/{run_id}": lambda _: DRY,
    "POST /uploads": lambda things: {"headers": tus(**{"Upload-Length": "5", "Upload-Metadata": metadata(things)})},
    "HEAD /uploads/{upload_id}": lambda _: {"headers": tus()},
    "PATCH /uploads/{upload_id}": lambda _: {
        "headers": tus(**{"Upload-Offset": "3", "Content-Type": "application/offset+octet-stream"}),
        "content": b"x",
    },
    "DELETE /uploads/{upload_id}": lambda _: {"headers": tus()},
    "POST /uploads/assign": lambda _: {"json": {"names": ["a.nii"], "pattern": "{subject}.nii"}},
    "POST /results/{run_id}/corrections": lambda things: {
        "params": {"author": "somebody", "base": str(things["artifact_id"])},
        "content": map_bytes(),
    },
    "POST /results/{run_id}/interpolation": lambda _: {"params": {"label": 1}, "content": map_bytes()},
    "POST /jobs/{job_id}/evaluation": lambda _: {"json": {}},
    "POST /jobs/{job_id}/evaluation/maps": lambda things: {"json": {"dataset": things["dataset"]}},
    "POST /jobs/{job_id}/relevance": lambda _: {"json": {}},
    "GET /exports": lambda things: {"params": {"run": str(things["run_id"])}},
    "GET /exports/{name}": lambda things: {"params": {"run": str(things["run_id"])}},
    "POST /accounts": lambda _: {"json": {"name": f"new-{uuid.uuid4().hex[:6]}"}},
    "POST /projects": lambda _: {"json": {"name": f"new-{uuid.uuid4().hex[:6]}"}},
    "PUT /projects/{project}/members/{account}": lambda _: {"json": {"role": "viewer"}},
    "POST /keys": lambda _: {"json": {"account": "spare"}},
    "POST /session": lambda _: {"json": {"key": "vxl_none_none"}},
}
# What takes away what it is about is given another one each time.
ANEW: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    "DELETE /uploads/{upload_id}": lambda house, things: {
        "upload_id": house.uploads.create(
            UploadRequest(name="gone.dcm", dataset=things["dataset"], size=5, batch=uuid.uuid4())
        ).id
    },
    "DELETE /projects/{project}/members/{account}": lambda house, things: (
        house.access.set_member(things["project"], "spare", MemberRequest(role="viewer")) and {}
    ),
    "DELETE /keys/{prefix}": lambda house, _: {"prefix": house.access.add_key(KeyRequest(account="spare")).prefix},
}
FIXED = {
    "account": "spare",
    "filename": "new.nii.gz",
    "file": "theme.css",
    "page": "viewer",
    "document": "README",
    "recipe": "hippocampus-agunet",
    "export": "metrics.csv",
    "spare": "spare",
}
# What `{name}` means where it stands.
NAMED = {
    "/datasets/{name}": "dataset",
    "/recipes/{name}": "recipe",
    "/exports/{name}": "export",
    "/accounts/{name}": "spare",
    "/pages/docs/{name}": "document",
    "/pages/{name}": "page",
}
# What a segmentation can't answer to: refused by the verb, not by the form of the question.
UNFIT = {"GET /jobs/{job_id}/curve", "GET /compare"}
PICTURES = {"GET /scans/{scan_id}/thumbnail", "GET /scans/{scan_id}/face", "POST /scans/{scan_id}/deface"}


@pytest.fixture
def routes(door) -> list[str]:
    """Every route, by method and path."""
    paths = door.get("http://localhost/api/openapi.json").json()["paths"]
    return [f"{method.upper()} {path.removeprefix('/v1')}" for path, methods in paths.items() for method in methods]


@pytest.fixture
def ask(house, door):
    """Send one request for a route, about what lies in a project, with a key or without; return answer and words."""

    def _ask(route: str, found, headers: dict[str, str]) -> tuple[Any, str]:
        things = (
            found.named
            | FIXED
            | {"opened": house.settings.data_roots[0]}
            | (ANEW[route](house, found.named) if route in ANEW else {})
        )
        if route in PICTURES:
            things["scan_id"] = things["picture_id"]
        method, path = route.split(" ", 1)
        start = next((named for stem, named in NAMED.items() if path.startswith(stem)), "")
        path = re.sub(r"\{(\w+)\}", lambda one: str(things[start if one[1] == "name" else one[1]]), path)
        request = NEEDS[route](things) if route in NEEDS else {}
        request = {**request, "headers": {**request.get("headers", {}), **headers}}
        answer = door.request(method, path.lstrip("/"), **request)
        sealed = things["dataset"] if "Upload-Metadata" in request["headers"] else ""
        return answer, f"{path} {request.get('params')} {request.get('json')} {sealed}"

    return _ask


def judge(status: int) -> str:
    """Return what a status means for whoever asked."""
    return str(status) if status in (401, 403, 404) or status >= 500 else "yes"


def read_page() -> dict[str, tuple[str, ...]]:
    """The table of the document: route -> what everybody is answered."""
    body = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = [[cell.strip(" `") for cell in line.strip("|\n ").split("|")] for line in body.splitlines()[2:]]
    return {row[0]: tuple(row[1:]) for row in rows}


def write_page(matrix: dict[str, tuple[str, ...]]) -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    head = [f"| route | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    rows = [
        f"| `{route}` | {' | '.join(cells)} |"
        for route, cells in sorted(matrix.items(), key=lambda one: one[0].split()[::-1])
    ]
    PAGE.write_text(before + BEGIN + "\n".join([*head, *rows]) + "\n" + END + rest.partition(END)[2])


def test_every_route_asks_who_is_there_and_answers_each_role_as_the_document_says(house, things, people, routes, ask):
    if "spare" not in {account.name for account in house.access.list_accounts()}:
        house.access.add_account(AccountRequest(name="spare"))
    known = read_page()
    if not WRITES:
        assert set(routes) == set(known), "a route that docs/access.md does not know, or one that is gone"
    matrix, told, unfit = {}, [], []
    own = things["zebra"]
    for route in routes:
        cells = []
        for column in COLUMNS if house.stores.engine.dialect.name == "sqlite" else FEW:
            answer, asked = ask(route, own, people[column].headers)
            cells.append(judge(answer.status_code))
            known_unfit = column == "viewer" and route in UNFIT
            if column in ("viewer", "other project") and answer.status_code == 422 and not known_unfit:
                unfit.append(f"{route} as {column}: {answer.text[:300]}")
            if column in ("nobody", "other project"):
                said = f"{answer.status_code} {answer.text[:400]}"
                told += [f"{route} to {column}: {word} in {said}" for word in find_told(answer, own, asked)]
        matrix[route] = tuple(cells)
    assert not unfit, "\n".join(["a question that this test puts wrongly tells nothing about roles", *unfit])
    assert not told, "\n".join(["a stranger read what lies in another project", *told])
    if WRITES:
        write_page(matrix)
        return
    asked = COLUMNS if len(cells) == len(COLUMNS) else FEW
    meant = {route: tuple(row[COLUMNS.index(column)] for column in asked) for route, row in known.items()}
    assert {route: cells for route, cells in matrix.items() if cells != meant[route]} == {}


def find_told(answer, own, asked: str) -> list[str]:
    """Return the names and ids of a project that an answer tells, but for those that stood in the question."""
    body = f"{answer.content.decode('utf-8', 'replace')} {answer.headers}"
    names = re.findall(rf"[\w.-]*{own.word}[\w.-]*", body)
    return [text for text in [*names, *(one for one in own.texts() if one in body)] if text not in asked]


def test_what_opens_nothing_any_more_is_answered_as_nobody(things, outsiders, routes, ask):
    public = {route for route, cells in read_page().items() if cells[0] == "yes"}
    for route in (
        "GET /datasets",
        "POST /jobs",
        "GET /artifacts/{artifact_id}",
        "GET /me",
        "PATCH /uploads/{upload_id}",
    ):
        assert route in set(routes) - public
        nobody, _ = ask(route, things["zebra"], {})
        for name, key in outsiders.items():
            answer, _ = ask(route, things["zebra"], {"Authorization": f"Bearer {key}"})
            assert answer.status_code == nobody.status_code == 401, (route, name)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert key not in answer.text or not key


def test_only_files_of_the_package_health_and_the_way_in_are_open_to_nobody():
    public = {route for route, cells in read_page().items() if cells[0] != "401"}
    assert public == {
        *("GET /health", "GET /pages/{name}", "GET /pages/docs/{name}", "GET /static/{file}"),
        *("GET /session", "DELETE /session", "GET /session/provider", "GET /session/provider/callback"),
    }
