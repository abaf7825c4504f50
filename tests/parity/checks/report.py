"""Option, outcome and table of the parity runner: a plugin that `tests/conftest.py` registers."""

import pytest
from checks.folder import find_files, find_folder

FIGURE = "parity-figure"


def pytest_addoption(parser: pytest.Parser) -> None:
    # pytest has a flag of this name, a second spelling of its --funcargs, which stays.
    flag = parser.optparser._option_string_actions.pop("--fixtures")
    flag.option_strings.remove("--fixtures")
    del parser._opt2dest["--fixtures"]
    parser.addoption(
        "--fixtures",
        dest="fixtures_folder",
        metavar="DIR",
        help="folder of parity fixtures, searched recursively; ../shared/fixtures beside the checkout if not given. "
        "The fixtures of pytest are listed by --funcargs.",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("fixtures_folder"):
        return
    folder = find_folder(config)
    if not folder.is_dir():
        raise pytest.UsageError(f"--fixtures: there is no folder {folder}")
    if not find_files(folder):
        raise pytest.UsageError(
            f"--fixtures: found no parity fixture (a .json and a .safetensors) in {folder} or below"
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    notes = [note for report in reports for note in _notes(report)]
    rows = [note for name, note in notes if name == FIGURE]
    if rows:
        terminalreporter.section("largest errors beside the published code")
        _write_rows(terminalreporter, rows)


def _notes(report) -> list[tuple[str, dict]]:
    return report.user_properties if isinstance(report, pytest.TestReport) and report.when == "call" else []


def _write_rows(out: pytest.TerminalReporter, rows: list[dict]) -> None:
    wide = max(len(f"{row['file']} {row['output']}") for row in rows)
    out.line(
        f"{'file and output':{wide}}  {'values':>8}  {'absolute':>9}  {'relative':>9}  share of tolerance", bold=True
    )
    for row in sorted(rows, key=lambda row: (row["file"], row["output"])):
        name = f"{row['file']} {row['output']}"
        figures = f"{row['values']:8}  {row['absolute']:9.2e}  {row['relative']:9.2e}  {row['used']:.3f}"
        out.line(f"{name:{wide}}  {figures}  {'' if row['agrees'] else 'DISAGREES'}".rstrip(), red=not row["agrees"])
