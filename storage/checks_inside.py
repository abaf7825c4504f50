"""What is done with bytes from elsewhere inside a sandbox: each task takes plain data and a folder, gives plain data.

Imported by the server of the sandbox only. What a task writes lies in its folder, under the names given here.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, VoxelightError
from voxelight.models.values import Stimuli
from voxelight.storage.checks import BEFORE_AFTER, CLEANED, PICTURE, VOXELS
from voxelight.storage.checks_data import IMAGES, LABELS, VALUES
from voxelight.storage.formats.accepted import Accepted, StandIns
from voxelight.storage.formats.names import find_suffix
from voxelight.storage.formats.reading import Reading

Given = Mapping[str, Any]


def accept_file(given: Given, folder: Path) -> dict[str, Any]:
    """Check and clean one file."""
    from voxelight.storage.formats.deidentify import accept_file as accept

    stand_ins, reading = StandIns(**given["stand_ins"]), Reading(**given["reading"])
    return _tell(accept(Path(given["path"]), given["name"], folder / CLEANED, stand_ins, reading), folder)


def find_uids(given: Given, folder: Path) -> dict[str, Any]:
    """List the UIDs of a DICOM file or archive in whose place others are to stand."""
    from voxelight.storage.formats.deidentify import find_uids as find

    return {"uids": find(Path(given["path"]), given["name"], given["reading"]["volume"])}


def find_series_uids(given: Given, folder: Path) -> dict[str, Any]:
    """List the UIDs of a series in whose place others are to stand."""
    from voxelight.storage.formats.deidentify import find_series_uids as find

    return {"uids": find(_series(given["series"]))}


def accept_converted(given: Given, folder: Path) -> dict[str, Any]:
    """Check and clean what dcm2niix made."""
    from voxelight.storage.formats.deidentify import accept_converted as accept
    from voxelight.storage.formats.dicom.convert import Converted

    found = Converted(Path(given["path"]), given["resliced"], given["program"])
    return _tell(accept(found, given["name"], folder / CLEANED, StandIns(**given["stand_ins"])), folder)


def remove_face(given: Given, folder: Path) -> dict[str, Any]:
    """Take the face out of an image that was accepted before."""
    from voxelight.storage.formats.deface import remove_face as remove
    from voxelight.storage.formats.intake import inspect
    from voxelight.storage.formats.thumbnails import thumbnail

    target, source = folder / given["target"], folder / f"source{find_suffix(given['name'])}"
    shutil.copyfile(given["path"], source)  # readers go by the suffix, which what was cleaned has none of
    found = remove(source, given["name"], target)
    if found is None:
        return {"changed": False}
    intake = inspect(target, given["target"])
    picture = thumbnail(target, intake)
    return {
        "changed": True,
        "intake": intake.model_dump(),
        "picture": None if picture is None else _write(picture, folder / PICTURE),
        "before_after": _write(found.picture, folder / BEFORE_AFTER),
        "facts": found.face.describe(),
    }


def list_series(given: Given, folder: Path) -> dict[str, Any]:
    """Find every series of images, each with its name."""
    from voxelight.storage.formats.dicom.bundle import name_all

    found = []
    for name, series in name_all([Path(path) for path in given["paths"]]):
        files = [[str(file.path), file.member] for file in series.files]
        told = {"uid": series.uid, "files": files, "copies": series.copies, "differs": series.differs}
        told |= {"volume": series.volume, "volumes": series.volumes}
        found.append({"name": name, "title": series.title, "series": told})
    return {"series": found}


def read_values(given: Given, folder: Path) -> dict[str, Any]:
    """Read some values of the headers of DICOM files, as texts; None of a file that is none."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    from voxelight.storage.formats.dicom.files import dicom_faults

    def read(path: Path) -> dict[str, str] | None:
        try:
            with dicom_faults(path.name):
                header = dcmread(path, stop_before_pixels=True, specific_tags=given["keywords"])
                return {keyword: str(header.get(keyword, "") or "") for keyword in given["keywords"]}
        except (BadInput, InvalidDicomError):
            return None

    return {"values": [read(Path(path)) for path in given["paths"]]}


def accept_series(given: Given, folder: Path) -> dict[str, Any]:
    """Check and clean the files of one series on their way into one archive."""
    from voxelight.storage.formats.deidentify import accept_series as accept

    stand_ins = StandIns(**given["stand_ins"])
    return _tell(accept(_series(given["series"]), given["name"], folder / CLEANED, stand_ins), folder)


def check_series(given: Given, folder: Path) -> dict[str, Any]:
    """See whether a series makes one volume; no voxel is read."""
    from voxelight.storage.formats.dicom.bundle import check_series as check

    return {"shape": [int(side) for side in check(_series(given["series"])).shape]}


def convert_series(given: Given, folder: Path) -> dict[str, Any]:
    """Have dcm2niix convert a series; what may have writing in its picture is refused."""
    from voxelight.storage.formats.dicom import refusals
    from voxelight.storage.formats.dicom.clean import find_writing
    from voxelight.storage.formats.dicom.convert import converted

    series, told = _series(given["series"]), given["reason"]
    kind: type[BadInput] = {"Uneven": refusals.Uneven}.get(told["kind"], refusals.Convertible)
    reason = kind(told["found"], told["expected"], told["remedy"])
    if any(find_writing(header) for header in series.headers):
        raise reason
    files = []
    with converted(series, folder, reason) as found:
        for number, each in enumerate(found, start=1):
            shutil.move(each.path, folder / f"{number}.nii.gz")
            files.append({"file": f"{number}.nii.gz", "resliced": each.resliced, "program": each.program})
    return {"files": files}


def sort_loose(given: Given, folder: Path) -> dict[str, Any]:
    """Say of each loose file why it is no DICOM file, in the words of the intake; None where it is one."""
    return {"refusals": [_refuse_other(Path(path), name, given["suffixes"]) for path, name in given["files"]]}


def list_archive(given: Given, folder: Path) -> dict[str, Any]:
    """List the members of an archive: those that stand alone by name, what is no scan, and how many are DICOM."""
    from voxelight.storage.formats.archives import list_members, opened_zip

    alone, others, dicom = [], [], 0
    with opened_zip(Path(given["path"]), given["name"], given["limit_bytes"]) as archive:
        members = list_members(archive)
        for number, member in enumerate(members):
            name = PurePosixPath(member.filename).name
            if member.filename.lower().endswith(tuple(given["alone"])):
                alone.append([number, name, member.file_size])
                continue
            with archive.open(member) as file:
                head = file.read(132)
            if head[128:] == b"DICM" or PurePosixPath(member.filename).suffix.lower() in given["suffixes"]:
                dicom += 1
            else:
                others.append(name)
    return {"alone": alone, "others": others, "dicom": dicom}


def unpack(given: Given, folder: Path) -> dict[str, Any]:
    """Write members of an archive under their numbers."""
    from voxelight.storage.formats.archives import list_members, opened_zip

    with opened_zip(Path(given["path"]), given["name"], given["limit_bytes"]) as archive:
        members = list_members(archive)
        for number in given["numbers"]:
            with archive.open(members[number]) as source, (folder / str(number)).open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
    return {}


def find_raw(given: Given, folder: Path) -> dict[str, Any]:
    """Return the name of the voxels that a detached MetaImage header leads to."""
    from voxelight.storage.formats.itk_header import name_raw

    return {"raw": name_raw(Path(given["header"]))}


def join_metaimage(given: Given, folder: Path) -> dict[str, Any]:
    """Write a detached header and its voxels as one file."""
    from voxelight.storage.formats.itk_header import join_metaimage as join

    join(Path(given["header"]), Path(given["raw"]), folder / CLEANED, given["raw_name"])
    return {}


def read_image(given: Given, folder: Path) -> dict[str, Any]:
    """Read one image in space."""
    from voxelight.storage.formats.volumes import read_image as read

    volume, grid = read(Path(given["path"]))
    placement = {
        field: {"dtype": value.dtype.str, "shape": list(value.shape), "values": value.ravel().tolist()}
        for field, value in grid.placement.items()
    }
    told = {
        "shape": list(grid.shape),
        "affine": grid.affine.tolist(),
        "orientation": grid.orientation,
        "version": grid.version,
        "placement": placement,
        "units": grid.units,
    }
    return {"array": _write(volume.array, folder / VOXELS), "affine": volume.geometry.affine.tolist(), "grid": told}


def read_overview(given: Given, folder: Path) -> dict[str, Any]:
    """Read every n-th voxel of an image."""
    from voxelight.storage.formats.volumes import read_overview as read

    array, geometry = read(Path(given["path"]), given["name"])
    shape = [int(side) for side in geometry.shape]
    return {"array": _write(array, folder / VOXELS), "affine": geometry.affine.tolist(), "shape": shape}


def read_label_map(given: Given, folder: Path) -> dict[str, Any]:
    """Read a segmentation whose labels are known."""
    from voxelight.storage.formats.volumes import read_label_map as read

    names = {int(number): str(name) for number, name in given["names"].items()}
    found = read(Path(given["path"]), names)
    return {"array": _write(found.array, folder / VOXELS), "affine": found.geometry.affine.tolist()}


def read_betas(given: Given, folder: Path) -> dict[str, Any]:
    """Read betas, and the pictures that were seen where there are any."""
    from voxelight.storage.formats.betas import read_betas_mat, read_betas_nifti
    from voxelight.storage.formats.images import read_stimuli

    path, subject = Path(given["betas"]), given["subject"]
    stimuli: Stimuli | None = None
    if given["mask"] is None or given["events"] is None:
        betas, stimuli = read_betas_mat(path, subject=subject)
    else:
        betas = read_betas_nifti(path, Path(given["mask"]), Path(given["events"]), subject)
        if given["pictures"]:
            stimuli = read_stimuli([Path(picture) for picture in given["pictures"]])
    return {
        "values": _write(betas.values, folder / VALUES),
        "shown": betas.stimulus_ids.tolist(),
        "roi": betas.roi,
        "labels": {name: column.tolist() for name, column in betas.labels.items()},
        "images": None if stimuli is None else _write(stimuli.images, folder / IMAGES),
        "ids": None if stimuli is None else stimuli.ids.tolist(),
    }


def read_case(given: Given, folder: Path) -> dict[str, Any]:
    """Read an image and the labels drawn on it."""
    from voxelight.storage.formats.cases import read_case as read

    image, labels = (Path(path) for path in given["paths"])
    names = None if given["names"] is None else {int(number): str(text) for number, text in given["names"]}
    case = read(given["name"], (image, labels), names, {int(value): int(number) for value, number in given["values"]})
    return {
        "image": _write(case.volume.array, folder / VOXELS),
        "image_affine": case.volume.geometry.affine.tolist(),
        "labels": _write(case.labels.array, folder / LABELS),
        "labels_affine": case.labels.geometry.affine.tolist(),
        "names": [[number, text] for number, text in case.labels.names.items()],
    }


def read_picture(given: Given, folder: Path) -> dict[str, Any]:
    """Read a picture."""
    from voxelight.storage.formats.images import read_picture as read

    return {"array": _write(read(Path(given["path"]), given["name"]), folder / VOXELS)}


def write_image(given: Given, folder: Path) -> dict[str, Any]:
    """Write an image as NIfTI without identity; nothing is written where it is such a file already."""
    from voxelight.storage.formats.clean_files import clean_nifti
    from voxelight.storage.formats.nifti_image import write_volume
    from voxelight.storage.formats.volumes import read_image as read

    path = Path(given["path"])
    if given["is_nifti"]:
        return {"changed": clean_nifti(path, folder / given["target"], path.name)}
    write_volume(folder / given["target"], *read(path))
    return {"changed": True}


def look_at_recording(given: Given, folder: Path) -> dict[str, Any]:
    """Say what a folder of betas holds."""
    from voxelight.storage.formats.fmri.examine import look_at
    from voxelight.storage.formats.fmri.options import ReadingOptions

    return look_at(Path(given["path"]), given["layout"], ReadingOptions.model_validate(given["options"]))


def examine_recording(given: Given, folder: Path) -> dict[str, Any]:
    """Look at subjects of a folder of betas."""
    from voxelight.storage.formats.fmri.examine import examine
    from voxelight.storage.formats.fmri.options import ReadingOptions

    options, chosen = ReadingOptions.model_validate(given["options"]), given["subjects"]
    subjects = None if chosen is None else tuple(chosen)
    return examine(Path(given["path"]), given["layout"], options, subjects, given["roi"])


def _refuse_other(path: Path, name: str, suffixes: list[str]) -> dict[str, Any] | None:
    from voxelight.storage.formats.intake import inspect
    from voxelight.storage.formats.sniff import sniff

    try:
        kind = sniff(path)
        old = kind == "unknown" and Path(name).suffix.lower() in suffixes  # written before there was a preamble
        if kind == "dicom" or old:
            return None
        inspect(path, name)
    except VoxelightError as error:
        return {"found": error.found, "expected": error.expected, "remedy": error.remedy}
    return {"found": "", "expected": "", "remedy": ""}  # a scan under a name of something else


def _series(told: Given) -> Any:
    from voxelight.storage.formats.dicom.files import DicomFile, read_headers
    from voxelight.storage.formats.dicom.series import SeriesFiles, keep_placement

    files = tuple(DicomFile(Path(path), member) for path, member in told["files"])
    headers = tuple(keep_placement(header) for header in read_headers(files))
    rest = {name: told[name] for name in ("copies", "volume", "volumes", "differs")}
    return SeriesFiles(told["uid"], files, headers, **rest)


def _tell(accepted: Accepted, folder: Path) -> dict[str, Any]:
    picture = accepted.picture
    return {
        "intake": accepted.intake.model_dump(),
        "picture": None if picture is None else _write(picture, folder / PICTURE),
        "status": accepted.status,
        "changed": accepted.changed,
        "held": accepted.held,
        "identity": asdict(accepted.identity) if accepted.identity else None,
    }


def _write(array: NDArray[Any], path: Path) -> dict[str, Any]:
    """Write an array as its bytes; return what they are."""
    with path.open("wb") as file:
        np.ascontiguousarray(array).tofile(file)
    return {"dtype": array.dtype.str, "shape": [int(side) for side in array.shape]}
