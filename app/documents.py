"""The documents as pages: they come along with the code, so help needs no network."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from voxelight.models.errors import NotFound

FOLDER = Path(__file__).parents[1] / "docs"
INDEX = "README"
ADDRESS = "/api/v1/pages/docs/"
_ENDING = ".md"
_ELSEWHERE = re.compile(r"[a-z][a-z+.-]*:|/|#")


@dataclass(frozen=True)
class Document:
    """A document with its title and its text as HTML."""

    name: str
    title: str
    html: str
    anchors: frozenset[str]


def list_documents() -> list[str]:
    """Return the names of all documents, as they stand in addresses."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob(f"*{_ENDING}"))


def find_address(name: str, anchor: str = "") -> str:
    """Return where the page shows a document, or a part of it."""
    return f"{ADDRESS}{name}{'#' if anchor else ''}{anchor}"


def read_document(name: str) -> Document:
    """Return a document as HTML; links between documents lead from page to page.

    Parameters
    ----------
    name : path below the folder of documents, without its ending

    Raises
    ------
    NotFound
        No document has this name.
    """
    if name not in list_documents():  # only names that are there are read, so no name leads elsewhere
        raise NotFound(f"no document {name[:80]!r}", "one that this version brings", f"See {ADDRESS}{INDEX}.")
    path = FOLDER / f"{name}{_ENDING}"
    return _render(name, path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _render(name: str, path: Path, _modified_ns: int) -> Document:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(path.read_text(encoding="utf-8"))
    anchors, title = [], name
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            text = _read_text(following)
            anchors.append(_name_anchor(text))
            token.attrSet("id", anchors[-1])
            title = text if token.tag == "h1" else title
    for token in tokens:
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", _lead(name, str(child.attrs["href"])))
    html = parser.renderer.render(tokens, parser.options, {})
    return Document(name, title, _let_scroll(html, title), frozenset(anchors))


def _read_text(inline: Token) -> str:
    children: Sequence[Token] = inline.children or ()
    return "".join(child.content for child in children if child.type in ("text", "code_inline"))


def _name_anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _lead(name: str, link: str) -> str:
    """Return where a link of a document leads on the page; what lies outside of the documents is named, not shown."""
    if _ELSEWHERE.match(link):
        return link
    target, _, anchor = link.partition("#")
    inside = (FOLDER / name).parent.joinpath(target).resolve().is_relative_to(FOLDER.resolve())
    if not inside:
        return "#"
    return f"{target.removesuffix(_ENDING)}{'#' if anchor else ''}{anchor}"


def _let_scroll(html: str, title: str) -> str:
    """Let what is wider than a narrow screen be scrolled, by keyboard too."""
    label = f'tabindex="0" role="region" aria-label="Table of {escape(title)}"'
    html = html.replace("<table>", f'<div class="vx-wide" {label}><table>').replace("</table>", "</table></div>")
    return html.replace("<pre>", '<pre tabindex="0">')
