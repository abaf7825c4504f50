"""One archive of results: what is in it, that it is valid BIDS, and that it says what it could not hold."""

import csv
import io
import json
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from voxelight.app.exports.bids import find_entities
from voxelight.app.exports.entries import Member
from voxelight.app.exports.zipping import stream_zip
from voxelight.app.schemas import DatasetRequest, ResultQuery, ScanRequest
from voxelight.models.errors import NotFound, Refused

ALL = ("bids", "nifti", "dicom-seg", "rtstruct", "surfaces", "colours", "pictures", "tables", "report")


def export(services, folder, *formats, **query):
    content = b"".join(services.exports.stream(ResultQuery(**query), (), formats))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def validate(folder: Path) -> list[dict]:
    """What the validator of BIDS finds, run without a network."""
    program = Path(sys.executable).with_name("bids-validator-deno")
    found = subprocess.run([program, folder, "--json"], capture_output=True, text=True, timeout=120)
    return json.loads(found.stdout)["issues"]["issues"]


def test_label_maps_are_a_valid_bids_derivative(services, segmented, correct, tmp_path):
    [first, *_] = services.results.query(ResultQuery(job=segmented.id)).items
    correct(first)
    names = export(services, tmp_path / "out", "bids", job=segmented.id)
    maps = sorted(name for name in names if name.endswith("_dseg.nii.gz"))
    assert len(maps) == 4
    assert "bids/sub-01/ses-01/anat/sub-01_ses-01_acq-crop0_seg-hippocampusAGUNet_dseg.nii.gz" in maps
    [corrected] = [name for name in maps if "Corrected01" in name]
    issues = validate(tmp_path / "out" / "bids")
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    sidecar = json.loads((tmp_path / "out" / corrected.replace(".nii.gz", ".json")).read_text())
    assert (sidecar["Author"], sidecar["Manual"]) == ("R. Eader", True)
    table = (tmp_path / "out" / maps[0].replace(".nii.gz", ".tsv")).read_text().splitlines()
    assert table == ["index\tname", "0\tbackground", "1\tanterior", "2\tposterior"]
    image = nib.load(tmp_path / "out" / maps[0])
    assert sorted(np.unique(np.asarray(image.dataobj)).tolist()) == [0, 1, 2]
    description = json.loads((tmp_path / "out" / "bids" / "dataset_description.json").read_text())
    assert description["GeneratedBy"][0]["Name"] == "voxelight"
    assert any("Bouget" in line for line in description["ReferencesAndLinks"])


def test_the_validator_would_have_complained(services, segmented, tmp_path):
    """A name that BIDS does not know is an error, so that the test above tests something."""
    export(services, tmp_path, "bids", job=segmented.id)
    [one, *_] = (tmp_path / "bids").rglob("*_dseg.nii.gz")
    one.rename(one.with_name(one.name.replace("_seg-", "_nonsense-")))
    assert any(issue["severity"] == "error" for issue in validate(tmp_path / "bids"))


def test_decoded_pictures_lie_in_a_folder_that_bids_leaves_alone(services, decoded, tmp_path):
    names = export(services, tmp_path, "bids", job=decoded.id)
    assert (tmp_path / "bids/.bidsignore").read_text() == "decoded\n"
    pictures = [name for name in names if name.endswith("_reconstruction.png")]
    assert len(pictures) == decoded.total
    assert all(name.startswith("bids/decoded/sub-01/") for name in pictures)
    assert [issue for issue in validate(tmp_path / "bids") if issue["severity"] == "error"] == []
    told = json.loads(next((tmp_path / "bids/decoded").rglob("decoded.json")).read_text())
    assert told["Notice"] == "Model estimate, not a photograph of thought. Not for clinical use."
    assert told["Simulated"] is True


def test_everything_at_once_with_provenance_and_what_could_not_be_made(services, segmented, decoded, tmp_path):
    names = export(services, tmp_path, *ALL)
    for start in ("bids/", "nifti/volumes/01/01/", "pictures/brain/", "tables/metrics.csv", "report/report.html"):
        assert any(name.startswith(start) for name in names), start
    lines = (tmp_path / "provenance.jsonl").read_text().splitlines()
    assert len(lines) == segmented.done + decoded.done
    told = [json.loads(line) for line in lines]
    assert {one["recipe"] for one in told} == {"hippocampus-agunet", "miyawaki-ridge"}
    assert all(one["files"] for one in told)
    problems = json.loads((tmp_path / "problems.json").read_text())
    assert len(problems) == 2 * segmented.done
    assert "DICOM" in problems[0]["reason"]
    assert "Miyawaki" in (tmp_path / "CITATIONS.txt").read_text()
    assert "CC-BY-SA-4.0" in (tmp_path / "LICENCES.txt").read_text()
    # What was stored is what comes out, byte for byte.
    for result in services.results.query(ResultQuery(job=segmented.id)).items:
        [stored] = [file for file in result.artifacts if file.role == "label_map"]
        [out] = list((tmp_path / "nifti").rglob(stored.name))
        assert out.read_bytes() == services.results.read(stored)
    plan = {one.name: one for one in services.exports.plan(ResultQuery()).formats}
    assert plan["dicom-seg"].files == 0
    assert "DICOM" in plan["dicom-seg"].reason
    assert plan["nifti"].files == 3


def test_a_label_map_comes_with_its_sheet_cut_by_cut(services, segmented, tmp_path):
    names = export(services, tmp_path, "pictures", job=segmented.id)
    sheets = {(tmp_path / name).read_bytes() for name in names if name.endswith("segmentation_sheet.png")}
    assert sheets == {
        services.sheets.draw(result.id)[0] for result in services.results.query(ResultQuery(job=segmented.id)).items
    }


def test_a_label_map_of_a_series_becomes_a_dicom_seg_that_refers_to_it(services, from_dicom, tmp_path):
    names = export(services, tmp_path, "dicom-seg", job=from_dicom.id)
    [name] = [name for name in names if name.endswith(".dcm")]
    seg = pydicom.dcmread(tmp_path / name)
    assert seg.SOPClassUID == pydicom.uid.SegmentationStorage
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["anterior", "posterior"]
    assert "problems.json" not in names
    # highdicom counts the voxels of each label as the stored map does
    import highdicom

    [result] = services.results.query(ResultQuery(job=from_dicom.id)).items
    [stored] = [file for file in result.artifacts if file.role == "label_map"]
    (tmp_path / "map.nii.gz").write_bytes(services.results.read(stored))
    labels = np.asarray(nib.load(tmp_path / "map.nii.gz").dataobj)
    read = highdicom.seg.segread(tmp_path / name)
    volume = read.get_volume(combine_segments=True)
    there = nib.load(tmp_path / "map.nii.gz").affine
    for number in (1, 2):
        found, expected = np.argwhere(volume.array == number), np.argwhere(labels == number)
        assert len(found) == len(expected) > 0
        in_patient = np.sort(np.round(nib.affines.apply_affine(volume.affine, found) * (-1, -1, 1), 2), axis=0)
        np.testing.assert_allclose(
            in_patient, np.sort(nib.affines.apply_affine(there, expected), axis=0), atol=0.02
        )  # millimetres, DICOM's axes turned to those of NIfTI: left is left
    plan = {one.name: one.files for one in services.exports.plan(ResultQuery(job=from_dicom.id)).formats}
    assert plan["dicom-seg"] == 1


def test_label_maps_go_out_as_surfaces_contours_colours_and_volumes(services, from_dicom, tmp_path):
    names = export(services, tmp_path, "rtstruct", "surfaces", "colours", "tables", job=from_dicom.id)
    assert "problems.json" not in names
    [structures] = [name for name in names if name.startswith("rtstruct/")]
    assert [item.ROIName for item in pydicom.dcmread(tmp_path / structures).StructureSetROISequence] == [
        "anterior",
        "posterior",
    ]
    assert sorted(Path(name).suffix for name in names if name.startswith("surfaces/")) == [".glb", ".stl", ".stl"]
    assert "1 anterior 255 176 0 255" in (tmp_path / "colours/hippocampus-agunet.ctbl").read_text()
    assert '"posterior"' in (tmp_path / "colours/hippocampus-agunet_itk-snap.txt").read_text()
    [result] = services.results.query(ResultQuery(job=from_dicom.id)).items
    rows = list(csv.DictReader((tmp_path / "tables/volumes.csv").open()))
    assert {row["label"]: float(row["volume_ml"]) for row in rows} == pytest.approx(result.volumes_ml, rel=1e-5)


def test_clinical_data_stay_where_they_are(services, crops, tmp_path, segment):
    services.datasets.create(DatasetRequest(name="ward", keeps_headers=True))
    services.scans.ingest_path(crops[0], ScanRequest(name="crop.nii.gz", dataset="ward"))
    job = segment("ward")
    [result] = services.results.query(ResultQuery(job=job.id)).items
    for query, runs in ((ResultQuery(), ()), (ResultQuery(dataset="ward"), ()), (ResultQuery(), (result.id,))):
        for ask in (services.exports.plan, services.exports.report, services.exports.tabulate):
            with pytest.raises(Refused):
                ask(query, runs)
        with pytest.raises(Refused):
            services.exports.stream(query, runs, ALL)


def test_nothing_to_export_is_said(services):
    with pytest.raises(NotFound, match="no result"):
        services.exports.stream(ResultQuery(), (), ALL)
    with pytest.raises(NotFound, match="no result"):
        services.exports.plan(ResultQuery())


def test_an_archive_is_streamed_in_flat_memory():
    piece = np.random.default_rng(0).bytes(1 << 20)
    members = (Member(f"{number}.gz", (piece for _ in range(40))) for number in range(3))
    tracemalloc.start()
    total = sum(len(part) for part in stream_zip(members))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 120 << 20
    assert peak < 12 << 20


@pytest.mark.parametrize(
    ("name", "entities"),
    [
        ("sub-01_ses-02_T1w.nii.gz", {}),
        ("sub-01_acq-mprage_run-2_T1w.nii.gz", {"acq": "mprage", "run": "2"}),
        ("sub-01_acq-hi_T2w.nii", {"acq": "hiT2w"}),
        ("crop 1.nii.gz", {"acq": "crop1"}),
        ("sub-01_T1w (copy).nii.gz", {"acq": "sub01T1wcopy"}),
        ("心.nii.gz", {"acq": "d2c31ba6"}),
    ],
)
def test_entities_of_a_name_are_kept(name, entities):
    found = find_entities(name)
    if name.startswith("心"):
        assert len(found["acq"]) == 8
        assert found["acq"].isalnum()
    else:
        assert found == entities
