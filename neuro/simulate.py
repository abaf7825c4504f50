"""A simulated subject: what a visual cortex of known make would answer to crops of photographs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt
from skimage import data

from voxelight.models.values import Betas, Stimuli

Floats = NDArray[np.floating[Any]]

# Files inside the scikit-image wheel: nothing is fetched. Rows of text and bare textures are left out.
PHOTOGRAPHS = (
    "astronaut",
    "camera",
    "coffee",
    "chelsea",
    "coins",
    "rocket",
    "hubble_deep_field",
    "moon",
    "retina",
    "immunohistochemistry",
    "stereo_motorcycle",
    "colorwheel",
)

# Luminance, red against green, blue against yellow: the axes that early vision answers to.
_COLOUR_AXES = np.array([[1, 1, 1], [1, -1, 0], [-0.5, -0.5, 1]]) / np.array([[3], [2], [2]])
_COLOUR_SHARES = (0.6, 0.2, 0.2)


class SimulationOptions(BaseModel):
    """Size and difficulty of the simulation.

    Parameters
    ----------
    side : pixels of a square stimulus
    crops : stimuli from each photograph, the first showing all of it
    n_voxels : voxels
    sessions : sessions, each showing every stimulus once
    noise : standard deviation of the noise of a trial, that of the response being 1
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(default=24, ge=8)
    crops: PositiveInt = 32
    n_voxels: PositiveInt = 1200
    sessions: PositiveInt = 2
    noise: NonNegativeFloat = 0.5


@dataclass(frozen=True, eq=False)
class ReceptiveFields:
    """Linear filters of the voxels.

    Parameters
    ----------
    space : array (voxel, pixel), Gaussians and Gabors
    colour : array (voxel, 3), weight of red, green and blue
    """

    space: Floats
    colour: Floats


def simulate_subject(seed: int = 0, options: SimulationOptions | None = None) -> tuple[Betas, Stimuli]:
    """Simulate a subject who looks at crops of photographs.

    Each voxel filters one colour axis by a Gaussian or a Gabor, its drive d is compressed to sign(d) |d|^0.7, and a
    trial adds Gaussian noise and the gain and offset of its session.

    Parameters
    ----------
    seed : of crops, voxels and noise
    options : SimulationOptions

    Returns
    -------
    Betas (trial, voxel), `simulated`, with the labels `session` and `group`, the photograph of each crop
    Stimuli (crop, row, column, 3)
    """
    options = options or SimulationOptions()
    crops, voxels, noise = np.random.default_rng(seed).spawn(3)
    stimuli, groups = crop_photographs(options, crops)
    responses = respond(stimuli, draw_receptive_fields(options, voxels))
    values, sessions, shown = [], [], []
    for session in range(1, options.sessions + 1):
        order = noise.permutation(len(responses))
        gain, offset = noise.uniform(0.8, 1.2), noise.normal(scale=0.5, size=options.n_voxels)
        noisy = responses[order] + options.noise * noise.normal(size=responses.shape)
        values.append(gain * noisy + offset)
        shown.append(order)
        sessions.append(np.full(len(order), f"ses-{session:02d}"))
    rows = np.concatenate(shown)
    labels = {"session": np.concatenate(sessions), "group": groups[rows]}
    betas = np.concatenate(values).astype(np.float32)
    return Betas(betas, stimuli.ids[rows], "simulated", "simulated V1", labels, simulated=True), stimuli


def crop_photographs(options: SimulationOptions, random: np.random.Generator) -> tuple[Stimuli, NDArray[np.str_]]:
    """Cut square crops, a third to nine tenths of the shorter side and half of them mirrored, out of every photograph.

    Returns
    -------
    Stimuli (crop, row, column, 3)
    groups : array (crop,), the photograph
    """
    images, ids, groups = [], [], []
    for name in PHOTOGRAPHS:
        photograph = Image.fromarray(read_photograph(name))
        width, height = photograph.size
        for number in range(options.crops):
            whole = number == 0
            side = min(width, height) if whole else round(min(width, height) * random.uniform(1 / 3, 0.9))
            share = (0.5, 0.5) if whole else random.uniform(size=2)
            left, top = ((width - side) * share[0], (height - side) * share[1])
            box = (left, top, left + side, top + side)
            crop = np.asarray(photograph.resize((options.side,) * 2, Image.Resampling.BILINEAR, box=box))
            images.append(crop[:, ::-1] if not whole and random.random() < 0.5 else crop)
            ids.append(f"{name}-{number:02d}")
            groups.append(name)
    pictures = np.stack(images).astype(np.float32) / np.float32(255)
    return Stimuli(pictures, np.asarray(ids)), np.asarray(groups)


def read_photograph(name: str) -> NDArray[np.uint8]:
    """Read a photograph that scikit-image ships.

    Parameters
    ----------
    name : one of `PHOTOGRAPHS`

    Returns
    -------
    array (row, column, 3)
    """
    picture: Any = getattr(data, name)()
    pixels: NDArray[np.uint8] = np.asarray(picture[0] if isinstance(picture, tuple) else picture)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def draw_receptive_fields(options: SimulationOptions, random: np.random.Generator) -> ReceptiveFields:
    """Draw voxels: half of them Gaussians, half Gabors, smaller near the centre of gaze, as in early visual cortex."""
    grid = np.linspace(-1, 1, options.side)
    x, y = (axis.ravel() for axis in np.meshgrid(grid, grid))
    space = np.empty((options.n_voxels, options.side**2))
    for voxel in range(options.n_voxels):
        radius, angle = np.sqrt(random.uniform()) * 1.2, random.uniform(0, 2 * np.pi)
        dx, dy = x - radius * np.cos(angle), y - radius * np.sin(angle)
        size = 0.06 + 0.12 * radius * random.uniform(0.5, 1.5)
        field = np.exp(-(dx**2 + dy**2) / (2 * size**2))
        if voxel % 2:
            turn = random.uniform(0, np.pi)
            field *= np.cos(
                2 * np.pi * (dx * np.cos(turn) + dy * np.sin(turn)) / (4 * size) + random.uniform(0, 2 * np.pi)
            )
        space[voxel] = field
    axes = random.choice(len(_COLOUR_AXES), size=options.n_voxels, p=_COLOUR_SHARES)
    return ReceptiveFields(space, _COLOUR_AXES[axes])


def respond(stimuli: Stimuli, fields: ReceptiveFields) -> Floats:
    """Return the noiseless responses, each voxel with mean 0 and standard deviation 1 over the stimuli.

    Returns
    -------
    array (stimulus, voxel)
    """
    pixels = stimuli.images.reshape(len(stimuli.ids), -1, 3).astype(np.float64)
    drive = np.einsum("spc,vp,vc->sv", pixels, fields.space, fields.colour, optimize=True)
    drive = (drive - drive.mean(0)) / drive.std(0)
    compressed = np.sign(drive) * np.abs(drive) ** 0.7
    standard: Floats = (compressed - compressed.mean(0)) / compressed.std(0)
    return standard
