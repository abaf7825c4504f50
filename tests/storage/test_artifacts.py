"""Blobs are there whole or not at all, on a folder and on S3."""

import hashlib
import os
import time
import uuid
from pathlib import Path

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.artifacts import BlobStore

CONTENT = b"voxels" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "key": "test",
        "secret": "test",
        "client_kwargs": {"endpoint_url": f"http://{host}:{port}"},
    }
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    if request.param == "folder":
        return BlobStore(str(tmp_path / "blobs"), tmp_path / "spool")
    options = request.getfixturevalue("s3") | {"skip_instance_cache": True}
    bucket = f"b{uuid.uuid4().hex}"
    fsspec.filesystem("s3", **options).mkdir(bucket)
    return BlobStore(f"s3://{bucket}/voxelight", tmp_path / "spool", options)


def _keep_none():
    return set()


def test_content_comes_back_under_its_sha256(store):
    ref = store.put_bytes(CONTENT)
    assert (ref.sha256, ref.size) == (SHA256, len(CONTENT))
    assert store.exists(SHA256)
    assert store.read(SHA256) == CONTENT
    assert b"".join(store.read_range(SHA256, 5, 17)) == CONTENT[5:17]
    assert b"".join(store.read_range(SHA256, len(CONTENT) - 3, len(CONTENT) + 9)) == CONTENT[-3:]


def test_the_same_content_is_kept_once(store):
    first = store.put_bytes(CONTENT)
    assert store.put_bytes(CONTENT) == first
    assert store.sweep(_keep_none, older_than_s=-1) == [SHA256]


def test_a_reader_gets_a_file_under_its_name_and_it_goes_again(store, tmp_path):
    store.put_bytes(CONTENT)
    with store.local_file(SHA256, "brain.nii.gz") as path:
        assert path.name == "brain.nii.gz"
        assert path.read_bytes() == CONTENT
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_is_not_there_is_said_so(store):
    with pytest.raises(NotFound, match="Restore the blob folder"):
        store.read("0" * 64)
    with pytest.raises(BadInput, match="64 hexadecimal digits"):
        store.read("../../etc/passwd")


def test_a_write_that_breaks_off_leaves_nothing(store, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    move = "replace" if store._is_local else "mv"
    monkeypatch.setattr(Path if store._is_local else type(store._fs), move, _break_off)
    with pytest.raises(OSError, match="disk full"):
        store.put_file(file)
    monkeypatch.undo()
    assert not store.exists(SHA256)
    assert store.sweep(_keep_none, older_than_s=-1) == []


def _break_off(*_args, **_kwargs):
    raise OSError("disk full")


def test_a_sweep_takes_orphans_and_leftovers_and_leaves_what_is_named_or_young(store, tmp_path):
    kept, orphan = store.put_bytes(b"kept"), store.put_bytes(b"orphan")
    leftover = tmp_path / "spool" / "dead.part"
    leftover.write_bytes(b"half")
    assert store.sweep(lambda: {kept.sha256}, older_than_s=60) == []
    assert sorted(store.sweep(lambda: {kept.sha256}, older_than_s=-1)) == sorted([orphan.sha256, "dead.part"])
    assert store.exists(kept.sha256)
    assert not store.exists(orphan.sha256)
    assert not leftover.exists()


def test_content_that_comes_again_is_young_again(tmp_path):
    store = BlobStore(str(tmp_path / "blobs"), tmp_path / "spool")
    ref = store.put_bytes(CONTENT)
    path = tmp_path / "blobs" / "sha256" / ref.sha256[:2] / ref.sha256
    os.utime(path, (time.time() - 1000, time.time() - 1000))
    store.put_bytes(CONTENT)
    assert store.sweep(_keep_none, older_than_s=500) == []


def test_an_upload_is_gone_unless_it_is_kept(tmp_path):
    store = BlobStore(str(tmp_path / "blobs"), tmp_path / "spool")
    with store.incoming() as incoming:
        incoming.write(b"half")
    with pytest.raises(BadInput, match="empty upload"), store.incoming() as incoming:
        incoming.finish()
    with pytest.raises(BadInput, match="at most 3 bytes"), store.incoming(limit=3) as incoming:
        incoming.write(b"four")
    assert list((tmp_path / "spool").iterdir()) == []
