"""Targets are kept once for a picture and an encoder, and an interrupted computation loses one part."""

import hashlib
import json

import numpy as np
import pytest

from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.targets import TargetStore


def key(number):
    return hashlib.sha256(bytes([number])).hexdigest()


def values(*numbers):
    return np.array([[number, number + 0.5] for number in numbers], np.float16)


def test_values_come_in_the_order_that_is_asked_for(tmp_path):
    table = TargetStore(tmp_path).table("tokens", "weights-1")
    assert table.missing([key(1), key(2), key(1)]) == [key(1), key(2)]
    table.write([key(1), key(2)], values(1, 2))
    table.write([key(3)], values(3))
    np.testing.assert_array_equal(table.read([key(3), key(1), key(3)]), values(3, 1, 3))
    assert table.missing([key(4), key(2)]) == [key(4)]
    assert len(table) == 3


def test_another_process_finds_them_mapped_from_the_disk(tmp_path):
    writer, reader = (TargetStore(tmp_path).table("tokens", "weights-1") for _ in range(2))
    writer.write([key(1)], values(1))
    np.testing.assert_array_equal(reader.read([key(1)]), values(1))
    part = reader._parts[next(iter(reader._parts))]
    assert isinstance(part, np.memmap)
    assert not part.flags.writeable


def test_other_weights_and_other_kinds_have_tables_of_their_own(tmp_path):
    store = TargetStore(tmp_path)
    store.table("tokens", "weights-1").write([key(1)], values(1))
    assert store.table("tokens", "weights-2").missing([key(1)]) == [key(1)]
    assert store.table("latent", "weights-1").missing([key(1)]) == [key(1)]
    assert store.table("tokens", "weights-1").missing([key(1)]) == []


def test_a_part_without_its_list_or_cut_off_is_not_there(tmp_path):
    store = TargetStore(tmp_path)
    for number in (1, 2, 3):
        store.table("tokens", "w").write([key(number)], values(number))
    folder = next((tmp_path / "tokens").iterdir())
    by_key = {json.loads(path.read_text())["keys"][0]: path for path in folder.glob("*.json")}
    by_key[key(1)].unlink()
    array = by_key[key(2)].with_suffix(".npy")
    array.write_bytes(array.read_bytes()[:-1])
    table = store.table("tokens", "w")
    assert table.missing([key(1), key(2), key(3)]) == [key(1), key(2)]
    table.write([key(1), key(2)], values(1, 2))
    np.testing.assert_array_equal(store.table("tokens", "w").read([key(1), key(2)]), values(1, 2))


def test_what_does_not_fit_the_table_is_refused(tmp_path):
    table = TargetStore(tmp_path).table("tokens", "w")
    table.write([key(1)], values(1))
    with pytest.raises(BadInput, match="float16, as in the rest"):
        table.write([key(2)], values(2).astype(np.float32))
    with pytest.raises(BadInput, match=r"\(3,\)"):
        table.write([key(2)], np.zeros((1, 3), np.float16))
    with pytest.raises(BadInput, match="1 keys for 2 values"):
        table.write([key(2), key(2)], values(2, 2))
    with pytest.raises(BadInput, match="sha256"):
        table.write(["picture.png"], values(2))
    with pytest.raises(NotFound, match="no target"):
        table.read([key(1), key(9)])


def test_a_kind_is_a_plain_word(tmp_path):
    with pytest.raises(BadInput, match="plain word"):
        TargetStore(tmp_path).table("../tokens", "w")
