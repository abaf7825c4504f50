"""A report as PDF, set without a browser, in the typeface that matplotlib carries."""

import io
from collections.abc import Sequence
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import WrapMode, XPos, YPos
from fpdf.fonts import FontFace

from voxelight.app.exports.report import SCORE_HEAD, ItemPart, JobPart, Picture, Report

_FONT = "DejaVu"
_FACES = {"": "DejaVuSans.ttf", "B": "DejaVuSans-Bold.ttf"}
_ACCENT, _ALARM, _GREY = (31, 95, 139), (143, 29, 29), (74, 88, 102)
_A_ROW = 4
_GAP_MM, _SHEET_MM, _PICTURE_MM = 3.0, 180.0, 42.0
_WIDTHS = (56, 28, 38, 28, 20, 16)


def write_pdf(report: Report) -> bytes:
    """Return the report as PDF, A4."""
    page = _Page(report.notices)
    page.say(report.title, 18, bold=True)
    page.say(f"{report.made}. {report.size}.", 9, _GREY)
    for notice in report.notices:
        page.say(notice, 10, bold=True)
    for job in report.jobs:
        _write_job(page, job)
    for title, texts in (("Licences", report.licences), ("Cite", report.citations)):
        page.head(title, 14)
        for text in texts:
            page.say(f"• {text}", 9)
    page.set_title(report.title)
    page.set_creator("Voxelight")
    page.set_subject(" ".join(report.notices))
    page.set_lang("en")
    return bytes(page.output())


class _Page(FPDF):
    """Pages with the notice at their foot."""

    def __init__(self, notices: Sequence[str]) -> None:
        super().__init__(format="A4")
        self._notices = notices
        for style, name in _FACES.items():
            self.add_font(_FONT, style, _find_font(name))
        self.set_font(_FONT, size=9)
        self.set_auto_page_break(True, margin=18)
        self.set_margin(15)
        self.add_page()

    def footer(self) -> None:
        """Say on every page what it must not be used for."""
        self.set_y(-13)
        self.set_font(_FONT, size=7)
        self.set_text_color(*_GREY)
        self.cell(0, 5, f"{' '.join(self._notices)}   Page {self.page_no()} of {{nb}}", align="C")

    def say(self, text: str, size: float, colour: tuple[int, int, int] = (0, 0, 0), bold: bool = False) -> None:
        """Set a paragraph."""
        self.set_font(_FONT, "B" if bold else "", size)
        self.set_text_color(*colour)
        self.multi_cell(
            0,
            size * 0.5,
            text,
            new_x=XPos.LMARGIN,
            new_y=YPos.NEXT,
            wrapmode=WrapMode.CHAR if _long(text) else WrapMode.WORD,
        )

    def head(self, text: str, size: float) -> None:
        """Set a heading that stands in the outline of the file."""
        self.ln(3)
        if self.will_page_break(30):
            self.add_page()
        self.start_section(text, level=0 if size > 12 else 1)
        self.say(text, size, _ACCENT, bold=True)

    def show(self, picture: Picture, width: float, x: float) -> float:
        """Place a picture with its words below, and return how high both are."""
        height = width * picture.height / picture.width
        top = self.get_y()
        self.image(io.BytesIO(picture.content), x=x, y=top, w=width, h=height, alt_text=picture.alt)
        self.set_font(_FONT, size=6.5)
        self.set_text_color(*_GREY)
        self.set_xy(x, top + height)
        self.cell(width, 4, picture.alt)
        self.set_y(top)
        return height + 5


def _write_job(page: _Page, job: JobPart) -> None:
    page.head(job.title, 14)
    for mark in job.marks:
        page.say(mark, 10, _ALARM, bold=True)
    for name, value in job.facts:
        page.say(f"{name}: {value}", 9)
    _write_table(page, SCORE_HEAD, job.scores, _WIDTHS)
    if job.evaluation:
        page.ln(2)
        page.say(job.evaluation.about, 8, _GREY)
        _write_table(page, job.evaluation.head, job.evaluation.rows, None)
    for note in job.notes:
        page.say(f"• {note}", 8, _GREY)
    for sheet in job.sheets:
        width = min(_SHEET_MM, 230 * sheet.width / sheet.height)
        page.ln(2)
        if page.will_page_break(width * sheet.height / sheet.width + 5):
            page.add_page()
        page.ln(page.show(sheet, width, page.l_margin))
    for item in job.items:
        _write_item(page, item)
    if job.left_out:
        page.say(f"{job.left_out} more results are not shown here; the tables of the export hold them.", 9, _GREY)


def _write_item(page: _Page, item: ItemPart) -> None:
    alone = len(item.pictures) == 1
    width = min(_SHEET_MM * 0.75, 2.4 * _PICTURE_MM) if alone else _PICTURE_MM
    rows = [item.pictures[start : start + _A_ROW] for start in range(0, len(item.pictures), _A_ROW)]
    heights = [max(width * picture.height / picture.width for picture in row) + 5 for row in rows]
    if page.will_page_break(14 + 5 * len(item.lines) + sum(heights[:1])):  # a heading stays with its pictures
        page.add_page()
    page.head(item.title, 11)
    for line in item.lines:
        page.say(line, 8)
    page.ln(1)
    for row, highest in zip(rows, heights, strict=True):
        if page.will_page_break(highest):
            page.add_page()
        for place, picture in enumerate(row):
            page.show(picture, width, page.l_margin + place * (width + _GAP_MM))
        page.ln(highest)
    _write_table(page, SCORE_HEAD, item.scores, _WIDTHS)


def _write_table(page: _Page, head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int] | None) -> None:
    if not rows:
        return
    page.ln(1)
    page.set_font(_FONT, size=7.5 if widths else 6)
    page.set_text_color(0, 0, 0)
    page.set_draw_color(195, 204, 213)
    bold = FontFace(emphasis="BOLD", fill_color=(244, 246, 248))
    with page.table(col_widths=widths, line_height=4.5, headings_style=bold, text_align="LEFT") as table:
        for cells in (head, *rows):
            table.row(cells)


def _long(text: str) -> bool:
    return any(len(word) > 80 for word in text.split())


def _find_font(name: str) -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
