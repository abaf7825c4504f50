"""Examples of every layout, written once for all tests that only read them."""

import numpy as np
import pytest

from voxelight.models.values import Stimuli
from voxelight.neuro.simulation import DesignOptions, StimuliSet, SubjectOptions
from voxelight.storage.formats.fmri.examples.example import make_example, write_pictures
from voxelight.storage.formats.fmri.examples.write import WRITERS, write_example
from voxelight.storage.formats.simulated import Make, write_simulated


@pytest.fixture(scope="session")
def example():
    return make_example()


@pytest.fixture(scope="session")
def examples(tmp_path_factory, example):
    """Layout -> folder."""
    folders = {}
    for layout in WRITERS:
        folders[layout] = tmp_path_factory.mktemp(layout)
        write_example(layout, folders[layout])
    folders["simulated"] = tmp_path_factory.mktemp("simulated")
    pictures = Stimuli(np.ascontiguousarray(example.stimuli.images), example.stimuli.ids)
    design = DesignOptions(pictures=24, shared=8, trials=24, runs=2)
    make = Make(subjects=(1,), sessions=3, design=design, options=SubjectOptions(voxels=200))
    write_simulated(folders["simulated"], StimuliSet(pictures), make)
    write_pictures(folders["simulated"] / "pictures", example)
    return folders
