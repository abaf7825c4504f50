"""Nothing jumps while a page looks again and again at a job that goes on."""

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import expect

from voxelight.app.bootstrap import open_services
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.app.settings import Settings
from voxelight.storage.results import Outcome, OutputFile, record_run

ITEMS, SIDE, LOOKS_MS = 4, 16, 1500
STEADY = 0.02  # a fifth of what counts as good over the whole life of a page (Web Vitals: below 0.1)
WATCH = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const each of list.getEntries()) {
      const what = each.sources.map((source) => source.node?.outerHTML?.slice(0, 120) ?? "gone");
      if (!each.hadRecentInput) window.shifts.push([each.value, what]);
    }
  }).observe({ type: "layout-shift" });
}"""


@pytest.fixture(scope="module")
def server(server_without_worker):
    """The worker of the one that other tests share would take the job away."""
    return server_without_worker


@pytest.fixture
def stepwise(server, request):
    """A running job that no worker has, and a way to end its next item as a worker does."""
    services = open_services(Settings(home=server.home))
    name = f"steady-{request.node.callspec.id}"
    services.datasets.create(DatasetRequest(name=name))
    for number in range(ITEMS):
        path = server.home / f"{name}-{number}.nii"
        noise = np.random.default_rng(number).normal(100, 8, (SIDE,) * 3).astype(np.float32)
        nib.save(nib.Nifti1Image(noise, np.eye(4)), path)
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset=name))
    job = services.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset=name, queue="gpu"))
    Runner(services).list_batches(job.id)
    runs = iter(services.jobs.list_runs(job.id))

    def end_one():
        content = nib.Nifti1Image(np.ones((SIDE,) * 3, np.uint8), np.eye(4)).to_bytes()
        files = (OutputFile("label_map", "steady_dseg.nii", "application/octet-stream", content),)
        record_run(services.stores, next(runs).id, Outcome(files, label_names={1: "all"}, volumes_ml={"all": 4.1}))

    yield job, end_one
    services.jobs.cancel(job.id)
    services.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page_of", ["list", "job"])
def test_nothing_jumps_while_a_job_goes_on(page_of, width, visit, stepwise):
    job, end_one = stepwise
    page = visit.page
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(visit.server.url + ("/jobs" if page_of == "list" else f"/jobs?job={job.id}"))
    expect(page.get_by_text(f"0 of {ITEMS} done").first).to_be_visible()
    end_one()
    expect(page.get_by_text(f"1 of {ITEMS} done").first).to_be_visible()
    page.wait_for_timeout(LOOKS_MS)
    page.evaluate(WATCH)
    for done in range(2, ITEMS):
        end_one()
        expect(page.get_by_text(f"{done} of {ITEMS} done").first).to_be_visible()
        page.wait_for_timeout(LOOKS_MS)
    shifts = page.evaluate("window.shifts")
    assert sum(value for value, _ in shifts) < STEADY, shifts
