"""RTSTRUCT read back by another reader; colour tables as 3D Slicer and ITK-SNAP have them."""

import io

import numpy as np
import pytest
from pydicom import dcmread, dicomio
from skimage.draw import polygon2mask

from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap
from voxelight.storage.formats.colour_tables import encode_itk_snap, encode_slicer
from voxelight.storage.formats.dicom.bundle import bundle_series
from voxelight.storage.formats.dicom.segmentation import SegmentedBy
from voxelight.storage.formats.dicom.structures import write_rtstruct
from voxelight.storage.formats.volumes import read_image

dicomio.read_file = dcmread  # dicompyler asks for it by the name that it had in pydicom 2
from dicompylercore.dicomparser import DicomParser  # noqa: E402

OBLIQUE = (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)
BY = SegmentedBy("hippocampus-agunet", "1")
NAMES = {1: "anterior", 2: "posterior", 5: "nothing"}


@pytest.fixture(params=[(1, 0, 0, 0, 1, 0), OBLIQUE, (0, 1, 0, 0, 0, -1)])
def series(request, write_dicom, tmp_path):
    write_dicom(tmp_path / "series", axes=request.param, shape=(40, 48))
    [bundle] = bundle_series([tmp_path / "series"], tmp_path)
    return bundle.path


def draw(path):
    """Two blobs, one with a hole, on the grid of a series."""
    volume, _ = read_image(path)
    array = np.zeros(volume.geometry.shape, np.uint8)
    flat = int(np.argmin(array.shape))
    cut = np.moveaxis(array, flat, 2)
    cut[5:15, 8:20, 1:4] = 1
    cut[9:11, 12:15, 1:4] = 0
    cut[22:30, 8:12, 2:5] = 2
    return LabelMap(array, volume.geometry, NAMES)


def test_contours_enclose_the_voxels_as_another_reader_sees_them(series, tmp_path):
    label_map = draw(series)
    content = write_rtstruct(label_map, series, BY)
    (tmp_path / "rtstruct.dcm").write_bytes(content)
    parser = DicomParser(str(tmp_path / "rtstruct.dcm"))
    regions = parser.GetStructures()
    assert {region["name"] for region in regions.values()} == set(NAMES.values())
    affine = np.diag([-1, -1, 1, 1]) @ label_map.geometry.affine
    flat = int(np.argmin(label_map.array.shape))
    plane = [axis for axis in range(3) if axis != flat]
    for number, region in regions.items():
        made = dcmread(io.BytesIO(content))
        [contours] = [item for item in made.ROIContourSequence if item.ReferencedROINumber == number]
        seen = np.zeros(label_map.array.shape, int)
        for contour in contours.get("ContourSequence", []):
            points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
            at = np.linalg.solve(affine[:3, :3], (points - affine[:3, 3]).T).T
            assert np.ptp(at[:, flat]) < 1e-2, "a contour lies in one slice"
            place = round(at[0, flat])
            shape = tuple(np.array(label_map.array.shape)[plane])
            mask = polygon2mask(shape, at[:, plane])
            index = [slice(None)] * 3
            index[flat] = place
            seen[tuple(index)] ^= mask
        assert np.array_equal(seen > 0, label_map.array == number), region["name"]


def test_it_belongs_to_its_study_and_says_what_it_is(series):
    made = dcmread(io.BytesIO(write_rtstruct(draw(series), series, BY)))
    from voxelight.storage.formats.dicom.volume import only_series

    source = only_series(series)
    assert made.StudyInstanceUID == source.first.StudyInstanceUID
    assert made.ApprovalStatus == "UNAPPROVED"
    assert "Not for clinical use" in made.SeriesDescription
    [study] = made.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    images = study.RTReferencedSeriesSequence[0].ContourImageSequence
    assert {image.ReferencedSOPInstanceUID for image in images} == {header.SOPInstanceUID for header in source.headers}
    assert write_rtstruct(draw(series), series, BY) == write_rtstruct(draw(series), series, BY)


def test_labels_on_another_grid_are_refused(series):
    label_map = draw(series)
    geometry = label_map.geometry
    moved = geometry.affine.copy()
    moved[0, 3] += 2
    other = LabelMap(label_map.array, type(geometry)(geometry.shape, moved), NAMES)
    with pytest.raises(BadInput, match="not on the grid of its series"):
        write_rtstruct(other, series, BY)


def test_colour_tables_name_every_label():
    names = {1: "left anterior", 12: 'the "other"'}
    slicer = [line.split() for line in encode_slicer(names).splitlines() if not line.startswith("#")]
    assert [row[:2] for row in slicer] == [["0", "Background"], ["1", "left_anterior"], ["12", 'the_"other"']]
    assert all(len(row) == 6 and all(0 <= int(part) <= 255 for part in row[2:]) for row in slicer)
    snap = [line for line in encode_itk_snap(names).splitlines() if not line.startswith("#")]
    assert [line.split()[0] for line in snap] == ["0", "1", "12"]
    assert [line.split('"')[1] for line in snap] == ["Clear Label", "left anterior", "the 'other'"]
    assert [int(part) for part in snap[1].split()[1:4]] == [int(part) for part in slicer[1][2:5]]
