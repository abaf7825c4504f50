"""What starts without what: seconds at the shell, gigabytes in an image."""

import pytest

NETWORKS = {"torch", "torchvision", "monai", "transformers", "diffusers", "open_clip"}
PAGES = {"streamlit", "matplotlib", "nilearn"}
SERVICE = {"sqlalchemy", "dbos", "streamlit", "fastapi", "alembic"}


@pytest.mark.parametrize(
    "module",
    [
        "voxelight",
        "voxelight.app.cli",
        "voxelight.app.services",
        "voxelight.medseg.recipes",
        "voxelight.models.registry",
        "voxelight.models.values",
        "voxelight.neuro.recipes",
    ],
)
def test_listing_and_asking_load_no_network(loaded_by, module):
    assert not loaded_by(module) & (NETWORKS | PAGES)


def test_the_api_loads_no_network(loaded_by):
    assert not loaded_by("voxelight.app.api") & NETWORKS


def test_help_needs_no_database(loaded_by):
    assert not loaded_by("voxelight.app.cli") & SERVICE


@pytest.mark.parametrize(
    "module", ["voxelight.medseg.train_folds", "voxelight.medseg.segment", "voxelight.neuro.folds"]
)
def test_the_pipelines_run_without_the_service(loaded_by, module):
    assert not loaded_by(module) & SERVICE


def test_the_client_loads_no_network_and_nothing_of_the_service(loaded_by):
    assert not loaded_by("voxelight.app.client") & (NETWORKS | PAGES | SERVICE | {"numpy", "scipy", "nibabel"})
