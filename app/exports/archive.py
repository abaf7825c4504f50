"""One archive of an export: every format gives its members while results go by, and what describes them comes last."""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from voxelight.app.exports.bids import BidsFormat
from voxelight.app.exports.citations import describe_licence, list_citations
from voxelight.app.exports.dicom import DicomSegFormat, RtStructFormat
from voxelight.app.exports.entries import Contents, Entry, Member, Problems
from voxelight.app.exports.folders import NiftiFormat
from voxelight.app.exports.pictures import PicturesFormat
from voxelight.app.exports.report import ReportFormat
from voxelight.app.exports.surfaces import ColoursFormat, SurfacesFormat
from voxelight.app.exports.tables import TablesFormat, read_back
from voxelight.app.schemas import DECODING_NOTICE, NOTICE, JobAnswer
from voxelight.app.schemas_exports import ExportFormat

_IN_MEMORY = 1 << 22


class Format(Protocol):
    """One form in which results are taken home."""

    def add_job(self, job: JobAnswer) -> Iterator[Member]:
        """Give what belongs to a job as a whole, before its first result."""
        ...

    def add(self, entry: Entry) -> Iterator[Member]:
        """Give the members of one result."""
        ...

    def finish(self) -> Iterator[Member]:
        """Give what describes all of them."""
        ...


def list_members(
    entries: Iterable[Entry],
    names: Sequence[ExportFormat],
    contents: Contents,
    show_job: Callable[[Entry], JobAnswer],
) -> Iterator[Member]:
    """Yield the members of an archive.

    Parameters
    ----------
    entries : results, in any order
    names : formats
    contents : where the bytes lie
    show_job : the job of a result
    """
    problems, seen = Problems(), set()
    formats = [FORMATS[name](contents, problems) for name in dict.fromkeys(names)]
    cited: dict[str, None] = {}
    licences: dict[str, None] = {}
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as provenance:
        for entry in entries:
            if entry.result.job not in seen:
                seen.add(entry.result.job)
                job = show_job(entry)
                for each in formats:
                    yield from each.add_job(job)
            for each in formats:
                yield from each.add(entry)
            cited |= dict.fromkeys(list_citations(entry))
            licences |= dict.fromkeys(describe_licence(entry))
            provenance.write(_describe(entry))
        for each in formats:
            yield from each.finish()
        yield Member("provenance.jsonl", read_back(provenance))
        yield Member("CITATIONS.txt", [_lines(cited)])
        yield Member("LICENCES.txt", [_lines(licences)])
        if problems:
            yield Member("problems.json", [json.dumps(problems, indent=2).encode()])
        yield Member("README.txt", [_README.encode()])


def _describe(entry: Entry) -> bytes:
    result = entry.result
    fields = {"id", "job", "kind", "recipe", "dataset", "subject", "session", "scan", "item", "model", "simulated"}
    told = result.model_dump(mode="json", include=fields | {"weights_sha256", "random_weights", "provenance"})
    told |= {"scan_sha256": entry.scan_sha256, "files": {file.name: file.sha256 for file in result.artifacts}}
    return f"{json.dumps(told, ensure_ascii=False)}\n".encode()


def _lines(texts: Iterable[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


_README = f"""Results of Voxelight. {NOTICE}
{DECODING_NOTICE}

bids/          a BIDS derivative data set: label maps, and decoded pictures in a folder of their own
nifti/         label maps, corrections and maps as they are stored, by data set, subject and session
dicom-seg/     label maps of scans that came as DICOM, on their series
rtstruct/      contours of the same, for planning systems
surfaces/      STL a label and one GLB, in RAS mm
colours/       names and colours of labels for 3D Slicer (.ctbl) and ITK-SNAP
pictures/      grids of what was decoded, overlays and contact sheets of label maps, as PNG
tables/        every score with its interval, as CSV and Parquet; volumes by label, as CSV
report/        one HTML page and the same as PDF; evaluations of jobs
provenance.jsonl  one line a result: recipe, seed, options, hashes of inputs, weights and files
problems.json  what could not be exported and why, where there was any
CITATIONS.txt, LICENCES.txt  whom to name, and under which terms

A folder is there only if it was asked for.
"""

FORMATS: dict[ExportFormat, Callable[[Contents, Problems], Format]] = {
    "bids": lambda contents, _: BidsFormat(contents),
    "nifti": lambda contents, _: NiftiFormat(contents),
    "dicom-seg": DicomSegFormat,
    "rtstruct": RtStructFormat,
    "surfaces": SurfacesFormat,
    "colours": lambda _contents, _problems: ColoursFormat(),
    "pictures": lambda contents, _: PicturesFormat(contents),
    "tables": lambda _contents, _problems: TablesFormat(),
    "report": lambda contents, _: ReportFormat(contents),
}
