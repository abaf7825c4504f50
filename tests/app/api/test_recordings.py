"""Folders of fMRI betas over HTTP and from the verbs: opened below the roots only, registered, and decoded."""

import numpy as np
import pytest

from voxelight.app.api import create_api
from voxelight.app.bootstrap import open_services
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest, ResultQuery
from voxelight.app.schemas_recordings import RecordingLook, RecordingRequest
from voxelight.app.settings import Settings
from voxelight.models.errors import Conflict, NotFound, Refused
from voxelight.storage.formats.fmri.examples.write import write_example


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("open")
    write_example("nsd", root / "nsd")
    write_example("npy", root / "shifted")
    table = root / "shifted" / "trials.tsv"
    header, *rows = table.read_text().splitlines()
    seen = [row.split("\t")[2] for row in rows]
    moved = [f"{row.rsplit(chr(9), 1)[0]}\t{name}" for row, name in zip(rows, [seen[-1], *seen[:-1]], strict=True)]
    table.write_text("\n".join([header, *moved]) + "\n")
    return root


@pytest.fixture
def settings(tmp_path, folder):
    return Settings(home=tmp_path / "home", poll_s=0.05, data_roots=(folder,))


@pytest.fixture
def simulated(services):
    request = DatasetRequest(
        name="mine", consent="simulated", consent_note="nobody was asked", purpose="Tests", simulated=True
    )
    return services.datasets.create(request).name


def test_a_folder_is_looked_into_and_registered(client, folder, simulated):
    look = client.post("recordings/index", json={"path": str(folder / "nsd")})
    assert look.status_code == 200, look.text
    said = look.json()
    assert (said["layout"], said["simulated"]) == ("nsd", True)
    assert said["subjects"][0]["trials"] == 72
    assert "not redistributable" in said["terms"]
    answer = client.post(f"datasets/{simulated}/recordings", json={"path": str(folder / "nsd"), "subjects": ["subj01"]})
    assert answer.status_code == 201, answer.text
    [scan] = answer.json()["scans"]
    assert (scan["kind"], scan["subject"], scan["name"]) == ("recording", "subj01", "subj01.recording.json")
    assert scan["facts"]["repeat_p"] <= 0.01
    assert (scan["facts"]["layout"], scan["facts"]["trials"], scan["facts"]["voxels"]) == ("nsd", 72, 60)
    assert scan["warnings"] == []
    shown = client.get(f"datasets/{simulated}").json()
    assert (shown["consent_note"], shown["simulated"], shown["subjects"]) == ("nobody was asked", True, 1)
    again = client.post(f"datasets/{simulated}/recordings", json={"path": str(folder / "nsd"), "subjects": ["subj01"]})
    assert again.status_code == 409


@pytest.mark.parametrize("path", ["/etc", "/", "..", "{root}/../", "{root}/../closed", "~", "{root}x"])
def test_no_other_folder_is_opened(path, client, folder, simulated):
    asked = path.format(root=folder)
    for url in ("recordings/index", f"datasets/{simulated}/recordings"):
        answer = client.post(url, json={"path": asked})
        assert answer.status_code == 403, answer.text
        assert "VOXELIGHT_DATA_ROOTS" in answer.json()["remedy"]


def test_a_link_out_of_the_root_is_not_followed(client, folder, tmp_path):
    write_example("npy", tmp_path / "closed")
    link = folder / "link"
    link.symlink_to(tmp_path / "closed")
    try:
        assert client.post("recordings/index", json={"path": str(link)}).status_code == 403
    finally:
        link.unlink()


def test_without_roots_nothing_is_opened(tmp_path, folder):
    services = open_services(Settings(home=tmp_path / "closed"))
    with pytest.raises(Refused, match="opens: none"):
        services.recordings.look(RecordingLook(path=str(folder / "nsd")))
    assert services.recordings.look(RecordingLook(path=str(folder / "nsd")), trusted=True).layout == "nsd"
    services.close()


def test_layouts_are_listed(client):
    rows = client.get("layouts").json()["items"]
    assert {"nsd", "mindeye1", "mindeye2", "laion-fmri", "glmsingle", "bdata", "haxby"} <= {row["name"] for row in rows}
    assert [row["name"] for row in rows if not row["example"]] == ["simulated"]


def test_misaligned_trials_are_named_at_intake(services, folder, simulated):
    answer = services.recordings.register(simulated, RecordingRequest(path=str(folder / "shifted")))
    [scan] = answer.scans
    assert any("seem misaligned" in warning["found"] and "off by one" in warning["found"] for warning in scan.warnings)
    assert scan.facts["repeat_p"] > 0.05


def test_measured_and_simulated_are_not_mixed(services, folder):
    services.datasets.create(DatasetRequest(name="measured", consent="given", purpose="Tests"))
    with pytest.raises(Conflict, match="simulated betas for data set measured, which is measured"):
        services.recordings.register("measured", RecordingRequest(path=str(folder / "nsd")))
    assert services.datasets.show("measured").scans == 0


def test_an_unknown_region_registers_nothing(services, folder, simulated):
    with pytest.raises(NotFound, match="no region 'V9'"):
        services.recordings.register(simulated, RecordingRequest(path=str(folder / "nsd"), roi="V9"))
    assert services.datasets.show(simulated).scans == 0


def submit(services, dataset, subject):
    request = JobRequest(
        kind="reconstruct",
        recipe="photographs-ridge",
        dataset=dataset,
        query={"subject": subject},
        options={"permutations": 19},
    )
    return services.jobs.submit(request)


def work(services, job):
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        runner.run_batch(job.id, batch)
    runner.close(job.id)
    return services.jobs.show(job.id)


def test_a_registered_folder_is_decoded(services, folder, simulated):
    services.recordings.register(simulated, RecordingRequest(path=str(folder / "nsd")))
    done = work(services, submit(services, simulated, "subj02"))
    assert (done.status, done.simulated) == ("done", True)
    scores = {metric.name: metric for metric in done.metrics}
    assert scores["two_way"].low > scores["two_way"].detail["null_mean"] + 3 * scores["two_way"].detail["null_std"]
    results = list(services.results.walk(ResultQuery(job=done.id)))
    assert sum(len(result.decoded) for result in results) == 24
    assert all(result.provenance["inputs_sha256"].keys() == {"subj02.recording.json"} for result in results)


def test_files_that_changed_since_are_refused(services, tmp_path, simulated, folder):
    write_example("npy", folder / "changing")
    services.recordings.register(simulated, RecordingRequest(path=str(folder / "changing")))
    betas = folder / "changing" / "betas.npy"
    np.save(betas, np.load(betas)[:, :59])
    with pytest.raises(Conflict, match=r"other files in .* than when it was registered"):
        submit(services, simulated, "01")
    for path in sorted((folder / "changing").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "changing").rmdir()
    with pytest.raises(NotFound, match="nothing at"):
        submit(services, simulated, "01")


def test_the_api_lists_the_routes(services):
    paths = create_api(services).openapi()["paths"]
    assert {"/v1/layouts", "/v1/recordings/index", "/v1/datasets/{name}/recordings"} <= set(paths)
