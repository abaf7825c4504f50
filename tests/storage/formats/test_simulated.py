"""Simulated subjects on disk: whole or not there, taken up where they stopped, and never in memory as a whole."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

from voxelight.models.errors import BadInput, Conflict, NotFound, Unavailable
from voxelight.models.values import Stimuli
from voxelight.neuro.simulation import (
    DesignOptions,
    Encoder,
    StimuliSet,
    SubjectOptions,
    make_subject,
    plan_trials,
    simulate,
)
from voxelight.storage.formats.picture_sets import open_pictures, read_rows_by_id
from voxelight.storage.formats.simulated import Make, read_make, read_simulated, read_voxels, write_simulated

DESIGN = DesignOptions(pictures=240, shared=60, trials=180, runs=3)
MAKE = Make(subjects=(1, 2), design=DESIGN, options=SubjectOptions(voxels=40))

# Pictures are drawn when they are read, and voxels are linear in 8 numbers of each: only the writing costs memory.
SCRIPT = """
import resource, sys, time
from pathlib import Path
import numpy as np
from voxelight.models.values import Stimuli
from voxelight.neuro.simulation import DesignOptions, Encoder, SubjectOptions
from voxelight.storage.formats.simulated import Make, write_simulated

class Noise:
    ids = np.array([f"picture-{row:05d}" for row in range(6000)])
    def read(self, rows):
        images = [np.random.default_rng(row).random((8, 8, 1), dtype=np.float32) for row in rows]
        return Stimuli(np.stack(images), self.ids[rows])

folder, sessions, wait = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
make = Make(subjects=(1,), sessions=sessions, design=DesignOptions(pictures=6000, shared=600, trials=600),
            options=SubjectOptions(kind="matched", voxels=int(sys.argv[4])))
def on_step(done, total):
    print(done, total, flush=True)
    time.sleep(wait)
write_simulated(folder, Noise(), make, Encoder("eight", lambda s: s.images[:, 0]), on_step)
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads that wait for each other on a busy machine take ten times as long for small products."""
    with threadpool_limits(1), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of the processes that are started
        yield


@pytest.fixture(scope="module")
def pictures() -> StimuliSet:
    images = np.random.default_rng(0).uniform(size=(300, 24, 24, 3)).astype(np.float32)
    return StimuliSet(Stimuli(images, np.array([f"picture-{row:03d}" for row in range(300)])))


@pytest.fixture(scope="module")
def written(pictures, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    write_simulated(folder, pictures, MAKE)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_read_is_what_is_simulated_in_memory(written, pictures):
    for number in MAKE.subjects:
        plan = plan_trials(300, number, 0, DESIGN)
        expected = simulate(make_subject(number, pictures, MAKE.options), pictures, plan)
        betas = read_simulated(written, number)
        assert isinstance(betas.values, np.memmap)
        assert betas.simulated
        assert betas.values.tobytes() == expected.values.tobytes()
        assert betas.stimulus_ids.tolist() == expected.stimulus_ids.tolist()
        assert (betas.subject, betas.roi) == (expected.subject, expected.roi)
        for name, column in expected.labels.items():
            assert betas.labels[name].tolist() == column.tolist()


def test_voxels_are_told(written, pictures):
    subject = make_subject(2, pictures, MAKE.options)
    voxels = read_voxels(written, 2)
    assert voxels["region"].tolist() == subject.regions.tolist()
    np.testing.assert_allclose(voxels["ncsnr"], subject.ncsnr, rtol=1e-5)
    np.testing.assert_allclose(voxels["size"][subject.regions != "higher"], subject.early.size, rtol=1e-5)
    assert np.isnan(voxels["x"][subject.regions == "higher"]).all()


def test_the_make_says_how(written):
    make = read_make(written)
    assert make["simulated"] is True
    assert (make["kind"], make["encoder"]) == ("mismatched", "gabor-texture")
    assert make["noise"]["overlap"] == 0.2
    assert "nobody was scanned" in make["notice"]
    assert set(contents(written)) == {"make.json"} | {
        f"sub-0{number}/{name}" for number in (1, 2) for name in ("betas.npy", "trials.tsv", "voxels.tsv")
    }


def test_it_may_be_stopped_at_any_step(pictures, tmp_path):
    """Stopped before every step in turn, it ends with the same bytes."""

    class Stopped(Exception):
        pass

    make = Make(subjects=(1, 2), design=DESIGN, options=SubjectOptions(kind="matched", voxels=10))
    encoder = Encoder("corner", lambda stimuli: stimuli.images[:, :2, :2])
    stops = 0
    while True:
        seen = []

        def once(done, total, seen=seen):
            seen.append((done, total))
            if len(seen) == 2:
                raise Stopped

        try:
            write_simulated(tmp_path / "stopped", pictures, make, encoder, once)
            break
        except Stopped:
            stops += 1
        assert stops < 30
    assert stops > 8
    assert seen[-1] == (seen[-1][1],) * 2
    write_simulated(tmp_path / "whole", pictures, make, encoder)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_fewer_sessions_and_subjects_change_nothing_in_the_first(written, pictures, tmp_path):
    few = MAKE.model_copy(update={"subjects": (2,), "sessions": 1})
    write_simulated(tmp_path, pictures, few)
    assert (read_simulated(tmp_path, 2).values == read_simulated(written, 2).values[:180]).all()


def test_sessions_are_those_of_the_nsd_subject():
    nsd = Make()
    assert [nsd.count_sessions(number) for number in nsd.subjects] == [40, 40, 32, 30, 40, 32, 40, 30]
    assert MAKE.count_sessions(1) == 4
    assert Make(sessions=3).count_sessions(4) == 3


def test_memory_does_not_grow_with_the_sessions(tmp_path):
    """Twenty sessions of 5.5 MB each, and as much again of responses, against two."""
    peaks = []
    for sessions in (2, 20):
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / str(sessions)), str(sessions), "0", "2400"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(re.search(r"peak (\d+)", done.stdout)[1]))
    assert (tmp_path / "20/sub-01/betas.npy").stat().st_size > 100 * 2**20
    print(f"peak memory of 2 and of 20 sessions: {peaks} MiB")
    assert peaks[1] < peaks[0] + 25


def test_a_killed_writer_leaves_what_the_next_one_goes_on_with(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "killed"), "3"]
    writer = subprocess.Popen([*command, "0.05", "50"], stdout=subprocess.PIPE, text=True)
    for line in writer.stdout:
        if int(line.split()[0]) >= 10:
            writer.send_signal(signal.SIGKILL)
            break
    writer.wait()
    with pytest.raises(Conflict, match="unfinished"):
        read_simulated(tmp_path / "killed", 1)
    done = subprocess.run([*command, "0", "50"], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[0]) >= 10
    whole = [sys.executable, "-c", SCRIPT, str(tmp_path / "whole"), "3", "0", "50"]
    subprocess.run(whole, capture_output=True, check=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_finished_subjects_are_left_alone(written, pictures):
    before = (written / "sub-01/betas.npy").stat().st_mtime_ns
    started = time.monotonic()
    write_simulated(written, pictures, MAKE)
    assert (written / "sub-01/betas.npy").stat().st_mtime_ns == before
    assert time.monotonic() - started < 2


def test_another_simulation_does_not_mix_with_it(written, pictures):
    for change in ({"options": SubjectOptions(voxels=40, seed=1)}, {"sessions": 1}, {"subjects": (1,)}):
        with pytest.raises(Conflict, match="another simulation"):
            write_simulated(written, pictures, MAKE.model_copy(update=change))
    images = np.zeros((300, 24, 24, 3), np.float32)
    with pytest.raises(Conflict, match="pictures_sha256"):
        write_simulated(written, StimuliSet(Stimuli(images, pictures.ids)), MAKE)


def test_what_is_not_there_is_not_read(written, tmp_path):
    with pytest.raises(NotFound, match=r"no make\.json"):
        read_simulated(tmp_path, 1)
    with pytest.raises(NotFound, match="no subject 3"):
        read_simulated(written, 3)


def test_a_damaged_array_is_refused(written, tmp_path):
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "make.json").write_text((written / "make.json").read_text())
    (tmp_path / "sub-01/betas.npy").write_bytes((written / "sub-01/betas.npy").read_bytes()[:500])
    with pytest.raises(BadInput, match="damaged"):
        read_simulated(tmp_path, 1)


def test_a_disk_without_room_is_told_first(pictures, tmp_path, monkeypatch):
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("voxelight.storage.formats.simulated.shutil.disk_usage", lambda folder: free)
    with pytest.raises(Unavailable, match="1000 bytes free"):
        write_simulated(tmp_path, pictures, MAKE)


def test_a_folder_of_pictures_is_read_when_asked(tmp_path):
    random = np.random.default_rng(0)
    for name in ("cats/one.png", "dogs/one.jpg", "dogs/two.jpeg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(path)
    opened = open_pictures(tmp_path, size=32)
    assert opened.ids.tolist() == ["cats_one", "dogs_one", "two"]
    assert opened.read(np.array([2, 0])).images.shape == (2, 32, 32, 3)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadInput, match="without a picture"):
        open_pictures(empty)


def test_arrays_of_pictures(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "b.npz", images=images / 255, ids=np.array(list("vwxyz")))
    plain, named = open_pictures(tmp_path / "a.npy"), open_pictures(tmp_path / "b.npz")
    assert plain.ids.tolist() == ["000000", "000001", "000002", "000003", "000004"]
    assert named.ids.tolist() == list("vwxyz")
    rows = np.array([3, 1])
    np.testing.assert_allclose(plain.read(rows).images, named.read(rows).images, atol=1e-6)
    np.testing.assert_allclose(plain.read(rows).images, images[rows] / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "arrays", "said"),
    [
        ("a.npz", {"other": np.zeros(3)}, "can't be read"),
        ("a.npz", {"images": np.zeros((3, 8, 8, 2))}, "shape"),
        ("a.npz", {"images": np.zeros((3, 8, 8, 3)), "ids": np.array(["a", "a", "b"])}, "2 distinct ids"),
        ("a.npz", {"images": np.zeros((2, 8, 8, 3), np.int64)}, "int64"),
        ("a.txt", {}, r"a file named \*.npy"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(tmp_path, name, arrays, said):
    if arrays:
        np.savez(tmp_path / name, **arrays)
    with pytest.raises(BadInput, match=said):
        open_pictures(tmp_path / name)


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match="can't be read"):
        read_rows_by_id(tmp_path / "a.npy", "features")


def test_the_make_is_plain_json(written):
    assert json.loads((written / "make.json").read_text())["names"]["2"] == "simulated-mismatched-02"
