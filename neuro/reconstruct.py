"""From betas, or from tokens, to images and captions: all stages, image by image independent of its batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from voxelight.models.errors import BadInput
from voxelight.models.values import ClipTokens
from voxelight.neuro import stages
from voxelight.neuro.generate import count_image_steps, generate
from voxelight.neuro.memory import TOKEN_BATCH, explain_shortage
from voxelight.neuro.networks import Networks
from voxelight.neuro.profiles import GenerationOptions, check_trials
from voxelight.neuro.run import Arrays, Item, OnStep, Progress, Run, StageCache, derive_seed

Floats = NDArray[np.float32]

_DECODERS = ("decoder", "low_level")


@dataclass(frozen=True, eq=False)
class Decoded:
    """What one trial and one seed give; what lies beyond the stop is None.

    Parameters
    ----------
    seed : that every random draw of this result came from
    space : of the tokens
    tokens : array (token, dim), of the diffusion prior; of several candidates, those of the chosen image
    retrieval : array (token, dim), to be compared with those of images; None where the run began from tokens
    blurry : array (h, w, 3) in [0, 1], of the low-level branch; None without one
    unrefined, refined : array (side, side, 3) in [0, 1]
    image : array (result_side, result_side, 3) in [0, 1], the result: refined and blended, or unrefined where the
        run stops there
    caption : in words
    weights_sha256 : of all weights that were loaded
    random_weights : whether they are random, so that the result shows the working of the pipeline and nothing else
    """

    seed: int
    space: str
    tokens: Floats
    retrieval: Floats | None
    blurry: Floats | None
    unrefined: Floats | None
    refined: Floats | None
    image: Floats | None
    caption: str | None
    weights_sha256: str
    random_weights: bool


def reconstruct(
    networks: Networks,
    trials: Sequence[Floats],
    seeds: Sequence[int],
    options: GenerationOptions,
    on_step: OnStep | None = None,
    cache: StageCache | None = None,
) -> list[Decoded]:
    """Reconstruct what was seen.

    Parameters
    ----------
    networks : Networks, loaded for at least these options
    trials : one array (repeat, voxel) an image, normalised betas; the outputs of repeats are averaged as published
    seeds : one a trial
    options : GenerationOptions
    on_step : called with (steps done, steps in all) before every denoising step and between stages; what it raises
        ends the run
    cache : where tokens and unrefined images are looked up and kept

    Returns
    -------
    list of Decoded, `options.samples` for each trial in turn
        A result depends on its own betas and seed, not on its neighbours or the batch. On one device, tokens and
        captions are the same to the bit. Images, of which 1 is white, are so to 1e-4 in float32; in bfloat16 single
        pixels differed by up to 0.04 between batches, by rounding alone (random weights).

    Raises
    ------
    BadInput
        Betas that the decoder can't take, another number of seeds, or networks that do not reach the stop.
    Unavailable
        The device ran out of memory.
    """
    check_trials(networks.profile, trials)
    options = networks.profile.limit(options)
    decoders = [part for part in _DECODERS if part in networks.profile.parts]
    sources = [_hash(networks.hash_parts(decoders), np.ascontiguousarray(betas, "<f4")) for betas in trials]
    run = Run(networks, options, _items(sources, seeds, options), cache)
    known = [run.look_up("tokens", item) for item in run.items]
    missing = [number for number, entry in enumerate(known) if entry is None]
    steps = options.prior_steps or networks.profile.prior_steps
    unrefined = run.look_up_unrefined()
    candidates = networks.profile.count_candidates(options)
    calls = stages.count_prior_calls(networks, steps) * run.count_batches(len(missing), TOKEN_BATCH) * candidates
    progress = Progress(on_step, calls + count_image_steps(run, unrefined))
    with explain_shortage(networks.plan), networks.on_device(*decoders):
        for some in run.batches(missing, TOKEN_BATCH):
            progress.check()
            brain = stages.decode_voxels(networks, [trials[run.items[number].image] for number in some])
            tokens = [
                stages.sample_tokens(networks, brain.tokens, run.seeds(some, candidate), steps, progress.advance)
                for candidate in range(candidates)
            ]
            for row, number in enumerate(some):
                entry = {"tokens": tokens[0][row].numpy(), "retrieval": brain.retrieval[row].numpy()}
                if candidates > 1:
                    entry["candidates"] = np.stack([drawn[row].numpy() for drawn in tokens])
                if brain.blurry_latent is not None:
                    entry["blurry_latent"] = brain.blurry_latent[row].numpy()
                known[number] = run.keep("tokens", run.items[number], entry)
    return _assemble(run, [entry for entry in known if entry is not None], unrefined, progress)


def reconstruct_tokens(
    networks: Networks,
    tokens: ClipTokens,
    seeds: Sequence[int],
    options: GenerationOptions,
    on_step: OnStep | None = None,
    cache: StageCache | None = None,
) -> list[Decoded]:
    """Generate from tokens that another decoder predicted, or that an image has. Nothing is blended in.

    Parameters
    ----------
    networks : Networks with the parts up to the stop, `decoder` not needed
    tokens : ClipTokens (image, token, dim) of the profile's space
    seeds, options, on_step, cache : as for `reconstruct`

    Raises
    ------
    BadInput
        Tokens of another space, shape, or not finite; another number of seeds.
    Unavailable
        The device ran out of memory.
    """
    _check_tokens(networks, tokens)
    options = networks.profile.limit(options)
    values = np.ascontiguousarray(tokens.values, "<f4")
    run = Run(networks, options, _items([_hash("tokens", one) for one in values], seeds, options), cache)
    unrefined = run.look_up_unrefined()
    progress = Progress(on_step, count_image_steps(run, unrefined))
    return _assemble(run, [{"tokens": values[item.image]} for item in run.items], unrefined, progress)


def _assemble(
    run: Run, entries: Sequence[Arrays], unrefined: Sequence[Arrays | None], progress: Progress
) -> list[Decoded]:
    with explain_shortage(run.networks.plan):
        made = generate(run, entries, unrefined, progress)
    profile = run.networks.profile
    return [
        Decoded(
            seed=item.seed,
            space=profile.space,
            tokens=np.asarray(entry["tokens"] if made.tokens is None else made.tokens[number], np.float32),
            retrieval=np.asarray(entry["retrieval"], np.float32) if "retrieval" in entry else None,
            blurry=_picture(made.blurry, number),
            unrefined=_picture(made.unrefined, number),
            refined=_picture(made.refined, number),
            image=_picture(made.image, number),
            caption=None if made.captions is None else made.captions[number],
            weights_sha256=run.networks.weights_sha256,
            random_weights=profile.random_weights,
        )
        for number, (item, entry) in enumerate(zip(run.items, entries, strict=True))
    ]


def _picture(images: Tensor | None, number: int) -> Floats | None:
    """Return one image (h, w, 3) of a tensor (image, 3, h, w)."""
    return None if images is None else np.ascontiguousarray(images[number].permute(1, 2, 0).numpy(), np.float32)


def _items(sources: Sequence[str], seeds: Sequence[int], options: GenerationOptions) -> list[Item]:
    if len(seeds) != len(sources) or not sources:
        raise BadInput(
            f"{len(seeds)} seeds for {len(sources)} images", "one each, at least one", "Give every image one."
        )
    return [
        Item(image, derive_seed(int(seed), sample), source)
        for image, (source, seed) in enumerate(zip(sources, seeds, strict=True))
        for sample in range(options.samples)
    ]


def _hash(prefix: str, values: NDArray[Any]) -> str:
    return hashlib.sha256(f"{prefix} {values.shape}".encode() + values.tobytes()).hexdigest()


def _check_tokens(networks: Networks, tokens: ClipTokens) -> None:
    profile = networks.profile
    if tokens.space != profile.space:
        raise BadInput(
            f"tokens of the space {tokens.space}",
            f"tokens of {profile.space}, which {profile.name} generates from",
            "Predict tokens of this space, or choose the profile that was made for theirs.",
        )
    decoder = profile.parts["decoder"].build_config()
    expected = (decoder.tokens, decoder.dim)
    if tokens.values.shape[1:] != expected or not bool(np.isfinite(tokens.values).all()):
        raise BadInput(
            f"tokens of shape {tokens.values.shape}, "
            f"{int(np.count_nonzero(~np.isfinite(tokens.values)))} of their values not finite",
            f"finite values of shape (image, {expected[0]}, {expected[1]})",
            "Take the whole token sequence without the class token.",
        )
