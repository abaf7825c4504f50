"""Plans of memory: from full-size networks that are built without storage."""

import pytest
import torch

from voxelight.models.errors import Unavailable
from voxelight.neuro.memory import count_kept, count_parameters, find_need_gib, plan_memory
from voxelight.neuro.profiles import GenerationOptions, find_profile

FULL = GenerationOptions()


@pytest.fixture(scope="module")
def profile():
    return find_profile("mindeye2")


def test_parts_are_as_large_as_published(profile):
    """Counts of the specification: decoder with its prior, UNet of unCLIP and of SDXL base, autoencoder, converter."""
    published = {
        "decoder": 2_227_294_844,
        "unclip": 2_501_272_324,
        "refiner": 2_567_463_684,
        "autoencoder": 83_653_863,
        "image_encoder": 1_844_907_264,
        "converter": 1_771_009,
    }
    assert {part: count_parameters(profile.parts[part]) for part in published} == published


def test_a_context_is_kept_as_large_as_it_is(profile):
    """170 and 51 MB an image, both streams, as measured; and as the shapes of the attentions say."""
    for part, tokens, expected in (("unclip", 256, 170), ("refiner", 77, 51)):
        with torch.device("meta"):
            unet = profile.parts[part].build_config().build()
        rows = sum(module.to_k.out_features for name, module in unet.named_modules() if name.endswith("attn2"))
        kept = count_kept(profile, part, "bfloat16") * 2**30 / 1e6
        assert kept == pytest.approx(2 * 2 * 2 * tokens * rows / 1e6)
        assert kept == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(("card", "batch", "moved"), [(24, 8, {"text"}), (40, 16, set()), (80, 16, set())])
def test_every_card_runs_the_whole_pipeline_in_bfloat16(profile, card, batch, moved):
    plan = plan_memory(card, profile, FULL)
    assert plan.batch == batch
    assert plan.offloaded == moved
    assert plan.need_gib <= card
    assert plan.autoencoder_dtype == "bfloat16"


def test_less_memory_slices_then_moves_parts_then_takes_fewer_images(profile):
    plans = [plan_memory(gib, profile, FULL) for gib in (80, 40, 24, 16, 9)]
    assert [plan.sliced_decode for plan in plans[:3]] == [False, True, True]
    assert not plans[1].offloaded
    assert plans[2].offloaded < plans[3].offloaded <= plans[4].offloaded
    assert plans[3].batch == 8
    assert plans[4].batch < 8
    needs = [plan.need_gib for plan in plans]
    assert needs == sorted(needs, reverse=True)


def test_float32_and_float16_keep_autoencoders_in_float32(profile):
    for dtype in ("float16", "float32"):
        plan = plan_memory(24, profile, FULL.model_copy(update={"dtype": dtype}))
        assert plan.autoencoder_dtype == "float32"
        assert plan.need_gib <= 24
    assert plan.offloaded  # float32 is twice as large


def test_a_batch_that_was_asked_for_is_kept(profile):
    for batch in (1, 3, 32):
        assert plan_memory(40, profile, FULL.model_copy(update={"batch": batch})).batch == batch
    with pytest.raises(Unavailable, match="Leave the batch to the plan"):
        plan_memory(12, profile, FULL.model_copy(update={"batch": 64}))


def test_stopping_earlier_needs_less(profile):
    stops = ("tokens", "caption", "unrefined", "refined")
    needs = [find_need_gib(profile, FULL.model_copy(update={"stop": stop}), can_offload=False) for stop in stops]
    assert needs == sorted(needs)
    assert needs[0] < needs[-1] / 2


@pytest.mark.parametrize(
    ("change", "smaller", "advice"),
    [
        ({"dtype": "float32"}, {"dtype": "bfloat16"}, "Use dtype bfloat16: that needs"),
        ({}, {"stop": "caption"}, "Use dtype bfloat16 and stop at caption: that needs"),
        ({"batch": 64}, {"batch": None}, "Leave the batch to the plan: that needs"),
    ],
    ids=["another precision", "another stop", "a smaller batch"],
)
def test_too_little_memory_says_how_much_and_what_would_fit(profile, change, smaller, advice):
    options = FULL.model_copy(update=change)
    need, fits = (find_need_gib(profile, one) for one in (options, options.model_copy(update=smaller)))
    assert fits < need
    with pytest.raises(Unavailable, match=advice) as refusal:
        plan_memory(fits, profile, options)
    assert f"at least {need:.1f} GiB" in str(refusal.value)
    assert plan_memory(need, profile, options).need_gib <= need
    with pytest.raises(Unavailable, match="Use a larger device"):
        plan_memory(2, profile, options)


def test_a_device_without_another_place_moves_nothing(profile):
    plan = plan_memory(64, profile, FULL, can_offload=False)
    assert not plan.offloaded
    with pytest.raises(Unavailable):
        plan_memory(12, profile, FULL, can_offload=False)


def test_a_part_alone_is_planned_alone(profile):
    plan = plan_memory(6, profile, FULL, parts=["image_encoder"])
    assert not plan.offloaded
    assert plan.need_gib < 6
