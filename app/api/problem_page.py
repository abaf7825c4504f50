"""An error as a page, for a person whom a link or an identity provider sent to an address of the API."""

from html import escape

from fastapi import Request, Response

from voxelight.app.api.dependencies import PREFIX
from voxelight.app.api.static import protect
from voxelight.app.schemas import NOTICE, Problem

_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Voxelight: {title}</title>
  <link rel="stylesheet" href="{prefix}/static/theme.css">
  <link rel="stylesheet" href="{prefix}/static/sign-in.css">
  <script src="{prefix}/static/page.js"></script>
</head>
<body>
  <main class="vx-page">
    <h1>{title}</h1>
    <p>Found {found}; expected {expected}.</p>
    <p>{remedy}</p>
    <p><a href="/">Back to the page</a></p>
    <p class="vx-muted">{notice}</p>
  </main>
</body>
</html>
"""


def wants_page(request: Request) -> bool:
    """Return whether a browser shows the answer to a person; programs and scripts don't ask for HTML."""
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")


def show_problem(problem: Problem) -> Response:
    """Return an error as a page that loads nothing from elsewhere."""
    texts = {name: escape(getattr(problem, name)) for name in ("title", "found", "expected", "remedy")}
    page = _PAGE.format(prefix=PREFIX, notice=NOTICE, **texts)
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    return protect(Response(page, problem.status, headers, "text/html; charset=utf-8"), "problem")
