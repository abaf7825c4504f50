"""What is counted for Prometheus: by this process as it works, and by the database when somebody asks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from voxelight.models.errors import Unavailable
from voxelight.storage.schema import Blob, Job

if TYPE_CHECKING:
    from voxelight.app.services import Services

_ITEM_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200)
_HTTP_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_SUM_EVERY_S = 60.0  # a sum over all blobs is not for every look

OWN = CollectorRegistry()
ITEM_SECONDS = Histogram(
    "voxelight_item_seconds", "Seconds that an item took.", ["kind", "recipe"], buckets=_ITEM_S, registry=OWN
)
ITEMS = Counter("voxelight_items", "Items that this process ended.", ["kind", "outcome"], registry=OWN)
TAKEN = Counter("voxelight_jobs_taken", "Jobs that this process took up.", ["queue"], registry=OWN)
MIXED = Counter("voxelight_items_mixed", "Items done in a batch of another job.", ["kind"], registry=OWN)
EVICTED = Counter("voxelight_warm_evicted", "Networks that made room for others.", registry=OWN)
HTTP_SECONDS = Histogram(
    "voxelight_http_request_seconds",
    "Seconds from a request to the end of its answer.",
    ["method", "route", "status"],
    buckets=_HTTP_S,
    registry=OWN,
)


class Stored(Collector):
    """Depth and age of the queues, workers, jobs and blobs, as the database has them.

    Parameters
    ----------
    services : the installation
    """

    def __init__(self, services: "Services") -> None:
        self._services = services
        self._summed: tuple[float, int] | None = None

    def collect(self) -> Iterator[Metric]:
        """Ask the database."""
        queues = self._services.workers.queues()
        for name, text, field in (
            ("depth", "Jobs that wait.", "waiting"),
            ("running", "Jobs that are being worked on.", "running"),
            ("items", "Items of them that are not done.", "items"),
            ("oldest_seconds", "Seconds since the oldest that waits was put there.", "oldest_s"),
            ("without_worker", "Jobs that wait for a larger worker than there is.", "without_worker"),
            ("workers", "Workers of the queue that live.", "workers"),
        ):
            family = GaugeMetricFamily(f"voxelight_queue_{name}", text, labels=["queue"])
            for row in queues:
                family.add_metric([row.queue], getattr(row, field))
            yield family
        states = GaugeMetricFamily("voxelight_workers", "Workers by state.", labels=["state"])
        workers = self._services.workers.list()
        for state in ("running", "draining", "stopped", "dead"):
            states.add_metric([state], sum(row.state == state for row in workers))
        yield states
        with self._services.stores.sessions() as session:
            jobs = GaugeMetricFamily("voxelight_jobs", "Jobs by kind and state.", labels=["kind", "status"])
            for kind, status, count in session.execute(
                select(Job.kind, Job.status, func.count()).group_by(Job.kind, Job.status)
            ):
                jobs.add_metric([kind, status], count)
            yield jobs
        yield GaugeMetricFamily("voxelight_blobs_bytes", "Bytes of all blobs that a row names.", self._sum_blobs())

    def _sum_blobs(self) -> int:
        if self._summed is None or time.monotonic() - self._summed[0] > _SUM_EVERY_S:
            with self._services.stores.sessions() as session:
                self._summed = time.monotonic(), int(session.scalar(select(func.sum(Blob.size))) or 0)
        return self._summed[1]


class Metrics:
    """Both together, in the text format of Prometheus.

    Parameters
    ----------
    services : the installation
    """

    def __init__(self, services: "Services") -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_All(Stored(services)))

    def render(self) -> bytes:
        """Return everything that is counted."""
        return generate_latest(self.registry)


@contextmanager
def serve_metrics(services: "Services", port: int | None, host: str) -> Iterator[None]:
    """Answer Prometheus on a port of its own while the block runs; without a port, nothing is opened.

    Raises
    ------
    Unavailable
        The port is taken.
    """
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, host, Metrics(services).registry)
    except OSError as error:
        raise Unavailable(f"port {port} of {host} ({error.strerror})", "a free port", "Choose another.") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _All(Collector):
    """What the database says and what this process counted."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def collect(self) -> Iterator[Metric]:
        yield from self._stored.collect()
        yield from OWN.collect()

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked when it is registered."""
        return iter(())
