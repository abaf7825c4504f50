"""Betas mapped into memory."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.voxels import open_voxels

TABLE = np.random.default_rng(0).normal(size=(7, 5))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_rows_are_those_of_the_file(tmp_path, dtype, suffix):
    path, table = tmp_path / f"betas{suffix}", TABLE.astype(dtype)
    if suffix == ".npy":
        np.save(path, table)
    else:
        save_file({"other": np.ones(3), "betas": table}, str(path))
    found = open_voxels(path)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert found.dtype == dtype
    np.testing.assert_array_equal(found[np.array([6, 1])], table[[6, 1]])


def test_what_is_no_table_of_betas_is_refused(tmp_path):
    with pytest.raises(NotFound, match="no file"):
        open_voxels(tmp_path / "none.npy")
    np.save(tmp_path / "whole.npy", np.ones((2, 3), int))
    with pytest.raises(BadInput, match="floating"):
        open_voxels(tmp_path / "whole.npy")
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(BadInput, match="can't be read"):
        open_voxels(tmp_path / "object.npy")
    save_file({"x": TABLE}, str(tmp_path / "x.safetensors"))
    with pytest.raises(NotFound, match="no table 'betas'"):
        open_voxels(tmp_path / "x.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(BadInput, match="header"):
        open_voxels(tmp_path / "cut.safetensors")
