import gzip
import itertools
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from voxelight.medseg.colours import find_colour
from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap
from voxelight.storage.formats.label_names import read_label_names
from voxelight.storage.formats.nifti import (
    read_label_map,
    read_mask,
    read_series,
    read_source_grid,
    read_volume,
    write_label_map,
)

SHAPE = (3, 4, 5)
ORIENTATIONS = [
    "".join(letters) for axes in itertools.permutations(("RL", "AP", "SI")) for letters in itertools.product(*axes)
]
NAMES = {number: f"label {number}" for number in range(1, 61)}


def affine_of(orientation: str, spacing=(1.0, 2.0, 3.0), origin=(10.0, -20.0, 30.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(orientation):
        row = next(place for place, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        affine[row, axis] = spacing[axis] * (1 if letter in "RAS" else -1)
    affine[:3, 3] = origin
    return affine


def numbered(shape=SHAPE, dtype=np.int16) -> np.ndarray:
    return np.arange(1, np.prod(shape) + 1, dtype=dtype).reshape(shape)


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_volume_and_label_map_agree_with_nibabel_and_simpleitk(orientation, write_nifti, tmp_path):
    source = write_nifti("image.nii.gz", numbered(), affine_of(orientation))
    volume, grid = read_volume(source), read_source_grid(source)
    assert grid.orientation == orientation

    canonical = nib.as_closest_canonical(nib.load(source))
    assert np.array_equal(volume.array[0], canonical.get_fdata())
    assert np.allclose(volume.geometry.affine, canonical.affine)
    turned = sitk.DICOMOrient(sitk.ReadImage(str(source)), "RAS")
    assert np.array_equal(volume.array[0], sitk.GetArrayFromImage(turned).T)

    out = tmp_path / "labels.nii.gz"
    write_label_map(out, LabelMap(volume.array[0].astype(np.uint8), volume.geometry, NAMES), grid)
    ours, theirs = nib.load(out), nib.load(source)
    assert np.array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
    assert np.array_equal(ours.affine, theirs.affine)
    for field in ("sform_code", "qform_code"):
        assert ours.header[field] == theirs.header[field]
    image, labels = sitk.ReadImage(str(source)), sitk.ReadImage(str(out))
    assert labels.GetDirection() == image.GetDirection()
    assert labels.GetOrigin() == image.GetOrigin()
    assert labels.GetSpacing() == image.GetSpacing()
    again = read_label_map(out, NAMES)
    assert np.array_equal(again.array, volume.array[0])
    assert again.geometry.matches(volume.geometry)


@settings(max_examples=40, deadline=None)
@given(
    turn=st.tuples(*[st.floats(-3, 3)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 6)] * 3),
    origin=st.tuples(*[st.floats(-200, 200)] * 3),
    flip=st.booleans(),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
)
def test_oblique_voxels_keep_their_place_and_come_back(tmp_path_factory, turn, spacing, origin, flip, shape):
    folder = tmp_path_factory.mktemp("oblique")
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(turn).as_matrix() @ np.diag(spacing) @ np.diag([-1 if flip else 1, 1, 1])
    affine[:3, 3] = origin
    stored = numbered(shape)
    nib.save(nib.Nifti1Image(stored, affine), folder / "image.nii")
    affine = nib.load(folder / "image.nii").affine
    volume, grid = read_volume(folder / "image.nii"), read_source_grid(folder / "image.nii")

    assert "".join(nib.aff2axcodes(volume.geometry.affine)) == "RAS"
    place_of = {
        int(volume.array[0][index]): volume.geometry.affine @ (*index, 1)
        for index in np.ndindex(*volume.geometry.shape)
    }
    for index in np.ndindex(*shape):
        assert np.allclose(place_of[int(stored[index])], affine @ (*index, 1), atol=1e-3)

    names = {number: str(number) for number in range(1, stored.size + 1)}
    write_label_map(folder / "back.nii", LabelMap(volume.array[0].astype(np.uint8), volume.geometry, names), grid)
    back = nib.load(folder / "back.nii")
    assert np.array_equal(np.asarray(back.dataobj), stored)
    assert np.array_equal(back.affine, affine)


@pytest.mark.parametrize("name", ["labels.nii", "labels.nii.gz"])
def test_the_same_label_map_gives_the_same_bytes_under_any_name(name, write_nifti, tmp_path):
    source = write_nifti("image.nii.gz", numbered(), affine_of("LPI"))
    volume, grid = read_volume(source), read_source_grid(source)
    labels = LabelMap(volume.array[0].astype(np.uint8), volume.geometry, NAMES)
    (tmp_path / "other").mkdir()
    write_label_map(tmp_path / name, labels, grid)
    write_label_map(tmp_path / "other" / f"second_{name}", labels, grid)
    first = (tmp_path / name).read_bytes()
    assert first == (tmp_path / "other" / f"second_{name}").read_bytes()
    if name.endswith(".gz"):
        assert first[3] == 0, "the gzip header names no file"
        assert first[4:8] == b"\0\0\0\0", "the gzip header tells no time"
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == [f"second_{name}"]


def test_no_text_of_the_source_header_reaches_the_label_map(write_nifti, tmp_path):
    source = write_nifti(
        "image.nii.gz",
        numbered(),
        descrip=b"DOE^JANE 1961-04-12",
        aux_file=b"JANE.img",
        db_name=b"DOE",
        intent_name=b"JANE",
    )
    volume = read_volume(source)
    write_label_map(
        tmp_path / "labels.nii",
        LabelMap(volume.array[0].astype(np.uint8), volume.geometry, NAMES),
        read_source_grid(source),
    )
    written = (tmp_path / "labels.nii").read_bytes()
    assert b"DOE" not in written
    assert b"jane" not in written.lower()


def test_labels_above_255_take_two_bytes_and_above_65535_are_refused(write_nifti, tmp_path):
    source = write_nifti("image.nii", np.zeros(SHAPE, np.uint8))
    grid = read_source_grid(source)
    array = np.zeros(SHAPE, np.uint16)
    array[0, 0, 0] = 300
    write_label_map(tmp_path / "labels.nii", LabelMap(array, grid.geometry, {300: "far"}), grid)
    assert nib.load(tmp_path / "labels.nii").get_data_dtype() == np.uint16
    assert read_label_map(tmp_path / "labels.nii", {300: "far"}).array[0, 0, 0] == 300
    with pytest.raises(BadInput, match="65535"):
        write_label_map(
            tmp_path / "more.nii",
            LabelMap(array.astype(np.uint32), grid.geometry, {300: "far", 70_000: "farther"}),
            grid,
        )


def test_a_label_map_of_another_grid_is_not_written(write_nifti, tmp_path):
    grid = read_source_grid(write_nifti("image.nii", np.zeros(SHAPE, np.uint8)))
    other = read_source_grid(write_nifti("other.nii", np.zeros(SHAPE, np.uint8), np.diag([2.0, 2, 2, 1])))
    with pytest.raises(BadInput, match=r"3x4x5 of 2x2x2 mm .* 3x4x5 of 1x1x1 mm"):
        write_label_map(tmp_path / "labels.nii", LabelMap(np.zeros(SHAPE, np.uint8), other.geometry, {}), grid)
    with pytest.raises(BadInput, match=r"ends in \.nii"):
        write_label_map(tmp_path / "labels.mgz", LabelMap(np.zeros(SHAPE, np.uint8), grid.geometry, {}), grid)
    assert not (tmp_path / "labels.nii").exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(write_nifti, tmp_path, monkeypatch):
    grid = read_source_grid(write_nifti("image.nii", np.zeros(SHAPE, np.uint8)))
    out = tmp_path / "out"
    out.mkdir()
    (out / "labels.nii.gz").write_bytes(b"old")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(gzip.GzipFile, "write", fail)
    with pytest.raises(OSError, match="no space"):
        write_label_map(out / "labels.nii.gz", LabelMap(np.zeros(SHAPE, np.uint8), grid.geometry, {}), grid)
    assert [path.name for path in out.iterdir()] == ["labels.nii.gz"]
    assert (out / "labels.nii.gz").read_bytes() == b"old"


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint16", "float32", "float64", "int64"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_stored_type_and_byte_order_reads_as_nibabel_reads_it(dtype, version, order, tmp_path):
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    kind(numbered().astype(dtype), affine_of("PIL"), header).to_filename(tmp_path / "image.nii")
    oracle = nib.as_closest_canonical(nib.load(tmp_path / "image.nii"))
    assert nib.load(tmp_path / "image.nii").header.endianness == order
    assert np.array_equal(read_volume(tmp_path / "image.nii").array[0], oracle.get_fdata(dtype=np.float32))
    assert read_source_grid(tmp_path / "image.nii").version == version


def test_a_nifti_2_source_gets_a_nifti_2_label_map_with_its_affine_to_the_last_bit(write_nifti, tmp_path):
    affine = affine_of("LAS", origin=(1 / 3, 1 / 7, 1 / 9))
    source = write_nifti("image.nii", numbered(), affine, version=2)
    volume = read_volume(source)
    labels = LabelMap(volume.array[0].astype(np.uint8), volume.geometry, NAMES)
    write_label_map(tmp_path / "labels.nii", labels, read_source_grid(source))
    written = nib.load(tmp_path / "labels.nii")
    assert isinstance(written, nib.Nifti2Image)
    assert np.array_equal(written.affine, nib.load(source).affine)


@pytest.mark.parametrize("version", [1, 2])
def test_a_label_map_carries_the_names_of_its_labels(version, write_nifti, tmp_path):
    """Read by nibabel as the extension that the standard registers for Caret, with voxels where they were."""
    source = write_nifti("image.nii", numbered(), affine_of("LAS"), version=version)
    volume, grid = read_volume(source), read_source_grid(source)
    names = {1: "hippocampus & amygdala", 7: "left <anterior>"}
    array = np.where(volume.array[0] > 30, 7, 1).astype(np.uint8)
    write_label_map(tmp_path / "labels.nii.gz", LabelMap(array, volume.geometry, names), grid)
    written = nib.load(tmp_path / "labels.nii.gz")
    [extension] = written.header.extensions
    assert extension.get_code() == 30
    table = ElementTree.fromstring(extension.content.rstrip(b"\0")).find("VolumeInformation/LabelTable")
    assert {int(label.get("Key")): label.text for label in table} == {0: "???"} | names
    red = [float(label.get("Red")) for label in table if label.get("Key") == "1"]
    assert red == pytest.approx([int(find_colour(1)[1:3], 16) / 255], abs=1e-4)
    np.testing.assert_array_equal(nib.as_closest_canonical(written).dataobj, array)
    if version == 1:  # ITK reads no other
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "labels.nii.gz")).T, written.dataobj)
    assert read_label_names(tmp_path / "labels.nii.gz") == names
    assert read_label_names(source) == {}


@pytest.mark.parametrize("content", [b"<CaretExtension>", b'<!DOCTYPE a [<!ENTITY b "c">]><a/>', b"\xff\xfe", b""])
def test_a_spoilt_table_of_labels_names_nothing(content, tmp_path):
    image = nib.Nifti1Image(numbered(), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(30, content))
    nib.save(image, tmp_path / "labels.nii")
    assert read_label_names(tmp_path / "labels.nii") == {}


def test_stored_scaling_is_applied(tmp_path):
    image = nib.Nifti1Image(np.linspace(-3, 5, 60).reshape(SHAPE), np.eye(4))
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "scaled.nii.gz")
    assert np.allclose(
        read_volume(tmp_path / "scaled.nii.gz").array[0], np.linspace(-3, 5, 60).reshape(SHAPE), atol=1e-3
    )


def test_metres_become_millimetres(write_nifti, tmp_path):
    affine = np.diag([0.001, 0.001, 0.002, 1])
    source = write_nifti("metres.nii", numbered(), affine, xyzt_units=1)
    volume = read_volume(source)
    assert volume.geometry.spacing == pytest.approx((1, 1, 2))
    labels = LabelMap(volume.array[0].astype(np.uint8), volume.geometry, NAMES)
    write_label_map(tmp_path / "labels.nii", labels, read_source_grid(source))
    written = nib.load(tmp_path / "labels.nii")
    assert written.header.get_xyzt_units()[0] == "meter"
    assert np.array_equal(written.affine, nib.load(source).affine)


def test_a_header_without_codes_reads_as_nibabel_reads_it(write_nifti):
    source = write_nifti("bare.nii", numbered(), sform_code=0, qform_code=0)
    grid = read_source_grid(source)
    assert not grid.is_placed
    assert np.array_equal(grid.affine, nib.load(source).affine)


def test_a_last_axis_of_one_is_no_series(write_nifti):
    assert read_volume(write_nifti("one.nii", numbered()[..., np.newaxis])).array.shape == (1, *SHAPE)


def test_series_are_read_inside_the_mask_in_the_order_of_the_turned_volume(write_nifti):
    rng = np.random.default_rng(0)
    series, mask = rng.normal(size=(*SHAPE, 7)).astype(np.float32), rng.random(SHAPE) < 0.4
    affine = affine_of("ILP")
    path = write_nifti("series.nii.gz", series, affine)
    inside, geometry = read_mask(write_nifti("mask.nii", mask.astype(np.uint8), affine))
    values = read_series(path, inside, geometry)
    oracle = nib.as_closest_canonical(nib.load(path)).get_fdata(dtype=np.float32)
    assert np.array_equal(values, oracle[inside].T)
    assert values.shape == (7, mask.sum())


def test_nan_outside_the_mask_is_allowed_and_inside_is_counted(write_nifti):
    series = np.ones((*SHAPE, 3), np.float32)
    series[0, 0, 0] = np.nan
    path = write_nifti("series.nii.gz", series)
    mask = np.ones(SHAPE, bool)
    geometry = read_source_grid(path).geometry
    with pytest.raises(BadInput, match="3 of 180 values"):
        read_series(path, mask, geometry)
    mask[0, 0, 0] = False
    assert read_series(path, mask, geometry).shape == (3, 59)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full(SHAPE, 0.5, np.float32), "60 fractional values"),
        (np.zeros(SHAPE, np.uint8), "without a voxel above 0"),
        (np.full(SHAPE, np.nan, np.float32), "60 of 60 values"),
        (np.ones((*SHAPE, 2), np.uint8), "4-D image"),
    ],
)
def test_a_mask_that_marks_no_clear_region_is_refused(array, words, write_nifti):
    with pytest.raises(BadInput, match=words):
        read_mask(write_nifti("mask.nii", array))


def test_voxels_below_zero_lie_outside_a_mask(write_nifti):
    array = np.zeros(SHAPE, np.int16)
    array[0], array[1] = -1, 1  # as in NSD's nsdgeneral
    inside, _ = read_mask(write_nifti("nsdgeneral.nii.gz", array))
    assert np.array_equal(inside, array == 1)


@pytest.mark.parametrize("value", [1.5, -1.0, 300.0, np.nan])
def test_values_that_are_no_label_number_are_refused(value, write_nifti):
    array = np.zeros(SHAPE, np.float32)
    array[1, 1, 1] = value
    with pytest.raises(BadInput, match="1 voxels that are no label number"):
        read_label_map(write_nifti("dseg.nii", array), {1: "hippocampus"})


def test_real_hippocampus_and_its_labels_come_back_as_stored(shared_data: Path, tmp_path):
    folder = shared_data / "msd_task04_hippocampus"
    image = next(iter(sorted((folder / "images").glob("*.nii.gz"))))
    volume = read_volume(image)
    labels = read_label_map(folder / "labels" / image.name, {1: "anterior", 2: "posterior"})
    assert labels.geometry.matches(volume.geometry)
    assert all(1000 < ml * 1000 < 4000 for ml in labels.volumes_ml().values()), "each part has 1 to 4 ml"
    write_label_map(tmp_path / "out.nii.gz", labels, read_source_grid(image))
    assert np.array_equal(nib.load(tmp_path / "out.nii.gz").dataobj, nib.load(folder / "labels" / image.name).dataobj)


def test_real_values_below_zero_are_kept(shared_data: Path):
    path = next((shared_data / "ms_lesion_mni").rglob("FLAIR*.nii.gz"))
    volume = read_volume(path)
    assert volume.array.min() == nib.load(path).get_fdata(dtype=np.float32).min() < 0


def test_real_mask_on_another_grid_is_refused_with_both_grids(shared_data: Path):
    folder = shared_data / "bold5000_csi1_vols"
    inside, geometry = read_mask(next((folder / "roi_masks_CSI").glob("*LHEarlyVis*")))
    with pytest.raises(BadInput, match=r"88x88x66 of 2.39x2.39x2.4 mm .* 71x89x72 of 2x2x2 mm"):
        read_series(next((folder / "volume_of_interest").glob("*volume1.nii.gz")), inside, geometry)


def test_real_bold_reads_inside_its_mask(shared_data: Path):
    folder = shared_data / "pymvpa_haxby"
    inside, geometry = read_mask(folder / "mask.nii.gz")
    values = read_series(folder / "bold.nii.gz", inside, geometry)
    oracle = nib.as_closest_canonical(nib.load(folder / "bold.nii.gz")).get_fdata(dtype=np.float32)
    assert values.shape == (1452, 530)
    assert np.array_equal(values, oracle[inside].T)
