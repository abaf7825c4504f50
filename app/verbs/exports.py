"""Take results home: everything that fits a query, in the forms that were asked for, as a stream."""

import uuid
from collections.abc import Iterator, Sequence
from itertools import islice

from sqlalchemy import func, select

from voxelight.app.exports.archive import list_members
from voxelight.app.exports.citations import describe_licence
from voxelight.app.exports.dicom import SUFFIX
from voxelight.app.exports.entries import Contents, Entry, Member, gather
from voxelight.app.exports.tables import rows_of_job, rows_of_result, write_csv, write_parquet
from voxelight.app.exports.zipping import stream_zip
from voxelight.app.schemas import DECODING, DECODING_NOTICE, NOTICE, JobAnswer, ResultAnswer, ResultQuery
from voxelight.app.schemas_exports import ExportAnswer, ExportFormat, FormatAnswer
from voxelight.app.verbs.jobs import Jobs
from voxelight.app.verbs.privacy import refuse_export
from voxelight.app.verbs.results import Results
from voxelight.models.errors import NotFound
from voxelight.storage.audit import note
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Artifact, Dataset, Run
from voxelight.storage.stores import Stores

COUNTED = 5000
_PAGE = 100
_TITLES: dict[ExportFormat, str] = {
    "bids": "BIDS derivatives",
    "nifti": "NIfTI",
    "dicom-seg": "DICOM-SEG",
    "rtstruct": "RTSTRUCT",
    "surfaces": "Surfaces (STL and GLB)",
    "colours": "Colour tables (3D Slicer and ITK-SNAP)",
    "pictures": "Pictures (PNG)",
    "tables": "Scores (CSV and Parquet)",
    "report": "Report (HTML and PDF)",
}


class Exports:
    """Results as files; nothing of an export stays on the server."""

    def __init__(self, stores: Stores, results: Results, jobs: Jobs) -> None:
        self._stores = stores
        self._results = results
        self._jobs = jobs
        self._contents = Contents(stores.blobs, stores.checks)

    def plan(self, query: ResultQuery, runs: Sequence[uuid.UUID] = ()) -> ExportAnswer:
        """Say what an export would hold, counting the first `COUNTED` results.

        Raises
        ------
        NotFound
            No result fits.
        Refused
            A data set among them keeps identity in its headers.
        """
        self._refuse_kept(query, runs)
        entries = list(islice(self._walk(query, runs), COUNTED + 1))
        self._refuse_none(entries)
        more = len(entries) > COUNTED
        entries = entries[:COUNTED]
        simulated = sum(entry.result.simulated for entry in entries)
        random = sum(entry.result.random_weights for entry in entries)
        warnings = [f"More than {COUNTED} results: the numbers are those of the first {COUNTED}."] if more else []
        warnings += [f"{simulated} results are of simulated data: nobody was scanned."] if simulated else []
        warnings += [f"{random} results come from random weights: they mean nothing."] if random else []
        licences = [line.rpartition(": ") for entry in entries for line in describe_licence(entry)]
        decoded = any(entry.result.kind in DECODING for entry in entries)
        return ExportAnswer(
            results=len(entries),
            jobs=len({entry.result.job for entry in entries}),
            datasets=sorted({entry.result.dataset for entry in entries}),
            bytes=sum(file.size for entry in entries for file in entry.result.artifacts),
            formats=_count(entries, self._count_job_files(entries)),
            licences={name: licence for name, _, licence in licences},
            warnings=warnings,
            notice=DECODING_NOTICE if decoded else NOTICE,
        )

    def stream(self, query: ResultQuery, runs: Sequence[uuid.UUID], formats: Sequence[ExportFormat]) -> Iterator[bytes]:
        """Return the bytes of an archive; what speaks against it is said before the first of them.

        Raises
        ------
        NotFound, Refused
            As `plan`.
        """
        return stream_zip(self.list_members(query, runs, formats))

    def list_members(
        self, query: ResultQuery, runs: Sequence[uuid.UUID], formats: Sequence[ExportFormat]
    ) -> Iterator[Member]:
        """Return what an archive would hold, file by file.

        Raises
        ------
        NotFound, Refused
            As `plan`.
        """
        return list_members(self._open(query, runs), formats, self._contents, self._show_job)

    def report(self, query: ResultQuery, runs: Sequence[uuid.UUID] = (), pdf: bool = False) -> bytes:
        """Return a report as HTML or as PDF.

        Raises
        ------
        NotFound, Refused
            As `plan`.
        """
        from voxelight.app.exports.report import ReportBuilder

        builder, seen = ReportBuilder(self._contents), set()
        for entry in self._open(query, runs):
            if entry.result.job not in seen:
                seen.add(entry.result.job)
                builder.add_job(self._show_job(entry))
            builder.add(entry)
        if pdf:
            from voxelight.app.exports.pdf import write_pdf

            return write_pdf(builder.report)
        from voxelight.app.exports.html import write_html

        return write_html(builder.report).encode()

    def tabulate(self, query: ResultQuery, runs: Sequence[uuid.UUID] = (), parquet: bool = False) -> Iterator[bytes]:
        """Return all scores as CSV or Parquet.

        Raises
        ------
        NotFound, Refused
            As `plan`.
        """
        tables = self._rows(self._open(query, runs))
        return write_parquet(tables) if parquet else write_csv(row for rows in tables for row in rows)

    def _rows(self, entries: Iterator[Entry]) -> Iterator[list[dict[str, object]]]:
        seen = set()
        for entry in entries:
            if entry.result.job not in seen:
                seen.add(entry.result.job)
                yield rows_of_job(self._show_job(entry))
            yield rows_of_result(entry)

    def _open(self, query: ResultQuery, runs: Sequence[uuid.UUID]) -> Iterator[Entry]:
        self._refuse_kept(query, runs)
        entries = self._walk(query, runs)
        first = list(islice(entries, 1))
        self._refuse_none(first)
        with self._stores.sessions.begin() as session:
            note(
                session,
                "export results",
                f"job {query.job}" if query.job else "results",
                runs=[str(run) for run in runs],
            )
        return (entry for some in (first, entries) for entry in some)

    def _walk(self, query: ResultQuery, runs: Sequence[uuid.UUID]) -> Iterator[Entry]:
        found = (self._results.show(run) for run in dict.fromkeys(runs)) if runs else self._results.walk(query)
        while page := list(islice(found, _PAGE)):
            yield from self._gather(page)

    def _gather(self, page: list[ResultAnswer]) -> list[Entry]:
        with self._stores.sessions() as session:
            return gather(session, page)

    def _count_job_files(self, entries: Sequence[Entry]) -> dict[str, int]:
        """Return how many files of each role belong to the jobs as a whole."""
        jobs = {entry.result.job for entry in entries}
        with self._stores.sessions() as session:
            found = select(Artifact.role, func.count()).where(Artifact.job_id.in_(jobs), Artifact.run_id.is_(None))
            return dict(session.execute(found.group_by(Artifact.role)).all())

    def _show_job(self, entry: Entry) -> JobAnswer:
        return self._jobs.show(entry.result.job)

    def _refuse_kept(self, query: ResultQuery, runs: Sequence[uuid.UUID]) -> None:
        """Refuse the whole of it where one data set among the results may not leave."""
        with self._stores.sessions() as session:
            if runs:
                for run in runs:
                    refuse_export(find_row(session, Run, run).job.dataset)
                return
            kept = session.scalars(select(Dataset).where(Dataset.keeps_headers)).all()
        for dataset in kept:
            if query.dataset in (None, dataset.name):
                there = self._results.pick(query.model_copy(update={"dataset": dataset.name}), ("id",), limit=1)
                if there.items:
                    refuse_export(dataset)

    @staticmethod
    def _refuse_none(entries: Sequence[Entry]) -> None:
        if not entries:
            raise NotFound("no result that fits", "at least one", "Loosen the conditions.")


def _count(entries: Sequence[Entry], of_jobs: dict[str, int]) -> list[FormatAnswer]:
    maps = sum(len(entry.find("label_map")) + len(entry.corrections) for entry in entries)
    series = sum(
        len(entry.find("label_map")) + len(entry.corrections)
        for entry in entries
        if entry.result.kind == "segment" and entry.result.scan.endswith(SUFFIX)
    )
    pictures = sum(len(entry.find("overlay")) + len(entry.find("reconstruction")) for entry in entries)
    scores = sum(len(entry.result.metrics) for entry in entries)
    counts: dict[ExportFormat, tuple[int, str]] = {
        "bids": (maps + pictures, "Nothing was segmented or decoded to pictures."),
        "nifti": (maps + of_jobs.get("relevance_map", 0), "Nothing was segmented, and no decoder was mapped."),
        "dicom-seg": (series, "No scan that was segmented came as a DICOM series."),
        "rtstruct": (series, "No scan that was segmented came as a DICOM series."),
        "surfaces": (maps, "Nothing was segmented."),
        "colours": (
            len({entry.result.recipe for entry in entries if entry.result.kind == "segment"}) * 2,
            "Nothing was segmented.",
        ),
        "pictures": (
            maps + pictures + sum(of_jobs.get(role, 0) for role in ("contact_sheet", "relevance")),
            "Nothing was drawn or decoded to pictures.",
        ),
        "tables": (scores, "No result has a score."),
        "report": (len(entries), ""),
    }
    return [
        FormatAnswer(name=name, title=_TITLES[name], files=count, reason="" if count else reason)
        for name, (count, reason) in counts.items()
    ]
