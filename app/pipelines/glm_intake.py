"""Store the runs of a BIDS data set, so that a job can estimate their betas."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from voxelight.app.schemas import ScanRequest
from voxelight.models.errors import BadInput
from voxelight.storage.formats.fmri.bold import BoldFiles
from voxelight.storage.formats.images import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from voxelight.app.services import Services

_STIMULI, _ONLY = "stimuli", "01"


def store_runs(
    services: "Services",
    runs: Sequence[BoldFiles],
    dataset: str,
    pictures: Path | None = None,
    mask: Path | None = None,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Take in images, masks, events, confounds and sidecars of runs, and the pictures that were seen.

    Parameters
    ----------
    services : of the installation
    runs : as `index_bold` lists them; those without events are left out
    dataset : name of a stored data set
    pictures : folder
    mask : in place of those of the runs
    step : called with what is done and how much there is

    Returns
    -------
    list of str
        Names of what was stored.

    Raises
    ------
    BadInput
        No run has events, or a file can't be read.
    Conflict
        A file is stored already.
    """
    kept = [run for run in runs if run.events is not None]
    if not kept:
        raise BadInput(f"{len(runs)} runs, none with a table of events", "..._events.tsv", "Write one for each run.")
    shown = (
        sorted(path for path in pictures.rglob("*") if path.name.lower().endswith(PICTURE_SUFFIXES)) if pictures else []
    )
    total, names = len(kept) + len(shown), []
    for number, run in enumerate(kept, start=1):
        names += _store_run(services, run if mask is None else replace(run, mask=None), dataset)
        step(number, total)
    if mask is not None:
        for subject in sorted({run.subject or _ONLY for run in kept}):
            place = {"dataset": dataset, "subject": subject, "session": _STIMULI}
            request = ScanRequest.model_validate({"name": f"sub-{subject}_mask.nii.gz"} | place)
            names.append(services.scans.ingest_path(mask, request).name)
    for number, path in enumerate(shown, start=len(kept) + 1):
        request = ScanRequest(name=path.name, dataset=dataset, subject=kept[0].subject or _ONLY, session=_STIMULI)
        names.append(services.scans.ingest_path(path, request).name)
        step(number, total)
    return names


def _store_run(services: "Services", run: BoldFiles, dataset: str) -> list[str]:
    def take(path: Path) -> str:
        subject, session = run.subject or _ONLY, run.session or _ONLY
        request = ScanRequest(name=path.name, dataset=dataset, subject=subject, session=session)
        return services.scans.ingest_path(path, request).name

    names = [take(path) for path in (run.bold, run.mask, run.events, run.confounds) if path is not None]
    told = run.read_sidecar()  # of all levels, as BIDS inherits them
    if told:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{run.bold.name.removesuffix('.gz').removesuffix('.nii')}.json"
            path.write_text(json.dumps(told), encoding="utf-8")
            names.append(take(path))
    return names
