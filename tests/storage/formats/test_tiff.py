"""TIFF pictures, beside tifffile."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from voxelight.models.errors import BadInput
from voxelight.storage.formats.clean_files import clean_file
from voxelight.storage.formats.images import read_picture
from voxelight.storage.formats.intake import inspect
from voxelight.storage.formats.tiff import write_page

RNG = np.random.default_rng(3)
GREY_16 = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
RGB_16 = RNG.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
RGB_8 = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("array", "how", "full"),
    [
        (GREY_16, {}, 65535),
        (RGB_16, {"photometric": "rgb"}, 65535),
        (RGB_16, {"photometric": "rgb", "compression": "zlib", "predictor": True}, 65535),
        (RGB_8, {"photometric": "rgb"}, 255),
        (RGB_8.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}, 255),
        (GREY_16, {"tile": (16, 16), "bigtiff": True, "byteorder": ">"}, 65535),
        (RNG.random((20, 30), dtype=np.float32), {}, 1),
    ],
)
def test_values_are_those_of_the_file(array, how, full, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", array, **how)
    found = read_picture(tmp_path / "a.tif")
    expected = array.transpose(1, 2, 0) if "planarconfig" in how else array
    assert np.array_equal(np.squeeze(found), (expected.astype(np.float32) / np.float32(full)))
    assert inspect(tmp_path / "a.tif", "a.tif").facts["columns"] == 30


def test_what_pillow_refuses_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RNG.random((20, 30, 3), dtype=np.float32), photometric="rgb")
    with pytest.raises(OSError, match="cannot"), Image.open(tmp_path / "a.tif") as picture:
        picture.load()
    assert read_picture(tmp_path / "a.tif").shape == (20, 30, 3)


def test_white_that_is_zero_is_turned(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8), photometric="miniswhite")
    assert read_picture(tmp_path / "a.tif").min() == 1


def test_one_page_of_several_is_chosen_and_never_guessed(tmp_path):
    pages = np.stack([GREY_16, GREY_16 // 2, GREY_16 // 4])
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", metadata=None)
    with pytest.raises(BadInput, match="of 3 pages"):
        inspect(tmp_path / "a.tif", "a.tif")
    write_page(tmp_path / "a.tif", tmp_path / "two.tif", "a.tif", 2, 10**6)
    assert np.array_equal(tifffile.imread(tmp_path / "two.tif"), pages[1])
    with pytest.raises(BadInput, match="from 1 to 3"):
        write_page(tmp_path / "a.tif", tmp_path / "four.tif", "a.tif", 4, 10**6)


def test_notes_go_and_values_stay(tmp_path):
    path, target = tmp_path / "a.tif", tmp_path / "cleaned.tif"
    tags = [(315, "s", 0, "Erika Mustermann", True)]
    tifffile.imwrite(path, GREY_16, description="Erika, seen 2020", datetime=True, software="Ward 3", extratags=tags)
    assert clean_file(path, target, "a.tif")
    content = target.read_bytes()
    assert not any(word in content for word in (b"Erika", b"Ward", b"2020"))
    assert np.array_equal(tifffile.imread(target), GREY_16)
    assert not clean_file(target, tmp_path / "nothing.tif", "a.tif")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 5, 4), np.uint8), "transparent"),
        (np.full((4, 5), 7, np.int32), "8 or 16 bits"),
        (np.full((4, 5), np.nan, np.float32), "8 or 16 bits"),
    ],
)
def test_what_is_no_picture_is_refused(array, reason, tmp_path):
    alpha = {"photometric": "rgb", "extrasamples": ["unassalpha"]} if array.shape[-1] == 4 else {}
    tifffile.imwrite(tmp_path / "a.tif", array, **alpha or {"photometric": "minisblack"})
    with pytest.raises(BadInput, match=reason):
        read_picture(tmp_path / "a.tif")


def test_a_damaged_file_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY_16, compression="zlib")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:200])
    with pytest.raises(BadInput, match="can't be decoded"):
        read_picture(tmp_path / "cut.tif")
