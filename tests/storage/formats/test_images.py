from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from voxelight.models.errors import BadInput
from voxelight.storage.formats.images import encode_png, read_picture, read_stimuli, write_png

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@settings(max_examples=40, deadline=None)
@given(
    pixels=hnp.arrays(
        np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])), elements=st.integers(0, 255)
    )
)
def test_png_keeps_every_pixel_as_bytes_and_as_floats(tmp_path_factory, pixels):
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_png(path, pixels)
    picture = read_picture(path)
    assert picture.dtype == np.float32
    assert np.array_equal(np.rint(picture * 255), pixels)
    assert encode_png(picture) == encode_png(pixels) == path.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_png_holds_pixels_and_nothing_else():
    chunks, payload, place = [], encode_png(RAMP), 8
    while place < len(payload):
        length = int.from_bytes(payload[place : place + 4], "big")
        chunks.append(payload[place + 4 : place + 8])
        place += 12 + length
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2, 4)),
        np.zeros(3),
        np.zeros((0, 2)),
        np.full((2, 2), 1.5),
        np.full((2, 2), np.nan),
        np.ones((2, 2), int),
    ],
)
def test_what_is_no_picture_is_not_written(array, tmp_path):
    with pytest.raises(BadInput):
        write_png(tmp_path / "a.png", array)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3), ("I;16", 1)]
)
def test_every_opaque_mode_of_png_is_read(mode, channels, tmp_path):
    grey = Image.fromarray(RAMP)
    picture = Image.fromarray(RAMP.astype(np.uint16) * 257) if mode == "I;16" else grey.convert("RGB").convert(mode)
    picture.save(tmp_path / "a.png")
    read = read_picture(tmp_path / "a.png")
    assert read.shape == (16, 16, channels)
    if mode not in {"1", "P"}:
        assert np.allclose(read[..., 0], RAMP / 255, atol=1e-6)


def test_a_jpeg_is_turned_upright_as_its_camera_says(tmp_path):
    tall = np.zeros((32, 16), np.uint8)
    tall[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    Image.fromarray(np.rot90(tall)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    read = read_picture(tmp_path / "a.jpg")
    assert read.shape == (32, 16, 1)
    assert read[:12].min() > 0.9 > 0.1 > read[20:].max()


def test_our_own_limit_of_pixels_holds(tmp_path):
    write_png(tmp_path / "a.png", RAMP)
    with pytest.raises(BadInput, match=r"16 x 16 pixels.*at most 0.0001 million"):
        read_picture(tmp_path / "a.png", max_pixels=100)


def test_stimuli_of_one_size_are_read_in_order_and_grey_joins_colour(tmp_path):
    paths = [tmp_path / "b.png", tmp_path / "a.png"]
    write_png(paths[0], RAMP)
    write_png(paths[1], np.dstack([RAMP] * 3))
    stimuli = read_stimuli(paths)
    assert stimuli.ids.tolist() == ["b", "a"]
    assert stimuli.images.shape == (2, 16, 16, 3)
    assert np.array_equal(stimuli.images[0], stimuli.images[1])
    assert read_stimuli(paths, ["x", "y"]).ids.tolist() == ["x", "y"]
    with pytest.raises(BadInput, match="1 ids"):
        read_stimuli(paths, ["x"])


def test_stimuli_of_two_sizes_need_a_size_and_are_cut_at_the_centre(tmp_path):
    wide = np.zeros((16, 48), np.uint8)
    wide[:, 16:32] = RAMP
    write_png(tmp_path / "wide.png", wide)
    write_png(tmp_path / "square.png", RAMP)
    paths = [tmp_path / "wide.png", tmp_path / "square.png"]
    with pytest.raises(BadInput, match="2 sizes, from 16 x 16 to 16 x 48"):
        read_stimuli(paths)
    stimuli = read_stimuli(paths, size=8)
    assert stimuli.images.shape == (2, 8, 8, 1)
    assert np.array_equal(stimuli.images[0], stimuli.images[1])
    with pytest.raises(BadInput, match="no picture"):
        read_stimuli([])


def test_real_photographs_become_stimuli(shared_data: Path):
    paths = sorted((shared_data / "coco_mini" / "train2017").glob("*.jpg"))[:6]
    stimuli = read_stimuli(paths, size=64)
    assert stimuli.images.shape == (6, 64, 64, 3)
    assert stimuli.ids[0] == paths[0].stem
    assert stimuli.images.std() > 0.1
