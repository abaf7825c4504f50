"""The documents as pages of the server: every one is there, and every link of them and to them leads somewhere."""

import ast
import posixpath
import re
from html import unescape
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from voxelight.app.api import documents, static
from voxelight.app.api.problems import HANDLERS
from voxelight.app.documents import ADDRESS, FOLDER, INDEX, find_address, list_documents, read_document
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.navigation import SCREENS

UI = Path(__file__).resolve().parents[3] / "app" / "ui"


@pytest.fixture(scope="module")
def client():
    """Before the routes of the documents alone, which need no installation."""
    api = FastAPI(exception_handlers=HANDLERS)
    api.include_router(documents.router)
    api.include_router(static.router)
    return TestClient(api)


def exists(name, anchor):
    return name in list_documents() and (not anchor or anchor in read_document(name).anchors)


def test_every_file_of_the_folder_is_a_document():
    assert set(list_documents()) == {path.relative_to(FOLDER).as_posix()[:-3] for path in FOLDER.rglob("*.md")}
    assert INDEX in list_documents()


@pytest.mark.parametrize("name", list_documents())
def test_a_document_asks_only_its_server_and_links_to_what_is_there(client, name):
    answer = client.get(f"pages/docs/{name}")
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "Not for clinical use" in answer.text
    place = f"pages/docs/{name}"
    broken = []
    for link in map(unescape, re.findall(r'(?:href|src)="([^"]+)"', answer.text)):
        target, _, anchor = link.partition("#")
        if re.match(r"https?:", target):
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target)) if target else place
        if path.startswith("pages/docs/"):
            found = exists(path.removeprefix("pages/docs/"), anchor)
        else:
            found = path == "../.." or client.get(path).status_code == 200
        if not found:
            broken.append(link)
    assert not broken


def test_a_document_reads_as_it_was_written(client):
    page = client.get("pages/docs/http").text
    assert '<h2 id="what-holds-for-every-route">What holds for every route</h2>' in page
    assert "<td><code>bad-request</code></td>" in page
    assert "curl -sSf &quot;$URL/datasets&quot;" in page
    assert "<title>HTTP – Voxelight</title>" in page


@pytest.mark.parametrize("name", ["nothing", "../README", "..%2f..%2fpyproject", "__init__", "README.md"])
def test_what_is_no_document_is_refused(client, name):
    answer = client.get(f"pages/docs/{name}")
    assert answer.status_code == 404
    assert answer.json()["remedy"]


def test_every_page_of_the_navigation_has_its_help():
    assert {screen.file for screen in SCREENS} == {path.stem for path in (UI / "screens").glob("[a-z]*.py")}
    lost = [screen.title for screen in SCREENS if not exists(screen.document, screen.anchor)]
    assert not lost


def test_every_link_from_the_page_to_the_documents_leads_somewhere():
    links = [
        tuple(argument.value for argument in node.args[:2])
        for path in UI.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tell_more"
    ]
    assert len(links) > 10
    assert not [link for link in links if not exists(link[0], link[1] if len(link) > 1 else "")]
    bare = [path.name for path in UI.rglob("*.py") if re.search(r"docs/\w+\.md", path.read_text())]
    assert not bare, "link to the document: its file is not where the reader is"


def test_a_link_names_document_and_part():
    assert tell_more("review", "follow-up") == f"[More]({ADDRESS}review#follow-up)"
    assert find_address("review") == "/api/v1/pages/docs/review"
