"""Stages kept between runs: whole or not at all, within bounds, damage noticed."""

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.storage.cache import StageCache


def key(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def arrays(number=0, size=1000):
    values = np.random.default_rng(number).standard_normal(size, dtype=np.float32)
    return {"tokens": values.reshape(-1, 10), "latent": values[::-2], "count": np.array(number)}


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        assert np.array_equal(found[name], values)


def test_what_is_written_is_found(tmp_path):
    cache = StageCache(tmp_path / "cache")
    assert cache.find(key(1)) is None
    cache.write(key(1), arrays(1))
    assert_equal(cache.find(key(1)), arrays(1))
    assert_equal(StageCache(tmp_path / "cache").find(key(1)), arrays(1))
    assert cache.find(key(2)) is None
    cache.write(key(1), arrays(3))
    assert_equal(cache.find(key(1)), arrays(3))


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "foreign"])
def test_a_damaged_entry_is_not_there_and_goes(tmp_path, damage):
    cache = StageCache(tmp_path)
    cache.write(key(1), arrays())
    cache.write(key(2), arrays(2))
    (path,) = tmp_path.glob(f"{key(1)}*")
    content = path.read_bytes()
    flipped = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
    path.write_bytes({"flipped": flipped, "cut": content[:-100], "empty": b"", "foreign": b"no tensors"}[damage])
    assert cache.find(key(1)) is None
    assert not path.exists()
    assert_equal(cache.find(key(2)), arrays(2))
    cache.write(key(1), arrays())
    assert_equal(cache.find(key(1)), arrays())


def test_the_longest_unused_go_first(tmp_path):
    cache = StageCache(tmp_path, limit_bytes=20_000)
    for number in range(3):
        cache.write(key(number), arrays(number))
        for path in tmp_path.glob(f"{key(number)}*"):
            os.utime(path, (number, number))
    assert cache.find(key(0)) is not None  # used, so younger than 1 and 2
    cache.write(key(3), arrays(3))
    assert [cache.find(key(number)) is not None for number in range(4)] == [True, False, True, True]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 20_000


def test_an_entry_larger_than_the_bound_does_not_stay(tmp_path):
    cache = StageCache(tmp_path, limit_bytes=2_000)
    cache.write(key(1), arrays())
    assert cache.find(key(1)) is None
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    cache = StageCache(tmp_path)
    cache.write(key(1), arrays(1))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", full)
        with pytest.raises(OSError, match="No space"):
            cache.write(key(1), arrays(2))
    assert_equal(cache.find(key(1)), arrays(1))
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_write_left_goes_after_a_while(tmp_path):
    cache = StageCache(tmp_path)
    for name, age in (("old.part", 7200), ("young.part", 0)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    cache.write(key(1), arrays())
    assert not (tmp_path / "old.part").exists()
    assert (tmp_path / "young.part").exists()  # its writer may be at work


def test_several_writers_and_readers_share_a_folder(tmp_path):
    caches = [StageCache(tmp_path, limit_bytes=30_000) for _ in range(4)]

    def work(number):
        caches[number % 4].write(key(number % 7), arrays(number % 7))
        found = caches[(number + 1) % 4].find(key(number % 7))
        if found is not None:
            assert_equal(found, arrays(number % 7))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(200)))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 30_000


def test_what_is_no_key_is_refused(tmp_path):
    cache = StageCache(tmp_path)
    for wrong in ("", "../escape", key(1)[:-1], key(1).upper()):
        with pytest.raises(BadInput):
            cache.write(wrong, arrays())
        with pytest.raises(BadInput):
            cache.find(wrong)
    with pytest.raises(BadInput, match="limit of 0"):
        StageCache(tmp_path, limit_bytes=0)


def test_the_cache_loads_no_torch(tmp_path):
    code = "import sys, voxelight.storage.cache; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "False"
