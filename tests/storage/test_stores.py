"""A crash between a file and its row leaves nothing that anybody sees, and nothing that a sweep does not take."""

import io
import os
import subprocess
import sys

import pytest
from sqlalchemy import func, select

from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.storage.schema import Blob, Scan

# Takes a file in and dies where the blob is stored and its row is not.
CRASH = """
import io, os, sys
from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import ScanRequest
from voxelight.app.settings import Settings
from voxelight.app.verbs import scans
services = open_services(Settings())
scans.name_blob = lambda *arguments: os._exit(9)
services.scans.ingest(io.BytesIO(sys.stdin.buffer.read()), ScanRequest(name="events.tsv", dataset="d"))
"""
EVENTS = b"stimulus\na\nb\n"


@pytest.fixture
def crashed(services):
    services.datasets.create(DatasetRequest(name="d"))
    services.scans.ingest(io.BytesIO(EVENTS + b"c\n"), ScanRequest(name="kept.tsv", dataset="d"))
    environment = os.environ | {
        "VOXELIGHT_HOME": str(services.settings.home),
        "VOXELIGHT_DATABASE_URL": services.settings.database_url,
    }
    ended = subprocess.run([sys.executable, "-c", CRASH], input=EVENTS, env=environment, timeout=60, check=False)
    assert ended.returncode == 9
    return services


def _count(services, table):
    with services.stores.sessions() as session:
        return session.scalar(select(func.count()).select_from(table))


def test_nothing_of_a_crash_is_seen_and_a_sweep_takes_it(crashed):
    [kept] = crashed.scans.list().items
    assert kept.name == "kept.tsv"
    assert _count(crashed, Scan) == _count(crashed, Blob) == 1
    assert crashed.sweep(older_than_s=3600) == [], "a young file may belong to a write that is under way"
    removed = crashed.sweep(older_than_s=-1)
    assert len(removed) == 2, "the blob without a row, and the file on its way in"
    assert crashed.stores.blobs.read(kept.sha256) == EVENTS + b"c\n"
    assert crashed.sweep(older_than_s=-1) == []


def test_the_upload_can_be_sent_again_after_the_crash(crashed):
    again = crashed.scans.ingest(io.BytesIO(EVENTS), ScanRequest(name="events.tsv", dataset="d"))
    assert len(crashed.sweep(older_than_s=-1)) == 1, "the file on its way in; the blob has its row now"
    assert crashed.stores.blobs.read(again.sha256) == EVENTS


def test_a_blob_that_nothing_refers_to_any_more_goes_with_its_row(services):
    services.datasets.create(DatasetRequest(name="d"))
    scan = services.scans.ingest(io.BytesIO(EVENTS), ScanRequest(name="events.tsv", dataset="d"))
    with services.stores.sessions.begin() as session:
        session.delete(session.get_one(Scan, scan.id))
    assert services.sweep(older_than_s=-1) == [scan.sha256]
    assert _count(services, Blob) == 0
