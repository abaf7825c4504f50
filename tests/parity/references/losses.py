"""Losses from their equations, in NumPy, one sum at a time."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from references.store import Arrays, write

Floats = NDArray[np.float64]


def log_softmax(rows: Floats) -> Floats:
    rows = rows - rows.max(axis=1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


def normalise(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def contrast(logits: Floats, shares: Floats, shares_back: Floats) -> float:
    there = -(shares * log_softmax(logits)).sum() / len(logits)
    back = -(shares_back * log_softmax(logits.T)).sum() / len(logits)
    return (there + back) / 2


def find_shares(perm: NDArray[np.int64], betas: Floats) -> Floats:
    shares = np.diag(betas)
    for row, partner in enumerate(perm):
        shares[row, partner] = 1 - betas[row]
    return shares


def soft_contrast(student: Floats, teacher: Floats, augmented: Floats, temperature: float) -> float:
    s, t, a = normalise(student), normalise(teacher), normalise(augmented)
    there = -(np.exp(log_softmax(t @ a.T / temperature)) * log_softmax(s @ a.T / temperature)).sum(axis=1).mean()
    back = -(np.exp(log_softmax(a @ t.T / temperature)) * log_softmax(a @ s.T / temperature)).sum(axis=1).mean()
    return (there + back) / 2


def write_losses(folder: Path, rng: np.random.Generator, batch: int = 5, dim: int = 21) -> Path:
    """Write losses of another batch, width and list of temperatures than the published folder's."""
    perm, select = np.array([1, 0, 2, 4, 3]), np.array([True, True, False, False, True])
    drawn = rng.beta(0.15, 0.15, batch).astype(np.float32).astype(np.float64)
    betas = np.where(select, drawn, 1.0)
    # Single precision is what the file keeps, so it is where the sums start.
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32).astype(np.float64)  # noqa: E731
    given: dict[str, Any] = {
        "mix.voxels": draw(batch, 1, 8),
        "mix.latents": draw(batch, 4, 3, 3),
        "preds": draw(batch, dim),
        "targs": draw(batch, dim),
        "cont.student": draw(6, 10),
        "cont.teacher": draw(6, 10),
        "cont.teacher_aug": draw(6, 10),
    }
    p, q = normalise(given["preds"]), normalise(given["targs"])
    own, shares = np.eye(batch), find_shares(perm, betas)
    out: Arrays = {"out.mix.betas": betas}
    for what in ("voxels", "latents"):
        x, keep = given[f"mix.{what}"], betas.reshape(-1, *[1] * (given[f"mix.{what}"].ndim - 1))
        out[f"out.mix.{what}"] = keep * x + (1 - keep) * x[perm]
    for t in (0.05, 0.2):
        alike = np.exp(log_softmax(q @ q.T / t))
        out[f"out.mixco_nce_{t}"] = np.array(contrast(p @ q.T / t, shares, shares.T))
        out[f"out.nce_plain_{t}"] = np.array(contrast(p @ q.T / t, own, own))
        out[f"out.soft_clip_{t}"] = np.array(contrast(p @ q.T / t, alike, alike))
        parts = given["cont.student"], given["cont.teacher"], given["cont.teacher_aug"]
        out[f"out.soft_cont_{t}"] = np.array(soft_contrast(*parts, t))
    out["out.cos_sim_PQ"] = q @ p.T
    for name, similarity in (("fwd", q @ p.T), ("bwd", p @ q.T)):
        out[f"out.{name}_top1"] = np.array(np.mean(similarity.argmax(axis=1) == np.arange(batch)))
    inputs = {"in.mix.perm": perm, "in.mix.betas": drawn, "in.mix.select": select}
    inputs |= {f"in.{name}": value for name, value in given.items()}
    return write(folder, "losses", {"mixco_beta": 0.15, "s_thresh": 0.5}, {**inputs, **out})


def write_converter(folder: Path, rng: np.random.Generator) -> Path:
    """Write a converter of another size."""
    sizes = {"s_in": 5, "d_in": 6, "s_out": 4, "d_out": 3}
    w = {name: rng.standard_normal(shape).astype(np.float16).astype(np.float64) for name, shape in (
        ("linear1.weight", (4, 5)), ("linear1.bias", (4,)), ("linear2.weight", (3, 6)), ("linear2.bias", (3,))
    )}  # fmt: skip
    x = rng.standard_normal((2, 5, 6)).astype(np.float32).astype(np.float64)
    y = np.einsum("oi,bid->bod", w["linear1.weight"], x) + w["linear1.bias"][:, None]
    y = np.einsum("bod,cd->boc", y, w["linear2.weight"]) + w["linear2.bias"]
    return write(folder, "bigg_to_l", sizes, {"in.x": x, "out.y": y, **{f"w.{name}": v for name, v in w.items()}})
