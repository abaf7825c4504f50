"""Files from elsewhere, read in a sandbox: what each part asks of it, and what it believes of the answer."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from voxelight.models.errors import BadInput, VoxelightError
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.storage.formats.accepted import Accepted, Owner, StandIns
from voxelight.storage.formats.found import Intake
from voxelight.storage.formats.names import SEALED_SUFFIXES, find_stored_name, find_suffix, image_stem
from voxelight.storage.identity import SeriesIdentity
from voxelight.storage.sandbox import Answer, Sandbox, Stopped

if TYPE_CHECKING:
    from voxelight.storage.formats.nifti_forms import Form
    from voxelight.storage.formats.nifti_header import SourceGrid

CLEANED, PICTURE, VOXELS, BEFORE_AFTER = "cleaned", "picture", "voxels", "before-after"
_INSIDE = "voxelight.storage.checks_inside"
_FORMATS = "voxelight.storage.formats"
_DICOM = tuple(f"{_FORMATS}.dicom.{name}" for name in ("bundle", "clean", "volume"))
_OF_SUFFIX: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(SEALED_SUFFIXES, (*_DICOM, "pydicom.pixels")),
    **dict.fromkeys((".nrrd", ".mha"), ("SimpleITK", f"{_FORMATS}.itk")),
    **dict.fromkeys((".tif", ".tiff"), (f"{_FORMATS}.tiff",)),
    **dict.fromkeys((".tsv", ".json"), (f"{_FORMATS}.fmri.tables_intake",)),
}
_RECORDING = (f"{_FORMATS}.fmri.examine", "h5py")
_STATUSES = ("clean", "cleaned", "kept", "held")
_MOST_PICTURE = 4096  # pixels along a side of a small picture
_MOST_UIDS = 1_000_000  # of one series


@dataclass(frozen=True)
class FoundSeries:
    """A series of images among some files.

    Parameters
    ----------
    name : to store it under
    title : what a person knows it by
    told : which files it is made of, as the tasks take it
    """

    name: str
    title: str
    told: dict[str, Any]

    @property
    def uid(self) -> str:
        """SeriesInstanceUID as the files have it."""
        return str(self.told["uid"])

    @property
    def volume(self) -> int | None:
        """Which of its volumes is meant, where it has several."""
        volume = self.told["volume"]
        return None if volume is None else int(volume)


@dataclass(frozen=True, eq=False)
class Faceless:
    """An image whose face was taken out, or should have been.

    Parameters
    ----------
    accepted : what is to be stored; its status says which
    picture : array (row, column, 3), uint8: before and after; None where nothing was taken out
    """

    accepted: Accepted
    picture: NDArray[np.uint8] | None


class Checks:
    """What is asked of files from elsewhere.

    Parameters
    ----------
    sandbox : where they are read
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    @contextmanager
    def accept_file(
        self, path: Path, name: str, owner: Owner, prefer: "Form | None" = None, volume: int | None = None
    ) -> Iterator[Accepted]:
        """Check and clean a file; the cleaned one is there as long as the block.

        Raises
        ------
        BadInput
            As `deidentify.accept_file`, or its check takes too much or breaks down (`Stopped`).
        """
        suffix = find_suffix(name)
        told = {"path": str(path), "name": name, "reading": {"prefer": prefer, "volume": volume}}
        stored, finds = (find_stored_name(name), "find_uids") if suffix in SEALED_SUFFIXES else (name, "")
        modules = (f"{_FORMATS}.deidentify", *_OF_SUFFIX.get(suffix, ()))
        stand_ins = self._stand_in(finds, told, owner, [path], modules)
        with self._accept("accept_file", told, (path, stored), stand_ins, [path], modules) as accepted:
            yield accepted

    @contextmanager
    def accept_converted(self, path: Path, name: str, owner: Owner, made: dict[str, Any]) -> Iterator[Accepted]:
        """Check and clean a NIfTI file that `convert_series` gave."""
        told = {"path": str(path), "name": name, "resliced": bool(made["resliced"]), "program": str(made["program"])}
        modules = (f"{_FORMATS}.deidentify",)
        stand_ins = owner.stand_in()
        with self._accept("accept_converted", told, (path, name), stand_ins, [path], modules) as accepted:
            yield accepted

    @contextmanager
    def accept_series(self, series: FoundSeries, paths: Sequence[Path], name: str, owner: Owner) -> Iterator[Accepted]:
        """Check and clean the files of one series; their one archive is there as long as the block."""
        told = {"series": series.told, "name": name}
        modules = (f"{_FORMATS}.deidentify", *_OF_SUFFIX[".dcm"])
        stand_ins = self._stand_in("find_series_uids", told, owner, paths, modules)
        with self._accept("accept_series", told, (Path(CLEANED), name), stand_ins, paths, modules) as accepted:
            yield accepted

    @contextmanager
    def without_face(self, accepted: Accepted) -> Iterator[Faceless]:
        """Give an image without its face as long as the block; where it can't be taken out, as it is, and held.

        What is no image in space, and label maps, are given as they are.
        """
        with ExitStack() as stack:
            try:
                yielded = self._remove_face(stack, accepted)
            except VoxelightError as error:  # a template that is missing is no reason to let a face in
                held = "; ".join(filter(None, (accepted.held, f"its face could not be taken out: {error.found}")))
                yielded = Faceless(replace(accepted, status="deface-failed", held=held), None)
            yield yielded

    def _remove_face(self, stack: ExitStack, accepted: Accepted) -> Faceless:
        if accepted.intake.kind not in ("volume", "series"):
            return Faceless(accepted, None)
        target = accepted.name
        if find_suffix(target) in SEALED_SUFFIXES:
            target = f"{image_stem(target)}.nii.gz"
        told = {"path": str(accepted.path), "name": accepted.name, "target": target}
        modules = (f"{_FORMATS}.deface", *_OF_SUFFIX.get(find_suffix(accepted.name), ()))
        answer = stack.enter_context(self.run("remove_face", told, accepted.name, [accepted.path], modules))
        if not answer.value["changed"]:
            return Faceless(accepted, None)
        try:
            intake = Intake.model_validate(answer.value["intake"])
            numbers = {name: float(answer.value["facts"][name]) for name in ("face_ml", "face_similarity")}
            told_picture, told_both = answer.value["picture"], answer.value["before_after"]
        except (ValidationError, KeyError, TypeError, ValueError):
            raise _nonsense(accepted.name) from None
        facts = {**accepted.intake.facts, **intake.facts, **numbers}
        found = replace(
            accepted,
            path=answer.file(target),
            name=target,
            intake=intake.model_copy(update={"facts": facts, "warnings": accepted.intake.warnings}),
            picture=None if told_picture is None else read_array(answer, PICTURE, "u1", 3, told_picture),
            status=accepted.status if accepted.held else "defaced",
            changed=True,
            identity=None if target != accepted.name else accepted.identity,
        )
        return Faceless(found, read_array(answer, BEFORE_AFTER, "u1", 3, told_both))

    def list_series(self, paths: Sequence[Path], name: str) -> list[FoundSeries]:
        """Find every series of images below some paths.

        Raises
        ------
        BadInput
            A path leads nowhere, an archive is not to be trusted, or nothing is a DICOM image.
        """
        with self.run("list_series", {"paths": [str(path) for path in paths]}, name, paths, _DICOM) as answer:
            return [
                FoundSeries(str(each["name"]), str(each["title"]), dict(each["series"]))
                for each in answer.value["series"]
            ]

    def read_values(self, paths: Sequence[Path], keywords: Sequence[str]) -> list[dict[str, str] | None]:
        """Return some values of the headers of DICOM files, as texts; None of a file that is none."""
        told = {"paths": [str(path) for path in paths], "keywords": list(keywords)}
        with self.run("read_values", told, paths[0].name if paths else "", paths, _DICOM) as answer:
            return [each and {word: str(each[word]) for word in keywords} for each in answer.value["values"]]

    def check_series(self, series: FoundSeries, paths: Sequence[Path]) -> tuple[int, ...]:
        """Return columns, rows and slices of a series that makes one volume; no voxel is read."""
        with self.run("check_series", {"series": series.told}, series.title, paths, _DICOM) as answer:
            return tuple(int(side) for side in answer.value["shape"])

    @contextmanager
    def convert_series(
        self, series: FoundSeries, paths: Sequence[Path], reason: BadInput
    ) -> Iterator[list[tuple[Path, dict[str, Any]]]]:
        """Convert a series with dcm2niix; the files are there as long as the block."""
        said = {"kind": type(reason).__name__, "found": reason.found, "expected": reason.expected}
        told = {"series": series.told, "reason": said | {"remedy": reason.remedy}}
        with self.run("convert_series", told, series.title, paths, _DICOM) as answer:
            yield [(answer.file(str(each["file"])), dict(each)) for each in answer.value["files"]]

    def sort_loose(self, files: Sequence[tuple[Path, str]], suffixes: Sequence[str]) -> list[BadInput | None]:
        """Say of each loose file why it is no DICOM file; None where it is one."""
        told = {"files": [[str(path), name] for path, name in files], "suffixes": list(suffixes)}
        name = files[0][1] if len(files) == 1 else f"{len(files)} files"
        with self.run("sort_loose", told, name, [path for path, _ in files], (f"{_FORMATS}.intake",)) as answer:
            said = list(answer.value["refusals"])
        if len(said) != len(files):
            raise _nonsense(name)
        return [each and BadInput(*(str(each[part]) for part in ("found", "expected", "remedy"))) for each in said]

    def list_archive(
        self, path: Path, name: str, limit_bytes: int, alone: Sequence[str], suffixes: Sequence[str]
    ) -> Any:
        """Return the members of an archive: `alone` as (number, name, bytes), `others` by name, how many `dicom`."""
        told = {"path": str(path), "name": name, "limit_bytes": limit_bytes, "alone": list(alone)}
        with self.run("list_archive", told | {"suffixes": list(suffixes)}, name, [path]) as answer:
            return answer.value

    @contextmanager
    def unpacked(self, path: Path, name: str, limit_bytes: int, numbers: Sequence[int]) -> Iterator[list[Path]]:
        """Give members of an archive as files, as long as the block."""
        told = {"path": str(path), "name": name, "limit_bytes": limit_bytes, "numbers": list(numbers)}
        with self.run("unpack", told, name, [path]) as answer:
            yield [answer.file(str(number)) for number in numbers]

    def find_raw(self, header: Path, name: str) -> str | None:
        """Return the name of the voxels that a detached MetaImage header leads to, if any."""
        with self.run("find_raw", {"header": str(header)}, name, [header]) as answer:
            raw = answer.value["raw"]
            return None if raw is None else str(raw)

    @contextmanager
    def joined(self, header: Path, raw: Path, raw_name: str) -> Iterator[Path]:
        """Give a detached MetaImage header and its voxels as one file, as long as the block."""
        told = {"header": str(header), "raw": str(raw), "raw_name": raw_name}
        with self.run("join_metaimage", told, raw_name, [header, raw]) as answer:
            yield answer.file(CLEANED)

    def read_image(self, path: Path) -> "tuple[Volume, SourceGrid]":
        """Read one image in space, as `volumes.read_image` does."""
        from voxelight.storage.formats.nifti_header import SourceGrid

        with self.run("read_image", {"path": str(path)}, path.name, [path], _modules_of(path.name)) as answer:
            array, told = read_array(answer, VOXELS, "f4", 4), answer.value["grid"]
            placement = {str(name): np.array(each["values"], each["dtype"]).reshape(each["shape"])
                         for name, each in told["placement"].items()}  # fmt: skip
            i, j, k = (int(side) for side in told["shape"])
            affine = np.array(told["affine"], np.float64)
            grid = SourceGrid((i, j, k), affine, str(told["orientation"]), int(told["version"]), placement,
                              int(told["units"]))  # fmt: skip
            return Volume(array, read_geometry(array.shape[1:], answer.value["affine"])), grid

    def read_overview(self, path: Path) -> tuple[NDArray[np.float32], Geometry]:
        """Read every n-th voxel of an image, as `volumes.read_overview` does."""
        told = {"path": str(path), "name": path.name}
        with self.run("read_overview", told, path.name, [path], _modules_of(path.name)) as answer:
            shape = [int(side) for side in answer.value["shape"]]
            return read_array(answer, VOXELS, "f4", 3), read_geometry(shape, answer.value["affine"])

    def read_label_map(self, path: Path, names: dict[int, str]) -> LabelMap:
        """Read a segmentation, as `volumes.read_label_map` does."""
        told = {"path": str(path), "names": {str(number): name for number, name in names.items()}}
        with self.run("read_label_map", told, path.name, [path], _modules_of(path.name)) as answer:
            labels = read_array(answer, VOXELS, "u1u2", 3)
            return LabelMap(labels, read_geometry(labels.shape, answer.value["affine"]), names)

    def read_picture(self, path: Path, name: str) -> NDArray[np.float32]:
        """Read a picture, as `images.read_picture` does."""
        told = {"path": str(path), "name": name}
        with self.run("read_picture", told, name, [path], (f"{_FORMATS}.images",)) as answer:
            return read_array(answer, VOXELS, "f4", 3)

    @contextmanager
    def written_image(self, path: Path, is_nifti: bool) -> Iterator[Path | None]:
        """Give an image as NIfTI without identity, as long as the block; None where it is such a file already."""
        target = "image.nii.gz" if not is_nifti else f"image{find_suffix(path.name)}"
        told = {"path": str(path), "is_nifti": is_nifti, "target": target}
        with self.run("write_image", told, path.name, [path], _modules_of(path.name)) as answer:
            yield answer.file(target) if answer.value["changed"] else None

    def look_at(
        self, path: Path, layout: str | None, options: dict[str, Any], sees: Sequence[Path] = ()
    ) -> dict[str, Any]:
        """Say what a folder of betas holds, as `examine.look_at` does; links may lead to what it `sees` besides."""
        told = {"path": str(path.resolve()), "layout": layout, "options": options}
        with self.run("look_at_recording", told, path.name, [path], _RECORDING, sees) as answer:
            return answer.value

    def examine(self, path: Path, told: dict[str, Any], sees: Sequence[Path] = ()) -> dict[str, Any]:
        """Look at subjects of a folder of betas, as `examine.examine` does: layout, options, subjects, roi."""
        told = told | {"path": str(path.resolve())}
        with self.run("examine_recording", told, path.name, [path], _RECORDING, sees) as answer:
            return answer.value

    def close(self) -> None:
        """End what runs."""
        self.sandbox.close()

    @contextmanager
    def _accept(
        self,
        task: str,
        told: dict[str, Any],
        kept: tuple[Path, str],
        stand_ins: StandIns,
        paths: Sequence[Path],
        modules: Sequence[str],
    ) -> Iterator[Accepted]:
        path, stored = kept
        with self.run(task, told | {"stand_ins": asdict(stand_ins)}, told["name"], paths, modules) as answer:
            yield _believe(answer, path, stored)

    def _stand_in(
        self, task: str, told: dict[str, Any], owner: Owner, paths: Sequence[Path], modules: Sequence[str]
    ) -> StandIns:
        """Name here, where the key is, the UIDs that a task finds; a parser never sees the key."""
        if not task or owner.keeps_headers:
            return owner.stand_in()
        owner.key.ensure(owner.has_links)
        with self.run(task, told, told["name"], paths, modules) as answer:
            try:
                uids = {str(uid) for uid in answer.value["uids"]}
                if len(uids) <= _MOST_UIDS:
                    return owner.stand_in(uids)
            except (KeyError, TypeError, ValueError):
                pass
        raise _nonsense(told["name"])

    @contextmanager
    def run(
        self,
        task: str,
        told: dict[str, Any],
        name: str,
        reads: Sequence[Path],
        modules: Sequence[str] = (),
        sees: Sequence[Path] = (),
    ) -> Iterator[Answer]:
        """Have a task of `checks_inside` done; its answer is there as long as the block, and to be checked."""
        with self.sandbox.run(f"{_INSIDE}:{task}", told, name, reads, modules, sees) as answer:
            yield answer


def _modules_of(name: str) -> tuple[str, ...]:
    return (f"{_FORMATS}.volumes", *_OF_SUFFIX.get(find_suffix(name), ()))


def _believe(answer: Answer, path: Path, name: str) -> Accepted:
    """Return what a check gave, once it has the form that it must have."""
    value = answer.value
    try:
        intake = Intake.model_validate(value["intake"])
        identity = SeriesIdentity(**value["identity"]) if value["identity"] else None
        picture = None
        if value["picture"] is not None:
            picture = read_array(answer, PICTURE, "u1", 3, value["picture"])
        status, held, changed = value["status"], str(value["held"]), bool(value["changed"])
    except (ValidationError, KeyError, TypeError):
        raise _nonsense(name) from None
    if status not in _STATUSES or (picture is not None and max(picture.shape) > _MOST_PICTURE):
        raise _nonsense(name)
    found = answer.file(CLEANED) if changed else path
    return Accepted(found, name, intake, picture, status, changed, held, identity)


def read_array(answer: Answer, name: str, kinds: str, axes: int, told: Any = None) -> NDArray[Any]:
    """Read an array that a task wrote as bytes, of one of some types."""
    told = told or answer.value["array"]
    kind, shape = np.dtype(str(told["dtype"])), [int(side) for side in told["shape"]]
    path = answer.file(name)
    if kind.str[1:] not in kinds or len(shape) != axes or prod(shape) * kind.itemsize != path.stat().st_size:
        raise _nonsense(name)
    return np.fromfile(path, kind).reshape(shape)


def read_geometry(shape: Sequence[int], affine: Any) -> Geometry:
    """Read a grid that a task told."""
    i, j, k = shape
    return Geometry((i, j, k), np.array(affine, np.float64))


def _nonsense(name: str) -> Stopped:
    return Stopped(f"{name}, whose check gave nonsense", "what a check gives", "Write it again from its source.")
