"""Give changed files to the intake, many in one confined child; imported by the server of the sandbox.

Each line of its log is one file: what became of it, how long it took, and the most memory seen until then.
"""

import gc
import hashlib
import json
import random
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mutate import mutate

from voxelight.models.errors import VoxelightError
from voxelight.storage import checks_inside
from voxelight.storage.checks import CLEANED
from voxelight.storage.formats.fmri import tables_intake  # noqa: F401  what readers import late is imported once
from voxelight.storage.formats.names import SEALED_SUFFIXES

LOG, INPUTS = "log", "input"
_ALARM_S = 20
_ALONE = (".nii", ".nii.gz", ".nrrd", ".mha", ".mat", ".tsv", "bold.json", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
_LOOSE = (".dcm", ".ima", ".dicom", "")


def make_input(seeds: list[Path], seed: int, number: int) -> tuple[str, bytes]:
    """Return the name and the content of one changed file, the same for the same numbers."""
    rng = random.Random(f"{seed} {number}")
    chosen = rng.choice(seeds)
    others = [path.read_bytes() for path in rng.sample(seeds, min(2, len(seeds)))]
    return chosen.name[3:], mutate(chosen.read_bytes(), rng, others)


def take_many(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Give a range of changed files to the door of their format."""
    seeds = [Path(path) for path in given["seeds"]]
    inputs = folder / INPUTS
    inputs.mkdir()
    gc.enable()
    with (folder / LOG).open("w", buffering=1) as log:
        for number in range(given["first"], given["last"]):
            name, content = make_input(seeds, given["seed"], number)
            signal.setitimer(signal.ITIMER_REAL, _ALARM_S)  # its default ends this process, in C code too
            log.write(json.dumps(take_one(given["kind"], name, content, folder)) + "\n")
    return {}


def take_one(kind: str, name: str, content: bytes, folder: Path) -> dict[str, Any]:
    """Give one file to the door of its format, and read again what is accepted."""
    inputs = folder / INPUTS
    path = inputs / name
    path.write_bytes(content)
    before = set(folder.rglob("*"))
    began = time.perf_counter()
    told = _say(kind, path, name, folder)
    told["seconds"] = time.perf_counter() - began
    told["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    left = [each for each in sorted(folder.rglob("*"), reverse=True) if each not in before]
    told["left"] = sorted({str(each.relative_to(folder)).split("/")[0] for each in left})
    for each in left:
        each.rmdir() if each.is_dir() and not each.is_symlink() else each.unlink()
    path.unlink(missing_ok=True)
    return told


def _say(kind: str, path: Path, name: str, folder: Path) -> dict[str, Any]:
    try:
        return {"outcome": DOORS[kind](path, name, folder)}
    except VoxelightError as error:
        return {"outcome": "refused", "why": error.expected[:60]}
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "/storage/" in frame.filename or "/neuro/" in frame.filename]
        where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
        return {"outcome": "unforeseen", "why": f"{type(error).__name__} at {where} in {frames[-1].name}"}


def _accept(path: Path, name: str, folder: Path) -> str:
    given = {"path": str(path), "name": name, "reading": {"prefer": None, "volume": None}}
    uids = checks_inside.find_uids(given, folder)["uids"] if name.lower().endswith(SEALED_SUFFIXES) else ()
    accepted = checks_inside.accept_file(given | {"stand_ins": _stand_in(uids)}, folder)
    found = folder / CLEANED if accepted["changed"] else path
    _read_again(found, accepted["intake"], folder)
    return "accepted"


def _stand_in(uids: Iterable[str]) -> dict[str, Any]:
    """Return what the caller, who has the key, gives for some UIDs."""
    named = {uid: f"2.25.{int.from_bytes(hashlib.sha256(uid.encode()).digest()[:16], 'big')}" for uid in uids}
    return {"subject": "01", "days": -40, "uids": named, "keeps_headers": False}


def _read_again(found: Path, intake: dict[str, Any], folder: Path) -> None:
    """Read what is stored, as jobs do."""
    from voxelight.storage.formats.betas import read_betas_mat
    from voxelight.storage.formats.deidentify import inspect
    from voxelight.storage.formats.volumes import read_image

    again = found.with_name(f"again{intake['suffix']}")
    found.rename(again)
    if intake["kind"] in ("volume", "picture"):
        read_image(again)
    elif intake["kind"] == "betas":
        read_betas_mat(again)
    assert inspect(again, again.name).kind == intake["kind"]


def _take_zip(path: Path, name: str, folder: Path) -> str:
    given = {"path": str(path), "name": name, "limit_bytes": 1 << 30, "alone": _ALONE, "suffixes": _LOOSE}
    found = checks_inside.list_archive(given, folder)
    numbers = [number for number, _, _ in found["alone"]][:8]
    checks_inside.unpack(given | {"numbers": numbers}, folder)
    outcomes = set()
    for number, inner in [(number, inner) for number, inner, _ in found["alone"]][:8]:
        outcomes.add(_say_inner(folder / str(number), inner, folder))
    if found["dicom"]:
        outcomes.add(_take_dicom(path, name, folder))
    return "accepted" if "accepted" in outcomes else "refused"


def _say_inner(path: Path, name: str, folder: Path) -> str:
    try:
        return _accept(path, name, folder)
    except VoxelightError:
        return "refused"
    finally:
        for each in (folder / CLEANED, folder / checks_inside.PICTURE):
            each.unlink(missing_ok=True)


def _take_dicom(path: Path, name: str, folder: Path) -> str:
    if name.endswith(".dcm.zip"):
        return _accept(path, name, folder)
    refusals = checks_inside.sort_loose({"files": [[str(path), name]], "suffixes": _LOOSE}, folder)["refusals"]
    if refusals[0] is not None and not name.endswith(".zip"):
        return "refused"
    accepted = "refused"
    for series in checks_inside.list_series({"paths": [str(path)]}, folder)["series"]:
        checks_inside.check_series({"series": series["series"]}, folder)
        told = {"series": series["series"], "name": series["name"]}
        stand_ins = _stand_in(checks_inside.find_series_uids(told, folder)["uids"])
        intake = checks_inside.accept_series(told | {"stand_ins": stand_ins}, folder)["intake"]
        _read_again(folder / CLEANED, intake, folder)
        accepted = "accepted"
    return accepted


def _take_betas(path: Path, name: str, folder: Path) -> str:
    if name.endswith(".mat"):
        return _accept(path, name, folder)
    given = {"path": str(path), "layout": "hdf5", "options": {}, "subjects": None, "roi": None}
    checks_inside.look_at_recording(given, folder)
    checks_inside.examine_recording(given, folder)
    return "accepted"


DOORS: dict[str, Callable[[Path, str, Path], str]] = {
    "nifti": _accept, "dicom": _take_dicom, "hdf5": _take_betas, "picture": _accept, "zip": _take_zip, "json": _accept,
    "other": _accept,
}  # fmt: skip
