import gzip
import io
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scipy.io
from PIL import Image, ImageOps, PngImagePlugin

from voxelight.storage.formats.clean_files import clean_file
from voxelight.storage.formats.images import read_picture, write_png
from voxelight.storage.formats.nifti import read_volume

TRACE = b"Doe^Jane"


@pytest.fixture
def clean(tmp_path):
    """Clean content under a name; None where there was nothing to clean."""

    def _clean(content: bytes, name: str) -> bytes | None:
        source, target = tmp_path / "0f3a", tmp_path / "target"
        target.unlink(missing_ok=True)
        source.write_bytes(content)
        changed = clean_file(source, target, name)
        assert changed == target.exists()
        return target.read_bytes() if changed else None

    return _clean


def image(**fields: bytes) -> nib.Nifti1Image:
    made = nib.Nifti1Image(np.arange(720, dtype=np.int16).reshape(8, 9, 10), np.diag([2, 2, 3, 1.0]))
    for field, value in fields.items():
        made.header[field] = value
    return made


def test_a_clean_volume_stays_as_it_came_to_the_byte(clean):
    assert clean(image().to_bytes(), "a.nii") is None
    assert clean(gzip.compress(image().to_bytes(), mtime=0), "a.nii.gz") is None


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("version", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_texts_and_extensions_of_a_volume_go_and_its_voxels_stay(packed, version, order, clean, tmp_path):
    made = version(np.arange(720, dtype=np.int16).reshape(8, 9, 10), np.diag([2, 2, 3, 1.0]))
    made = version(made.dataobj, made.affine, made.header.as_byteswapped(order) if order == ">" else made.header)
    for field in {"descrip", "aux_file", "intent_name", "db_name", "data_type"} & set(made.header.keys()):
        made.header[field] = TRACE
    made.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"scanned " + TRACE))
    content = made.to_bytes()
    assert content.count(TRACE) >= 4
    cleaned = clean(gzip.compress(content) if packed else content, f"a.nii{'.gz' * packed}")
    plain = gzip.decompress(cleaned) if packed else cleaned
    assert TRACE not in plain
    again = version.from_bytes(plain)
    assert np.array_equal(np.asarray(again.dataobj), np.asarray(made.dataobj))
    assert np.array_equal(again.affine, made.affine)
    assert len(plain) == made.header.single_vox_offset + 720 * 2, "header and voxels and nothing else"
    (tmp_path / f"again.nii{'.gz' * packed}").write_bytes(cleaned)
    assert read_volume(tmp_path / f"again.nii{'.gz' * packed}").array.shape == (1, 8, 9, 10)
    assert clean(cleaned, f"a.nii{'.gz' * packed}") is None, "cleaning once is enough"


def test_the_name_and_the_time_in_a_gzip_header_go_and_the_packed_bytes_stay(clean):
    file = io.BytesIO()
    with gzip.GzipFile("Doe^Jane.nii", "wb", fileobj=file, mtime=1_700_000_000) as packed:
        packed.write(image().to_bytes())
    content = file.getvalue()
    cleaned = clean(content, "a.nii.gz")
    assert TRACE not in cleaned
    assert struct.unpack("<I", cleaned[4:8]) == (0,)
    assert cleaned[10:] == content[10 + len("Doe^Jane.nii") + 1 :]
    assert gzip.decompress(cleaned) == image().to_bytes()


def test_all_optional_parts_of_a_gzip_header_go(clean):
    packed = gzip.compress(image().to_bytes(), mtime=0)
    extra = struct.pack("<H", 4) + b"Jane"
    dirty = (
        packed[:3] + bytes([4 | 8 | 16 | 2]) + packed[4:10] + extra + b"Doe\0" + b"a comment\0" + b"\1\2" + packed[10:]
    )
    cleaned = clean(dirty, "a.nii.gz")
    assert cleaned[10:] == packed[10:]
    assert gzip.decompress(cleaned) == image().to_bytes()


def photograph(name: str, orientation: int | None = None, progressive: bool = False, **notes) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    if orientation:
        exif[0x0112] = orientation
    if notes.pop("named", True):
        exif[0x013B], exif[0x010E], exif[0x0132] = "Doe^Jane", "Doe^Jane at home", "2024:03:10 10:15:00"
    if name.endswith(".png"):
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Author", "Doe^Jane")
        texts.add_itxt("Comment", "Doe^Jane", zip=True)
        picture.save(file, "PNG", pnginfo=texts, exif=exif)
    else:
        picture.save(file, "JPEG", exif=exif, comment=b"Doe^Jane", progressive=progressive, quality=90)
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_notes_of_a_picture_go_and_it_looks_the_same(name, orientation, clean, tmp_path):
    content = photograph(name, orientation)
    assert TRACE in content
    cleaned = clean(content, name)
    assert TRACE not in cleaned
    assert b"2024:03" not in cleaned
    (tmp_path / f"before-{name}").write_bytes(content)
    (tmp_path / f"after-{name}").write_bytes(cleaned)
    assert np.array_equal(read_picture(tmp_path / f"before-{name}"), read_picture(tmp_path / f"after-{name}"))
    with Image.open(io.BytesIO(cleaned)) as after:
        assert set(after.getexif()) <= {0x0112}
        assert "Author" not in after.info
    assert clean(cleaned, name) is None, "cleaning once is enough"


def test_a_progressive_picture_and_what_hides_behind_its_end(clean):
    content = photograph("a.jpg", progressive=True) + b"behind the end: Doe^Jane"
    cleaned = clean(content, "a.jpg")
    assert TRACE not in cleaned
    assert cleaned.endswith(b"\xff\xd9")
    with Image.open(io.BytesIO(content)) as before, Image.open(io.BytesIO(cleaned)) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))


def test_an_orientation_that_only_xmp_tells_stays(clean):
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:creator="Doe^Jane"/></x:xmpmeta>'
    )
    segment = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    content = photograph("a.jpg", named=False)
    content = content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:]
    cleaned = clean(content, "a.jpg")
    assert TRACE not in cleaned
    with Image.open(io.BytesIO(content)) as before, Image.open(io.BytesIO(cleaned)) as after:
        assert ImageOps.exif_transpose(after).size == ImageOps.exif_transpose(before).size == (40, 60)


def test_a_picture_written_here_is_clean(clean, tmp_path):
    write_png(tmp_path / "p.png", np.zeros((4, 6, 3)))
    assert clean((tmp_path / "p.png").read_bytes(), "p.png") is None


def test_the_text_of_a_matlab_header_goes_and_its_content_stays(clean):
    file = io.BytesIO()
    scipy.io.savemat(file, {"fmriTrn": np.arange(6.0).reshape(2, 3)})
    content = file.getvalue()
    named = b"MATLAB 5.0 MAT-file, by Doe^Jane on MERCY-PC, Created on: Sun Mar 10".ljust(116) + content[116:]
    cleaned = clean(named, "a.mat")
    assert TRACE not in cleaned
    assert cleaned[116:] == content[116:]
    assert np.array_equal(scipy.io.loadmat(io.BytesIO(cleaned))["fmriTrn"], np.arange(6.0).reshape(2, 3))
    assert clean(cleaned, "a.mat") is None


def test_photographs_of_others_are_cleaned_without_a_change_of_a_pixel(shared_data: Path, clean, tmp_path):
    for path in sorted((shared_data / "coco_mini").rglob("*.jpg"))[:12]:
        cleaned = clean(path.read_bytes(), path.name)
        if cleaned is not None:
            (tmp_path / "after.jpg").write_bytes(cleaned)
            assert np.array_equal(read_picture(path), read_picture(tmp_path / "after.jpg"))
