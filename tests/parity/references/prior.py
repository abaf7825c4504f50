"""The diffusion prior from the specification, in NumPy: network, loss and both ways of sampling."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from references.backbone import norm
from references.curves import cosine, find_times
from references.store import Arrays, draw_weights, write

Floats = NDArray[np.float64]
DIM, DEPTH, HEADS, DIM_HEAD, TOKENS, STEPS = 24, 3, 3, 40, 9, 40
ROTARY = 32


def silu(x: Floats) -> Floats:
    return x / (1 + np.exp(-x))


def softmax(x: Floats) -> Floats:
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def unit(x: Floats) -> Floats:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class Reference:
    """The network on its weights, by their published names; trials are taken one at a time."""

    def __init__(self, weights: Arrays, eps: float = 1e-5) -> None:
        self.w, self.eps = weights, eps
        self.seen: Arrays = {}

    def gain(self, name: str, x: Floats, eps: float = 1e-5) -> Floats:
        return norm(x, self.w[f"{name}.g"], np.zeros(1), eps)

    def time(self, time: int) -> Floats:
        half = DIM // 2
        angles = time * np.exp(-np.arange(half) * np.log(10000) / (half - 1))
        x, net = np.concatenate([np.sin(angles), np.cos(angles)]), "to_time_embeds.0.1.net"
        for part in ("0.0", "1.0"):
            x = silu(x @ self.w[f"{net}.{part}.weight"].T + self.w[f"{net}.{part}.bias"])
        return x @ self.w[f"{net}.2.weight"].T + self.w[f"{net}.2.bias"]

    def bias(self, length: int) -> Floats:
        """Return (head, query, key), key 0 the null key."""
        table = self.w["causal_transformer.rel_pos_bias.relative_attention_bias.weight"]
        bias = np.zeros((HEADS, length, length + 1))
        for query in range(length):
            for key in range(length + 1):
                distance = max(query - key, 0)
                far = 16 + int(np.log(max(distance, 1) / 16) / np.log(8) * 16)
                bias[:, query, key] = table[distance if distance < 16 else min(far, 31)]
        return bias

    def turn(self, x: Floats) -> Floats:
        """Rotate neighbouring channels of (n, channel) by position."""
        x, rates = x.copy(), 10000.0 ** (-np.arange(0, ROTARY, 2) / ROTARY)
        for position, row in enumerate(x):
            for pair, rate in enumerate(rates):
                a, b = row[2 * pair : 2 * pair + 2]
                cos, sin = np.cos(position * rate), np.sin(position * rate)
                row[2 * pair : 2 * pair + 2] = a * cos - b * sin, b * cos + a * sin
        return x

    def attend(self, name: str, z: Floats, bias: Floats) -> Floats:
        y = self.gain(f"{name}.norm", z)
        kv = y @ self.w[f"{name}.to_kv.weight"].T
        null = self.w[f"{name}.null_kv"]
        keys = unit(np.vstack([null[:1], self.turn(kv[:, :DIM_HEAD])]))
        values = np.vstack([null[1:], kv[:, DIM_HEAD:]])
        heads = []
        for head, q in enumerate(np.split(y @ self.w[f"{name}.to_q.weight"].T, HEADS, axis=1)):
            heads.append(softmax(16 * unit(self.turn(q)) @ keys.T + bias[head]) @ values)
        out = np.concatenate(heads, axis=1) @ self.w[f"{name}.to_out.0.weight"].T
        return self.gain(f"{name}.to_out.1", out, self.eps)

    def feed(self, name: str, z: Floats) -> Floats:
        value, gate = np.split(self.gain(f"{name}.0", z) @ self.w[f"{name}.1.weight"].T, 2, axis=1)
        return (value * silu(gate)) @ self.w[f"{name}.5.weight"].T

    def predict(self, x: Floats, time: int, brain: Floats, brain_keep: bool = True, image_keep: bool = True) -> Floats:
        brain = brain if brain_keep else self.w["null_brain_embeds"]
        image = x if image_keep else self.w["null_image_embed"]
        z = np.vstack([brain, self.time(time)[None], image + self.w["learned_query"]])
        bias = self.bias(len(z))
        for number in range(DEPTH):
            for part, (name, layer) in enumerate([("attn", self.attend), ("ff", self.feed)]):
                more = (bias,) if part == 0 else ()
                added = layer(f"causal_transformer.layers.{number}.{part}", z, *more)
                self.seen[f"{name}{number}"] = added
                z = z + added
        z = self.gain("causal_transformer.norm", z / z.max(-1, keepdims=True))
        return (z @ self.w["causal_transformer.project_out.weight"].T)[-TOKENS:]

    def ddim(self, brain: Floats, noise: Floats, schedule: Arrays, steps: int) -> tuple[Floats, list[Floats]]:
        x, calls = noise[0], []
        bar, before = schedule["alphas_cumprod"], schedule["alphas_cumprod_prev"]
        times = find_times(steps, len(bar))
        for number, (time, after) in enumerate(pairwise(times)):
            calls.append(x)
            clean = self.predict(x, time, brain)
            if after < 0:
                return clean, calls
            eps = (x / np.sqrt(bar[time]) - clean) / np.sqrt(1 / bar[time] - 1)
            a, b = before[time], before[after]
            c1 = np.sqrt((1 - a / b) * (1 - b) / (1 - a))
            fresh = noise[number + 1] if after > 0 else 0.0
            x = np.sqrt(b) * clean + c1 * fresh + np.sqrt(1 - b - c1**2) * eps
        raise AssertionError

    def ddpm(self, brain: Floats, noise: Floats, schedule: Arrays) -> Floats:
        x = noise[0]
        for number, time in enumerate(reversed(range(len(schedule["betas"])))):
            clean = self.predict(x, time, brain)
            x = schedule["posterior_mean_coef1"][time] * clean + schedule["posterior_mean_coef2"][time] * x
            if time > 0:
                x = x + np.exp(schedule["posterior_log_variance_clipped"][time] / 2) * noise[number + 1]
        return x


def list_shapes() -> dict[str, tuple[int, ...]]:
    inner, transformer, time = HEADS * DIM_HEAD, "causal_transformer", "to_time_embeds.0.1.net"
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("learned_query", "null_brain_embeds", "null_image_embed"), (TOKENS, DIM)),
        f"{time}.0.0.weight": (2 * DIM, DIM),
        f"{time}.0.0.bias": (2 * DIM,),
        f"{time}.1.0.weight": (2 * DIM, 2 * DIM),
        f"{time}.1.0.bias": (2 * DIM,),
        f"{time}.2.weight": (DIM, 2 * DIM),
        f"{time}.2.bias": (DIM,),
        f"{transformer}.rel_pos_bias.relative_attention_bias.weight": (32, HEADS),
        f"{transformer}.norm.g": (DIM,),
        f"{transformer}.project_out.weight": (DIM, DIM),
    }
    for number in range(DEPTH):
        layer = f"{transformer}.layers.{number}"
        shapes |= {
            f"{layer}.0.null_kv": (2, DIM_HEAD),
            f"{layer}.0.norm.g": (DIM,),
            f"{layer}.0.to_q.weight": (inner, DIM),
            f"{layer}.0.to_kv.weight": (2 * DIM_HEAD, DIM),
            f"{layer}.0.to_out.0.weight": (DIM, inner),
            f"{layer}.0.to_out.1.g": (DIM,),
            f"{layer}.1.0.g": (DIM,),
            f"{layer}.1.1.weight": (8 * DIM, DIM),
            f"{layer}.1.5.weight": (DIM, 4 * DIM),
        }
    return shapes


def write_prior(folder: Path, rng: np.random.Generator) -> Arrays:
    """Write the network's outputs and the losses, at other sizes than the published folder's; return the weights."""
    weights, schedule = draw_weights(rng, list_shapes()), cosine(STEPS, 0.008)
    network, batch, length = Reference(weights), 2, 2 * TOKENS + 1
    x, brain, image, noise = rng.standard_normal((4, batch, TOKENS, DIM)).astype(np.float32).astype(np.float64)
    times, keep_brain, keep_image = np.array([3, 37]), np.array([False, True]), np.array([True, False])

    def each(of: Reference, start: Floats, *keep: NDArray[np.bool_]) -> Floats:
        return np.stack([of.predict(*row) for row in zip(start, times, brain, *keep, strict=True)])

    pred, null = each(network, x), each(network, x, np.zeros(2, bool), np.zeros(2, bool))
    keeps = (schedule["sqrt_alphas_cumprod"], schedule["sqrt_one_minus_alphas_cumprod"])
    kept, spread = (values[times][:, None, None] for values in keeps)
    noised = kept * image + spread * noise
    arrays: Arrays = {
        "in.x": x, "in.times": times, "in.text_embed": brain, "in.image_embed": image, "in.noise": noise,
        "in.brain_keep_mask": keep_brain, "in.image_keep_mask": keep_image,
        "out.pred": pred, "out.pred_null": null, "out.pred_cond_scale_1.5": null + 1.5 * (pred - null),
        "out.pred_to_out_eps_1e-2": each(Reference(weights, 1e-2), x), "out.q_sample": noised,
        "out.loss_pred_nodrop": each(network, noised),
        "out.loss_pred_masked": each(network, noised, keep_brain, keep_image),
        "mid.time_embed": np.stack([network.time(time) for time in times])[:, None],
        "mid.attn_bias_row_last": network.bias(length)[:, -1], "mid.attn_bias_row_mid": network.bias(length)[:, TOKENS],
    }  # fmt: skip
    for drop in ("nodrop", "masked"):
        arrays[f"out.loss_{drop}"] = np.mean((arrays[f"out.loss_pred_{drop}"] - image) ** 2)
    seen = []
    for row in zip(x, times, brain, strict=True):
        network.predict(*row)
        seen.append(dict(network.seen))
    arrays |= {f"mid.{name}": np.stack([one[name] for one in seen]) for name in ("attn0", "attn2", "ff1")}
    arrays |= {f"w.net.{name}": value for name, value in weights.items()}
    rates = (10000.0 ** (-np.arange(0, ROTARY, 2) / ROTARY)).astype(np.float32)
    config = {"dim": DIM, "depth": DEPTH, "dim_head": DIM_HEAD, "heads": HEADS, "num_tokens": TOKENS}
    for number in range(DEPTH):
        arrays[f"w.net.causal_transformer.layers.{number}.0.rotary_emb.freqs"] = rates
    write(folder, "me2_prior", {**config, "timesteps": STEPS}, arrays)
    return weights


def write_sampling(folder: Path, rng: np.random.Generator, weights: Arrays, steps: int = 7, ddpm: int = 6) -> Path:
    """Write samplings from the prior of the same folder."""
    network, scale, short = Reference(weights), np.sqrt(DIM), cosine(ddpm, 0.008)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32).astype(np.float64)  # noqa: E731
    brain, noise, other = draw(1, TOKENS, DIM), draw(steps - 1, 1, TOKENS, DIM), draw(ddpm + 1, 1, TOKENS, DIM)
    sample, calls = network.ddim(brain[0], noise[:, 0], cosine(STEPS, 0.008), steps)
    ddpm_sample = network.ddpm(brain[0], other[:, 0], short)
    times = find_times(steps, STEPS)
    one, image, spread = draw(2, TOKENS, DIM), draw(2, TOKENS, DIM), draw(2, TOKENS, DIM)
    at = np.array([1, 4])
    kept, lost = (short[f"sqrt_{name}alphas_cumprod"][at][:, None, None] for name in ("", "one_minus_"))
    noised = kept * image * scale + lost * spread
    predicted = np.stack([network.predict(*row) for row in zip(noised, at, one, strict=True)])
    arrays: Arrays = {
        "in.text_embed": brain, "in.noise": noise, "in.ddpm_noise": other,
        "in.me1_text_embed": one, "in.me1_image_embed": image, "in.me1_noise": spread, "in.me1_times": at,
        "out.sample": sample[None], "mid.x_at_calls": np.stack(calls)[:, None], "out.times_visited": times[:-1],
        "out.time_pairs": np.stack([times[:-1], times[1:]], axis=1), "out.ddpm_sample": ddpm_sample[None],
        "out.me1_ddpm_sample": ddpm_sample[None] / scale, "out.me1_pred": predicted,
        "out.me1_loss": np.mean((predicted - image * scale) ** 2),
    }  # fmt: skip
    config = {"timesteps": STEPS, "sample_steps": steps, "ddpm_timesteps": ddpm, "weights_from": "me2_prior"}
    config |= {"eta": 1.0, "image_embed_scale": scale}
    # Each call takes in the error of all before it, so single precision is as far off here as in the published folder.
    return write(folder, "me2_prior_sampling", config, arrays, tolerance={"atol": 2e-3, "rtol": 2e-3})
