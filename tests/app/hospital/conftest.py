"""Series as scanners send them, and an archive of Debian's."""

import io
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
import requests

from voxelight.app.schemas import DatasetRequest

ORTHANC = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def database_url(tmp_path):
    """One database: what differs between the two lies behind the verbs."""
    return f"sqlite:///{tmp_path / 'voxelight.sqlite'}"


@pytest.fixture
def ward(services):
    """The name of a data set for what a hospital sends."""
    services.datasets.create(DatasetRequest(name="ward"))
    return "ward"


@pytest.fixture
def read():
    """Read the bytes of an instance."""
    from pydicom import dcmread

    return lambda content: dcmread(io.BytesIO(content))


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory):
    """Address, DICOM port and credentials of a running Orthanc with DICOMweb."""
    if ORTHANC is None or not PLUGIN.is_file():
        pytest.skip("needs Orthanc with DICOMweb; Debian's packages are called orthanc and orthanc-dicomweb")
    folder, http, dicom = tmp_path_factory.mktemp("orthanc"), free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder / "store"), "IndexDirectory": str(folder / "store"), "Plugins": [str(PLUGIN)],
        "HttpPort": http, "DicomPort": dicom, "RemoteAccessAllowed": False, "AuthenticationEnabled": True,
        "RegisteredUsers": {"reader": "correct-horse"}, "DicomAet": "ORTHANC", "DicomCheckCalledAet": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "SaveJobs": False, "DicomAlwaysAllowStore": True,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        deadline, secret = time.monotonic() + 30, ("reader", "correct-horse")
        while time.monotonic() < deadline:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                if requests.get(f"http://127.0.0.1:{http}/system", auth=secret, timeout=2).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{http}/dicom-web", dicom, secret
    finally:
        process.terminate()
        process.wait(20)
