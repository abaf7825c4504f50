"""The quality of betas as one HTML page that asks nobody for anything: tables and pictures lie inside."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "table{border-collapse:collapse;margin:.5rem 0}td,th{border-bottom:1px solid #d0d7de;padding:.25rem .75rem;"
    "text-align:left}img{max-width:100%;height:auto}.mark{background:#fff3c4;padding:.5rem 1rem;border-radius:6px}"
)


@dataclass(frozen=True)
class Section:
    """One part of the page: rows of a table, notes, and pictures as title -> PNG."""

    title: str
    rows: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def write_page(title: str, sections: Sequence[Section], simulated: bool) -> str:
    """Return the page.

    Parameters
    ----------
    title : of the page
    sections : in order
    simulated : whether the BOLD was made by a model, which stands at the top then
    """
    mark = '<p class="mark"><strong>SIMULATED</strong>: made by a model, not measured.</p>' if simulated else ""
    body = "".join(map(_write_section, sections))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{mark}{body}</body></html>\n"
    )


def _write_section(section: Section) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
                   for name, value in section.rows.items())  # fmt: skip
    notes = "".join(f"<li>{escape(note)}</li>" for note in section.notes)
    pictures = "".join(
        f'<figure><img alt="{escape(title)}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        f"<figcaption>{escape(title)}</figcaption></figure>"
        for title, content in section.pictures.items()
    )
    return (
        f"<section><h2>{escape(section.title)}</h2>"
        + (f"<table>{rows}</table>" if rows else "")
        + (f"<ul>{notes}</ul>" if notes else "")
        + pictures
        + "</section>"
    )
