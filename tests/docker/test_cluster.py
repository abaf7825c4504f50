"""What runs on a cluster: manifests that name what exists, an array of workers, tasks without any network."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scipy.io
import yaml
from sqlalchemy import select, text

from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.storage.schema import Artifact, Run

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = {
    path.name: list(yaml.safe_load_all(path.read_text())) for path in (ROOT / "docker/kubernetes").glob("*.yaml")
}
OBJECTS = [each for documents in KUBERNETES.values() for each in documents]
PODS = {
    each["metadata"]["name"]: each["spec"]["template"]["spec"]
    for each in OBJECTS
    if each["kind"] in ("Deployment", "Job")
}
SLURM = ROOT / "docker/slurm"


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_confined_and_runs_a_command_that_exists(name):
    from voxelight.app.cli import main

    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    [container] = pod["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["allowPrivilegeEscalation"] is False
    assert {"memory"} <= set(container["resources"]["limits"])
    probes = [
        probe["exec"]["command"][1:] for kind, probe in container.items() if kind.endswith("Probe") and "exec" in probe
    ]
    assert probes or "readinessProbe" in container or name == "migrate"
    for words in [container["args"], *probes]:
        command, rest = main, [str(word) for word in words]
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(command.name, rest)


def test_the_objects_name_each_other_rightly():
    """A typing error in a name is no error to Kubernetes: the object waits for ever."""
    there = {(each["kind"], each["metadata"]["name"]) for each in OBJECTS if "metadata" in each}
    for pod in PODS.values():
        [container] = pod["containers"]
        sources = container["envFrom"]
        assert {("ConfigMap", "voxelight"), ("Secret", "voxelight")} <= there
        assert [*sources[0].values(), *sources[1].values()] == [{"name": "voxelight"}] * 2
        assert ("ServiceAccount", pod["serviceAccountName"]) in there
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        claims = [
            volume["persistentVolumeClaim"]["claimName"] for volume in volumes.values() if "emptyDir" not in volume
        ]
        assert all(("PersistentVolumeClaim", claim) in there for claim in claims)
    labels = {name: f"app.kubernetes.io/component: {name}" for name in PODS}
    for each in OBJECTS:
        if each["kind"] in ("Service", "PodDisruptionBudget"):
            selector = each["spec"]["selector"]
            assert selector.get("matchLabels", selector)["app.kubernetes.io/component"] in labels
        if each["kind"] == "ScaledObject":
            assert ("Deployment", each["spec"]["scaleTargetRef"]["name"]) in there
            assert ("TriggerAuthentication", each["spec"]["triggers"][0]["authenticationRef"]["name"]) in there
        if each["kind"] == "TriggerAuthentication":
            [target] = each["spec"]["secretTargetRef"]
            [secret] = [one for one in KUBERNETES["secret.example.yaml"] if one["metadata"]["name"] == target["name"]]
            assert target["key"] in secret["stringData"]
    listed = set(KUBERNETES["kustomization.yaml"][0]["resources"])
    assert listed == set(KUBERNETES) - {"kustomization.yaml", "secret.example.yaml"}
    assert {each["metadata"].get("namespace", "voxelight") for each in OBJECTS if "metadata" in each} == {"voxelight"}


def test_the_settings_are_those_of_the_software():
    from voxelight.app.settings import Settings

    given = {key for each in OBJECTS for key in (each.get("data") or each.get("stringData") or {})}
    used = {key for key in given if key.startswith("VOXELIGHT_")}
    assert used
    assert not used - {f"VOXELIGHT_{field.upper()}" for field in Settings.model_fields}


def write_volume(path, seed):
    array = np.random.default_rng(seed).normal(300, 80, (32, 40, 32)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


@pytest.fixture
def volumes(services, tmp_path):
    """A data set of two small volumes of noise."""
    services.datasets.create(DatasetRequest(name="noise"))
    for number in range(2):
        path = write_volume(tmp_path / f"noise{number}.nii.gz", number)
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="noise"))
    return "noise"


@pytest.fixture
def brain(services):
    """A data set with random betas of eight stimuli, shown three times."""
    rng, shown = np.random.default_rng(0), np.tile(np.arange(8), 3)
    pictures = rng.integers(0, 2, (8, 16)).astype(float)
    content = io.BytesIO()
    noise = {"fmriTrn": rng.normal(size=(24, 40)), "stimTrn": pictures[shown], "labelTrn": np.ones((24, 1))}
    scipy.io.savemat(content, noise)
    content.seek(0)
    services.datasets.create(DatasetRequest(name="random", consent="simulated", purpose="a test", simulated=True))
    services.scans.ingest(content, ScanRequest(name="betas.mat", dataset="random"))
    return "random"


def submit(services, dataset, queue="cpu"):
    return services.jobs.submit(
        JobRequest(
            kind="segment",
            recipe="hippocampus-agunet",
            dataset=dataset,
            queue=queue,
            seed=len(services.jobs.list().items),
        )
    )


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_autoscaler_counts_what_waits_and_what_runs(services, volumes):
    """By the very text that the manifest holds, on PostgreSQL."""
    queries = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]["triggers"][0]["metadata"]["query"]
        for each in OBJECTS
        if each["kind"] == "ScaledObject"
    }

    def count(name):
        with services.stores.engine.connect() as connection:
            return connection.scalar(text(queries[name]))

    assert set(queries) == {"worker-cpu", "worker-gpu"}
    assert (count("worker-cpu"), count("worker-gpu")) == (0, 0)
    first = submit(services, volumes)
    submit(services, volumes)
    submit(services, volumes, "gpu")
    assert (count("worker-cpu"), count("worker-gpu")) == (2, 1)
    services.jobs.cancel(first.id)
    assert count("worker-cpu") == 1


def environment(tmp_path, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOXELIGHT_", "SLURM_", "HF_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "SLURM_CPUS_PER_TASK": "1", "TMPDIR": str(tmp_path), "VOXELIGHT_POLL_S": "0.1"} | more


def listening(pid):
    """Ports that a process and its children listen on."""
    inodes = set()
    for each in [pid, *children(pid)]:
        for link in Path(f"/proc/{each}/fd").glob("*"):
            try:
                inodes.add(str(link.readlink()))
            except OSError:
                continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                found.append(int(words[1].rpartition(":")[2], 16))
    return found


def children(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for each in task.read_text().split():
            found += [int(each), *children(int(each))]
    return found


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_array_of_workers_empties_the_queue_and_ends(services, brain, tmp_path):
    request = JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset=brain, queue="cpu")
    jobs = [services.jobs.submit(request.model_copy(update={"seed": seed})) for seed in range(2)]
    tasks, ports = [], []
    for number in range(2):
        folder = tmp_path / f"node{number}"
        folder.mkdir()
        given = environment(
            folder,
            SLURM_JOB_ID="77",
            SLURM_ARRAY_TASK_ID=str(number),
            VOXELIGHT_HOME=str(services.settings.home),
            VOXELIGHT_DATABASE_URL=services.settings.database_url,
            VOXELIGHT_QUEUE="cpu",
            VOXELIGHT_SLURM=str(SLURM),
        )
        tasks.append(subprocess.Popen(["bash", SLURM / "worker.sbatch"], cwd=folder, env=given))
    try:
        while any(task.poll() is None for task in tasks):
            for task in tasks:
                try:
                    ports += listening(task.pid)
                    task.wait(0.5)
                except (subprocess.TimeoutExpired, FileNotFoundError, ProcessLookupError):
                    continue
    finally:
        for task in tasks:
            task.kill()
    assert [task.returncode for task in tasks] == [0, 0]
    assert ports == [], "a worker listened"
    for job in jobs:
        now = services.jobs.show(job.id)
        assert (now.status, now.done, now.failed) == ("done", 8, 0)
    with services.stores.sessions() as session:
        roles = Counter(
            session.execute(select(Artifact.role, Run.job_id).join(Run, Run.id == Artifact.run_id)).tuples()
        )
    assert {count for (role, _), count in roles.items() if role == "reconstruction"} == {8}
    assert list((tmp_path / "node0").iterdir()) == [], "scratch was left behind"


@pytest.fixture(scope="session")
def without_network():
    """Words before a command that give it a network of its own, which leads nowhere."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rn", "true"], check=False).returncode:
        pytest.skip("needs unshare -rn, which this system does not let a user do")
    return ["unshare", "-rn"]


def test_a_task_without_network_leaves_label_maps_and_its_database(without_network, tmp_path):
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    paths = [write_volume(scans / f"noise{number}.nii.gz", number) for number in range(3)]
    (tmp_path / "files.txt").write_text("".join(f"{path}\n" for path in paths))

    def run_task(number):
        scratch = tmp_path / f"node{number}"
        scratch.mkdir(exist_ok=True)
        given = environment(
            scratch,
            SLURM_ARRAY_TASK_ID=str(number),
            SLURM_ARRAY_TASK_COUNT="2",
            SLURM_ARRAY_TASK_MIN="0",
            VOXELIGHT_OUT=str(out),
            VOXELIGHT_SLURM=str(SLURM),
        )
        words = [*without_network, "bash", SLURM / "segment.sbatch", "hippocampus-agunet", tmp_path / "files.txt"]
        return subprocess.run(words, cwd=scratch, env=given, capture_output=True, text=True, check=False)

    done = run_task(1)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.glob("*_dseg.nii.gz")) == ["noise1_dseg.nii.gz"], (
        "its share is the second file"
    )
    assert nib.load(out / "noise1_dseg.nii.gz").shape == (32, 40, 32)
    assert list((tmp_path / "node1").iterdir()) == [], "scratch was left behind"
    [snapshot] = (out / "databases/1/snapshots").glob("*.json")
    kept = json.loads(snapshot.read_text())
    rows = {table["name"]: table["rows"] for table in kept["tables"]}
    assert (rows["scan"], rows["run"], rows["segmentation"]) == (1, 1, 1)
    again = run_task(1)
    assert again.returncode == 0, again.stderr
    assert "nothing is due" in again.stdout


def test_what_is_offline_says_what_to_fetch_and_where(without_network, tmp_path):
    name = "clip-vit-large-patch14"
    call = [*without_network, sys.executable, "-m", "voxelight.app.cli", "weights"]
    given = environment(tmp_path, VOXELIGHT_HOME=str(tmp_path / "home"))
    subprocess.run([*call, "accept", name], env=given, capture_output=True, timeout=120, check=True)
    for more in ({"HF_HUB_OFFLINE": "1"}, {}):
        words = [*call, "fetch", name]
        done = subprocess.run(words, env=given | more, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 6, done.stderr
        assert "Traceback" not in done.stderr
        assert f"weights fetch {name}" in " ".join(done.stderr.split())


def test_workers_of_a_cluster_refuse_sqlite(tmp_path):
    given = environment(
        tmp_path,
        VOXELIGHT_DATABASE_URL="sqlite:////share/a.sqlite",
        VOXELIGHT_HOME=str(tmp_path),
        VOXELIGHT_SLURM=str(SLURM),
    )
    done = subprocess.run(["bash", SLURM / "worker.sbatch"], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "network share" in done.stderr
