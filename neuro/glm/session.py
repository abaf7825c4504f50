"""A session from BOLD to betas: choose once over all runs, then estimate run by run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from voxelight.neuro.glm.choices import Choices
from voxelight.neuro.glm.choose import (
    Repeats,
    Step,
    add_components,
    blocks,
    choose_count,
    choose_responses,
    estimate_fractions,
    predict_held_out,
    without,
)
from voxelight.neuro.glm.design import Run, reference_duration
from voxelight.neuro.glm.frames import Frame, make_frame, make_frames
from voxelight.neuro.glm.hrf import CANONICAL, Hrf, list_responses
from voxelight.neuro.glm.options import GlmOptions
from voxelight.neuro.glm.solve import solve_all, solve_ridge, solve_separately

Floats = NDArray[np.floating[Any]]

_COUNT_FRACTION = (0.3,)  # at which numbers of components are compared
_POOL_AT_LEAST, _POOL_SHARE = 30, 0.25
_COMPARED = 2000  # voxels on which numbers of components are compared
_RESPONDS = 3.0  # log-likelihood above that of no response: strong evidence (Kass and Raftery 1995)


def responses_of(options: GlmOptions) -> tuple[Hrf, ...]:
    """Return the responses among which the options choose."""
    return list_responses() if options.hrf == "library" else (CANONICAL,)


def choose_for_session(runs: Sequence[Run], options: GlmOptions, step: Step = lambda what, share: None) -> Choices:
    """Choose response, noise components and shrinkage for each voxel of a session.

    Parameters
    ----------
    runs : of one session, the same voxels in each
    options : GlmOptions
    step : called after each block of voxels with what is done and its share; what it raises ends the choice

    Raises
    ------
    BadInput
        Runs can't be estimated as asked.
    """
    # Most products are a trial or a voxel wide: threads would only wait for each other.
    with threadpool_limits(1):
        return _choose(make_frames(runs, responses_of(options), options), options, step)


def _choose(frames: Sequence[Frame], options: GlmOptions, step: Step) -> Choices:
    repeats = Repeats(frames)
    notes = [f"{frame.run.name}: {frame.left_out} trials left out, whose responses the end of the run cut off"
             for frame in frames if frame.left_out]  # fmt: skip
    notes += [f"{frame.run.name}: {frame.run.non_steady} volumes at the start left out, not at steady magnetisation"
              for frame in frames if frame.run.non_steady]  # fmt: skip
    likely = choose_responses(frames, 0, options.block_voxels, step)
    pool, answers = _find_pool(likely.gain)
    scores: Floats = np.zeros(0)
    count = 0
    refusal = _refuse_choice(len(frames), repeats) if options.denoise or options.estimate == "ridge" else ""
    if refusal:
        notes.append(f"noise components and shrinkage skipped: {refusal}")
    elif options.denoise and (reason := _refuse_components(likely.gain, answers)):
        notes.append(f"noise components skipped: {reason}")
    elif options.denoise:
        frames = add_components(frames, pool, _most_components(frames, options), options.block_voxels)
        scores = _score_counts(frames, likely.response, answers, repeats, options, step)
        count = choose_count(scores)
    if count and options.hrf == "library":
        likely = choose_responses(frames, count, options.block_voxels, step)
    estimate = "lss" if refusal and options.estimate == "ridge" else options.estimate
    if estimate != options.estimate:
        notes.append("each trial was estimated against the sum of the others (LSS), as overlapping trials need")
    fraction, by_fraction, scale, offset = _choose_fractions(frames, likely.response, count, repeats, options, step,
                                                             shrink=not refusal)  # fmt: skip
    return Choices(
        likely.response, likely.gain, likely.r2, pool & (count > 0),
        count, scores, fraction, by_fraction, scale, offset,
        estimate, tuple(notes),
    )  # fmt: skip


def _find_pool(gain: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which voxels give noise components and which have a response.

    Where too few are without a response, as in a mask of visual cortex, those with the least of it give them; that this
    helps is seen on held-out runs, or it is left.
    """
    answers = gain >= _RESPONDS
    pool = ~answers & np.isfinite(gain)
    if pool.sum() < _POOL_AT_LEAST:
        pool = np.isfinite(gain) & (gain <= np.quantile(gain, _POOL_SHARE))
    return pool, answers


def _refuse_components(gain: Floats, answers: NDArray[np.bool_]) -> str:
    if not answers.any():
        return "no voxel has a response"
    if len(gain) < _POOL_AT_LEAST / _POOL_SHARE:
        return f"{len(gain)} voxels are too few to take them from"
    return ""


def _refuse_choice(runs: int, repeats: Repeats) -> str:
    """Say why nothing can be chosen on held-out runs; empty where it can."""
    if runs < 2:
        return "there is one run, and choosing them takes a run to hold out"
    if not repeats.stimuli:
        return "no stimulus was shown in two runs, and choosing them takes repeats"
    return ""


def _most_components(frames: Sequence[Frame], options: GlmOptions) -> int:
    spare = min(frame.free - frame.designs[0].shape[1] for frame in frames)
    return int(max(0, min(options.components, spare // 2)))


def _score_counts(
    frames: Sequence[Frame],
    responses: NDArray[np.intp],
    answers: NDArray[np.bool_],
    repeats: Repeats,
    options: GlmOptions,
    step: Step,
) -> Floats:
    """Return the median over voxels with a response of how well held-out runs are predicted, by number taken out."""
    numbers = np.flatnonzero(answers)
    numbers = numbers[:: -(-len(numbers) // _COMPARED)]
    counts = range(frames[0].components.shape[1] + 1)
    parts = []
    for start in range(0, len(numbers), options.block_voxels):
        block = numbers[start : start + options.block_voxels]
        signals = [frame.load(block) for frame in frames]
        betas = np.stack(
            [
                np.concatenate(
                    [
                        estimate_fractions(frame, signal, responses[block], count, np.array(_COUNT_FRACTION))[:, 0]
                        for frame, signal in zip(frames, signals, strict=True)
                    ]
                )
                for count in counts
            ],
            axis=1,
        )
        parts.append(predict_held_out(frames, signals, responses[block], betas, repeats))
        step("noise components", min(1.0, (start + len(block)) / len(numbers)))
    return np.asarray(np.median(np.concatenate(parts, axis=1), axis=1))


def _choose_fractions(
    frames: Sequence[Frame],
    responses: NDArray[np.intp],
    count: int,
    repeats: Repeats,
    options: GlmOptions,
    step: Step,
    shrink: bool,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return fraction, scores of all fractions, scale and offset of each voxel."""
    voxels = len(responses)
    if options.estimate != "ridge" or not shrink:
        return np.ones(voxels), np.zeros((0, voxels)), np.ones(voxels), np.zeros(voxels)
    fractions = np.array(options.fractions)
    parts = []
    for block in blocks(frames, options.block_voxels):
        signals = [frame.load(block) for frame in frames]
        chosen = responses[block]
        betas = np.concatenate(
            [estimate_fractions(frame, signal, chosen, count, fractions)
             for frame, signal in zip(frames, signals, strict=True)]
        )  # fmt: skip
        scores = predict_held_out(frames, signals, chosen, betas, repeats)
        best = scores.argmax(0)
        shrunk, unshrunk = betas[:, best, np.arange(len(best))], betas[:, -1]
        parts.append((fractions[best], scores, *_match(shrunk, unshrunk)))
        step("shrinkage", block.stop / voxels)
    return (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts], axis=1),
        np.concatenate([part[2] for part in parts]),
        np.concatenate([part[3] for part in parts]),
    )


def _match(shrunk: Floats, unshrunk: Floats) -> tuple[Floats, Floats]:
    """Return scale and offset by which shrunk betas come closest to unshrunk ones, voxel by voxel."""
    mean, target = shrunk.mean(0), unshrunk.mean(0)
    variance = ((shrunk - mean) ** 2).sum(0)
    cross = ((shrunk - mean) * (unshrunk - target)).sum(0)
    scale = np.divide(cross, variance, out=np.ones_like(cross), where=variance > 0)
    return scale, target - scale * mean


def estimate_run(
    runs: Sequence[Run],
    number: int,
    choices: Choices,
    options: GlmOptions,
    step: Step = lambda what, share: None,
) -> tuple[NDArray[np.float32], Frame]:
    """Estimate the betas of one run by what was chosen for its session.

    Parameters
    ----------
    runs : of the session, whether they took part in the choice or not
    number : of the run among them
    choices : Choices
    options : GlmOptions
    step : called after each block of voxels

    Returns
    -------
    array (trial, voxel), percent of the mean signal or as the signal; Frame by which they were estimated, whose run has
    the trials that were
    """
    with threadpool_limits(1):
        frame = make_frame(runs[number], responses_of(options), reference_duration(runs), options)
        if choices.count:
            [frame] = add_components([frame], choices.pool, choices.count, options.block_voxels)
    betas = np.zeros((len(frame.run.events.onsets), frame.run.bold.shape[1]), dtype=np.float32)
    for block in blocks([frame], options.block_voxels):
        with threadpool_limits(1):
            betas[:, block] = _estimate(frame, block, choices)
        step(frame.run.name, block.stop / betas.shape[1])
    return betas, frame


def _estimate(frame: Frame, block: slice, choices: Choices) -> Floats:
    signal = without(frame, frame.load(block), choices.count)
    betas = np.empty((len(frame.run.events.onsets), signal.shape[1]))
    for response in np.unique(choices.response[block]):
        of = np.flatnonzero(choices.response[block] == response)
        design = frame.find_design(int(response), choices.count)
        betas[:, of] = _solve(design, signal[:, of], choices, block.start + of)
    return betas


def _solve(design: Floats, signal: Floats, choices: Choices, voxels: NDArray[np.intp]) -> Floats:
    if choices.estimate == "lss":
        return solve_separately(design, signal)
    if choices.estimate == "lsa":
        return solve_all(design, signal)
    found = np.empty((design.shape[1], len(voxels)))
    for fraction in np.unique(choices.fraction[voxels]):
        of = np.flatnonzero(choices.fraction[voxels] == fraction)
        found[:, of] = solve_ridge(design, signal[:, of], np.array([fraction]))[:, 0]
    return found * choices.scale[voxels] + choices.offset[voxels]


def fit_session(
    runs: Sequence[Run], options: GlmOptions, step: Step = lambda what, share: None
) -> tuple[NDArray[np.float32], list[Run], Choices]:
    """Choose for a session and estimate all of its runs.

    Returns
    -------
    array (trial, voxel), trials of all runs one after the other; list of Run with the trials that were estimated;
    Choices
    """
    choices = choose_for_session(runs, options, step)
    parts = [estimate_run(runs, number, choices, options, step) for number in range(len(runs))]
    return np.concatenate([part[0] for part in parts]), [part[1].run for part in parts], choices
