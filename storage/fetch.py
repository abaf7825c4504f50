"""Fetch public data sets where there is a network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from voxelight.models.errors import NotFound, Unavailable
from voxelight.storage.formats.betas import read_runs
from voxelight.storage.formats.export import BetasFiles, write_betas


@dataclass(frozen=True)
class PublicData:
    """A data set that anybody may fetch.

    Parameters
    ----------
    name : as a person types it
    title, source, size : what it is, whom to cite, what is transferred
    recipe : what it can be decoded with
    fetch : folder -> files of betas, mask, events and pictures
    """

    name: str
    title: str
    source: str
    size: str
    recipe: str
    fetch: Callable[[Path], BetasFiles]


@dataclass(frozen=True)
class MiyawakiRuns:
    """nilearn's copy of Miyawaki et al. (2008): BOLD runs with label rows, and the mask of the visual cortex."""

    bolds: tuple[Path, ...]
    labels: tuple[Path, ...]
    mask: Path


def find_public_data(name: str) -> PublicData:
    """Return a public data set by name.

    Raises
    ------
    NotFound
        None has this name.
    """
    if name not in PUBLIC_DATA:
        raise NotFound(f"no public data set {name!r}", f"one of {', '.join(PUBLIC_DATA)}", "Correct the name.")
    return PUBLIC_DATA[name]


def find_betas_files(folder: Path, stem: str) -> BetasFiles | None:
    """Return what an earlier fetch left in a folder, if it is whole."""
    files = BetasFiles(
        folder / f"{stem}_betas.nii.gz",
        folder / f"{stem}_mask.nii.gz",
        folder / f"{stem}_events.tsv",
        tuple(sorted(folder.glob("*.png"))),
    )
    return files if files.pictures and all(path.is_file() for path in files.paths) else None


def fetch_miyawaki2008(folder: Path) -> BetasFiles:
    """Fetch the BOLD runs, where they are not there yet, and make betas of their blocks.

    Parameters
    ----------
    folder : the runs go into ``runs/`` below it once all are there, the betas into ``betas/``

    Raises
    ------
    Unavailable
        The data could not be fetched; nothing of them is left.
    """
    if not (folder / "runs").is_dir():
        _fetch_runs(folder)
    return make_miyawaki_betas(find_runs(folder / "runs"), folder / "betas")


def find_runs(folder: Path) -> MiyawakiRuns:
    """Return the files of a folder in nilearn's layout: ``func/``, ``label/`` and ``mask/mask.nii.gz``."""
    return MiyawakiRuns(
        tuple(sorted((folder / "func").glob("data_*_run*.nii.gz"))),
        tuple(sorted((folder / "label").glob("data_*_run*_label.csv"))),
        folder / "mask" / "mask.nii.gz",
    )


def make_miyawaki_betas(runs: MiyawakiRuns, folder: Path) -> BetasFiles:
    """Average the blocks of the runs, as the recipe `miyawaki2008-bold` says, and write the betas."""
    from voxelight.neuro.recipes import find_recipe
    from voxelight.neuro.runs import betas_from_runs

    betas, stimuli = betas_from_runs(
        read_runs(runs.bolds, runs.mask, runs.labels),
        find_recipe("miyawaki2008-bold").runs,
        subject="S1",
        roi="visual cortex",
    )
    return write_betas(folder, "miyawaki2008", betas, stimuli)


def _fetch_runs(folder: Path) -> None:
    from nilearn.datasets import fetch_miyawaki2008 as fetch

    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".fetch-", dir=folder) as stage:
        try:
            fetch(data_dir=stage, verbose=0)
        except OSError as error:  # every error of a connection is one, those of requests included
            raise Unavailable(
                f"no answer from www.nitrc.org, where nilearn fetches Miyawaki et al. (2008) ({type(error).__name__})",
                "a way to it, and 153 MB",
                "Try again with a network. Without these data, voxelight demo simulates a subject.",
            ) from error
        (Path(stage) / "miyawaki2008").rename(folder / "runs")


PUBLIC_DATA = {
    "miyawaki2008": PublicData(
        name="miyawaki2008",
        title="Responses of visual cortex to figures, letters and random patterns of 10 x 10 patches, one subject",
        source="Miyawaki et al. (2008), Neuron 60:915; nilearn's copy",
        size="153 MB",
        recipe="miyawaki2008-bold",
        fetch=fetch_miyawaki2008,
    ),
}
