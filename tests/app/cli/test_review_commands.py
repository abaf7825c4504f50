"""Reviews and follow-up from the shell."""

import numpy as np
import pytest

from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import DatasetRequest
from voxelight.app.settings import Settings


@pytest.fixture
def result(home, crops, store_label_map, tmp_path):
    """Ids of a finished segmentation and its job."""
    services = open_services(Settings(home=home))
    services.datasets.create(DatasetRequest(name="crops"))
    labels = np.zeros((32, 40, 32), np.uint8)
    labels[3:8, 3:8, 3:8] = 1
    path = tmp_path / crops[0].name
    path.write_bytes(crops[0].read_bytes())
    run = store_label_map(services, path, labels, {1: "lesion"}, "crops")
    job = services.results.show(run).job
    services.close()
    return run, job


def test_views_are_saved_listed_and_compared(ask, shell, result):
    run, job = result
    assert ask("reviews", "save", run, "--reviewer", "Ada", "--verdict", "reject", "--comment", "leaks")["version"] == 1
    [blind] = ask("reviews", "list", job, "--reviewer", "Bob")["items"]
    assert (blind["others"], blind["hidden"]) == ([], 1)
    shell("reviews", "save", run, "--reviewer", "Bob", "--verdict", "accept")
    assert "Ada: reject" in shell("reviews", "list", job, "--reviewer", "Bob").stdout
    assert ask("reviews", "agreement", job, "Ada", "Bob")["differ"][0]["first"] == "reject"
    assert "Cohen's kappa" in shell("reviews", "agreement", job, "Ada", "Bob").stdout
    shell("reviews", "agreement", job, "Ada", "Ada", code=2)


def test_the_group_report_is_one_file(shell, result, tmp_path):
    out = tmp_path / "new" / "group.html"
    shell("reviews", "report", result[1], "--out", out)
    assert "Group report" in out.read_text()


def test_a_subject_is_followed(ask, shell, result):
    answer = ask("followup", "crops", "01", "--minimal-change-ml", "0.1")
    assert answer["structures"][0]["visits"][0]["volume_ml"] == pytest.approx(0.125)
    assert "nothing was registered" in shell("followup", "crops", "01").stdout
    shell("followup", "crops", "nobody", code=3)
    shell("followup", "crops", "01", "--day", "01", code=2)
