"""What is counted, logged and traced, and that one request can be followed through all of it."""

import io
import json
import logging
import socket
import urllib.request
from dataclasses import replace

import httpx
import pytest
from imitated import SEGMENT, fill, wait
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from voxelight.app import traces
from voxelight.app.api import create_api
from voxelight.app.api.metrics import MetricsDoor
from voxelight.app.logs import JsonLines, about, log_as_json, name_request
from voxelight.app.metrics import serve_metrics
from voxelight.app.traces import NotInstalled
from voxelight.app.worker import working
from voxelight.models.errors import Unavailable

sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def read(text):
    """Metric and labels -> value."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def ask(services):
    """Ask the API in this process, without a socket."""
    import anyio

    async def send(app, method, path, **request):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **request)

    api, metrics = create_api(services), MetricsDoor(services)

    def ask(method, path, **request):
        return anyio.run(lambda: send(metrics if path == "/metrics" else api, method, path, **request))

    return ask


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_metrics_say_what_waits_and_what_was_done(services, ask):
    fill(services, 3)
    before = read(ask("GET", "/metrics").text)
    job = services.jobs.submit(SEGMENT)
    waiting = read(ask("GET", "/metrics").text)
    assert waiting["voxelight_queue_depth", "cpu"] == 1
    assert waiting["voxelight_queue_items", "cpu"] == 3
    assert waiting["voxelight_queue_oldest_seconds", "cpu"] > 0
    assert waiting["voxelight_queue_workers", "cpu"] == 0
    assert waiting["voxelight_jobs", "queued", "segment"] == 1
    assert waiting["voxelight_blobs_bytes",] > 3 * 24 * 32 * 24 * 4 / 10
    with working(services, ("cpu",)):
        wait(services, job.id)
        after = read(ask("GET", "/metrics").text)
    assert after["voxelight_queue_depth", "cpu"] == after["voxelight_queue_oldest_seconds", "cpu"] == 0
    assert after["voxelight_workers", "running"] == 1

    def grew(*name):
        return after[name] - before.get(name, 0)

    assert grew("voxelight_items_total", "done", "segment") == 3
    assert grew("voxelight_item_seconds_count", "hippocampus-agunet", "segment") == 3
    assert grew("voxelight_item_seconds_sum", "hippocampus-agunet", "segment") > 0
    assert grew("voxelight_jobs_taken_total", "cpu") == 1


@sqlite
def test_requests_are_counted_by_route_and_keep_their_id(services, ask):
    missing = "/v1/jobs/00000000-0000-0000-0000-000000000000"
    before = read(ask("GET", "/metrics").text)
    answer = ask("GET", missing, headers={"X-Request-ID": "one-of-mine"})
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (404, "one-of-mine")
    assert ask("GET", "/v1/health").headers["X-Request-ID"] != ask("GET", "/v1/health").headers["X-Request-ID"]
    counted = read(ask("GET", "/metrics").text)
    grew = {name for name, count in counted.items() if count != before.get(name, 0)}
    [found] = {name[1:] for name in grew if name[0] == "voxelight_http_request_seconds_count" and "404" in name}
    assert found == ("/v1/jobs/{job_id}", "404", "GET") or set(found) >= {"404", "GET"}
    assert not any("00000000" in part for part in found), "an id is no label"
    assert name_request("two\nlines") != "two\nlines"


@sqlite
def test_a_worker_serves_its_metrics_on_a_port_of_its_own(services):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match="free port"), serve_metrics(services, port, "127.0.0.1"):
            pass
    with serve_metrics(services, port, "127.0.0.1"):
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        assert read(text)["voxelight_queue_depth", "gpu"] == 0


@sqlite
def test_a_line_of_the_log_names_the_request_that_asked_for_the_job(services):
    fill(services, 1)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("voxelight.app.runner")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        with about(request="request-7"):
            job = services.jobs.submit(SEGMENT)
        with working(services, ("cpu",)):
            wait(services, job.id)
    finally:
        logger.removeHandler(handler)
        logger.setLevel("NOTSET")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    done = [line for line in lines if "done in" in line["message"]]
    [run] = services.jobs.list_runs(job.id)
    assert [(line["request"], line["job"], line["run"]) for line in done] == [("request-7", str(job.id), str(run.id))]
    assert done[0]["worker"].endswith("-embedded")
    assert {"at", "level", "logger"} <= set(done[0])


@sqlite
def test_the_engine_logs_where_the_process_logs_at_each_start(services, monkeypatch):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    streams = [io.StringIO(), io.StringIO()]
    for stream in streams:  # as a notebook or a test that catches what is printed does
        monkeypatch.setattr("sys.stderr", stream)
        with working(services, ("cpu",)):
            logging.getLogger("dbos").warning("of the engine")
        assert stream.getvalue().count("of the engine") == 1
        stream.close()
    lines = io.StringIO()
    log_as_json(lines)
    with working(services, ("cpu",)):
        logging.getLogger("dbos").warning("of the engine")
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [line["logger"] for line in said if line["message"] == "of the engine"] == ["dbos"]


@sqlite
def test_one_trace_goes_from_the_request_to_the_pipeline(services):
    fill(services, 1)
    kept = InMemorySpanExporter()
    traces.trace(kept)
    try:
        with traces.span("request"):
            job = services.jobs.submit(SEGMENT)
        with working(services, ("cpu",)):
            wait(services, job.id)
    finally:
        traces.stop()
    spans = {span.name: span for span in kept.get_finished_spans()}
    assert set(spans) == {"request", "job", "step", "pipeline"}
    for child, parent in (("job", "request"), ("step", "job"), ("pipeline", "step")):
        assert spans[child].parent.span_id == spans[parent].context.span_id
    assert len({span.context.trace_id for span in spans.values()}) == 1
    assert spans["job"].attributes["voxelight.job"] == str(job.id)
    kept.clear()
    with traces.span("request"):
        assert traces.find_parent() == ""
    assert kept.get_finished_spans() == (), "off unless asked for"


def test_traces_without_their_packages_say_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(NotInstalled, match=r"voxelight\[traces\]"):
        traces.trace()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_numbers_are_for_who_administers_the_installation(services):
    import anyio

    guarded = MetricsDoor(replace(services, settings=services.settings.model_copy(update={"auth": "keys"})))

    async def send():
        transport = httpx.ASGITransport(app=guarded)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/metrics")

    assert anyio.run(send).status_code == 401
