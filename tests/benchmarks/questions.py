"""What is asked of a million results, with parameters that differ from one time to the next."""

from collections.abc import Callable
from typing import Any

import numpy as np

Draw = Callable[[np.random.Generator], dict[str, Any]]
QUERIES: dict[str, Draw] = {
    "newest": lambda _: {},
    "oldest": lambda _: {"sort": "time"},
    "data set": lambda rng: {"dataset": f"set-{rng.integers(18):02d}"},
    "data set whose runs are all old": lambda _: {"dataset": "set-19"},
    "data set of few runs": lambda _: {"dataset": "set-18"},
    "data set and subject": lambda rng: {"dataset": f"set-{rng.integers(18):02d}", "subject": _subject(rng)},
    "subject label in every data set": lambda rng: {"subject": _subject(rng)},
    "subject and session": lambda rng: {"subject": _subject(rng), "session": "02"},
    "scan name": lambda rng: {"scan": f"sub-{_subject(rng)}_run-3_T1w.nii.gz"},
    "scan pattern": lambda rng: {"scan": f"sub-{_subject(rng)}*", "dataset": "set-03"},
    "model": lambda rng: {"model": f"model-{rng.integers(8)}"},
    "kind": lambda rng: {"kind": str(rng.choice(["segment", "decode"]))},
    "recipe": lambda rng: {"recipe": f"recipe-{rng.integers(8)}"},
    "model and data set": lambda rng: {"model": f"model-{rng.integers(8)}", "dataset": f"set-{rng.integers(18):02d}"},
    "simulated": lambda _: {"simulated": "true"},
    "dates": lambda rng: _dates(rng),
    "dates and kind": lambda rng: _dates(rng) | {"kind": "decode"},
    "verdict": lambda rng: {"verdict": str(rng.choice(["accept", "reject", "unsure"]))},
    "not reviewed, data set": lambda _: {"verdict": "none", "dataset": "set-02"},
    "metric range, wide": lambda rng: {"metric": f"dice:{rng.uniform(0.7, 0.85):.3f}.."},
    "metric range, narrow": lambda rng: {"metric": f"dice:{rng.uniform(0.9925, 0.995):.5f}.."},
    "metric range of a label": lambda rng: {
        "metric": f"volume[anterior]:{(low := rng.uniform(1, 3)):.3f}..{low + 0.1:.3f}"
    },
    "two metric ranges": lambda _: {"metric": ["two_way:0.8..", "ssim:0.55.."]},
    "metric range, data set and verdict": lambda _: {"metric": "dice:..0.6", "dataset": "set-04", "verdict": "reject"},
    "sorted by metric": lambda _: {"sort": "-two_way"},
    "sorted by metric, lowest first": lambda _: {"sort": "dice"},
    "sorted by metric of a label": lambda _: {"sort": "-volume[posterior]"},
    "sorted by metric, data set": lambda rng: {"sort": "-dice", "dataset": f"set-{2 * rng.integers(9):02d}"},
    "sorted by metric within a range": lambda rng: {"sort": "-dice", "metric": f"dice:..{rng.uniform(0.5, 0.8):.3f}"},
    "sorted by metric, model and verdict": lambda _: {"sort": "-two_way", "model": "model-5", "verdict": "accept"},
    "sorted by subject": lambda _: {"sort": "subject"},
    "sorted by subject, data set": lambda rng: {"sort": "subject", "dataset": f"set-{rng.integers(18):02d}"},
    "sorted by subject, metric range": lambda _: {"sort": "-subject", "metric": "dice:0.9.."},
    "common word": lambda _: {"words": "dog"},
    "rare word": lambda rng: {"words": f"thing{rng.integers(1000, 1999)}"},
    "two words": lambda _: {"words": "dog beach"},
    "stimulus": lambda rng: {"words": f"coco_{rng.integers(73_000):06d}"},
    "nothing fits": lambda _: {"dataset": "set-05", "metric": "dice:1.5.."},
}


def _subject(rng: np.random.Generator) -> str:
    return f"{rng.integers(1, 101):03d}"


def _dates(rng: np.random.Generator) -> dict[str, Any]:
    month = int(rng.integers(1, 12))
    return {"since": f"2025-{month:02d}-01", "until": f"2025-{month + 1:02d}-01"}
