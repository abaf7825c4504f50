"""Losses of training, the mixing of voxels and latents, and the two directions of retrieval."""

import re

from checks.cases import Kind
from checks.files import Fixture
from torch import Tensor
from torch.nn import functional as F

from voxelight.neuro.losses import (
    Mixing,
    bimixco_nce,
    cosine_similarity,
    find_mixing,
    mixco,
    nce,
    soft_clip,
    soft_contrast,
    top1,
)

NUMBER = r"[\d.]+(?:e-?\d+)?"


def read_mixing(fixture: Fixture) -> Mixing:
    return find_mixing(*(fixture.given(f"in.mix.{name}") for name in ("perm", "betas", "select")))


def read_vectors(fixture: Fixture) -> tuple[Tensor, Tensor]:
    return F.normalize(fixture.given("in.preds"), dim=-1), F.normalize(fixture.given("in.targs"), dim=-1)


def run_mixed(fixture: Fixture, match: re.Match[str]) -> Tensor:
    return mixco(fixture.given(f"in.mix.{match['what']}"), read_mixing(fixture))


def run_betas(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return read_mixing(fixture).betas


def run_mixco_nce(fixture: Fixture, match: re.Match[str]) -> Tensor:
    return bimixco_nce(*read_vectors(fixture), read_mixing(fixture), float(match["temperature"]))


def run_nce(fixture: Fixture, match: re.Match[str]) -> Tensor:
    return nce(*read_vectors(fixture), float(match["temperature"]))


def run_soft_clip(fixture: Fixture, match: re.Match[str]) -> Tensor:
    return soft_clip(*read_vectors(fixture), float(match["temperature"]))


def run_soft_contrast(fixture: Fixture, match: re.Match[str]) -> Tensor:
    student, teacher, augmented = (fixture.given(f"in.cont.{name}") for name in ("student", "teacher", "teacher_aug"))
    return soft_contrast(student, teacher, augmented, float(match["temperature"]))


def run_similarity(fixture: Fixture, _: re.Match[str]) -> Tensor:
    """The published matrix has targets as rows, although its name says the reverse."""
    return cosine_similarity(fixture.given("in.targs"), fixture.given("in.preds"))


def run_forward_top1(fixture: Fixture, match: re.Match[str]) -> Tensor:
    return top1(run_similarity(fixture, match))


def run_backward_top1(fixture: Fixture, match: re.Match[str]) -> Tensor:
    return top1(run_similarity(fixture, match).T)


KIND = Kind(
    outputs={
        r"out\.mix\.(?P<what>voxels|latents)": run_mixed,
        r"out\.mix\.betas": run_betas,
        rf"out\.mixco_nce_(?P<temperature>{NUMBER})": run_mixco_nce,
        rf"out\.nce_plain_(?P<temperature>{NUMBER})": run_nce,
        rf"out\.soft_clip_(?P<temperature>{NUMBER})": run_soft_clip,
        rf"out\.soft_cont_(?P<temperature>{NUMBER})": run_soft_contrast,
        r"out\.cos_sim_PQ": run_similarity,
        r"out\.fwd_top1": run_forward_top1,
        r"out\.bwd_top1": run_backward_top1,
    },
    # Both are settings of the drawing; what was drawn is given.
    known=frozenset({"mixco_beta", "s_thresh"}),
)
