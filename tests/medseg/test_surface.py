"""Surfaces of labels, beside what they were cut from and what trimesh reads back."""

import io

import numpy as np
import pytest
import trimesh

from voxelight.medseg.surface import make_surfaces
from voxelight.models.values import Geometry, LabelMap
from voxelight.storage.formats.meshes import encode_glb, encode_stl

RADIUS_MM, MIDDLE_MM = 14.0, np.array([3.0, -8.0, 21.0])


def ball(affine, shape=(40, 44, 48)):
    index = np.stack(np.indices(shape), axis=-1)
    at = index @ affine[:3, :3].T + affine[:3, 3]
    inside = np.linalg.norm(at - MIDDLE_MM, axis=-1) < RADIUS_MM
    left = inside & (at[..., 0] < MIDDLE_MM[0])
    array = (inside.astype(np.uint8) + left).astype(np.uint8)
    return LabelMap(array, Geometry(shape, affine), {1: "right half", 2: "left half", 3: "absent"})


def grid(diagonal):
    affine = np.diag([*diagonal, 1.0])
    affine[:3, 3] = MIDDLE_MM - affine[:3, :3] @ (19.5, 21.5, 23.5)
    return affine


@pytest.mark.parametrize("diagonal", [(1, 1, 1), (-1, 1, 1), (0.9, -1.1, 1.4), (-1, -1, -1)])
def test_a_surface_encloses_the_volume_of_its_label_where_that_lies(diagonal):
    label_map = ball(grid(diagonal))
    volumes = label_map.volumes_ml()
    surfaces = make_surfaces(label_map)
    assert [surface.name for surface in surfaces] == ["right half", "left half"]
    for surface in surfaces:
        mesh = trimesh.load(io.BytesIO(encode_stl(surface)), file_type="stl")
        assert mesh.is_watertight
        assert mesh.volume / 1000 == pytest.approx(volumes[surface.name], rel=0.03), "positive: faces look outwards"
        assert surface.volume_ml == pytest.approx(mesh.volume / 1000, rel=1e-4)
        side = 1 if surface.number == 1 else -1
        expected = MIDDLE_MM + np.array([side * 3 / 8 * RADIUS_MM, 0, 0])  # middle of the mass of half a ball
        assert np.allclose(mesh.center_mass, expected, atol=0.7)


def test_one_glb_holds_every_label_by_name_in_the_colours_of_the_viewer():
    surfaces = make_surfaces(ball(grid((1, 1, 1))))
    scene = trimesh.load(io.BytesIO(encode_glb(surfaces)), file_type="glb")
    assert set(scene.geometry) == {"right half", "left half"}
    for surface in surfaces:
        mesh = scene.geometry[surface.name]
        assert mesh.volume / 1000 == pytest.approx(surface.volume_ml, rel=1e-4)
        assert len(mesh.faces) == len(surface.faces)
    colours = [tuple(scene.geometry[surface.name].visual.material.baseColorFactor) for surface in surfaces]
    assert len(set(colours)) == 2


def test_one_voxel_has_a_surface_too():
    array = np.zeros((5, 5, 5), np.uint8)
    array[0, 2, 4] = 1  # at the edge of the grid
    [surface] = make_surfaces(LabelMap(array, Geometry((5, 5, 5), np.eye(4)), {1: "dot"}))
    assert 0 < surface.volume_ml < 0.003
    assert np.allclose(surface.vertices.mean(axis=0), (0, 2, 4), atol=0.05)


def test_nothing_gives_no_surface():
    empty = LabelMap(np.zeros((4, 4, 4), np.uint8), Geometry((4, 4, 4), np.eye(4)), {1: "nothing"})
    assert make_surfaces(empty) == []
