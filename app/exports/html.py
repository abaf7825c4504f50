"""A report as one HTML page that asks nobody for anything: style and pictures lie inside."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from voxelight.app.exports.report import SCORE_HEAD, ItemPart, JobPart, Picture, Report
from voxelight.models.pages import read_style

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_MORE = '<p class="muted">{count} more results are not shown here; the tables and folders of the export hold them.</p>'


def write_html(report: Report) -> str:
    """Return the report as a page."""
    notices = "".join(f'<p class="notice">{escape(each)}</p>' for each in report.notices)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(report.title)}</title><style>{read_style()}{_STYLE}</style></head><body>"
        f"<header><h1>{escape(report.title)}</h1><p class=muted>{escape(report.made)}. "
        f"{report.size}.</p>{notices}</header>"
        f"<main>{''.join(map(_write_job, report.jobs))}"
        f"<section><h2>Licences</h2>{_list(report.licences)}</section>"
        f"<section><h2>Cite</h2>{_list(report.citations)}</section></main>"
        f"<footer>{notices}</footer></body></html>\n"
    )


def _write_job(job: JobPart) -> str:
    marks = "".join(f'<p class="alarm">{escape(mark)}</p>' for mark in job.marks)
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in job.facts)
    sheets = "".join(f'<p class="sheet">{_picture(picture)}</p>' for picture in job.sheets)
    items = "".join(map(_write_item, job.items))
    table = job.evaluation
    evaluated = f'<p class="muted">{escape(table.about)}</p>{_table(table.head, table.rows)}' if table else ""
    more = _MORE.format(count=job.left_out) if job.left_out else ""
    return (
        f"<section><h2>{escape(job.title)}</h2>{marks}<dl>{facts}</dl>{_table(SCORE_HEAD, job.scores)}"
        f"{evaluated}{_list(job.notes)}"
        f"{sheets}<ul class='items'>{items}</ul>{more}</section>"
    )


def _write_item(item: ItemPart) -> str:
    pictures = "".join(
        f"<figure>{_picture(picture)}<figcaption>{escape(picture.alt)}</figcaption></figure>"
        for picture in item.pictures
    )
    lines = "".join(f"<p>{escape(line)}</p>" for line in item.lines)
    return (
        f'<li class="card"><h3>{escape(item.title)}</h3><div class="kinds">{pictures}</div>{lines}'
        f"{_table(SCORE_HEAD, item.scores)}</li>"
    )


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        '<div class="scroll" role="region" aria-label="Scores" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _list(texts: Iterable[str]) -> str:
    points = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{points}</ul>" if points else ""


def _picture(picture: Picture) -> str:
    source = f"data:image/png;base64,{base64.b64encode(picture.content).decode()}"
    return f'<img src="{source}" alt="{escape(picture.alt)}" width="{picture.width}" height="{picture.height}">'


_STYLE = """
.kinds img { max-width: 100%; height: auto; image-rendering: auto; border: 1px solid var(--edge); }
.kinds figure { max-width: 260px; }
.items { grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); }
.sheet img { max-width: 100%; height: auto; }
.card p { margin: 2px 0; overflow-wrap: anywhere; }
@media print { .card { break-inside: avoid; } }
"""
