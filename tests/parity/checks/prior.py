"""The network of the diffusion prior, its noising and its loss."""

import re

import torch
from checks.cases import Also, Beside, Found, Kind
from checks.compare import Disagreement, Tolerance
from checks.files import Fixture
from torch import Tensor

from voxelight.models.diffusion.prior import DiffusionPrior, PriorConfig

# What every published norm uses on float32. `to_out` of the released weights saw half precision, and so 1e-3.
FLOAT32_EPS = 1e-5


def build(fixture: Fixture, **other: float) -> DiffusionPrior:
    """Return the prior of a file, with other options than the file's where they are given."""
    config = fixture.config
    sizes = {name: config[name] for name in ("dim", "depth", "dim_head", "heads", "timesteps")}
    sizes |= {"tokens": config["num_tokens"], "to_out_eps": FLOAT32_EPS}
    prior = PriorConfig(**{**sizes, **other}).build()
    prior.net.load_state_dict(fixture.part("w.net."))
    return prior.eval()


def read_inputs(fixture: Fixture) -> tuple[Tensor, Tensor, Tensor]:
    return fixture.given("in.x"), fixture.given("in.times"), fixture.given("in.text_embed")


def run_pred(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return build(fixture).net(*read_inputs(fixture))


def run_null(fixture: Fixture, _: re.Match[str]) -> Tensor:
    inputs = read_inputs(fixture)
    keep = torch.zeros(len(inputs[0]), dtype=torch.bool)
    return build(fixture).net(*inputs, keep, keep)


def run_guided(fixture: Fixture, match: re.Match[str]) -> Tensor:
    return build(fixture).net.guided(*read_inputs(fixture), float(match["scale"]))


def run_eps(fixture: Fixture, match: re.Match[str]) -> Tensor:
    return build(fixture, to_out_eps=float(match["eps"])).net(*read_inputs(fixture))


def run_noised(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return build(fixture).noised(*(fixture.given(f"in.{name}") for name in ("image_embed", "times", "noise")))


def run_loss(fixture: Fixture, match: re.Match[str]) -> Tensor:
    masks = ("brain_keep_mask", "image_keep_mask") if match["drop"] == "masked" else ()
    names = ("text_embed", "image_embed", "times", "noise", *masks)
    loss, predicted = build(fixture).loss(*(fixture.given(f"in.{name}") for name in names))
    return predicted if match["pred"] else loss


def run_time(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return build(fixture).net.to_time_embeds(fixture.given("in.times"))[:, None]


def run_bias(fixture: Fixture, match: re.Match[str]) -> Tensor:
    length = 2 * fixture.config["num_tokens"] + 1
    row = {"last": length - 1, "mid": length // 2}[match["row"]]
    return build(fixture).net.causal_transformer.rel_pos_bias(length)[:, row]


def run_layer(fixture: Fixture, match: re.Match[str]) -> Tensor:
    """What a sub-layer of the transformer adds to its input, read while the network runs."""
    prior = build(fixture)
    layer = prior.net.causal_transformer.layers[int(match["layer"])][{"attn": 0, "ff": 1}[match["part"]]]
    seen: list[Tensor] = []
    layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    prior.net(*read_inputs(fixture))
    return seen[0]


def tell_eps_apart(fixture: Fixture) -> Found:
    """The variants are further apart than the tolerance, by as much as was published."""
    allowed, pairs = Tolerance.read(fixture.fact("tolerance")), {}
    usual, published = build(fixture).net(*read_inputs(fixture)), fixture.given("out.pred")
    for match in filter(None, (re.fullmatch(EPS, name) for name in fixture.shapes)):
        ours, theirs = run_eps(fixture, match) - usual, fixture.given(match[0]) - published
        if not (ours.abs() > allowed.absolute + allowed.relative * published.abs()).any():
            raise Disagreement(f"{match[0]} is not told from out.pred by the tolerance of the file")
        pairs[f"{match[0]} - out.pred"] = Beside(ours, theirs)
    return pairs


def compare_schedule(fixture: Fixture) -> Found:
    """The buffers that a published file brings are those that we compute."""
    ours, theirs = build(fixture).noise_scheduler.state_dict(), fixture.part("w.noise_scheduler.")
    if set(ours) != set(theirs):
        raise Disagreement(f"found the buffers {sorted(ours)}; expected {sorted(theirs)}")
    return {f"noise_scheduler.{name}": Beside(ours[name], theirs[name]) for name in theirs}


def load_all(fixture: Fixture) -> Found:
    """Every tensor of the published file has its place, and every place its tensor."""
    prior = build(fixture)
    prior.load_state_dict(fixture.part("w."))
    return {"out.pred (whole file loaded)": Beside(prior.net(*read_inputs(fixture)), fixture.given("out.pred"))}


EPS = r"out\.pred_to_out_eps_(?P<eps>[\d.]+(?:e-?\d+)?)"
BUFFERS = r"w\.noise_scheduler\..+"
KIND = Kind(
    outputs={
        r"out\.pred": run_pred,
        r"out\.pred_null": run_null,
        r"out\.pred_cond_scale_(?P<scale>[\d.]+)": run_guided,
        EPS: run_eps,
        r"out\.q_sample": run_noised,
        r"out\.loss_(?P<pred>pred_)?(?P<drop>masked|nodrop)": run_loss,
        r"mid\.time_embed": run_time,
        r"mid\.attn_bias_row_(?P<row>last|mid)": run_bias,
        r"mid\.(?P<part>attn|ff)(?P<layer>\d+)": run_layer,
    },
    also={
        "eps variants": Also((r"out\.pred", EPS), tell_eps_apart),
        "schedule": Also((BUFFERS,), compare_schedule),
        "whole file": Also((r"out\.pred", BUFFERS), load_all),
    },
    known=frozenset({"dim", "depth", "dim_head", "heads", "num_tokens", "timesteps"}),
    fixed={"learned_query_mode": "pos_emb", "causal": False, "beta_schedule": "cosine", "predict_x_start": True},
)
