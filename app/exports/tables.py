"""Scores as tables: one row a score, as CSV for spreadsheets and as Parquet with types."""

import csv
import io
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

from voxelight.app.exports.entries import Entry, Member
from voxelight.app.schemas import JobAnswer, MetricAnswer

CSV_TYPE, PARQUET_TYPE = "text/csv; charset=utf-8", "application/vnd.apache.parquet"
# Column -> type of Parquet.
COLUMNS = {
    "level": "string",
    "dataset": "string",
    "subject": "string",
    "session": "string",
    "scan": "string",
    "item": "string",
    "kind": "string",
    "recipe": "string",
    "model": "string",
    "weights_sha256": "string",
    "job": "string",
    "result": "string",
    "finished_at": "timestamp[us, tz=UTC]",
    "metric": "string",
    "label": "string",
    "value": "double",
    "low": "double",
    "high": "double",
    "unit": "string",
    "null_mean": "double",
    "p": "double",
    "n": "int64",
    "simulated": "bool",
    "random_weights": "bool",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ROWS_AT_ONCE = 5000
_CHUNK = 1 << 20
_IN_MEMORY = 1 << 22  # bytes, beyond which a table waits on disk
Row = dict[str, Any]


def rows_of_result(entry: Entry) -> list[Row]:
    """Return the scores of a result; its volumes are among them."""
    result = entry.result
    about = {
        "level": "result",
        "subject": result.subject,
        "session": result.session,
        "scan": result.scan,
        "item": result.item,
        "model": result.model,
        "weights_sha256": result.weights_sha256,
        "job": str(result.job),
        "result": str(result.id),
        "finished_at": result.finished_at,
    }
    shared = {name: getattr(result, name) for name in ("dataset", "kind", "recipe", "simulated", "random_weights")}
    return [_row(about | shared, metric) for metric in result.metrics]


def rows_of_job(job: JobAnswer) -> list[Row]:
    """Return the scores of a job as a whole."""
    about = {"level": "job", "model": job.model, "job": str(job.id), "finished_at": job.finished_at}
    shared = {name: getattr(job, name) for name in ("dataset", "kind", "recipe", "simulated", "random_weights")}
    return [_row(about | shared, metric) for metric in job.metrics]


def _row(about: Row, metric: MetricAnswer) -> Row:
    detail = metric.detail
    null = detail.get("null_mean", detail.get("controls", {}).get("null"))
    found = about | {name: getattr(metric, name) for name in ("label", "value", "low", "high", "unit")}
    return found | {"metric": metric.name, "null_mean": null, "p": detail.get("p"), "n": detail.get("n")}


def write_csv(rows: Iterable[Row], head: bool = True) -> Iterator[bytes]:
    """Yield rows as CSV; text that a spreadsheet would take for a formula is tamed by an apostrophe."""
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, list(COLUMNS), restval="", lineterminator="\n")
    if head:
        table.writeheader()
    for row in rows:
        table.writerow({name: _tame(value) for name, value in row.items() if value is not None})
        if buffer.tell() >= _CHUNK:
            yield _take(buffer)
    yield _take(buffer)


class ParquetTable:
    """A table of scores that grows on disk.

    Parameters
    ----------
    file : where to, seekable
    """

    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        types = {"string": pa.string(), "double": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}
        stamp = pa.timestamp("us", tz="UTC")
        self._table = pa.Table
        self._schema = pa.schema([(name, types.get(kind, stamp)) for name, kind in COLUMNS.items()])
        self._writer = ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[Row] = []

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows."""
        self._waiting += [{name: row.get(name) for name in COLUMNS} for row in rows]
        if len(self._waiting) >= _ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write what waits, and the end of the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(self._table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []


def write_parquet(rows: Iterable[list[Row]]) -> Iterator[bytes]:
    """Yield a table of rows, which come in lists, as Parquet."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        table = ParquetTable(file)
        for some in rows:
            table.add(some)
        table.close()
        yield from read_back(file)


def read_back(file: IO[bytes]) -> Iterator[bytes]:
    """Yield a file from its beginning."""
    file.seek(0)
    while piece := file.read(_CHUNK):
        yield piece


class TablesFormat:
    """All scores of an export, as `tables/metrics.csv` and `tables/metrics.parquet`."""

    def __init__(self) -> None:
        self._csv = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # closed at the end of the stream
        self._packed = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        self._table = ParquetTable(self._packed)
        self._begun = False
        self._volumes = [_line(["dataset", "subject", "session", "scan", "recipe", "label", "volume_ml"])]

    def add(self, entry: Entry) -> Iterator[Member]:
        """Note the scores of a result, and the volumes of its labels by themselves."""
        self._note(rows_of_result(entry))
        result = entry.result
        about = (result.dataset, result.subject, result.session, result.scan, result.recipe)
        self._volumes += [_line((*about, label, f"{ml:.6g}")) for label, ml in (result.volumes_ml or {}).items()]
        yield from ()

    def add_job(self, job: JobAnswer) -> Iterator[Member]:
        """Note the scores of a job as a whole."""
        self._note(rows_of_job(job))
        yield from ()

    def finish(self) -> Iterator[Member]:
        """Give the tables."""
        self._table.close()
        with self._csv, self._packed:
            yield Member("tables/metrics.csv", read_back(self._csv))
            yield Member("tables/metrics.parquet", read_back(self._packed))
        if len(self._volumes) > 1:
            yield Member("tables/volumes.csv", ["".join(self._volumes).encode()])

    def _note(self, rows: list[Row]) -> None:
        self._csv.writelines(write_csv(rows, head=not self._begun))
        self._begun = True
        self._table.add(rows)


def _line(values: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([_tame(value) for value in values])
    return text.getvalue()


def _tame(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return value.isoformat() if hasattr(value, "isoformat") else value


def _take(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode()
