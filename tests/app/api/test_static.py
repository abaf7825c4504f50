"""Our own pages: sent with a strict policy, cached by their content, and nothing else of the machine beside them."""

import re

import pytest

from voxelight.app.api.static import FOLDER

PAGES = sorted(path.stem for path in FOLDER.glob("*.html"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_may_load_and_ask_nothing_but_its_server(client, name):
    answer = client.get(f"pages/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'self'"
    assert not re.search(r"unsafe-|https?:|\*", answer.headers["content-security-policy"])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_is_not_for_and_names_only_files_that_are_there(client, name):
    page = client.get(f"pages/{name}").text
    assert "Not for clinical use" in page
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|<style|\sstyle=", page), "the policy forbids inline code"
    named = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert named
    for address in set(named) - {"data:,", "../../../"}:  # no icon, and the page Upload, which is not of the API
        assert address.startswith("../"), "relative, so that it holds behind a proxy's prefix"
        assert client.get(address.removeprefix("../")).status_code == 200, address


@pytest.mark.parametrize(
    ("file", "media_type"),
    [
        ("theme.css", "text/css; charset=utf-8"),
        ("page.js", "text/javascript; charset=utf-8"),
        ("vendor/tus-4.3.1.min.js", "text/javascript; charset=utf-8"),
        ("vendor/niivue-0.69.0.LICENSE", "text/plain; charset=utf-8"),
    ],
)
def test_a_file_comes_as_what_it_is(client, file, media_type):
    answer = client.get(f"static/{file}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content == (FOLDER / file).read_bytes()


def test_what_the_browser_has_is_not_sent_again(client):
    first = client.get("static/theme.css")
    again = client.get("static/theme.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("static/theme.css", headers={"If-None-Match": '"other"'}).status_code == 200
    assert "no-cache" in first.headers["cache-control"]
    assert "immutable" in client.get("static/vendor/tus-4.3.1.min.js").headers["cache-control"]


@pytest.mark.parametrize(
    "path",
    [
        "static/__init__.py",
        "static/vendor",
        "static/upload.html",
        "static/",
        "static/..%2fsettings.py",
        "static/..%2f..%2fREADME.md",
        "static/%2fetc%2fpasswd",
        "static/vendor%2f..%2ftheme.css",
        "pages/..%2f..%2fui%2fmain",
        "pages/nothing",
        "pages/vendor",
    ],
)
def test_nothing_but_the_files_of_the_pages_is_sent(client, is_problem, path):
    is_problem(client.get(path), 404)


def test_a_name_with_a_nul_character_is_refused(client, is_problem):
    is_problem(client.get("static/theme.css%00"), 422)
