"""The cases of the folder of fixtures, one test for each."""

import pytest
from checks.folder import find_folder
from checks.table import plan_folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    folder = find_folder(metafunc.config)
    cases = plan_folder(folder) if folder.is_dir() else []
    metafunc.parametrize("case", cases or [None], ids=[case.id for case in cases] or ["none"])
