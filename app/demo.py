"""The main job end to end: take in, submit, work, store, query; on a real MRI and on brain activity."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxelight.app.cli.intake import keep_once
from voxelight.app.schemas import (
    DECODING,
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

if TYPE_CHECKING:
    from voxelight.models.values import Betas, Stimuli

CarryOut = Callable[[JobAnswer], JobAnswer]
PURPOSE = "demonstration of this software"
PREFIX = "demo-"  # of the names of its data sets
TEMPLATE_DATASET = f"{PREFIX}template"
_MIYAWAKI_FOLDER = "fmri_miyawaki2008"
_TINY_FOLDER = "tiny_imagenet_64"
_TINY = "tiny"
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


def decode_unseen(services: Services, carry_out: CarryOut, out: Path, data: Path | None) -> Finished:
    """Reconstruct and caption pictures that no network of the tiny profile has seen, and evaluate what came out.

    Parameters
    ----------
    services : where everything is stored
    carry_out : sees a job to its end
    out : a folder ``tiny-*`` below it, another for other pictures, gets the pictures, ``grid.png`` and ``report.html``
    data : folder that may hold ``tiny_imagenet_64``, of which pictures were kept aside; without it, photographs that
        scikit-image ships are shown
    """
    request = ask_unseen(services, data)
    done = _finish(services, carry_out, request, out / request.dataset.removeprefix(PREFIX))
    if done.job.status == "done":
        _write_report(services, done)
    return done


def ask_unseen(services: Services, data: Path | None = None) -> JobRequest:
    """Take the sample of the tiny profile in, unless it is there, and return a request to decode it."""
    from voxelight.storage.formats.export import write_betas

    betas, stimuli, source = _read_sample(data)
    with tempfile.TemporaryDirectory() as folder:
        files = write_betas(Path(folder), "simulated", betas, stimuli)
        dataset = DatasetRequest(
            name=f"{PREFIX}tiny-{hash_file(files.betas)[:_DIGITS]}",
            consent="simulated",
            purpose=PURPOSE,
            source=source,
            simulated=True,
        )
        scans = _keep(services, dataset, files.paths)
    ids = [scan.id for scan in scans]
    return JobRequest(kind="decode", recipe=_TINY, dataset=dataset.name, scans=ids, options={"preset": "fast"})


def _read_sample(data: Path | None) -> "tuple[Betas, Stimuli, str]":
    """Return simulated betas that come along with the tiny profile, the pictures they answer to, and what these are."""
    import numpy as np

    from voxelight.models.values import Stimuli
    from voxelight.models.weights import load_weights, read_words
    from voxelight.neuro.tiny.sample import crop_sample, name_trials
    from voxelight.storage.formats.class_pictures import read_class_pictures

    betas = {name: values.float().numpy() for name, values in load_weights("tiny-sample").items()}
    folder = data / _TINY_FOLDER if data else None
    if folder is None or not folder.is_dir():
        stimuli = crop_sample()
        return name_trials(betas["photographs"], stimuli), stimuli, "simulated from photographs of scikit-image"
    found = read_class_pictures(folder, read_words("tiny-sample")["held_out"])
    images = found.pixels.transpose(0, 2, 3, 1).astype(np.float32) / np.float32(255)
    stimuli = Stimuli(images, np.array(found.keys))
    return name_trials(betas["held_out"], stimuli), stimuli, "simulated from pictures of Tiny ImageNet kept aside"


def _write_report(services: Services, done: Finished) -> None:
    """Evaluate a job beside its control rows, and draw what was seen beside what was made of it."""
    from voxelight.app.pipelines.evaluated import Wishes, evaluate
    from voxelight.neuro.evaluate.page import write_page
    from voxelight.neuro.evaluate.sheet import draw_sheet
    from voxelight.storage.formats.images import write_png
    from voxelight.storage.formats.streams import replacing

    wishes = Wishes(sessions="40 simulated sessions", ceiling=True, device=services.settings.device)
    evaluation = evaluate(services.stores, done.job.id, wishes)
    write_png(done.folder / "grid.png", draw_sheet(evaluation, f"{done.job.recipe}: pictures that it has not seen"))
    with replacing(done.folder / "report.html") as file:
        file.write(write_page(evaluation).encode())


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
    if request.kind in DECODING:
        from voxelight.app.cli.recordings import export_decoded

        export_decoded(services, job, results, folder)
    else:
        for result in results:
            services.results.export(result.artifacts, folder)
    return Finished(job, results, folder)
