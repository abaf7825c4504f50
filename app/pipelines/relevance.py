"""Where in the brain the decoder of a finished job looks, as maps on the grid of its betas and as pictures."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors

from voxelight.app.actions import NO_GRID
from voxelight.app.pipelines.decode import DecodeOptions
from voxelight.app.pipelines.evaluated import FEWEST, open_job
from voxelight.app.pipelines.inputs import BetasInput, read_betas
from voxelight.app.pipelines.outputs import PNG
from voxelight.app.pipelines.profiles import find_decoding_profile, standardise_betas
from voxelight.app.pipelines.reconstruct import find_recipe_of
from voxelight.app.provenance import find_device, find_revision
from voxelight.app.schemas import DECODING_NOTICE
from voxelight.app.schemas_exports import RelevanceRequest
from voxelight.models.errors import BadInput
from voxelight.models.values import Betas, Geometry
from voxelight.neuro.betas import average_repeats
from voxelight.neuro.folds import plan_folds, prepare_fold
from voxelight.neuro.relevance import agree, draw_null, find_gradients, find_involvement, place
from voxelight.storage.formats.maps import encode_map, is_mni152, make_image
from voxelight.storage.formats.nifti import read_mask
from voxelight.storage.queries import find_row
from voxelight.storage.results import JobOutcome, OutputFile, read_output
from voxelight.storage.schema import Job, Run, Scan
from voxelight.storage.stores import Stores

_DRAWS = 199
_NIFTI = "application/gzip"


@dataclass(frozen=True, eq=False)
class Found:
    """What was found of every voxel.

    Parameters
    ----------
    maps : name -> array (voxel,); the first is the one that is drawn
    title : of the picture
    method : how the first was made, in a sentence
    facts : what else is to be known
    notes : what limits it
    """

    maps: dict[str, NDArray[np.float64]]
    title: str
    method: str
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def make_relevance(stores: Stores, job_id: uuid.UUID, options: dict[str, Any], device: str) -> JobOutcome:
    """Map where the decoder of a finished job looks.

    Parameters
    ----------
    stores : where the job lies
    job_id : which
    options : fields of `RelevanceRequest`
    device : where to compute

    Raises
    ------
    BadInput
        The betas have no grid, or there are too few stimuli.
    NotFound, Conflict, Refused
        As `evaluated.open_job`.
    """
    request = RelevanceRequest(**options)
    with stores.sessions() as session:
        job, runs = open_job(session, job_id)
        inputs = BetasInput(**job.params["inputs"])
        if inputs.mask is None:
            raise BadInput(*NO_GRID)
        mask = find_row(session, Scan, inputs.mask)
        with stores.blobs.local_file(mask.blob_sha256, mask.name) as path:
            inside, geometry = read_mask(path)
            mni152 = is_mni152(path) if request.space is None else request.space == "MNI152"
        betas, _ = read_betas(session, stores, inputs, job.dataset.simulated)
        if job.kind == "reconstruct":
            found = _map_recipe(stores, job, runs, betas)
        else:
            found = _map_profile(stores, job, runs, betas, find_device(device))
        files = _draw(found, inside, geometry, mni152, job.dataset.simulated)
        return JobOutcome((*files, _describe(job, found, inside, mni152)))


def _map_recipe(stores: Stores, job: Job, runs: list[Run], betas: Betas) -> Found:
    """Correlate held-out betas with what the decoders of the job, which had not seen them, made of them."""
    recipe = find_recipe_of(job)
    by_key = {run.item_key: run.id for run in runs}
    rows, decoded = [], []
    for fold in plan_folds(betas, recipe):
        _, test = prepare_fold(betas, fold, recipe)
        predictions = load_tensors(read_output(stores, by_key[fold.key], "prediction"))["predictions"]
        rows.append(test.values)
        decoded.append(predictions.reshape(len(predictions), -1))
    X, S = np.concatenate(rows), np.concatenate(decoded)
    if len(X) < FEWEST:
        raise BadInput(f"{len(X)} held-out stimuli", f"{FEWEST} or more", "Decode more stimuli.")
    null = draw_null(X, S, _DRAWS, recipe.seed)
    involved = find_involvement(X, S)
    level = float(np.quantile(null, 0.95))
    return Found(
        maps={"pattern": involved},
        title="Where the decoder looks: correlation of each voxel with what is decoded",
        method="Root mean square over targets of the correlation between held-out voxel and decoded target, weighted "
        "by the decoded variance: patterns of Haufe et al. (2014), NeuroImage 87:96, each target by itself.",
        facts={
            "stimuli": len(X),
            "agreement": agree([find_involvement(X[half::2], S[half::2]) for half in (0, 1)]),
            "null_95": level,
            "voxels_above_null_95": int((involved > level).sum()),
        },
        notes=(
            f"With whole stimuli permuted, the largest voxel reaches {level:.3f} in 5 % of {_DRAWS} draws; "
            f"{int((involved > level).sum())} voxels lie above.",
            "A voxel's own noise enters what is decoded, so a voxel above that level need not hold information.",
            "It is a pattern and no weight: a weight may be large only to cancel noise of other voxels.",
        ),
    )


def _map_profile(stores: Stores, job: Job, runs: list[Run], betas: Betas, device: str) -> Found:
    """Differentiate the network from betas to the tokens that are compared with pictures."""
    from voxelight.neuro.networks import load_networks

    options = DecodeOptions(**job.params["options"])
    profile = find_decoding_profile(stores.weights, job.recipe, options.subject)
    betas, _ = standardise_betas(stores.weights, job.recipe, options.subject, betas)
    small = options.generation.model_copy(update={"stop": "tokens", "dtype": "float32", "batch": None})
    networks = load_networks(profile, stores.weights, small, device, parts=("decoder",))
    decoder = networks.parts["decoder"]
    wanted = {run.item_key for run in runs}
    means = average_repeats(betas)
    rows = np.array([name in wanted for name in means.stimulus_ids.tolist()])
    with networks.on_device("decoder"):
        gradients, _ = find_gradients(lambda some: decoder(some[:, None]).retrieval, means.values[rows], device)
    involved = np.abs(gradients).mean(0)
    random = ("RANDOM WEIGHTS: nothing was learnt, so this map shows the working of the software and nothing else.",)
    return Found(
        maps={"gradient": involved},
        title="Where the decoder looks: input times gradient" + " (RANDOM WEIGHTS)" * profile.random_weights,
        method="Mean over stimuli of |x ∂s/∂x|, s being how far the retrieval tokens go in the direction "
        "from the mean of all stimuli to this one (Shrikumar et al. 2017); betas are means over trials.",
        facts={
            "stimuli": int(rows.sum()),
            "agreement": agree([np.abs(gradients[::2]).mean(0), np.abs(gradients[1::2]).mean(0)]),
        },
        notes=(
            *(random if profile.random_weights else ()),
            "A gradient says what the network is sensitive to, not where the brain holds the information.",
        ),
    )


def _draw(
    found: Found, inside: NDArray[np.bool_], geometry: Geometry, mni152: bool, simulated: bool
) -> tuple[OutputFile, ...]:
    from voxelight.app.pipelines.relevance_pictures import draw_glass_brain, draw_projections, draw_surface

    images = {name: make_image(place(values, inside), geometry, mni152) for name, values in found.maps.items()}
    files = [
        OutputFile("relevance_map", f"relevance_{name}.nii.gz", _NIFTI, encode_map(image))
        for name, image in images.items()
    ]
    shown = next(iter(images.values()))
    marks = "SIMULATED data: nobody was scanned." if simulated else ""
    if mni152:
        mask = make_image(inside.astype(np.float32), geometry, mni152)
        pictures = {
            "glass": draw_glass_brain(shown, found.title, marks),
            "surface": draw_surface(shown, mask, found.title, marks),
        }
    else:
        foot = (
            "In the space of the betas, which is not known to be MNI152: so neither glass brain nor surface. "
            f"Pale: mask. Largest value along each line of sight. {marks}"
        )
        values = np.asarray(shown.dataobj, np.float32)
        pictures = {"native": draw_projections(values, inside, geometry, (found.title, foot))}
    files += [OutputFile("relevance", f"relevance_{name}.png", PNG, content) for name, content in pictures.items()]
    return tuple(files)


def _describe(job: Job, found: Found, inside: NDArray[np.bool_], mni152: bool) -> OutputFile:
    first = next(iter(found.maps.values()))
    content = {
        "job": str(job.id),
        "recipe": job.recipe,
        "method": found.method,
        "space": "MNI152" if mni152 else "native",
        "voxels": int(inside.sum()),
        "largest": float(first.max()),
        **found.facts,
        "simulated": job.dataset.simulated,
        "random_weights": bool(job.model.config.get("random_weights", False)),
        "made by": find_revision(),
        "notes": list(found.notes),
        "notice": DECODING_NOTICE,
    }
    return OutputFile("relevance_facts", "relevance.json", "application/json", json.dumps(content, indent=2).encode())
