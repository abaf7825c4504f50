"""Single-trial betas: how well they are recovered, and how long they take beside nilearn's GLM. Prints JSON.

Usage: python tests/benchmarks/glm.py [--haxby DIR] [--seeds N] [--voxels N]

Accuracy is on simulated BOLD of known betas and responses; speed is LSS trial by trial, once by nilearn's `run_glm`
with a model for each trial and once in closed form, one after the other in one process, on the same data and designs.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from nilearn.glm.first_level import run_glm
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from voxelight.neuro.glm.design import Events, Run, Timing, design_trials, nuisance_of
from voxelight.neuro.glm.frames import scale
from voxelight.neuro.glm.hrf import CANONICAL, list_responses
from voxelight.neuro.glm.options import GlmOptions, find_preset
from voxelight.neuro.glm.session import choose_for_session, estimate_run, fit_session
from voxelight.neuro.glm.simulate import BoldOptions, SimulatedBold, simulate_bold
from voxelight.neuro.glm.solve import remove, solve_separately

MODELS = {
    "canonical LSA (baseline)": find_preset("glm-canonical"),
    "canonical LSS": GlmOptions(hrf="canonical", estimate="lss", denoise=False, noise="ols"),
    "library LSS": find_preset("glm-lss"),
    "library, ridge": GlmOptions(denoise=False),
    "library, components, ridge": find_preset("glm-single-trial"),
    "the same without whitening": GlmOptions(noise="ols"),
}


def correlate(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Correlate over trials: array (voxel,)."""
    a, b = found - found.mean(0), true - true.mean(0)
    return np.asarray((a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0)))


def recover(made: SimulatedBold, options: GlmOptions) -> dict[str, float]:
    """Estimate a simulated session and compare with what it was made of, over voxels that answer."""
    start = time.perf_counter()
    betas, _, choices = fit_session(made.runs, options)
    seconds = time.perf_counter() - start
    answers = made.answers
    row = {
        "r": float(np.median(correlate(betas[:, answers], made.betas[:, answers]))),
        "error_percent": float(np.median(np.abs(betas - made.betas)[:, answers])),
        "components": choices.count,
        "median_fraction": float(np.median(choices.fraction[answers])),
        "seconds": seconds,
    }
    if options.hrf == "library":
        peaks = np.array([hrf.peak_s for hrf in list_responses()])[choices.response]
        true = np.array([hrf.peak_s for hrf in made.responses])
        row["peak_error_s"] = float(np.abs(peaks - true)[answers].mean())
        row["peak_error_of_canonical_s"] = float(np.abs(CANONICAL.peak_s - true)[answers].mean())
    return row


def time_lss(made: SimulatedBold) -> dict[str, float]:
    """Time LSS of one run by nilearn, a model for each trial, and in closed form."""
    run = made.runs[0]
    design = design_trials(run.events, run.timing, CANONICAL, 3.0)
    nuisance, signal = nuisance_of(run), scale(run.bold, slice(None), percent=True)
    with threadpool_limits(1):
        start = time.perf_counter()
        theirs = []
        for trial in range(design.shape[1]):
            pair = np.stack([design[:, trial], np.delete(design, trial, 1).sum(1)], axis=1)
            labels, results = run_glm(signal, np.concatenate([pair, nuisance], axis=1), noise_model="ols")
            theirs.append(results[labels[0]].theta[0])
        nilearn_s = time.perf_counter() - start
        start = time.perf_counter()
        ours = solve_separately(remove(nuisance, design), remove(nuisance, signal))
        ours_s = time.perf_counter() - start
    return {
        "trials": design.shape[1], "volumes": len(signal), "voxels": signal.shape[1], "nilearn_s": nilearn_s,
        "ours_s": ours_s, "ratio": nilearn_s / ours_s,
        "largest_difference": float(np.abs(ours - np.stack(theirs)).max()),
    }  # fmt: skip


def read_haxby(folder: Path) -> list[Run]:
    """Read the twelve runs of one slice, with motion."""
    runs, mask = [], None
    for number in range(1, 13):
        place = folder / "haxby2001" / "sub001" / "BOLD" / f"task001_run{number:03d}"
        bold = np.asarray(nib.load(place / "bold_1slice.nii.gz").dataobj, dtype=np.float32)
        mask = bold.mean(3) > 0.3 * np.percentile(bold.mean(3), 98) if mask is None else mask
        with (place / "bold_events.tsv").open() as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        onsets, durations = (np.array([float(row[name]) for row in rows]) for name in ("onset", "duration"))
        events = Events(onsets, durations, np.array([row["trial_type"] for row in rows]))
        motion = np.loadtxt(place / "bold_moest.txt")
        motion = (motion - motion.mean(0)) / motion.std(0)
        runs.append(Run(f"run-{number:02d}", bold[mask].T.copy(), Timing(2.5, bold.shape[3]), events, motion))
    return runs


def decode_haxby(runs: list[Run], options: GlmOptions, nested: bool) -> float:
    """Tell eight categories with one run left out; nested: nothing is chosen with the run that is left out."""
    categories = np.concatenate([run.events.stimulus_ids for run in runs])
    number = np.repeat(np.arange(len(runs)), [len(run.events.onsets) for run in runs])
    everything = None if nested else fit_session(runs, options)[0]
    right = []
    for held in range(len(runs)):
        if nested:
            choices = choose_for_session([run for place, run in enumerate(runs) if place != held], options)
            betas = np.concatenate([estimate_run(runs, place, choices, options)[0] for place in range(len(runs))])
        else:
            assert everything is not None
            betas = everything
        model = make_pipeline(StandardScaler(), RidgeClassifier(100.0))
        model.fit(betas[number != held], categories[number != held])
        right.append((model.predict(betas[number == held]) == categories[number == held]).mean())
    return float(np.mean(right))


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--haxby", type=Path, help="pymvpa_haxby")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--voxels", type=int, default=300)
    given = parser.parse_args()
    sessions = [simulate_bold(seed, BoldOptions(voxels=given.voxels)) for seed in range(given.seeds)]
    answer: dict[str, object] = {"simulated": BoldOptions(voxels=given.voxels).model_dump(), "seeds": given.seeds}
    recovered = {name: [recover(made, options) for made in sessions] for name, options in MODELS.items()}
    answer["recovered"] = {
        name: {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
        for name, rows in recovered.items()
    }
    answer["lss"] = time_lss(simulate_bold(0, BoldOptions(voxels=5000, runs=1, stimuli=60)))
    if given.haxby:
        runs = read_haxby(given.haxby)
        answer["haxby"] = {
            "chance": 0.125,
            "voxels": runs[0].bold.shape[1],
            "accuracy": {
                "canonical LSA": decode_haxby(runs, MODELS["canonical LSA (baseline)"], False),
                "library LSS": decode_haxby(runs, MODELS["library LSS"], False),
                "library, components, ridge; nested": decode_haxby(runs, MODELS["library, components, ridge"], True),
                "library, components, ridge; chosen on all runs": decode_haxby(
                    runs, MODELS["library, components, ridge"], False
                ),
            },
        }
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
