"""Look whether everything that jobs need is there."""

import os
import platform
import sys
import uuid
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.resources import files
from pathlib import Path

from sqlalchemy import make_url

from voxelight.app.bootstrap import open_blobs
from voxelight.app.pipelines import PIPELINES, find_pipeline
from voxelight.app.schemas import Wire
from voxelight.app.services import find_version
from voxelight.app.settings import Settings
from voxelight.models.errors import VoxelightError
from voxelight.models.weights import WEIGHTS, verify
from voxelight.storage.database import is_current, open_engine

OLDEST_PYTHON = (3, 11)


class Check(Wire):
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def examine(settings: Settings) -> list[Check]:
    """Look at everything; what goes wrong in one place does not hide the others."""
    return [check for name, look in LOOKS.items() for check in _guarded(name, look, settings)]


def _guarded(name: str, look: Callable[[Settings], Iterator[Check]], settings: Settings) -> list[Check]:
    try:
        return list(look(settings))
    except VoxelightError as error:
        return [Check(name=name, ok=False, found=error.found, remedy=error.remedy)]
    except Exception as error:  # whatever a broken installation raises is the finding
        return [Check(name=name, ok=False, found=f"{type(error).__name__}: {error}", remedy="Mend it and look again.")]


def _look_at_python(_: Settings) -> Iterator[Check]:
    yield Check(
        name="python",
        ok=sys.version_info >= OLDEST_PYTHON,
        found=f"{platform.python_version()}, voxelight {find_version()}",
        remedy="" if sys.version_info >= OLDEST_PYTHON else "Install Python 3.11 or newer.",
    )


def _look_at_torch(settings: Settings) -> Iterator[Check]:
    try:
        torch = import_module("torch")
    except ImportError as error:
        yield Check(name="torch", ok=False, found=str(error), remedy="Jobs need torch; page and API do not.")
        return
    cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield Check(name="torch", ok=True, found=f"{torch.__version__}, {', '.join(cards) or 'no graphics card'}")
    missing = settings.device.startswith("cuda") and not cards
    yield Check(
        name="device",
        ok=not missing,
        found=f"{settings.device}{' without a graphics card' if missing else ''}",
        remedy="Set VOXELIGHT_DEVICE to auto or cpu." if missing else "",
    )


def _look_at_home(settings: Settings) -> Iterator[Check]:
    home = settings.home.resolve()
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    writable = place.is_dir() and os.access(place, os.W_OK)
    yield Check(
        name="home",
        ok=writable,
        found=f"{home}{'' if writable else ', which can not be written to'}",
        remedy="" if writable else "Choose another folder with --home or VOXELIGHT_HOME.",
    )


def _look_at_database(settings: Settings) -> Iterator[Check]:
    url = make_url(settings.resolved_database_url)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        yield Check(name="database", ok=True, found=f"{shown}, made by the first command that stores something")
        return
    engine = open_engine(settings.resolved_database_url)
    try:
        current = is_current(engine)
    finally:
        engine.dispose()
    yield Check(
        name="database",
        ok=current,
        found=f"{shown}, {'every migration applied' if current else 'migrations are missing'}",
        remedy="" if current else "Run voxelight storage upgrade.",
    )


def _look_at_blobs(settings: Settings) -> Iterator[Check]:
    settings.home.mkdir(parents=True, exist_ok=True)
    store = open_blobs(settings)
    content = uuid.uuid4().bytes  # new each time, so that it is really written; the next sweep reclaims it
    same = store.read(store.put_bytes(content).sha256) == content
    yield Check(
        name="blob store",
        ok=same,
        found=f"{settings.shown_blobs_url}, {'written and read' if same else 'read back other bytes'}",
        remedy="" if same else "Check the disk or the object store.",
    )


def _look_at_weights(_: Settings) -> Iterator[Check]:
    for name, known in WEIGHTS.items():
        look = f"weights {name}"
        try:
            verify(files("voxelight.models.shipped").joinpath(known.file).read_bytes(), known)
        except FileNotFoundError:
            yield Check(name=look, ok=False, found=f"no file {known.file}", remedy="Install the package again.")
        except VoxelightError as error:
            yield Check(name=look, ok=False, found=error.found, remedy=error.remedy)
        else:
            yield Check(name=look, ok=True, found=f"sha256 {known.sha256[:12]}, as recorded")


def _look_at_recipes(settings: Settings) -> Iterator[Check]:
    for kind in PIPELINES:
        names = [recipe.name for recipe in find_pipeline(kind).list_recipes(settings.weights)]
        yield Check(
            name=f"recipes to {kind}",
            ok=bool(names),
            found=", ".join(names) or "none",
            remedy="" if names else "Install voxelight again.",
        )


LOOKS: dict[str, Callable[[Settings], Iterator[Check]]] = {
    "python": _look_at_python,
    "torch": _look_at_torch,
    "home": _look_at_home,
    "database": _look_at_database,
    "blob store": _look_at_blobs,
    "weights": _look_at_weights,
    "recipes": _look_at_recipes,
}
