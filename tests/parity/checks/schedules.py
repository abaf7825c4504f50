"""Noise schedules, and the curves that training follows."""

import re
from itertools import pairwise

import torch
from checks.cases import Also, Beside, Found, Kind, check_config
from checks.files import BrokenFixture, Fixture
from torch import Tensor

from voxelight.models.diffusion.schedules import (
    SDXL_STEPS,
    all_sigmas,
    cosine_buffers,
    ddim_time_pairs,
    edm_sigmas,
    edm_timesteps,
)
from voxelight.neuro.curves import one_cycle, soft_clip_temperatures


def run_cosine(fixture: Fixture, match: re.Match[str]) -> Tensor:
    buffers = cosine_buffers(int(match["T"]), s=fixture.config["cosine_s"])
    if match["buffer"] not in buffers:
        raise BrokenFixture(f"the schedule has no buffer {match['buffer']}; found {sorted(buffers)}")
    return buffers[match["buffer"]]


def run_ddim_times(_: Fixture, match: re.Match[str]) -> Tensor:
    pairs = ddim_time_pairs(int(match["steps"]), int(match["T"]))
    assert all(one[1] == other[0] for one, other in pairwise(pairs)), f"these pairs do not follow on: {pairs}"
    return torch.tensor([*(time for time, _ in pairs), pairs[-1][1]])


def run_sigmas(fixture: Fixture, match: re.Match[str]) -> Tensor:
    """The whole table rises and has no zero at the end; the sigmas of a sampler fall to zero."""
    steps = int(match["steps"])
    whole = steps == SDXL_STEPS and fixture.shapes.get(f"out.sdxl_sigmas_{steps}") == (steps,)
    return all_sigmas() if whole else edm_sigmas(steps)


def run_timesteps(fixture: Fixture, match: re.Match[str]) -> Tensor:
    return edm_timesteps(run_sigmas(fixture, match)[: int(match["steps"])])


def run_temperatures(_: Fixture, match: re.Match[str]) -> Tensor:
    return soft_clip_temperatures(int(match["epochs"]), float(match["share"]))


def run_steps(fixture: Fixture, match: re.Match[str]) -> Tensor:
    """The steps are the input of the other two; that they are those of whole epochs is all there is to check."""
    find_epochs(fixture, match["run"])
    return fixture.given(match[0])


def run_one_cycle(fixture: Fixture, match: re.Match[str]) -> Tensor:
    check_config(
        fixture.config["onecycle"], {"max_lr"}, {"div_factor": 25, "final_div_factor": 1000, "pct_start": "2/epochs"}
    )
    curve = [find_rates(fixture, match["run"], step) for step in fixture.given(f"out.{match['run']}.step").tolist()]
    return torch.tensor([rates[match["what"]] for rates in curve], dtype=torch.float64)


def find_rates(fixture: Fixture, run: str, step: int) -> dict[str, float]:
    """Return what a run uses at a step, which it reaches as one that was broken off just before."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    schedule = one_cycle(optimizer, *find_epochs(fixture, run), fixture.config["onecycle"]["max_lr"])
    if step:
        schedule.load_state_dict(schedule.state_dict() | {"last_epoch": step - 1})
        optimizer.step()
        schedule.step()
    group = optimizer.param_groups[0]
    return {"lr": group["lr"], "beta1": group["betas"][0]}


def find_epochs(fixture: Fixture, run: str) -> tuple[int, int]:
    """Return epochs and steps an epoch, which the file tells only by the steps that it lists.

    They are the first three, the end of the first epoch and the three around that of the second, one and two quarters
    of the run, and its last two.
    """
    steps = set(fixture.given(f"out.{run}.step").tolist())
    total = max(steps) + 1
    found = [n for n in steps if n > 1 and {2 * n - 1, 2 * n, 2 * n + 1} <= steps and total % n == 0]
    if len(found) != 1:
        raise BrokenFixture(f"the steps {sorted(steps)} of {run} do not tell how many make an epoch")
    return total // found[0], found[0]


def compare_ratios(fixture: Fixture) -> Found:
    """Rates fall below the absolute tolerance of the file, so they are compared by their ratio as well."""
    rates = [match for name in fixture.shapes if (match := re.fullmatch(ONE_CYCLE, name)) and match["what"] == "lr"]
    ratios = {match[0]: run_one_cycle(fixture, match) / fixture.given(match[0]) for match in rates}
    return {f"{name}, found / expected": Beside(ratio, torch.ones_like(ratio)) for name, ratio in ratios.items()}


ONE_CYCLE = r"out\.(?P<run>onecycle_\w+)\.(?P<what>lr|beta1)"
KIND = Kind(
    outputs={
        r"out\.T(?P<T>\d+)\.(?P<buffer>\w+)": run_cosine,
        r"out\.prior_ddim_times_(?P<steps>\d+)of(?P<T>\d+)": run_ddim_times,
        r"out\.sdxl_sigmas_(?P<steps>\d+)": run_sigmas,
        r"out\.sdxl_timestep_idx_(?P<steps>\d+)": run_timesteps,
        r"out\.soft_temps_(?P<epochs>\d+)_(?P<share>[\d.]+)": run_temperatures,
        r"out\.(?P<run>onecycle_\w+)\.step": run_steps,
        ONE_CYCLE: run_one_cycle,
    },
    also={"onecycle ratios": Also((ONE_CYCLE,), compare_ratios)},
    known=frozenset({"cosine_s", "onecycle"}),
    fixed={"sdxl_linear_start": 0.00085, "sdxl_linear_end": 0.012},
)
