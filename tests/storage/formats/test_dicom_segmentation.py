import io
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its own name for itself
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless

from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap
from voxelight.storage.formats.dicom.bundle import bundle_series
from voxelight.storage.formats.dicom.segmentation import SegmentedBy, write_dicom_seg
from voxelight.storage.formats.volumes import read_image

BY = SegmentedBy("hippocampus-agunet", "abc123")
OBLIQUE = (0.9689, 0.0, -0.2474, 0.0, 1.0, 0.0)


@pytest.fixture
def series(write_dicom, tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    write_dicom(tmp_path / "series", axes=OBLIQUE)
    return bundle_series([tmp_path / "series"], tmp_path / "out")[0].path


def label(series: Path) -> LabelMap:
    """Two labels with a gap in their numbers, and one that marks nothing."""
    volume, _ = read_image(series)
    array = np.zeros(volume.array.shape[1:], np.uint8)
    array[1:4, 2:6, 1:3] = 3
    array[5:9, 2:8, 2:5] = 7
    return LabelMap(array, volume.geometry, {3: "Anterior hippocampus", 7: "Lesion", 9: "Nothing here"})


def paint(content: bytes, labels: LabelMap) -> np.ndarray:
    """Put segments back onto the grid of the labels by position alone, with pydicom and no help of ours."""
    header = dcmread(io.BytesIO(content))
    frames = header.pixel_array.reshape(-1, header.Rows, header.Columns)
    painted = np.zeros(labels.array.shape, np.uint8)
    numbers = sorted(labels.names)
    to_voxel = np.linalg.inv(labels.geometry.affine) @ np.diag([-1, -1, 1, 1])
    axes = np.array(header.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    for frame, groups in zip(frames, header.PerFrameFunctionalGroupsSequence, strict=True):
        where = groups if "SegmentIdentificationSequence" in groups else header.SharedFunctionalGroupsSequence[0]
        number = numbers[where.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1]
        corner = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in np.argwhere(frame):
            place = corner + axes[:3] * spacing[1] * column + axes[3:] * spacing[0] * row
            painted[tuple(np.rint(to_voxel @ [*place, 1])[:3].astype(int))] = number
    return painted


def test_labels_are_where_they_were_drawn_for_a_reader_of_the_standard(series):
    labels = label(series)
    assert np.array_equal(paint(write_dicom_seg(labels, series, BY), labels), labels.array)


def test_two_other_readers_find_the_same_voxels(series, tmp_path):
    labels = label(series)
    content = write_dicom_seg(labels, series, BY)
    read = highdicom.seg.segread(io.BytesIO(content))
    assert [read.get_segment_description(number).segment_label for number in (1, 2, 3)] == list(labels.names.values())
    assert read.get_segment_description(1).segmented_property_type.meaning == "Hippocampus"
    volume = read.get_volume(combine_segments=True)
    assert {int(n): int((volume.array == n).sum()) for n in (1, 2)} == {1: 24, 2: 72}
    (tmp_path / "seg.dcm").write_bytes(content)
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "seg.dcm")))
    assert int((image > 0).sum()) == 96


def test_an_enhanced_file_carries_a_segmentation_and_of_a_compressed_series_it_is_the_same(
    make_enhanced, write_dicom, tmp_path
):
    paths = write_dicom(tmp_path / "series", axes=OBLIQUE)
    for name in ("joined", "packed", "out"):
        (tmp_path / name).mkdir()
    make_enhanced(paths, tmp_path / "joined/one.dcm")
    for path in paths:
        header = dcmread(path)
        header.compress(JPEGLSLossless)
        header.save_as(tmp_path / "packed" / path.name)
    for name in ("joined", "packed"):
        [bundle] = bundle_series([tmp_path / name], tmp_path / "out")
        labels = label(bundle.path)
        content = write_dicom_seg(labels, bundle.path, BY)
        assert np.array_equal(paint(content, labels), labels.array), name
        volume = highdicom.seg.segread(io.BytesIO(content)).get_volume(combine_segments=True)
        assert int((volume.array > 0).sum()) == int((labels.array > 0).sum())
        bundle.path.unlink()


def test_it_refers_to_the_slices_of_its_series_and_says_what_it_is(series):
    header = dcmread(io.BytesIO(write_dicom_seg(label(series), series, BY)))
    assert header.SOPClassUID.name == "Segmentation Storage"
    assert header.StudyInstanceUID == "1.2.3.0"
    assert header.FrameOfReferenceUID == "1.2.3.0.200"
    [referred] = header.ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == "1.2.3.0.100"
    assert {item.ReferencedSOPInstanceUID for item in referred.ReferencedInstanceSequence} == {
        f"1.2.3.0.{place}" for place in range(1, 7)
    }
    assert "Not for clinical use" in header.SeriesDescription
    assert header.SegmentSequence[0].SegmentAlgorithmName == "hippocampus-agunet"


def test_the_same_labels_have_the_same_identifiers_and_others_have_others(series):
    labels = label(series)
    first, again = (dcmread(io.BytesIO(write_dicom_seg(labels, series, BY))) for _ in range(2))
    assert first.SOPInstanceUID == again.SOPInstanceUID
    labels.array[0, 0, 0] = 3
    changed = dcmread(io.BytesIO(write_dicom_seg(labels, series, BY)))
    assert changed.SOPInstanceUID != first.SOPInstanceUID
    drawn = dcmread(io.BytesIO(write_dicom_seg(labels, series, SegmentedBy("A reader", "1", manual=True))))
    assert drawn.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"


def test_a_map_of_another_grid_is_refused(series):
    labels = label(series)
    shifted = labels.geometry.affine.copy()
    shifted[0, 3] += 1
    with pytest.raises(BadInput, match="not on the grid of its series"):
        write_dicom_seg(LabelMap(labels.array, Geometry(labels.geometry.shape, shifted), labels.names), series, BY)
    with pytest.raises(BadInput, match="without a name"):
        write_dicom_seg(LabelMap(labels.array * 0, labels.geometry, {}), series, BY)


def test_a_label_is_coded_by_its_name_else_by_what_its_model_is_for(series):
    labels = label(series)
    named = LabelMap(labels.array, labels.geometry, {3: "anterior", 7: "tumour", 9: "other"})
    by_model = dcmread(io.BytesIO(write_dicom_seg(named, series, BY))).SegmentSequence
    by_hand = dcmread(
        io.BytesIO(write_dicom_seg(named, series, SegmentedBy("Dr. Lung", "1", manual=True)))
    ).SegmentSequence
    assert [each.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for each in by_model] == [
        *("Hippocampus", "Neoplasm", "Hippocampus"),
    ]
    assert by_hand[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"


def test_an_empty_map_is_written_too(series):
    labels = label(series)
    empty = LabelMap(labels.array * 0, labels.geometry, labels.names)
    read = highdicom.seg.segread(io.BytesIO(write_dicom_seg(empty, series, BY)))
    assert not read.pixel_array.any()


def test_a_real_series_carries_a_segmentation(shared_data, tmp_path):
    [bundle] = bundle_series([shared_data / "mr_dicom_t1_pddl"], tmp_path)
    volume, _ = read_image(bundle.path)
    array = np.zeros(volume.array.shape[1:], np.uint8)
    array[100:120, 150:180, 20:40] = 1
    labels = LabelMap(array, volume.geometry, {1: "brain"})
    assert np.array_equal(paint(write_dicom_seg(labels, bundle.path, BY), labels), array)
