"""Scores as tables that other programs read, and the report as HTML and PDF."""

import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyarrow.parquet
import pypdf
import pytest

from voxelight.app.exports.html import write_html
from voxelight.app.exports.pdf import write_pdf
from voxelight.app.exports.report import ItemPart, JobPart, Picture, Report, Table
from voxelight.app.exports.tables import COLUMNS, write_csv
from voxelight.app.schemas import ResultQuery
from voxelight.storage.formats.images import encode_png


def test_csv_and_parquet_hold_the_same_scores_as_the_database(services, segmented, decoded):
    read = pd.read_csv(io.BytesIO(b"".join(services.exports.tabulate(ResultQuery()))))
    packed = b"".join(services.exports.tabulate(ResultQuery(), parquet=True))
    table = pd.read_parquet(io.BytesIO(packed))
    assert list(read) == list(table) == list(COLUMNS)
    assert len(read) == len(table)
    assert read["value"].to_numpy() == pytest.approx(table["value"].to_numpy())
    stored = {
        (str(result.id), metric.name, metric.label): metric.value
        for result in services.results.query(ResultQuery()).items
        for metric in result.metrics
    }
    rows = table[table["level"] == "result"]
    assert {(row.result, row.metric, row.label): row.value for row in rows.itertuples()} == stored
    job = table[(table["level"] == "job") & (table["metric"] == "two_way")].iloc[0]
    [own] = [metric for metric in decoded.metrics if metric.name == "two_way"]
    assert (job["value"], job["low"], job["high"], job["p"]) == (own.value, own.low, own.high, own.detail["p"])
    schema = pyarrow.parquet.read_schema(io.BytesIO(packed))
    assert str(schema.field("finished_at").type) == "timestamp[us, tz=UTC]"
    assert table["finished_at"].notna().all()


def test_text_that_a_spreadsheet_would_run_is_tamed():
    row = {"item": "=HYPERLINK(1)", "metric": "dice", "value": -0.5}
    [_, line] = b"".join(write_csv([row])).decode().splitlines()
    assert "'=HYPERLINK(1)" in line
    assert ",-0.5," in line


class Outside(HTMLParser):
    """Collects every address that a page would ask for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "data", "action", "srcset")]
        assert tag not in ("script", "link", "iframe", "object")
        assert not [name for name, _ in attributes if name.startswith("on")]


def test_the_html_report_asks_nobody_for_anything(services, segmented, decoded):
    page = services.exports.report(ResultQuery()).decode()
    reader = Outside()
    reader.feed(page)
    assert reader.found
    assert all(address.startswith("data:image/png;base64,") for address in reader.found)
    assert "url(" not in page
    assert "default-src 'none'" in page
    for text in ("Not for clinical use.", "Model estimate, not a photograph of thought.", "SIMULATED", "Two way",
                 "hippocampus-agunet on volumes", "Bouget", "anterior", str(decoded.id)):  # fmt: skip
        assert text in page
    [score] = [metric for metric in decoded.metrics if metric.name == "two_way"]
    assert f"{score.low:.3f} to {score.high:.3f}" in page


def test_names_are_shown_and_never_run():
    part = JobPart("<script>alert(1)</script>", ("<b>",), (("Job", "<i>"),), (), ("<u>",), ())
    part.items.append(ItemPart("<img src=x onerror=alert(1)>", (), ("<a>",), (("<s>", "1", "–", "–", "–", "–"),)))
    part.evaluation = Table("<em>", ("<th>",), (("<td>",),))
    page = write_html(Report(jobs=[part], citations={"<q>": None}))
    assert not re.search(r"<(script|b|i|u|a|s|q|em|img src=x)>", page)
    assert "&lt;script&gt;" in page


def read_pdf(content):
    reader = pypdf.PdfReader(io.BytesIO(content), strict=True)
    return reader, "\n".join(page.extract_text() for page in reader.pages)


def test_the_pdf_report_holds_the_same_text_and_pictures(services, segmented, decoded):
    reader, text = read_pdf(services.exports.report(ResultQuery(), pdf=True))
    for expected in ("SIMULATED", "hippocampus-agunet on volumes", "Two way", str(decoded.id), "Bouget"):
        assert expected in text
    assert all("Not for clinical use." in page.extract_text() for page in reader.pages)
    assert sum(len(page.images) for page in reader.pages) >= segmented.done + 2 * decoded.done
    assert {"hippocampus-agunet on volumes", "Cite"} <= {
        entry.title for entry in reader.outline if not isinstance(entry, list)
    }


def test_a_pdf_takes_any_letter_and_any_length():
    picture = Picture(encode_png(np.zeros((30, 40, 3), np.uint8)), "Seen", 40, 30)
    part = JobPart("Überprüfung λ → 心", (), (("Options", "x" * 500),), (), (), (picture,))
    part.items = [
        ItemPart(f"item {n}", (picture,) * 6, ("a line",), (("Dice", "1", "–", "–", "–", "–"),)) for n in range(20)
    ]
    content = write_pdf(Report(jobs=[part], results=20))
    reader, text = read_pdf(content)
    assert len(reader.pages) > 3
    assert "Überprüfung λ" in text
    assert text.count("x") >= 500
