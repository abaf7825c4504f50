"""Series that our reader refuses: converted by dcm2niix, or told why not; none stops the others."""

import struct
import warnings

import numpy as np
import pytest
from pydicom import dcmread

from voxelight.app.schemas import DatasetRequest, JobRequest
from voxelight.app.schemas_uploads import ReadPlace
from voxelight.app.verbs.drops import Dropped
from voxelight.storage.formats.volumes import read_image

TILES, SIDE = 6, 8


def csa(tags):
    """Encode a CSA header of Siemens, as nibabel and dcm2niix read it."""
    blocks = [struct.pack("<4s4sII", b"SV10", b"\4\3\2\1", len(tags), 77)]
    for name, (vr, values) in tags.items():
        texts = [str(value).encode() + b"\0" for value in values]
        blocks.append(struct.pack("<64si4siii", name.encode(), len(texts), vr.encode(), 0, len(texts), 77))
        for text in texts:
            blocks.append(struct.pack("<4i", len(text), len(text), 77, len(text)))
            blocks.append(text + b"\0" * (-len(text) % 4))
    return b"".join(blocks)


@pytest.fixture
def database_url(tmp_path):
    return f"sqlite:///{tmp_path / 'voxelight.sqlite'}"


@pytest.fixture
def dataset(services):
    services.datasets.create(DatasetRequest(name="ward", purpose="test"))
    return "ward"


@pytest.fixture
def mosaic(write_dicom, tmp_path):
    """Six slices in one picture of three columns, as an echo-planar image of Siemens has them."""
    [path, *others] = write_dicom(tmp_path / "mosaic", seed=5)
    for other in others:
        other.unlink()
    header = dcmread(path)
    values = np.arange(TILES * SIDE * SIDE, dtype=np.uint16).reshape(TILES, SIDE, SIDE)
    picture = np.zeros((3 * SIDE, 3 * SIDE), np.uint16)
    for number, tile in enumerate(values):
        row, column = divmod(number, 3)
        picture[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = tile
    header.Rows, header.Columns = picture.shape
    header.PixelData = picture.tobytes()
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    header.Manufacturer, header.Modality = "SIEMENS", "MR"
    header.SpacingBetweenSlices = header.SliceThickness = "3"
    across, down = np.reshape(np.array(header.ImageOrientationPatient, float), (2, 3))
    tags = {
        "NumberOfImagesInMosaic": ("IS", [TILES]),
        "AcquisitionMatrixText": ("SH", [f"{SIDE}*{SIDE}"]),
        "SliceNormalVector": ("FD", [f"{part:.8f}" for part in np.cross(across, down)]),
    }
    block = header.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa(tags))
    header.save_as(path)
    return path


def read_scan(services, scan):
    with services.stores.blobs.local_file(scan.sha256, scan.name) as path:
        return read_image(path)


def drop(services, dataset, paths, **how):
    return services.drops.take_in([Dropped(path, path.name) for path in paths], ReadPlace(dataset=dataset, **how))


def test_a_mosaic_is_converted_and_lies_where_another_reader_has_it(services, dataset, mosaic):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its reader experimental
        from nibabel.nicom.dicomwrappers import wrapper_from_data

        expected = wrapper_from_data(dcmread(mosaic))
    outcome = drop(services, dataset, [mosaic])
    assert outcome.problems == []
    [scan] = outcome.scans
    assert scan.name.endswith(".nii.gz")
    assert scan.facts["converted_by"].startswith("dcm2niix 1.")
    assert scan.facts["resliced"] == "no"
    assert "No DICOM-SEG" in scan.warnings[0]["remedy"]
    volume, _ = read_scan(services, scan)
    lps = np.diag([-1, -1, 1, 1]) @ volume.geometry.affine
    theirs = expected.get_data()
    for index in ((0, 0, 0), (7, 2, 5), (3, 6, 1)):
        place = expected.affine @ (*index, 1)
        at = np.rint(np.linalg.inv(lps) @ place).astype(int)[:3]
        assert volume.array[(0, *at)] == theirs[index]
        assert np.allclose(lps @ (*at, 1), place, atol=1e-3)


@pytest.mark.parametrize("signed", [1, 0])
def test_tilted_slices_are_resampled_and_never_taken_for_the_series(signed, services, dataset, write_dicom, tmp_path):
    """Of unsigned values dcm2niix takes no tilt out; then the refusal of our reader stands."""

    def tilt(header, place):
        x, y, z = map(float, header.ImagePositionPatient)
        header.ImagePositionPatient = [x, y + place * 0.6, z]
        header.Modality, header.GantryDetectorTilt, header.PixelRepresentation = "CT", "13.5", signed
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"

    outcome = drop(services, dataset, write_dicom(tmp_path / "ct", change=tilt))
    if not signed:
        assert "tilted gantry" in outcome.problems[0].problem.detail
        assert outcome.scans == []
        return
    [scan] = outcome.scans
    assert scan.facts["resliced"] == "yes"
    assert "resampled to another grid" in scan.warnings[0]["found"]
    assert scan.name.endswith(".nii.gz"), "no series that a DICOM-SEG could refer to"
    affine = read_scan(services, scan)[0].geometry.affine[:3, :3]
    axes = affine / np.linalg.norm(affine, axis=0)
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-3), "right angles again"


def test_volumes_of_a_series_become_scans_to_choose_from_and_one_can_be_named(services, dataset, write_dicom, tmp_path):
    paths = write_dicom(tmp_path / "first")
    for number, path in enumerate(paths):
        header = dcmread(path)
        header.SOPInstanceUID, header.EchoTime = f"1.2.3.9.{number}", "80"
        header.save_as(path.with_name(f"second-{path.name}"))
    files = sorted((tmp_path / "first").iterdir())
    outcome = drop(services, dataset, files)
    assert outcome.problems == []
    assert [scan.facts["volume"] for scan in outcome.scans] == [1, 2]
    assert {scan.facts["volumes_in_series"] for scan in outcome.scans} == {2}
    assert "EchoTime 80" in outcome.scans[0].facts["volume_is"]
    again = drop(services, dataset, files)
    assert again.scans == []
    assert all("stored already" in part.problem.detail for part in again.problems)
    [only] = drop(services, dataset, files, subject="02", volume=2).scans
    assert only.facts["volume"] == 2
    none = drop(services, dataset, files, subject="03", volume=3)
    assert none.scans == []
    assert [part.problem.expected for part in none.problems] == ["one from 1 to 2"]


def test_one_bad_case_never_fails_a_batch(services, dataset, write_dicom, mosaic, tmp_path):
    def colour(header, place):
        header.PhotometricInterpretation, header.SamplesPerPixel = "RGB", 3
        header.SeriesInstanceUID = "1.2.3.77"

    def missing(header, place):
        header.SeriesInstanceUID = "1.2.3.78"
        header.SeriesNumber = 12

    good = write_dicom(tmp_path / "good")
    gap = write_dicom(tmp_path / "gap", change=missing)
    files = [*good, *gap[:2], *gap[3:], *write_dicom(tmp_path / "rgb", change=colour), mosaic]
    nrrd = tmp_path / "broken.nrrd"
    nrrd.write_bytes(b"NRRD0004\ntype: short\n")
    outcome = drop(services, dataset, [*files, nrrd])
    reasons = " | ".join(part.problem.detail for part in outcome.problems)
    assert len(outcome.scans) == 2, reasons
    for reason in ("missing", "in colour", "broken.nrrd"):
        assert reason in reasons
    job = services.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset=dataset, queue="cpu"))
    assert job.total == 2
