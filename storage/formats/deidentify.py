"""Take in a file: check it, clean its headers, and say what is to be stored."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from voxelight.storage.formats.accepted import Accepted, StandIns
from voxelight.storage.formats.clean_files import clean_file
from voxelight.storage.formats.found import Finding
from voxelight.storage.formats.intake import inspect
from voxelight.storage.formats.names import SEALED_SUFFIXES, find_stored_name, find_suffix
from voxelight.storage.formats.reading import AS_IT_IS, Reading, settle
from voxelight.storage.formats.thumbnails import thumbnail
from voxelight.storage.identity import SeriesIdentity

if TYPE_CHECKING:
    from voxelight.storage.formats.dicom.convert import Converted
    from voxelight.storage.formats.dicom.series import SeriesFiles


def accept_file(path: Path, name: str, target: Path, stand_ins: StandIns, reading: Reading = AS_IT_IS) -> Accepted:
    """Check and clean a file.

    Parameters
    ----------
    path : where it lies, under any name
    name : as the person calls it; its suffix chooses the reader
    target : where the cleaned file may be written
    stand_ins : of the UIDs that `find_uids` gives, where it is DICOM
    reading : what the person chose, where the file can be read in several ways

    Raises
    ------
    BadInput
        It can't be read, its content is not what its name says, or a DICOM archive is no one volume.
    """
    if find_suffix(name) in SEALED_SUFFIXES:
        from voxelight.storage.formats.dicom.volume import only_series

        series = _choose(only_series(path, name), reading.volume)
        return accept_series(series, find_stored_name(name), target, stand_ins)
    between = target.with_name(f"{target.name}.chosen")
    try:
        if reading == AS_IT_IS or not settle(path, name, between, reading):
            return _accept(path, name, target, stand_ins.keeps_headers)
        found = _accept(between, name, target, stand_ins.keeps_headers)
        if not found.changed:  # the content is the chosen part, and that is another than what came
            between.replace(target)
        told = {"facts": {**found.intake.facts, **reading.describe()}}
        status = "kept" if stand_ins.keeps_headers else "cleaned"
        return replace(found, path=target, intake=found.intake.model_copy(update=told), status=status, changed=True)
    finally:
        between.unlink(missing_ok=True)


def _accept(path: Path, name: str, target: Path, keeps_headers: bool) -> Accepted:
    intake = inspect(path, name)
    picture = thumbnail(path, intake)
    if keeps_headers:
        return Accepted(path, name, intake, picture, "kept", changed=False)
    changed = clean_file(path, target, name)
    return Accepted(target if changed else path, name, intake, picture, "cleaned" if changed else "clean", changed)


def _choose(series: "SeriesFiles", volume: int | None) -> "SeriesFiles":
    """Return the part of a series that a person chose; a choice that is none is refused with those that are there."""
    from voxelight.storage.formats.dicom.choose import split_series

    if volume is None:
        return series
    return next((part for part in split_series(series) if part.volume == volume), replace(series, volume=volume))


def find_uids(path: Path, name: str, volume: int | None = None) -> list[str]:
    """Return every UID of a DICOM file or archive in whose place another is to stand.

    Raises
    ------
    BadInput
        As `accept_file`.
    """
    from voxelight.storage.formats.dicom.volume import only_series

    return find_series_uids(_choose(only_series(path, name), volume))


def find_series_uids(series: "SeriesFiles") -> list[str]:
    """Return every UID of a series in whose place another is to stand.

    Raises
    ------
    BadInput
        As `accept_series`.
    """
    from voxelight.storage.formats.dicom.bundle import check_series, read_slices
    from voxelight.storage.formats.dicom.clean import Cleaner

    found = Cleaner(str, 0, "")
    for file, content in read_slices(check_series(series)):
        found.look_at(file, content)
    return list(dict.fromkeys((series.uid, *found.uids)))


def accept_series(series: "SeriesFiles", name: str, target: Path, stand_ins: StandIns) -> Accepted:
    """Check and clean the files of a DICOM series on their way into one archive.

    Raises
    ------
    BadInput
        They make no one volume, or can't be read.
    """
    from voxelight.storage.formats.dicom.bundle import check_series, describe_volume_of, find_warnings, write_bundle
    from voxelight.storage.formats.dicom.clean import Cleaner

    stack = check_series(series)
    uid = series.uid if stand_ins.keeps_headers else stand_ins.uids[series.uid]
    cleaner = Cleaner(stand_ins.uids.__getitem__, stand_ins.days, stand_ins.subject)
    write_bundle(target, stack, None if stand_ins.keeps_headers else cleaner.clean)
    intake = inspect(target, name)
    more = [warning for warning in find_warnings(stack) if warning not in intake.warnings]
    told = {
        "facts": {**intake.facts, **describe_volume_of(series), "series_uid": uid},
        "warnings": (*more, *intake.warnings),
    }
    picture = thumbnail(target, intake)
    intake = intake.model_copy(update=told)
    if stand_ins.keeps_headers:
        return Accepted(target, name, intake, picture, "kept", changed=True)
    return Accepted(
        path=target,
        name=name,
        intake=intake,
        picture=picture,
        status="held" if cleaner.held else "cleaned",
        changed=True,
        held=cleaner.held,
        identity=SeriesIdentity(uid, cleaner.uids, cleaner.patient, stand_ins.days),
    )


def accept_converted(found: "Converted", name: str, target: Path, stand_ins: StandIns) -> Accepted:
    """Check and clean a NIfTI file that dcm2niix made of a series that our reader refuses.

    Raises
    ------
    BadInput
        It is no image that can be read.
    """
    accepted = accept_file(found.path, name, target, stand_ins)
    facts = {**accepted.intake.facts, "converted_by": found.program, "resliced": "yes" if found.resliced else "no"}
    grid = "resampled to another grid, on which its labels will lie" if found.resliced else "on the grid of its slices"
    warning = Finding(
        found=f"a DICOM series that was converted by {found.program}, {grid}",
        remedy="Compare it with the series before use. No DICOM-SEG can be made of it, which is no longer that series.",
    )
    intake = accepted.intake.model_copy(update={"facts": facts, "warnings": (warning, *accepted.intake.warnings)})
    if not accepted.changed:
        target.write_bytes(found.path.read_bytes())
    return replace(accepted, path=target, intake=intake, changed=True)
