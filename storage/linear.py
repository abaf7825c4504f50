"""Fitted linear decoders, and targets to fit them to, on disk: plain arrays that are mapped, not read."""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from voxelight.models.decoders.ridge import RidgeDecoder
from voxelight.models.errors import BadInput, Conflict, NotFound

if TYPE_CHECKING:
    from voxelight.neuro.linear.fit import LinearDecoder, MakeRoom

_FACTS, _VOXELS = "linear.json", "voxels.npz"


class SpaceFacts(BaseModel):
    """One fitted space: shape of a target, and distinct penalties."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, ...]
    alphas: tuple[float, ...]


class LinearFacts(BaseModel):
    """What is known of a fitted linear decoder.

    Parameters
    ----------
    recipe : name of the published system
    spaces : space -> SpaceFacts
    voxels, trials, stimuli : of the training betas
    rescaled : whether predictions have the spread of training targets
    simulated : whether the betas were
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    spaces: dict[str, SpaceFacts]
    voxels: int
    trials: int
    stimuli: int
    rescaled: bool
    simulated: bool = False


def write_linear(folder: Path, fit: "Callable[[MakeRoom], tuple[LinearDecoder, LinearFacts]]") -> LinearFacts:
    """Fit into a folder, whole or not at all.

    Parameters
    ----------
    folder : must not be there
    fit : given what makes room for coefficients, returns the decoder and what is known of it

    Raises
    ------
    Conflict
        The folder is there.
    """
    with _Stage(folder) as stage:
        decoder, facts = fit(lambda space, shape: _room(stage.path / f"{space}.npy", shape, np.float16))
        np.savez(stage.path / _VOXELS, mean=decoder.mean, spread=decoder.spread)
        for space, ridge in decoder.decoders.items():
            scale = np.ones(len(ridge.intercept)) if ridge.scale is None else ridge.scale
            np.savez(stage.path / f"{space}.npz", intercept=ridge.intercept, alphas=ridge.alphas, scale=scale)
        (stage.path / _FACTS).write_text(facts.model_dump_json(indent=2))
    return facts


def open_linear(folder: Path) -> "tuple[LinearDecoder, LinearFacts]":
    """Open a fitted linear decoder; its coefficients stay on the disk.

    Raises
    ------
    NotFound
        There is none.
    """
    from voxelight.neuro.linear.fit import LinearDecoder

    if not (folder / _FACTS).is_file():
        raise NotFound(f"no linear decoder in {folder}", "a folder that voxelight linear fit wrote", "Fit one first.")
    facts = LinearFacts.model_validate_json((folder / _FACTS).read_text())
    decoders = {}
    for space, known in facts.spaces.items():
        coefficients = np.load(folder / f"{space}.npy", mmap_mode="r")
        with np.load(folder / f"{space}.npz") as found:
            decoders[space] = RidgeDecoder(
                coefficients.T, found["intercept"], found["alphas"], known.shape, found["scale"]
            )
    with np.load(folder / _VOXELS) as voxels:
        return LinearDecoder(voxels["mean"], voxels["spread"], decoders), facts


def write_targets(
    folder: Path, ids: Sequence[str], shape: Sequence[int], blocks: Iterable[NDArray[Any]], made_by: str
) -> None:
    """Write targets of pictures in half precision, whole or not at all.

    Parameters
    ----------
    folder : must not be there
    ids : of the pictures
    shape : of one target
    blocks : targets in the order of the pictures, arrays (picture, ...)
    made_by : what made them

    Raises
    ------
    Conflict
        The folder is there.
    BadInput
        A value is beyond half precision, or there are not as many as pictures.
    """
    with _Stage(folder) as stage:
        room, row = _room(stage.path / "values.npy", (len(ids), *shape), np.float16), 0
        for block in blocks:
            largest = float(np.abs(block).max(initial=0.0))
            if not largest <= np.finfo(np.float16).max:
                raise BadInput(
                    f"a target of {largest}", "finite values that half precision holds", "Scale the targets down."
                )
            room[row : row + len(block)] = block.reshape(len(block), *shape)
            row += len(block)
        if row != len(ids):
            raise BadInput(f"{row} targets for {len(ids)} pictures", "one each", "Make them again.")
        (stage.path / "targets.json").write_text(json.dumps({"made_by": made_by, "ids": list(ids)}))


def open_targets(folder: Path) -> tuple[NDArray[Any], list[str]]:
    """Open targets and the ids of their pictures; the values stay on the disk.

    Raises
    ------
    NotFound
        There are none.
    """
    if not (folder / "targets.json").is_file():
        raise NotFound(f"no targets in {folder}", "a folder that voxelight linear targets wrote", "Make them first.")
    return np.load(folder / "values.npy", mmap_mode="r"), json.loads((folder / "targets.json").read_text())["ids"]


def read_stimulus_list(path: Path, trials: int) -> list[str]:
    """Read the stimulus of each trial: a line each, or a ``.npy`` of numbers or texts.

    Raises
    ------
    BadInput
        There is not one a trial.
    """
    try:
        found = (
            [str(one) for one in np.load(path, allow_pickle=False).ravel().tolist()]
            if path.suffix == ".npy"
            else path.read_text("utf-8").splitlines()
        )
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{path.name}, which can't be read ({error})", "a stimulus a line", "Save it again.") from error
    if len(found) != trials or not all(one.strip() for one in found):
        raise BadInput(
            f"{len(found)} stimuli in {path.name} for {trials} trials", "one each", "List them as the trials come."
        )
    return found


class _Stage:
    """A folder that takes its name when it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder.with_name(f".writing-{folder.name}")

    def __enter__(self) -> "_Stage":
        if self._folder.exists():
            raise Conflict(f"a folder {self._folder}", "none yet", "Name another, or move this one away.")
        shutil.rmtree(self.path, ignore_errors=True)  # of a run that was killed
        self.path.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.path.rename(self._folder)
        shutil.rmtree(self.path, ignore_errors=True)


def _room(path: Path, shape: tuple[int, ...], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    room: NDArray[Any] = np.lib.format.open_memmap(path, "w+", dtype, shape)
    return room
