"""A simulated head around the brain of the template: skull, face, nose and neck of plain shapes, tilted at will."""

import numpy as np

from voxelight.medseg.register import move
from voxelight.medseg.transforms import resample
from voxelight.models.values import Geometry, Volume
from voxelight.storage.formats.template import read_template

NOSE = np.array([0.0, 100.0, -48.0])  # its tip, mm of the template
CHIN = np.array([0.0, 80.0, -110.0])
EYES = np.array([[-32.0, 76.0, -40.0], [32.0, 76.0, -40.0]])


def simulate_head(turned: np.ndarray, spacing_mm: float = 2.0) -> tuple[Volume, np.ndarray]:
    """Return a simulated T1-weighted head and its brain (i, j, k), bool.

    Parameters
    ----------
    turned : array (4, 4), mm of the template -> mm of the head
    """
    shape = tuple(int(side / spacing_mm) for side in (180, 250, 260))
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = (-90, -135, -150)
    grid = Geometry(shape, affine)
    template = read_template()
    brain = resample(template.image.array, template.image.geometry, grid)[0]
    x, y, z = (affine[:3, :3] @ np.indices(shape).reshape(3, -1) + affine[:3, 3:]).reshape(3, *shape)
    skull = (x / 82) ** 2 + ((y + 18) / 105) ** 2 + ((z - 5) / 95) ** 2 < 1
    face = (x / 60) ** 2 + ((y - 45) / 50) ** 2 + ((z + 60) / 75) ** 2 < 1
    nose = (x / 14) ** 2 + ((y - 92) / 20) ** 2 + ((z + 48) / 24) ** 2 < 1
    neck = ((x / 55) ** 2 + ((y + 20) / 60) ** 2 < 1) & (z < -40)
    inside = brain > 40
    head = np.where(skull | face | nose | neck, 90.0, 0.0)
    fluid = (x / 70) ** 2 + ((y + 18) / 90) ** 2 + ((z - 5) / 80) ** 2 < 1
    head = np.where(inside, brain, np.where(fluid, 30.0, head))
    noise = np.random.default_rng(0).normal(0, 4, shape)
    values = np.clip(head + noise, 0, None).astype(np.float32)[np.newaxis]
    return move(Volume(values, grid), turned), inside


def tilt(degrees: float, shift_mm: tuple[float, float, float], scale: float) -> np.ndarray:
    """Return a map that nods by an angle, grows by a factor and shifts."""
    angle = np.deg2rad(degrees)
    turned = np.eye(4)
    turned[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned[:3, :3] *= scale
    turned[:3, 3] = shift_mm
    return turned
