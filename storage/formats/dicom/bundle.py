"""One series as one file: an uncompressed ZIP archive with the slices in the order of the patient."""

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voxelight.models.errors import BadInput, VoxelightError
from voxelight.storage.formats.dicom.choose import split_series
from voxelight.storage.formats.dicom.files import DicomFile, read_each
from voxelight.storage.formats.dicom.refusals import Convertible
from voxelight.storage.formats.dicom.series import SeriesFiles, as_number, find_series
from voxelight.storage.formats.dicom.stack import Stack, stack_slices
from voxelight.storage.formats.dicom.volume import CHOSEN, can_decode, find_syntax
from voxelight.storage.formats.found import Finding
from voxelight.storage.formats.streams import replacing

SUFFIX = ".dcm.zip"
# Words that a description may keep: they name how was measured, never who.
_WORDS = frozenset(
    word
    for line in (
        "t1 t2 t2s t1w t2w pd pdw flair mprage mp2rage spgr tse fse se gre epi dwi dti adc swi tof mra mrv asl bold",
        "rest cbf cbv rcbv perf dce dsc stir tirm ir ax axial cor coronal sag sagittal tra obl 2d 3d pre post gd gad",
        "ce fs fatsat ct cta ctp cect nect pet suv head brain neck chest thorax abdomen pelvis spine knee hippocampus",
    )
    for word in line.split()
)


@dataclass(frozen=True)
class Bundle:
    """A series that lies in one file, or the reason why it does not.

    Parameters
    ----------
    path : of the archive; there only where there is no problem
    name : to store it under, without any text of the header that could name a person
    facts : name -> number or word
    warnings : what to look at before use
    problem : why it was refused, as `BadInput`
    """

    path: Path
    name: str
    facts: dict[str, int | float | str]
    warnings: tuple[Finding, ...] = ()
    problem: VoxelightError | None = field(default=None)


def bundle_series(paths: Sequence[Path], folder: Path) -> list[Bundle]:
    """Make one archive of every series of images below some paths; a series that is refused stops no other.

    The archives hold the files as they came, identity included: hand them to the intake, which cleans them, and remove
    them afterwards.

    Parameters
    ----------
    paths : files, folders and ZIP archives
    folder : where to write

    Raises
    ------
    BadInput
        A path leads nowhere, an archive is not to be trusted, or nothing is a DICOM image.
    """
    return [_bundle(series, folder / name) for name, series in name_all(paths)]


def name_all(paths: Sequence[Path]) -> list[tuple[str, SeriesFiles]]:
    """Find every series of images below some paths, each with a name that no other of them has.

    Raises
    ------
    BadInput
        A path leads nowhere, an archive is not to be trusted, or nothing is a DICOM image.
    """
    found = [part for series in find_series(paths) for part in _split(series)]
    if not found:
        raise BadInput("no DICOM image", "the slices of at least one series", "Check what was chosen.")
    names: Counter[str] = Counter()
    named = []
    for series in found:
        stem = name_series(series)
        names[stem] += 1
        named.append((f"{stem}{f'-{names[stem]}' if names[stem] > 1 else ''}{SUFFIX}", series))
    return named


def _split(series: SeriesFiles) -> list[SeriesFiles]:
    """Return the volumes of a series each by itself; what can't be placed is refused later, under its name."""
    try:
        return split_series(series)
    except BadInput:
        return [series]


def _bundle(series: SeriesFiles, target: Path) -> Bundle:
    facts = describe_series(series)
    try:
        stack = check_series(series)
        write_bundle(target, stack)
    except BadInput as problem:
        return Bundle(target, target.name, facts, problem=problem)
    return Bundle(target, target.name, facts, tuple(find_warnings(stack)))


def check_series(series: SeriesFiles) -> Stack:
    """Return the slices of a series in order, provided that they make one volume that can be read.

    Raises
    ------
    BadInput
        They don't, or their compression can't be read.
    """
    stack = stack_slices(series)
    for file, header in zip(series.files, series.headers, strict=True):
        syntax = find_syntax(header)
        if not can_decode(syntax):
            raise Convertible(
                f"{series.title}, of which {file.name} is compressed as {getattr(syntax, 'name', syntax)}",
                "a compression that can be read: none, RLE, JPEG, JPEG-LS or JPEG 2000",
                "Decompress the series first, with dcmdjpeg or gdcmconv --raw for example.",
            )
    return stack


def write_bundle(target: Path, stack: Stack, change: Callable[[DicomFile, bytes], bytes] | None = None) -> None:
    """Write a series as one archive, slices in order; the same content gives the same bytes.

    Parameters
    ----------
    target : replaced in one step
    stack : Stack
    change : what is done to the content of each file on its way

    Raises
    ------
    BadInput
        A file is damaged.
    """
    with replacing(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number, (source, content) in enumerate(read_slices(stack), start=1):
            # No time of the clock in it: 1980 is the first year that the format knows.
            info = zipfile.ZipInfo(f"{number:06d}.dcm", (1980, 1, 1, 0, 0, 0))
            archive.writestr(info, change(source, content) if change else content)
        if stack.series.volume is not None and number < len(stack.frames):
            # Frames of one file can't be parted, so the archive says which of its volumes is meant.
            info = zipfile.ZipInfo(CHOSEN, (1980, 1, 1, 0, 0, 0))
            archive.writestr(info, str(stack.series.volume).encode())


def read_slices(stack: Stack) -> Iterator[tuple[DicomFile, bytes]]:
    """Yield the files of a series in the order of its slices, each with its whole content.

    Raises
    ------
    BadInput
        One is damaged.
    """
    order = dict.fromkeys(frame.file for frame in stack.frames)
    return read_each([stack.series.files[place] for place in order])


def describe_series(series: SeriesFiles) -> dict[str, int | float | str]:
    """Return what the intake says of a series, without any text that could name a person."""
    told: dict[str, int | float | str] = {
        "modality": series.modality,
        "files": len(series.files),
        "description": clean_words(series),
    }
    return told | describe_volume_of(series)


def describe_volume_of(series: SeriesFiles) -> dict[str, int | float | str]:
    """Return which volume of its series is meant, where there are several."""
    if series.volume is None or series.volumes == 1:
        return {}
    return {"volume": series.volume, "volumes_in_series": series.volumes, "volume_is": series.differs}


def name_series(series: SeriesFiles) -> str:
    """Name a series by its number, its modality and the known words of its description: `003_MR_t1-mprage`."""
    words = clean_words(series).replace(" ", "-")
    modality = re.sub(r"[^A-Z0-9]", "", series.modality.upper())[:8] or "OT"
    number = int(as_number(series.first.get("SeriesNumber"), 0)) % 100_000
    volume = f"vol-{series.volume}" if series.volume is not None else ""
    return "_".join(part for part in (f"{number:03d}", modality, words, volume) if part)


def clean_words(series: SeriesFiles) -> str:
    """Return the words of a description that name how was measured, all others left out."""
    return keep_words(str(series.first.get("SeriesDescription") or series.first.get("ProtocolName") or ""))


def keep_words(text: str) -> str:
    """Return the words of a text that name how was measured, in small letters."""
    words = (word for word in re.split(r"[^a-z0-9]+", text.lower()) if word in _WORDS)
    return " ".join(dict.fromkeys(words))


def find_warnings(stack: Stack) -> Iterator[Finding]:
    """Say what to know of a series that is accepted all the same."""
    series = stack.series
    if series.copies:
        yield Finding(found=f"{series.copies} files that hold a slice twice", remedy="The first of each is kept.")
    announced = int(as_number(series.first.get("ImagesInAcquisition"), 0))
    if announced > len(stack.frames):
        yield Finding(
            found=f"{len(stack.frames)} slices of a series that announces {announced}",
            remedy="Slices may be missing at the ends; check that the volume is whole.",
        )
