"""The cases of the folder of fixtures, one test for each."""

import pytest
from checks.folder import find_folder
from checks.table import plan_folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `case` every case of the folder, and `compared` those that compute an output of their file."""
    for name in {"case", "compared"} & set(metafunc.fixturenames):
        folder = find_folder(metafunc.config)
        cases = plan_folder(folder) if folder.is_dir() else []
        cases = [case for case in cases if name == "case" or (case.outputs and case.compute)]
        # Without a folder there is one test, which says why it is skipped.
        metafunc.parametrize(name, cases or [None], ids=[case.id for case in cases] or ["none"])
