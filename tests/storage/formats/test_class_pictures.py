"""Pictures with classes: what is written is read, and what is missing is said with where it comes from."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from voxelight.models.errors import BadInput
from voxelight.storage.formats.class_pictures import read_class_pictures


def encode(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder, images, labels=(0, 1, 0), names=("red disc", "blue square")):
    table = pa.table({"key": ["b_1", "a_2", "a_3"], "image": images, "label": pa.array(labels, pa.int16())})
    pq.write_table(table.slice(0, 2), folder / "train-0.parquet")
    pq.write_table(table.slice(2), folder / "train-1.parquet")
    (folder / "classes.json").write_text(json.dumps([{"name": name} for name in names]))


def test_pictures_come_back_in_the_order_of_files_with_their_classes(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    write(tmp_path, [encode(picture) for picture in pictures])
    found = read_class_pictures(tmp_path)
    np.testing.assert_array_equal(found.pixels, pictures.transpose(0, 3, 1, 2))
    assert found.keys == ("b_1", "a_2", "a_3")
    assert [found.names[label] for label in found.labels] == ["red disc", "blue square", "red disc"]


def test_grey_pictures_have_three_channels(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write(tmp_path, [encode(grey)] * 3)
    assert (read_class_pictures(tmp_path).pixels == grey).all()


def test_some_pictures_are_read_in_the_order_asked_for(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    write(tmp_path, [encode(picture) for picture in pictures])
    found = read_class_pictures(tmp_path, ["a_3", "b_1"])
    assert found.keys == ("a_3", "b_1")
    np.testing.assert_array_equal(found.pixels, pictures[[2, 0]].transpose(0, 3, 1, 2))
    with pytest.raises(BadInput, match=r"without 1 of the pictures, \['c'\]"):
        read_class_pictures(tmp_path, ["a_3", "c"])


def test_a_folder_that_is_not_there_says_where_the_pictures_come_from_and_their_terms(tmp_path):
    with pytest.raises(BadInput, match=r"classes\.json.*Tiny ImageNet.*ImageNet's terms"):
        read_class_pictures(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ([b"no picture"] * 3, (0, 1, 0), "picture b_1, damaged"),
        ([encode(np.zeros((8, 8, 3), np.uint8))] * 2 + [encode(np.zeros((9, 9, 3), np.uint8))], (0, 1, 0), "2 sizes"),
        ([encode(np.zeros((8, 8, 3), np.uint8))] * 3, (0, 2, 0), "labels from 0 to 2"),
    ],
)
def test_what_is_no_set_of_pictures_is_refused(tmp_path, images, labels, words):
    write(tmp_path, images, labels)
    with pytest.raises(BadInput, match=words):
        read_class_pictures(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    write(tmp_path, [encode(np.zeros((8, 8, 3), np.uint8))] * 3)
    pq.write_table(pa.table({"key": ["c"]}), tmp_path / "train-2.parquet")
    with pytest.raises(BadInput, match="image"):
        read_class_pictures(tmp_path)
