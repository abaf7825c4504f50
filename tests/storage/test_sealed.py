"""Sealed blobs: the plain content nowhere, every changed byte found; on a folder and on S3."""

import hashlib
import io
import stat
import struct
import uuid

import fsspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from moto.server import ThreadedMotoServer

from voxelight.models.errors import BadInput, Unavailable
from voxelight.storage.artifacts import BlobStore
from voxelight.storage.keys import derive_key
from voxelight.storage.sealed import CHUNK_BYTES, MARK, Keys, Tampered, add_key, parse_keys

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
CONTENT = np.random.default_rng(0).bytes(2 * CHUNK_BYTES + 777)
SHA = hashlib.sha256(CONTENT).hexdigest()
OFFSET = 60  # of the first chunk


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {"key": "test", "secret": "test", "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def open_store(request, tmp_path):
    """Open the same store with other keys."""
    if request.param == "folder":
        return lambda *keys: BlobStore(str(tmp_path / "blobs"), tmp_path / "spool", keys=Keys(keys) if keys else None)
    options = request.getfixturevalue("s3") | {"skip_instance_cache": True}
    bucket = f"b{uuid.uuid4().hex}"
    fsspec.filesystem("s3", **options).mkdir(bucket)
    return lambda *keys: BlobStore(f"s3://{bucket}/v", tmp_path / "spool", options, keys=Keys(keys) if keys else None)


def raw(store, sha=SHA):
    return store._fs.cat_file(store._key(sha))


def test_what_is_stored_is_what_another_library_opens_and_holds_nothing_plain(open_store, tmp_path):
    store = open_store(OLD)
    ref = store.put_bytes(CONTENT)
    assert (ref.sha256, ref.size) == (SHA, len(CONTENT))
    stored = raw(store)
    assert all(CONTENT[at : at + 16] not in stored for at in range(0, len(CONTENT) - 16, 1000))
    mark, key_id, chunk, size, salt = struct.unpack(">8s8sIQ32s", stored[:OFFSET])
    assert (mark, key_id, chunk, size) == (MARK, derive_key(OLD, "blob key id")[:8], CHUNK_BYTES, len(CONTENT))
    cipher = AESGCM(HKDF(SHA256(), 32, salt, b"voxelight blob").derive(OLD))
    pieces = [stored[at : at + CHUNK_BYTES + 16] for at in range(OFFSET, len(stored), CHUNK_BYTES + 16)]
    opened = [
        cipher.decrypt(n.to_bytes(12, "big"), piece, stored[:OFFSET] + SHA.encode() + n.to_bytes(8, "big"))
        for n, piece in enumerate(pieces)
    ]
    assert b"".join(opened) == CONTENT
    assert list((tmp_path / "spool").iterdir()) == []


def test_ranges_files_and_seeks_give_the_plain_content(open_store):
    store = open_store(OLD)
    store.put_bytes(CONTENT)
    assert store.read(SHA) == CONTENT
    for start, stop in [
        (0, 1),
        (CHUNK_BYTES - 3, CHUNK_BYTES + 5),
        (len(CONTENT) - 9, len(CONTENT) + 50),
        (5, 130_000),
    ]:
        assert b"".join(store.read_range(SHA, start, stop)) == CONTENT[start:stop]
    with store.open(SHA) as file:
        assert file.seek(-5, io.SEEK_END) == len(CONTENT) - 5
        assert file.read() == CONTENT[-5:]
        file.seek(7)
        assert (file.read(3), file.tell()) == (CONTENT[7:10], 10)
    with store.local_file(SHA, "scan.nii.gz") as path:
        assert path.read_bytes() == CONTENT


def test_every_changed_byte_is_found(tmp_path):
    store = BlobStore(str(tmp_path / "blobs"), tmp_path / "spool", keys=Keys((OLD,), only=True))
    small = b"a small content"
    sha = store.put_bytes(small).sha256
    path = tmp_path / "blobs" / "sha256" / sha[:2] / sha
    sealed = path.read_bytes()
    silent = []
    for place in range(len(sealed)):
        path.write_bytes(sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :])
        try:
            store.read(sha)
        except (Tampered, Unavailable):
            continue
        silent.append(place)
    assert silent == []
    path.write_bytes(b"a plain forgery")
    with pytest.raises(Tampered, match="which is not sealed"), store.local_file(sha, "scan.nii.gz"):
        pass


@pytest.fixture
def folder_store(tmp_path):
    return BlobStore(str(tmp_path / "blobs"), tmp_path / "spool", keys=Keys((OLD,)))


@pytest.mark.parametrize("spoil", ["truncate", "drop a chunk", "swap chunks", "append", "shorten header"])
def test_cut_swapped_and_grown_contents_are_refused(folder_store, spoil):
    store = folder_store
    store.put_bytes(CONTENT)
    stored, width = raw(store), CHUNK_BYTES + 16
    first, second = stored[OFFSET : OFFSET + width], stored[OFFSET + width : OFFSET + 2 * width]
    rest = stored[OFFSET + 2 * width :]
    spoiled = {
        "truncate": stored[:-1],
        "drop a chunk": stored[:OFFSET] + second + rest,
        "swap chunks": stored[:OFFSET] + second + first + rest,
        "append": stored + b"x",
        "shorten header": stored[:20] + (2 * CHUNK_BYTES).to_bytes(8, "big") + stored[28 : OFFSET + 2 * width],
    }[spoil]
    store._fs.pipe_file(store._key(SHA), spoiled)
    with pytest.raises(Tampered, match="expected what was stored"):
        store.read(SHA)


def test_one_blob_in_the_place_of_another_is_refused(folder_store):
    store = folder_store
    store.put_bytes(CONTENT)
    other = store.put_bytes(b"of another patient").sha256
    store._fs.pipe_file(store._key(SHA), raw(store, other))
    with pytest.raises(Tampered):
        store.read(SHA)


def test_the_same_content_is_sealed_otherwise_each_time(tmp_path):
    stores = [BlobStore(str(tmp_path / name), tmp_path / "spool", keys=Keys((OLD,))) for name in "ab"]
    for store in stores:
        store.put_bytes(CONTENT)
    assert raw(stores[0])[OFFSET : OFFSET + 64] != raw(stores[1])[OFFSET : OFFSET + 64]


def test_a_store_goes_from_plain_to_one_key_to_another_and_back(open_store):
    plain = open_store()
    plain.put_bytes(CONTENT)
    sealing = open_store(OLD)
    sealing.put_bytes(b"new")
    assert sealing.read(SHA) == CONTENT == raw(sealing)  # what was plain reads on
    assert list(sealing.reseal()) == [SHA]
    assert list(sealing.reseal()) == []
    assert raw(sealing).startswith(MARK)
    rotated = open_store(NEW, OLD)
    assert len(list(rotated.reseal())) == 2
    assert open_store(NEW).read(SHA) == CONTENT
    with pytest.raises(Unavailable, match="Add the key that sealed it"):
        open_store(OLD).read(SHA)
    with pytest.raises(Unavailable, match="no keys"):
        open_store().read(SHA)
    assert len(list(open_store(NEW).reseal(plain=True))) == 2
    assert open_store().read(SHA) == CONTENT == raw(plain)


def test_another_content_under_the_name_is_not_sealed(tmp_path):
    store = BlobStore(str(tmp_path / "blobs"), tmp_path / "spool")
    store.put_bytes(CONTENT)
    path = tmp_path / "blobs" / "sha256" / SHA[:2] / SHA
    path.write_bytes(b"other")
    sealing = BlobStore(str(tmp_path / "blobs"), tmp_path / "spool", keys=Keys((OLD,)))
    with pytest.raises(Tampered, match="the content that its name says"):
        list(sealing.reseal())
    assert path.read_bytes() == b"other"


def test_a_plain_content_that_looks_sealed_is_refused(tmp_path):
    store = BlobStore(str(tmp_path / "blobs"), tmp_path / "spool")
    with pytest.raises(BadInput, match="begins like a sealed blob"):
        store.put_bytes(MARK + bytes(100))
    sealing = BlobStore(str(tmp_path / "blobs"), tmp_path / "spool", keys=Keys((OLD,)))
    ref = sealing.put_bytes(MARK + bytes(100))
    assert sealing.read(ref.sha256) == MARK + bytes(100)


def test_keys_are_read_from_text_and_never_shown(tmp_path):
    keys = parse_keys(f"{NEW.hex()}  # since spring\n{OLD.hex()}\n")
    assert keys.secrets == (NEW, OLD)
    assert NEW.hex() not in repr(keys)
    with pytest.raises(BadInput, match="key 2 of 2") as raised:
        parse_keys(f"{NEW.hex()},deadbeef")
    assert "deadbeef" not in str(raised.value)
    path = tmp_path / "keys" / "blobs"
    add_key(path)
    first = path.read_text()
    add_key(path)
    assert path.read_text().endswith(first)
    assert len(parse_keys(path.read_text()).secrets) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
