"""cDAL: diffusion, generator and discriminator, part by part and whole."""

from collections.abc import Callable
from typing import Any

import torch
from checks.agunet import load
from checks.cases import Beside, check_config
from checks.files import BrokenFixture, Fixture
from checks.segmentation import Found, SegmentationKind
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.segmentation import cdal_generator as parts
from voxelight.models.segmentation.cdal_diffusion import (
    Schedule,
    make_schedule,
    noise_pair,
    sample,
    sample_posterior,
    time_embedding,
    vote,
)
from voxelight.models.segmentation.cdal_discriminator import (
    BLOCKS,
    Discriminator,
    DownBlock,
    attention_map,
    gradient_penalty,
)
from voxelight.models.segmentation.cdal_layout import discriminator_names, generator_names, inner_weight
from voxelight.models.segmentation.fir import DownConv, downsample, upsample

SCHEDULE = {
    "time_schedule": "times",
    "posterior_mean_coef1": "mean_x0",
    "posterior_mean_coef2": "mean_xt",
    "posterior_variance": "variance",
    "posterior_log_variance_clipped": "log_variance",
}


def run_schedule(fixture: Fixture, case: str) -> Found:
    facts = fixture.fact("cases")[case]
    check_config(facts, {"T", "beta_min", "beta_max", "use_geometric", "eps"}, {})
    made = make_schedule(facts["T"], facts["beta_min"], facts["beta_max"], facts["use_geometric"], facts["eps"])
    outputs = [name.rpartition("/")[2] for name in fixture.shapes if name.startswith(f"{case}/out/")]
    return {
        name: getattr(made, SCHEDULE.get(name, name)) for name in outputs if hasattr(made, SCHEDULE.get(name, name))
    }


def usual(steps: int) -> Schedule:
    """Return the schedule of cases that name no other."""
    return make_schedule(steps)


def run_pairs(fixture: Fixture, case: str) -> Found:
    facts, given = fixture.fact("cases")[case], fixture.part(f"{case}/in/")
    check_config(facts, {"T", "draw_order"}, {})
    names = ("x0", "t", "noise_t", "noise_tp1")
    x_t, x_next = noise_pair(usual(facts["T"]), *(given[name] for name in names))
    return {"x_t": x_t, "x_tp1": x_next}


def run_posterior(fixture: Fixture, case: str) -> Found:
    facts, given = fixture.fact("cases")[case], fixture.part(f"{case}/in/")
    check_config(facts, {"T"}, {})
    return {"x_t": sample_posterior(usual(facts["T"]), *(given[name] for name in ("x0_hat", "x_tp1", "t", "noise")))}


def run_loop(fixture: Fixture, case: str) -> Found:
    facts, given = fixture.fact("cases")[case], fixture.part(f"{case}/in/")
    check_config(facts, {"T", "nz", "draw_order"}, {"stub": "tanh(0.5*x + 0.3*y + 0.1*t + 0.05*mean(z))"})

    def denoise(x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        mean = z.mean(dim=1)[:, None, None, None]
        return torch.tanh(0.5 * x + 0.3 * given["y"] + 0.1 * t[:, None, None, None] + 0.05 * mean)

    def draw(step: int) -> tuple[Tensor, Tensor]:
        return given[f"z_step{step}"], given[f"noise_step{step}"]

    return {"x": sample(usual(facts["T"]), denoise, given["x_init"], draw)}


def run_vote(fixture: Fixture, case: str) -> Found:
    check_config(fixture.fact("cases")[case], {"rule"}, {})
    samples = fixture.given(f"{case}/in/samples")
    mean, mask = vote(samples)
    wanted = fixture.shapes[f"{case}/out/mean"]
    return {"mean": mean.reshape(wanted), "mask": mask.reshape(wanted)}


def run_mapping(fixture: Fixture, case: str) -> Found:
    facts = fixture.fact("cases")[case]
    check_config(facts, {"nz", "z_emb_dim", "n_mlp"}, {"act": "SiLU", "pixel_norm_eps": 1e-8})
    module = parts.mapping_network(facts["nz"], facts["z_emb_dim"], facts["n_mlp"])
    load(module, fixture.part(f"{case}/w/"))
    return {"zemb": module(fixture.given(f"{case}/in/z"))}


def run_adaptive_norm(fixture: Fixture, case: str) -> Found:
    facts, given = fixture.fact("cases")[case], fixture.part(f"{case}/in/")
    check_config(facts, {"groups", "channels", "order"}, {"eps": 1e-6})
    assert parts.groups_of(facts["channels"]) == facts["groups"]
    module = parts.AdaptiveNorm(facts["channels"], given["zemb"].shape[1])
    load(module, fixture.part(f"{case}/w/"))
    return {"y": module(given["x"], given["zemb"])}


def run_time(fixture: Fixture, case: str) -> Found:
    facts = fixture.fact("cases")[case]
    check_config(facts, {"dim"}, {"formula": "[sin,cos] of t*exp(-log(1e4)/(half-1)*i)"})
    return {"emb": time_embedding(fixture.given(f"{case}/in/t"), facts["dim"])}


def run_resample(fixture: Fixture, case: str) -> Found:
    check_config(fixture.fact("cases")[case], set(), {"kernel": [1, 3, 3, 1], "factor": 2})
    x, weights = fixture.given(f"{case}/in/x"), fixture.part(f"{case}/w/")
    module = DownConv(x.shape[1], len(weights["bias"]))
    load(module.conv, weights)
    return {"up": upsample(x), "down": downsample(x), "conv_down": module(x)}


def load_inner(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load the weights of a published block."""
    load(module, dict(inner_weight(name, value) for name, value in weights.items()))


def run_residual(fixture: Fixture, case: str) -> Found:
    facts, given = fixture.fact("cases")[case], fixture.part(f"{case}/in/")
    known = {"in_ch", "out_ch", "temb_dim", "zemb_dim", "up", "down"}
    check_config(facts, known, {"fir_kernel": [1, 3, 3, 1], "skip_rescale": True})
    resample = "up" if facts.get("up") else "down" if facts.get("down") else None
    channels = facts["in_ch"], facts.get("out_ch", facts["in_ch"])
    module = parts.ResidualBlock(channels, facts["temb_dim"], facts["zemb_dim"], resample)
    load_inner(module, fixture.part(f"{case}/w/"))
    return {"y": module(given["x"], given["temb"], given["zemb"])}


def run_attention(fixture: Fixture, case: str) -> Found:
    facts = fixture.fact("cases")[case]
    check_config(facts, {"channels", "groups"}, {"skip_rescale": True})
    assert parts.groups_of(facts["channels"]) == facts["groups"]
    module = parts.SelfAttention(facts["channels"])
    load_inner(module, fixture.part(f"{case}/w/"))
    return {"y": module(fixture.given(f"{case}/in/x"))}


def run_down_block(fixture: Fixture, case: str) -> Found:
    given, weights = fixture.part(f"{case}/in/"), fixture.part(f"{case}/w/")
    check_config(fixture.fact("cases")[case], set(), {"slope": 0.2})
    outputs, inputs = weights["conv1.0.weight"].shape[:2]
    module = DownBlock(inputs, outputs, given["temb"].shape[1], halves=True)
    load_inner(module, weights)
    return {"y": module(given["x"], given["temb"])}


def run_discriminator(fixture: Fixture, case: str) -> Found:
    facts, given = fixture.fact("cases")[case], fixture.part(f"{case}/in/")
    check_config(facts, {"nc", "ngf", "t_emb_dim", "size", "attn_scale"}, {"stddev_group": 4})
    size = case.removeprefix("disc_").split("_")[0]
    if size not in BLOCKS:
        raise BrokenFixture(f"no discriminator is called {size}; expected one of {', '.join(BLOCKS)}")
    module = Discriminator(facts["nc"] // 2, facts["ngf"], facts["t_emb_dim"], size)
    load(module, discriminator_names(fixture.part(f"{case}/w/")))
    t, x_next = given["t"], given["x_tp1"]
    features = module.look(given["x_t"], t, x_next)
    looks = attention_map(features[facts["attn_scale"]], given["x0"].shape[2:])
    penalty = run_penalty(module, given)
    return {
        "logit": module(given["x_t"], t, x_next),
        **{f"feat{number}_mean": found.mean(dim=1, keepdim=True) for number, found in enumerate(features)},
        "attn": looks,
        "att_x0": looks * given["x0"],
        "loss_real": F.softplus(-module(given["x_t"], t, x_next)).mean(),
        "loss_fake": F.softplus(module(given["fake_x_t"], t, x_next)).mean(),
        "r1_gamma1": penalty,
        # Its absolute tolerance may be far above its value.
        "r1_gamma1 (found / expected)": Beside(penalty / fixture.given(f"{case}/out/r1_gamma1"), torch.ones(1)),
    }


def run_penalty(module: Discriminator, given: dict[str, Tensor]) -> Tensor:
    with torch.enable_grad():
        x_t = given["x_t"].clone().requires_grad_()
        return gradient_penalty(module(x_t, given["t"], given["x_tp1"]), x_t, gamma=1.0)


def run_map(fixture: Fixture, case: str) -> Found:
    check_config(fixture.fact("cases")[case], {"rule"}, {})
    given = fixture.part(f"{case}/in/")
    looks = attention_map(given["feat"], given["x0"].shape[2:])
    return {"attn": looks, "att_x0": looks * given["x0"]}


KNOWN = {
    "image_size", "num_channels", "z_emb_dim", "nz", "n_mlp", "num_channels_dae", "ch_mult", "num_res_blocks",
    "attn_resolutions", "cond_enc_layers", "cond_enc_num_res_blocks", "dataset", "params", "note",
    "centered", "fourier_scale", "resamp_with_conv", "progressive_combine",
}  # fmt: skip
FIXED = {
    "dropout": 0.0, "conditional": True, "fir": True, "fir_kernel": [1, 3, 3, 1], "skip_rescale": True,
    "resblock_type": "biggan", "progressive": "none", "progressive_input": "residual", "embedding_type": "positional",
    "not_use_tanh": False,
}  # fmt: skip


def run_generator(fixture: Fixture, case: str) -> Found:
    facts, given = fixture.fact("cases")[case], fixture.part(f"{case}/in/")
    check_config(facts, KNOWN, FIXED)
    module = parts.Generator(sizes_of(facts, given["y"].shape[1]))
    weights = fixture.part(f"{case}/w/")
    load(module, generator_names(weights, module.sizes))
    found = module(given["x"], given["t"], given["z"], module.encode(given["y"]))
    numbers = sum(value.numel() for value in module.parameters())
    return {"x0_hat": found, "parameters": Beside(numbers, facts["params"])}


def sizes_of(facts: dict[str, Any], image_channels: int) -> parts.GeneratorSizes:
    side = facts["image_size"]
    levels = len(facts["ch_mult"])
    return parts.GeneratorSizes(
        image_channels=image_channels,
        label_channels=facts["num_channels"],
        width=facts["num_channels_dae"],
        multipliers=tuple(facts["ch_mult"]),
        blocks=facts["num_res_blocks"],
        attention_levels=tuple(n for n in range(levels) if side // 2**n in facts["attn_resolutions"]),
        encoder_blocks=facts["cond_enc_layers"] * facts["cond_enc_num_res_blocks"],
        latent=facts["nz"],
        embedding=facts["z_emb_dim"],
        mapping_layers=facts["n_mlp"],
    )


CASES: dict[str, Callable[[Fixture, str], Found]] = {
    r"schedule_(vp|geo)_T\d+_[\d.]+_[\d.]+": run_schedule,
    r"q_sample_pairs": run_pairs,
    r"sample_posterior": run_posterior,
    r"sampling_loop_stub": run_loop,
    r"majority_vote": run_vote,
    r"mapping_network": run_mapping,
    r"adagn": run_adaptive_norm,
    r"timestep_embedding_\d+": run_time,
    r"fir_resample": run_resample,
    r"resblock_\w+": run_residual,
    r"attn_block": run_attention,
    r"d_downblock": run_down_block,
    r"disc_\w+": run_discriminator,
    r"attn_from_features": run_map,
    r"generator_\w+": run_generator,
}
KIND = SegmentationKind(cases=CASES)
