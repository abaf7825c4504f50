"""The main job end to end: take in, submit, work, store, query; on a real MRI and on brain activity."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voxelight.app.cli.intake import keep_once
from voxelight.app.schemas import (
    DatasetRequest,
    JobAnswer,
    JobRequest,
    ResultAnswer,
    ResultQuery,
    ScanAnswer,
    ScanRequest,
)
from voxelight.app.services import Services
from voxelight.storage.artifacts import hash_file
from voxelight.storage.fetch import PUBLIC_DATA, find_betas_files
from voxelight.storage.formats.template import find_template

CarryOut = Callable[[JobAnswer], JobAnswer]
PURPOSE = "demonstration of this software"
PREFIX = "demo-"  # of the names of its data sets
TEMPLATE_DATASET = f"{PREFIX}template"
_MIYAWAKI_FOLDER = "fmri_miyawaki2008"
_DIGITS = 8
_CROPS = 8  # of each photograph: enough to look at, and quick


@dataclass(frozen=True)
class Finished:
    """A job of the demo that is over, with what was queried back and where its files are."""

    job: JobAnswer
    results: list[ResultAnswer]
    folder: Path


def segment_template(services: Services, carry_out: CarryOut, out: Path) -> Finished:
    """Segment both hippocampi of the T1 template that nilearn ships: an average of 152 people, so no ground truth."""
    return _finish(services, carry_out, ask_segmentation(services), out / "hippocampus")


def ask_segmentation(services: Services) -> JobRequest:
    """Take the template in, unless it is there, and return a request to segment it."""
    path = find_template()
    dataset = DatasetRequest(
        name=TEMPLATE_DATASET,
        consent="public",
        purpose=PURPOSE,
        source="ICBM 152 nonlinear symmetric 2009a T1 average of 152 people (Fonov et al. 2011), as nilearn ships it",
    )
    services.datasets.ensure(dataset)
    place = ScanRequest(name=path.name, dataset=dataset.name, subject=f"average-{hash_file(path)[:_DIGITS]}")
    scan = keep_once(services, [path], place)[0]
    return JobRequest(kind="segment", recipe="hippocampus-mni", dataset=dataset.name, scans=[scan.id])


def decode(services: Services, carry_out: CarryOut, out: Path, data: Path | None) -> Finished:
    """Reconstruct what was seen: from a real recording where there is one, else from a simulated subject."""
    request = ask_decoding(services, data)
    return _finish(services, carry_out, request, out / request.recipe)


def ask_decoding(services: Services, data: Path | None = None) -> JobRequest:
    """Take a recording in, or a simulated subject, and return a request to decode it.

    Parameters
    ----------
    services : where everything is stored
    data : folder that may hold ``fmri_miyawaki2008/*.mat``; the data of `voxelight data fetch` are looked for as well
    """
    recording = find_recording(data)
    fetched = find_betas_files(services.settings.home / "data" / "miyawaki2008" / "betas", "miyawaki2008")
    if recording is not None:
        recipe, scans = "miyawaki-ridge", [_keep_recording(services, recording)]
    elif fetched is not None:
        recipe, scans = "miyawaki2008-bold", _keep(services, _about_miyawaki("demo-miyawaki2008-bold"), fetched.paths)
    else:
        recipe, scans = "simulated-ridge", _keep_simulated(services)
    return JobRequest(kind="reconstruct", recipe=recipe, dataset=scans[0].dataset, scans=[scan.id for scan in scans])


def find_recording(data: Path | None) -> Path | None:
    """Return the first ``.mat`` of Miyawaki et al. (2008) below a folder of data sets."""
    return next(iter(sorted((data / _MIYAWAKI_FOLDER).glob("*.mat"))), None) if data else None


def _about_miyawaki(name: str) -> DatasetRequest:
    return DatasetRequest(name=name, consent="public", purpose=PURPOSE, source=PUBLIC_DATA["miyawaki2008"].source)


def _keep_recording(services: Services, path: Path) -> ScanAnswer:
    dataset = DatasetRequest(
        name="demo-miyawaki2008",
        consent="public",
        purpose=PURPOSE,
        source="Miyawaki et al. (2008), Neuron 60:915: V1 responses to figures and letters",
    )
    services.datasets.ensure(dataset)
    place = ScanRequest(name=path.name, dataset=dataset.name, subject="S1", session=hash_file(path)[:_DIGITS])
    return keep_once(services, [path], place)[0]


def _keep_simulated(services: Services) -> list[ScanAnswer]:
    """Simulate a subject and take its files in as one would a person's; another simulation gets another data set."""
    from voxelight.neuro.simulate import SimulationOptions, simulate_subject
    from voxelight.storage.formats.export import write_betas

    with tempfile.TemporaryDirectory() as folder:
        files = write_betas(Path(folder), "simulated", *simulate_subject(options=SimulationOptions(crops=_CROPS)))
        dataset = DatasetRequest(
            name=f"demo-simulated-{hash_file(files.betas)[:_DIGITS]}",
            consent="simulated",
            purpose=PURPOSE,
            source="simulated from photographs that scikit-image ships",
            simulated=True,
        )
        return _keep(services, dataset, files.paths)


def _keep(services: Services, dataset: DatasetRequest, paths: tuple[Path, ...]) -> list[ScanAnswer]:
    services.datasets.ensure(dataset)
    return keep_once(services, paths, ScanRequest(name=paths[0].name, dataset=dataset.name))


def _finish(services: Services, carry_out: CarryOut, request: JobRequest, folder: Path) -> Finished:
    """Submit a job, see it to its end and ask the database what it gave."""
    job = carry_out(services.jobs.submit(request))
    results = list(services.results.walk(ResultQuery(job=job.id)))
    if request.kind == "reconstruct":
        from voxelight.app.cli.recordings import export_decoded

        export_decoded(services, job, results, folder)
    else:
        for result in results:
            services.results.export(result.artifacts, folder)
    return Finished(job, results, folder)
