"""Secrets of the settings are planted, and then looked for in everything that is written, stored or answered."""

import io
import json
import logging
import secrets
import uuid

import fsspec
import pytest
from click.testing import CliRunner
from moto.server import ThreadedMotoServer
from pydantic import SecretStr
from sqlalchemy import MetaData, create_engine, inspect, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.testclient import TestClient

from voxelight.app.api import create_api
from voxelight.app.bootstrap import open_blobs, open_services
from voxelight.app.cli import main
from voxelight.app.doctor import LOOKS, examine
from voxelight.app.schemas import DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.app.settings import Settings
from voxelight.app.worker import working
from voxelight.models.errors import BadInput
from voxelight.storage.schema import Scan

BASE = "http://localhost/api/v1/"
SECRETS = [name for name, field in Settings.model_fields.items() if field.annotation is SecretStr]


def make_canary():
    return f"canary{secrets.token_hex(12)}"


@pytest.fixture
def canaries():
    """What must be found nowhere: setting -> secret."""
    planted = {name: make_canary() for name in [*SECRETS, "database password", "s3 key", "s3 secret", "url password"]}
    return planted | {"blob_keys": secrets.token_hex(32)}


@pytest.fixture
def server(postgres):
    """An empty database of PostgreSQL, and an object store."""
    name = f"secrets_{uuid.uuid4().hex}"
    engine = create_engine(make_url(postgres), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    store = ThreadedMotoServer(port=0)
    store.start()
    host, port = store.get_host_and_port()
    yield make_url(postgres).set(database=name), f"http://{host}:{port}"
    store.stop()
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def settings(tmp_path, server, canaries):
    url, endpoint = server
    options = {
        "key": canaries["s3 key"],
        "secret": canaries["s3 secret"],
        "client_kwargs": {"endpoint_url": endpoint},
        "skip_instance_cache": True,
    }
    fsspec.filesystem("s3", **options).mkdir("bucket")
    return Settings(
        home=tmp_path / "home",
        database_url=url.set(password=canaries["database password"]).render_as_string(hide_password=False),
        blobs_url="s3://bucket/voxelight",
        blobs_options=options,
        poll_s=0.05,
        **{name: canaries[name] for name in SECRETS},
    )


def dump(services):
    """Everything that the database holds, the tables of the job engine included."""
    engine, found = services.stores.engine, []
    with engine.connect() as connection:
        for schema in inspect(engine).get_schema_names():
            if schema in ("information_schema", "pg_catalog"):
                continue
            tables = MetaData(schema=schema)
            tables.reflect(connection)
            for table in tables.tables.values():
                found += [str(tuple(row)) for row in connection.execute(table.select())]
    return "\n".join(found)


def order(**more):
    return JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset="brain", options={"permutations": 0}, **more)


def test_no_secret_is_logged_stored_or_answered(settings, canaries, betas_mat, make_mat, caplog, capfd, monkeypatch):
    monkeypatch.setattr(
        "voxelight.app.doctor.LOOKS", {name: LOOKS[name] for name in ("database", "blob store", "home")}
    )
    assert {"blob_keys", "oidc_client_secret"} <= set(SECRETS)
    caplog.set_level(logging.DEBUG, "voxelight")
    caplog.set_level(logging.INFO)
    services = open_services(settings)
    said = [repr(settings), str(settings), repr(services), repr(services.stores.blobs.__dict__.get("_keys"))]
    services.datasets.create(DatasetRequest(name="brain", consent="public", purpose="a test", simulated=True))
    for name, content in (("good.mat", betas_mat), ("lost.mat", make_mat())):
        services.scans.ingest(io.BytesIO(content), ScanRequest(name=name, dataset="brain"))
    with services.stores.sessions() as session:
        scans = {scan.name: scan for scan in session.query(Scan)}
    lost = scans["lost.mat"]
    client = TestClient(create_api(services), BASE, root_path="/api", raise_server_exceptions=False)
    jobs = [services.jobs.submit(order(scans=[scan.id])) for scan in scans.values()]
    services.stores.blobs.remove(lost.blob_sha256)
    with working(services):
        for job in jobs:
            _wait(services, job.id)
    statuses = {services.jobs.show(job.id).status for job in jobs}
    assert statuses == {"done", "failed"}
    said += [client.get(f"jobs/{job.id}/items").text + client.get(f"jobs/{job.id}/log").text for job in jobs]
    said += [result.model_dump_json() for result in services.results.walk(ResultQuery())]
    said += [client.get(path).text for path in ("health", "datasets", "results", "models", "audit/export")]
    with services.stores.engine.begin() as connection:
        connection.execute(text("ALTER TABLE saved_search RENAME TO hidden"))
    said += [client.get("searches").text, client.get(f"scans/{lost.id}/content").text]
    with services.stores.engine.begin() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO saved_search"))
    said.append(dump(services))
    for folder in (settings.home,):
        said += [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
    store = fsspec.filesystem("s3", **settings.blobs_options)
    said += [store.cat_file(path).decode("latin-1") for path in store.find("bucket")]
    said += [check.model_dump_json() for check in examine(settings)]
    services.close()
    said += [caplog.text, *capfd.readouterr()]
    assert len(caplog.text) + len(said[-1]) > 100  # something was logged, so that there was something to find
    found = {name for name, canary in canaries.items() if any(canary in text for text in said)}
    assert found == set()


def _wait(services, job_id):
    import time

    for _ in range(1200):
        if services.jobs.show(job_id).status in ("done", "failed"):
            return
        time.sleep(0.05)
    raise AssertionError(services.jobs.show(job_id))


@pytest.mark.parametrize(
    "line",
    [
        "databse_url = 'postgresql://user:{0}@host/name'",
        "blob_keys = ['{0}']",
        "poll_s = '{0}'",
        "blobs_options = '{0}'",
    ],
)
def test_a_setting_that_is_wrong_is_not_repeated(tmp_path, line):
    canary = make_canary()
    home = tmp_path / "home"
    home.mkdir()
    (home / "voxelight.toml").write_text(line.format(canary))
    for more in ([], ["--json"]):
        result = CliRunner().invoke(main, ["--home", str(home), "datasets", "list", *more])
        assert result.exit_code == 2, result.output
        assert canary not in result.output + result.stderr
        assert line.split()[0] in result.stderr


def test_an_error_of_the_database_does_not_repeat_what_was_written(services):
    canary = make_canary()
    with pytest.raises(SQLAlchemyError) as raised, services.stores.engine.begin() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:value)"), {"value": canary})
    assert canary not in str(raised.value)


def test_the_doctor_and_the_page_name_a_store_without_its_password(tmp_path, monkeypatch):
    canary = make_canary()
    settings = Settings(home=tmp_path, blobs_url=f"s3://user:{canary}@bucket/place")
    assert settings.shown_blobs_url == "s3://***@bucket/place"
    with pytest.raises(BadInput, match="BLOBS_OPTIONS") as raised:
        open_blobs(settings)
    assert canary not in str(raised.value)
    monkeypatch.setattr("voxelight.app.doctor.LOOKS", {"blob store": LOOKS["blob store"]})
    assert canary not in json.dumps([check.model_dump() for check in examine(settings)])
