"""The documents as pages of the server, so that help needs no network."""

from html import escape

from fastapi import APIRouter, Response

from voxelight.app.api.static import protect
from voxelight.app.documents import INDEX, Document, list_documents, read_document
from voxelight.app.schemas import NOTICE

router = APIRouter(tags=["pages"])

_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{title} – Voxelight</title>
  <link rel="stylesheet" href="{root}static/theme.css">
  <link rel="stylesheet" href="{root}static/docs.css">
  <script src="{root}static/page.js"></script>
</head>
<body>
  <header>
    <a href="{root}../../">Voxelight</a> <a href="{index}">All documents</a>
    <span class="vx-notice">{notice}</span>
  </header>
  <div class="vx-docs">
    <main>{text}</main>
    <nav aria-label="Documents"><h2>Documents</h2><ul>{pages}</ul></nav>
  </div>
</body>
</html>
"""


@router.get(
    "/pages/docs/{name:path}",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}, "description": "A document"}},
)
def show_document(name: str) -> Response:
    """Show a document, `uploads` for one, as a page that asks nobody else for anything."""
    document = read_document(name or INDEX)
    page = _PAGE.format(
        title=escape(document.title),
        notice=NOTICE,
        pages=_list_pages(document.name),
        text=document.html,
        root="../../" + _climb(document.name),
        index=_climb(document.name) + INDEX,
    )
    return protect(Response(page, media_type="text/html; charset=utf-8"), "docs")


def _list_pages(current: str) -> str:
    first: list[Document] = [read_document(name) for name in list_documents() if "/" not in name]
    return "".join(
        f'<li><a href="{_climb(current)}{each.name}"{" aria-current=page" if each.name == current else ""}>'
        f"{escape(each.title)}</a></li>"
        for each in sorted(first, key=lambda each: (each.name != INDEX, each.title))
    )


def _climb(name: str) -> str:
    """Return the way from a document to the folder of all; relative, so that it holds behind a proxy's prefix."""
    return "../" * name.count("/")
