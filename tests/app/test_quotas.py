"""Nobody stores more than is allowed: alone, at once with others, by each way in."""

import io
import threading

import pytest
from starlette.testclient import TestClient

from voxelight.app.api import create_api
from voxelight.app.bootstrap import open_services
from voxelight.app.client.problems import read_error
from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.app.schemas_access import AccountRequest, KeyRequest, MemberRequest
from voxelight.app.schemas_uploads import UploadRequest
from voxelight.app.settings import Settings
from voxelight.storage.access import Principal
from voxelight.storage.uploads import OverQuota


def opened(tmp_path, crops, database_url=""):
    """Room for two crops in a project, and for one and a half of each account."""
    size = max(path.stat().st_size for path in crops)
    settings = Settings(
        home=tmp_path / "home",
        database_url=database_url,
        auth="keys",
        quota_project_bytes=2 * size + 2000,
        quota_principal_bytes=size + size // 2,
    )
    services = open_services(settings)
    services.datasets.create(DatasetRequest(name="d", consent="public", purpose="p"))
    return services


@pytest.fixture
def house(tmp_path, crops):
    services = opened(tmp_path, crops)
    yield services
    services.close()


@pytest.fixture
def either(tmp_path, crops, database_url):
    """The same on both databases."""
    services = opened(tmp_path, crops, database_url)
    yield services
    services.close()


def ana(house):
    return house.act_as(Principal("ana", roles={"default": "operator"}))


def take(services, path, name="a.nii.gz"):
    return services.scans.ingest_path(path, ScanRequest(name=name, dataset="d"))


def upload(services, size, name="u.nii.gz"):
    return services.uploads.create(UploadRequest(name=name, dataset="d", size=size))


def test_what_is_stored_and_what_is_announced_count_together(house, crops):
    scan, size = take(ana(house), crops[0]), crops[0].stat().st_size
    with pytest.raises(OverQuota, match=rf"with {scan.size} of \d+ bytes in use"):
        upload(ana(house), size)
    waiting = upload(ana(house), 1000)
    with pytest.raises(OverQuota, match=f"ana, with {scan.size + 1000} of"):
        take(ana(house), crops[1], "b.nii.gz")
    upload(house, 1000, "shell.nii.gz")  # what comes from the shell is nobody's
    with pytest.raises(OverQuota, match="the project default"):
        upload(house, 2 * size, "more.nii.gz")
    house.uploads.cancel(waiting.id)
    assert list((house.settings.uploads).iterdir()) == [house.settings.uploads / f for f in _open(house)]
    assert house.scans.list().items[0].id == scan.id


def _open(house):
    return [each.id.hex for each in house.uploads.list().items]


def test_an_upload_that_began_has_room_for_its_scan_and_then_counts_as_it(house, crops):
    content = crops[0].read_bytes()
    begun = upload(ana(house), len(content))
    with house.uploads.append(begun.id, 0) as piece:
        piece.write(content)
    done = _wait(house, begun.id)
    assert [scan.name for scan in done.scans] == ["u.nii.gz"]
    with pytest.raises(OverQuota, match=rf"ana, with {done.scans[0].size} of"):
        upload(ana(house), len(content), "v.nii.gz")


def _wait(house, upload_id):
    import time

    for _ in range(600):
        answer = house.uploads.show(upload_id)
        if answer.status not in ("checking", "open"):
            return answer
        time.sleep(0.05)
    raise AssertionError(answer)


def test_of_many_at_once_only_those_that_fit_are_let_in(either):
    size = either.settings.quota_principal_bytes // 4
    fine, refused, barrier = [], [], threading.Barrier(8)

    def work(number):
        services = ana(either)
        barrier.wait()
        try:
            fine.append(upload(services, size, f"{number}.nii.gz"))
        except OverQuota:
            refused.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(fine), len(refused)) == (4, 4)


def test_over_http_the_answer_says_how_much_is_in_use(house, crops):
    house.access.add_account(AccountRequest(name="ana"))
    house.access.set_member("default", "ana", MemberRequest(role="operator"))
    key = house.access.add_key(KeyRequest(account="ana", name="laptop")).key
    client = TestClient(
        create_api(house), "http://localhost/api/v1/", headers={"Authorization": f"Bearer {key}"}, root_path="/api"
    )
    for name, status in (("a.nii.gz", 201), ("b.nii.gz", 507)):
        content = io.BytesIO(crops[0].read_bytes())
        answer = client.put(f"datasets/d/scans/{name}", content=content)
        assert answer.status_code == status
    problem = answer.json()
    assert problem["type"] == "urn:voxelight:problem:quota-reached"
    assert f"of {house.settings.quota_principal_bytes} bytes in use" in problem["found"]
    assert str(read_error(answer)) == problem["detail"]
    assert [scan.name for scan in house.scans.list().items] == ["a.nii.gz"]
