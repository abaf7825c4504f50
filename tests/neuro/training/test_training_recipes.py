"""Recipes of training, the optimiser's groups, and how a training starts."""

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from voxelight.models.decoders.mindeye2 import MindEye2Config
from voxelight.models.errors import BadInput, NotFound
from voxelight.models.training.loop import Hooks
from voxelight.neuro.curves import count_mixing_epochs
from voxelight.neuro.train import fit_decoder
from voxelight.neuro.training.optimiser import build_groups, build_optimiser, choose_trained
from voxelight.neuro.training.recipe import (
    Defects,
    Losses,
    TrainingRecipe,
    find_training_recipe,
    list_training_recipes,
)
from voxelight.neuro.training.ridge import find_weights
from voxelight.neuro.training.start import build_decoder, start_from
from voxelight.storage.training_log import TrainingLog


@pytest.mark.parametrize("name", list_training_recipes())
def test_every_recipe_builds_its_decoder(name):
    recipe = find_training_recipe(name)
    with torch.device("meta"):
        network = MindEye2Config(voxels=(15724,), **recipe.config).build()
    assert bool(recipe.losses.low_level) == network.config.low_level
    assert recipe.defects == Defects()
    assert recipe.as_published().defects == Defects.published()
    assert all(dict(Defects.published()).values())


@pytest.mark.parametrize(
    ("name", "sessions", "subjects", "steps", "epochs"),
    [
        ("mindeye2-finetune", 1, 1, 31, 150),
        ("mindeye2-finetune", 2, 1, 62, 150),
        ("mindeye2-finetune", 5, 1, 156, 150),
        ("mindeye2-finetune", 10, 1, 312, 150),
        ("mindeye2-finetune", 40, 1, 1250, 150),
        ("mindeye2-pretrain", 40, 7, 714, 150),
        ("mindeye2-pretrain-small", 40, 7, 714, 300),
    ],
)
def test_epochs_are_as_long_as_published(name, sessions, subjects, steps, epochs):
    recipe = find_training_recipe(name).model_copy(update={"sessions": sessions})
    assert recipe.steps_an_epoch(subjects) == steps
    assert recipe.epochs == epochs
    assert (recipe.epochs != 150) or count_mixing_epochs(recipe.epochs, recipe.losses.mixing_share) == 49


def test_a_batch_longer_than_an_epoch_is_refused():
    with pytest.raises(BadInput, match="at least one batch"):
        find_training_recipe("mindeye2-finetune").steps_an_epoch(50)


def test_unknown_recipes_and_options_are_refused(small):
    with pytest.raises(NotFound, match="mindeye2-finetune"):
        find_training_recipe("mindeye9")
    for wrong in ({"bach": 3}, {"losses": {"pior": 1}}, {"epochs": 1}, {"micro_batches": 4}):
        with pytest.raises(ValidationError):
            TrainingRecipe(**small.make_recipe().model_dump() | wrong)


def test_recipes_are_listed_without_torch():
    code = (
        "import sys; from voxelight.neuro.training.recipe import find_training_recipe as f; f('mindeye2-finetune');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def group_names(network, recipe):
    choose_trained(network, recipe)
    names = {id(value): name for name, value in network.named_parameters()}
    groups = build_groups(network, recipe)
    return {name: group["weight_decay"] for group in groups for name in (names[id(value)] for value in group["params"])}


def test_what_decays(small):
    network = build_decoder(small.make_recipe(), [20])
    for published in (False, True):
        found = group_names(network, small.make_recipe(defects=Defects(decayed_norms=published, idle_blocks=True)))
        trained = {name for name, value in network.named_parameters() if not name.endswith("rotary_emb.freqs")}
        assert found.keys() == trained
        attention = "diffusion_prior.net.causal_transformer"
        always = [
            "ridge.linears.0.weight",
            "ridge.linears.0.bias",
            "backbone.backbone_linear.weight",
            "backbone.clip_proj.2.weight",
            "diffusion_prior.net.learned_query",
            f"{attention}.layers.0.0.null_kv",
            f"{attention}.layers.0.0.to_q.weight",
        ]
        never = [
            "backbone.backbone_linear.bias",
            "backbone.clip_proj.0.bias",
            f"{attention}.rel_pos_bias.relative_attention_bias.weight",
        ]
        norms = [
            "backbone.mixer_blocks1.0.0.weight",
            "backbone.clip_proj.0.weight",
            "backbone.bnorm.weight",
            "backbone.bupsampler.conv_norm_out.weight",
            "backbone.b_maps_projector.1.weight",
            f"{attention}.norm.g",
            f"{attention}.layers.0.0.to_out.1.g",
        ]
        assert {found[name] for name in always} == {0.01}
        assert {found[name] for name in never} == {0.0}
        assert {found[name] for name in norms} == {0.01 if published else 0.0}


def test_at_full_size_all_but_the_idle_blocks_is_trained():
    recipe = find_training_recipe("mindeye2-finetune")
    with torch.device("meta"):
        network = MindEye2Config(voxels=(15724,)).build()
    for idle, trained in ((True, 2_227_294_844 - 16), (False, 2_227_294_844 - 16 - 134_283_264)):
        changed = recipe.model_copy(update={"defects": Defects(idle_blocks=idle)})
        choose_trained(network, changed)
        groups = build_groups(network, changed)
        assert sum(value.numel() for group in groups for value in group["params"]) == trained


@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        ({}, ["backbone.mixer_blocks1."]),
        ({"losses": Losses(prior=0)}, ["backbone.mixer_blocks1.", "diffusion_prior."]),
        ({"losses": Losses(contrast=0)}, ["backbone.mixer_blocks1.", "backbone.b_maps_projector."]),
        ({"losses": Losses(clip=0)}, ["backbone.mixer_blocks1.", "backbone.clip_proj."]),
        ({"losses": Losses(low_level=0)}, ["backbone.mixer_blocks1.", "backbone.b"]),
        ({"frozen": ("diffusion_prior",)}, ["backbone.mixer_blocks1.", "diffusion_prior."]),
        ({"frozen": ("backbone", "diffusion_prior")}, ["backbone.", "diffusion_prior."]),
    ],
)
def test_terms_and_parts_can_be_left_out(small, make_data, make_network, changes, idle, tmp_path):
    data, recipe = make_data(), small.make_recipe(epochs=2, **changes)
    network = make_network(data, recipe)
    before = {name: value.clone() for name, value in network.named_parameters()}
    log = TrainingLog(tmp_path / "log.jsonl")
    fit_decoder(network, data, recipe, "cpu", Hooks(log=log))
    stay = {name for name, value in network.named_parameters() if torch.equal(value, before[name])}
    idle = [prefix for prefix in idle if prefix != "backbone.b"]
    expected = {name for name in before if name.startswith(tuple(idle)) or name.endswith("rotary_emb.freqs")}
    if recipe.losses.low_level == 0:
        expected |= {name for name in before if name.startswith("backbone.b") and "backbone_linear" not in name}
    # A norm over one entry passes no slope to its gain.
    assert {name for name in stay ^ expected if "mixer_blocks2" not in name} == set()
    for row in log.rows():
        losses = recipe.losses
        low_level = row["absolute"] + losses.contrast * row["contrast"]
        total = losses.prior * row["prior"] + losses.clip * row["clip"] + losses.low_level * low_level
        assert row["loss"] == pytest.approx(total)
        assert (row["prior"] == 0) == (losses.prior == 0)
        assert (row["clip"] == 0) == (losses.clip == 0)
        assert (row["contrast"] == 0) == (losses.contrast == 0 or losses.low_level == 0)


def test_a_decoder_without_a_low_level_branch_or_prior_is_trained(small, make_data, make_network, tmp_path):
    config = {**small.config, "low_level": False, "prior": None}
    data, recipe = make_data(), small.make_recipe(config=config, losses=Losses(low_level=0, prior=0), epochs=8)
    log = TrainingLog(tmp_path / "log.jsonl")
    fitted = fit_decoder(make_network(data, recipe), data, recipe, "cpu", Hooks(log=log))
    assert fitted.finished
    assert not any(name.startswith("diffusion_prior") for name in fitted.weights)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_training_learns(small, make_data, make_network, tmp_path, precision):
    """Few trials, learnt by heart: their own images become the nearest."""
    losses = Losses(mixing_share=0.1, low_level=0, prior=0)
    recipe = small.make_recipe(
        config={**small.config, "hidden": 64, "low_level": False, "prior": None},
        losses=losses, epochs=60, learning_rate=3e-3, precision=precision,
    )  # fmt: skip
    data = make_data(trials=12, repeats=2)
    log = TrainingLog(tmp_path / "log.jsonl")
    fit_decoder(make_network(data, recipe, dropout=True), data, recipe, "cpu", Hooks(log=log))
    rows = log.rows()
    assert sum(row["top1"] for row in rows[-10:]) > 9
    assert rows[-1]["loss"] < 0.1 * rows[0]["loss"]


def multisubject(small):
    return build_decoder(small.make_recipe(seed=1), [30, 25]).state_dict()


@pytest.mark.parametrize("inherited", [False, True])
def test_a_new_subject_starts_from_all_but_the_ridge(small, inherited):
    weights = multisubject(small)
    recipe = small.make_recipe(start="multisubject", defects=Defects(inherited_ridge_bias=inherited))
    fresh = build_decoder(small.make_recipe(), [20]).state_dict()
    found = build_decoder(recipe, [20], weights).state_dict()
    for name, value in found.items():
        if name == "ridge.linears.0.weight" or (name == "ridge.linears.0.bias" and not inherited):
            assert torch.equal(value, fresh[name])
        else:
            assert torch.equal(value, weights[name]), name
    assert not torch.equal(fresh["ridge.linears.0.bias"], weights["ridge.linears.0.bias"])


def test_a_start_that_does_not_fit_is_refused(small):
    weights, recipe = multisubject(small), small.make_recipe(start="multisubject")
    network = build_decoder(small.make_recipe(), [20])
    without = {name: value for name, value in weights.items() if name != "backbone.blin1.weight"}
    with pytest.raises(BadInput, match=r"1 missing \(backbone.blin1.weight\)"):
        start_from(network, without)
    with pytest.raises(BadInput, match="1 unexpected"):
        start_from(network, weights | {"optimizer": torch.zeros(1)})
    with pytest.raises(BadInput, match=r"backbone.blin1.bias \(7,\)"):
        start_from(network, weights | {"backbone.blin1.bias": torch.zeros(7)})
    with pytest.raises(BadInput, match="without a ridge"):
        start_from(network, {name: value for name, value in weights.items() if not name.startswith("ridge")})
    with pytest.raises(BadInput, match="2 subjects"):
        build_decoder(recipe, [20, 21], weights)
    with pytest.raises(BadInput, match="no weights for the recipe small, which starts multisubject"):
        build_decoder(recipe, [20])
    with pytest.raises(BadInput, match="weights of a decoder for the recipe small, which starts fresh"):
        build_decoder(small.make_recipe(), [20], weights)


def test_the_same_seed_gives_the_same_start(small):
    one, other = (build_decoder(small.make_recipe(seed=seed), [20]).state_dict() for seed in (3, 3))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_adapters_start_as_the_map_that_subjects_of_one_space_share(small):
    network = build_decoder(small.make_recipe(adapter_rank=3), [21, 20, 20])
    plain = build_decoder(small.make_recipe(), [21, 20, 20]).state_dict()
    merged = find_weights(network)
    assert merged.keys() == plain.keys()
    for number in (1, 2):
        assert torch.equal(merged[f"ridge.linears.{number}.weight"], plain["ridge.linears.1.weight"])
    assert torch.linalg.matrix_rank(merged["ridge.linears.0.weight"]) == 3, "21 voxels share no space with 20"
    for number, voxels in enumerate((21, 20, 20)):
        assert network.ridge.down[number].numel() + network.ridge.up[number].numel() == 3 * (voxels + 24)


def test_a_new_subject_in_a_known_space_is_adapted_to_a_map_that_stays(small, make_data):
    weights = build_decoder(small.make_recipe(seed=1), [30, 20]).state_dict()
    recipe = small.make_recipe(start="multisubject", adapter_rank=3, epochs=4)
    network, data = build_decoder(recipe, [20], weights), make_data()
    assert torch.equal(find_weights(network)["ridge.linears.0.weight"], weights["ridge.linears.1.weight"])
    fitted = fit_decoder(network, data, recipe, "cpu", Hooks())
    change = fitted.weights["ridge.linears.0.weight"] - weights["ridge.linears.1.weight"]
    assert torch.linalg.matrix_rank(change, rtol=1e-4) == 3
    elsewhere = build_decoder(recipe, [22], weights)
    assert elsewhere.ridge.shared is None


def test_a_trained_adapter_is_stored_as_a_plain_decoder_that_does_the_same(small, make_data, make_network):
    data, recipe = make_data(2), small.make_recipe(batch=3, adapter_rank=3, epochs=4)
    network = make_network(data, recipe)
    fitted = fit_decoder(network, data, recipe, "cpu", Hooks())
    plain = small.find_config(recipe, [20, 21]).build().eval()
    plain.load_state_dict(dict(fitted.weights))
    with torch.no_grad():
        for number, subject in enumerate(data.subjects):
            trials = torch.from_numpy(subject.voxels[:5])[:, None]
            torch.testing.assert_close(
                plain(trials, number).tokens, network(trials, number).tokens, rtol=1e-4, atol=1e-5
            )


def test_an_adapter_of_full_rank_is_refused(small):
    with pytest.raises(BadInput, match="rank 20"):
        build_decoder(small.make_recipe(adapter_rank=20), [20])


def test_half_precision_scales_gradients_only_there(small):
    from voxelight.neuro.training.optimiser import build_scaler

    assert build_scaler(small.make_recipe(precision="fp16"), torch.device("cpu")).is_enabled()
    assert not build_scaler(small.make_recipe(precision="bf16"), torch.device("cpu")).is_enabled()


def test_the_cycle_has_the_groups_rate(small):
    network = build_decoder(small.make_recipe(), [20])
    recipe = small.make_recipe(learning_rate=1e-3)
    choose_trained(network, recipe)
    optimiser, schedule = build_optimiser(network, recipe, 2)
    assert [group["max_lr"] for group in optimiser.param_groups] == [1e-3, 1e-3]
    assert schedule.total_steps == 12
