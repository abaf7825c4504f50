"""Linear decoders: what is fitted, beside scikit-learn; what is made of it, by small generators with random weights."""

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    UNet2DConditionModel,
)
from open_clip import tokenize
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_predict
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    GitConfig,
    GitModel,
)

from voxelight.models.captioning.git_vision import GitVisionConfig
from voxelight.models.clip.text import END, VOCABULARY
from voxelight.models.clip.words import WordsConfig
from voxelight.models.errors import BadInput, NotFound, Unavailable
from voxelight.models.generators import DualGenerator, load_img2img
from voxelight.neuro.linear import find_linear_recipe, list_linear_recipes, vdvae
from voxelight.neuro.linear.fit import fit_linear
from voxelight.neuro.linear.pictures import control_by_depth, guide_dual, prepare_depth, vary_guesses
from voxelight.neuro.linear.recipe import Generator, LinearRecipe, Target
from voxelight.neuro.splits import k_fold

SIZES = {"pixels": (4, 4, 3), "tokens": (3, 5)}


def make_recipe(**other):
    targets = {name: Target(shape=shape, alphas=(30.0,), made_by="a test") for name, shape in SIZES.items()}
    return LinearRecipe(name="small", title="small", summary="small", targets=targets, folds=3, **other)


@pytest.fixture(scope="module")
def problem():
    random = np.random.default_rng(0)
    stimuli = random.permutation(np.repeat([f"picture-{row}" for row in range(20)], 3)).tolist()
    pictures = sorted(set(stimuli))
    values = {name: random.normal(size=(20, *shape)) for name, shape in SIZES.items()}
    rows = [pictures.index(one) for one in stimuli]
    betas = values["tokens"].reshape(20, -1)[rows] @ random.normal(size=(15, 30)) + 4 * random.normal(size=(60, 30)) + 2
    betas[:, 3] = 7  # a voxel that never moves
    return betas, stimuli, pictures, values, rows


def fit(problem, recipe, room=lambda _space, shape: np.zeros(shape)):
    betas, stimuli, pictures, values, _ = problem
    return fit_linear(betas, stimuli, {name: (array, pictures) for name, array in values.items()}, recipe, room)


def test_predictions_are_ridges_in_the_spread_of_the_targets_and_need_no_other_scan(problem):
    betas, stimuli, _, values, rows = problem
    decoder, new = fit(problem, make_recipe()), np.random.default_rng(1).normal(loc=2, size=(5, 30))
    spread = betas.std(0, ddof=1)
    spread[3] = 1
    standard, fresh = (betas - betas.mean(0)) / spread, (new - betas.mean(0)) / spread
    folds = [(f.train, f.test) for f in k_fold("stimulus", np.array(stimuli), np.array(stimuli), 3, 0).folds]
    for name, array in values.items():
        flat = array.reshape(20, -1)[rows]
        held_out = cross_val_predict(Ridge(alpha=30.0), standard, flat, cv=folds)
        plain = Ridge(alpha=30.0).fit(standard, flat).predict(fresh)
        expected = (plain - held_out.mean(0)) / held_out.std(0) * flat.std(0) + flat.mean(0)
        got = decoder.predict(new, name)
        assert got.shape == (5, *SIZES[name])
        np.testing.assert_allclose(got.reshape(5, -1), expected, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(decoder.predict(new[:1], name), got[:1], rtol=1e-10, atol=1e-12)


def test_without_rescaling_it_is_the_plain_ridge(problem, tmp_path):
    def room(space, shape):
        return np.lib.format.open_memmap(tmp_path / f"{space}.npy", "w+", np.float16, shape)

    shrunk, plain = fit(problem, make_recipe(rescale=False), room), fit(problem, make_recipe())
    new = np.random.default_rng(1).normal(loc=2, size=(40, 30))
    assert (shrunk.predict(new, "tokens").std(0) < plain.predict(new, "tokens").std(0)).all()
    assert (tmp_path / "tokens.npy").stat().st_size < 15 * 30 * 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"targets": {"other": (np.ones((20, 2)), None)}}, "Name a space"),
        ({"targets": {"tokens": (np.ones((20, 3, 4)), None)}}, "made by a test"),
        ({"targets": {"tokens": (np.ones((19, 3, 5)), "short")}}, "picture-9"),
        ({"stimuli": ["one"]}, "a stimulus for each"),
    ],
)
def test_what_does_not_fit_is_refused(problem, change, words):
    betas, stimuli, pictures, values, _ = problem
    given = change.get("targets", {"tokens": (values["tokens"], None)})
    named = {name: (array, pictures[:-1] if ids else pictures) for name, (array, ids) in given.items()}
    with pytest.raises(BadInput, match=words):
        fit_linear(betas, change.get("stimuli", stimuli), named, make_recipe(), lambda _space, shape: np.zeros(shape))


def test_a_decoder_refuses_other_voxels_and_spaces(problem):
    decoder = fit(problem, make_recipe())
    with pytest.raises(NotFound, match="pixels, tokens"):
        decoder.predict(problem[0], "depth")
    for betas in (problem[0][:, :-1], np.full((1, 30), np.nan)):
        with pytest.raises(BadInput, match="mask and the subject"):
            decoder.predict(betas, "tokens")


def test_the_packaged_decoders_have_the_published_numbers():
    assert list_linear_recipes() == (
        "brain-captioning",
        "brain-captioning-large",
        "brain-diffuser",
        "linear-random-small",
    )
    captioning, diffuser = find_linear_recipe("brain-captioning"), find_linear_recipe("brain-diffuser")
    assert (captioning.targets["git"].shape, captioning.targets["git"].alphas) == ((197, 768), (6e4,))
    assert find_linear_recipe("brain-captioning-large").targets["git"].shape == (257, 1024)
    assert {name: (target.shape, target.alphas) for name, target in diffuser.targets.items() if "clip" in name} == {
        "clip-text": ((77, 768), (1e5,)),
        "clip-vision": ((257, 768), (6e4,)),
    }
    assert diffuser.targets["vdvae"].size == captioning.targets["vdvae-depth"].size == vdvae.TOTAL == 91_168
    img2img, dual = captioning.generators["img2img"], diffuser.generators["dual-guided"]
    assert (img2img.strength, img2img.guidance, captioning.caption_length) == (0.6, 9.0, 25)
    assert captioning.generators["depth-edit-shuffle"].scales == (0.7, 0.2, 0.5)
    assert (int(dual.steps * dual.strength), dual.guidance, dual.text_share) == (37, 7.5, 0.4)


def test_the_latents_of_the_hierarchical_vae_are_cut_and_joined_and_not_decoded():
    assert len(vdvae.SHAPES) == 31
    flat = np.random.default_rng(0).normal(size=(2, 91_168)).astype(np.float32)
    layers = vdvae.split_layers(flat)
    assert [layer.shape[1:] for layer in layers][::6] == [
        (16, 1, 1), (16, 8, 8), (16, 8, 8), (16, 16, 16), (16, 16, 16), (16, 32, 32),
    ]  # fmt: skip
    np.testing.assert_array_equal(vdvae.join_layers(layers), flat)
    with pytest.raises(BadInput, match="91168"):
        vdvae.split_layers(flat[:, 1:])
    with pytest.raises(BadInput, match="every layer once"):
        vdvae.join_layers(layers[::-1])
    with pytest.raises(Unavailable, match="not part of Voxelight"):
        vdvae.decode(layers)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Networks of Stable Diffusion at a small size, random, and a tokenizer of single letters."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    letters = [chr(code) for code in range(97, 123)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    unet = {"block_out_channels": (32, 32), "layers_per_block": 1, "attention_head_dim": 2, "norm_num_groups": 8}
    blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
    return {
        "vae": AutoencoderKL(block_out_channels=(16, 16), down_block_types=("DownEncoderBlock2D",) * 2,
                             up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=8),
        "text_encoder": CLIPTextModel(CLIPTextConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                                     num_attention_heads=2, vocab_size=len(words), eos_token_id=1)),
        "tokenizer": CLIPTokenizer(vocab={word: place for place, word in enumerate(words)}, merges=[],
                                   model_max_length=77, unk_token="<|endoftext|>"),
        "unet": UNet2DConditionModel(sample_size=16, cross_attention_dim=16, **unet, **blocks,
                                     up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")),
        "controlnet": [ControlNetModel(cross_attention_dim=16, conditioning_embedding_out_channels=(8, 16), **unet,
                                       **blocks) for _ in range(2)],
        "scheduler": DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                   steps_offset=1, clip_sample=False, set_alpha_to_one=False),
        "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False,
    }  # fmt: skip


def small(kind, **other):
    return Generator(kind=kind, checkpoint="small", steps=4, side=32, guidance=3.0, negative="lowres", **other)


GUESSES = np.random.default_rng(0).random((2, 20, 20, 3))


def assert_pictures(made):
    assert made.shape == (2, 32, 32, 3)
    assert made.dtype == np.float32
    assert made.min() >= 0
    assert made.max() <= 1
    assert made.std() > 0.01


def test_pictures_come_from_guess_caption_and_seed(parts):
    pipe = StableDiffusionImg2ImgPipeline(**{name: part for name, part in parts.items() if name != "controlnet"})
    pipe.set_progress_bar_config(disable=True)
    generator = small("img2img", strength=0.5)

    def make(guesses=GUESSES, captions=("a dog", "a cat"), seeds=(1, 2)):
        return vary_guesses(pipe, guesses, captions, seeds, generator)

    made = make()
    assert_pictures(made)
    np.testing.assert_array_equal(make()[1], make(GUESSES[1:], ("a cat",), (2,))[0])
    for other in (make(GUESSES[::-1]), make(captions=("a bird", "a cat")), make(seeds=(3, 2))):
        assert np.abs(other[0] - made[0]).max() > 1e-4
    with pytest.raises(BadInput, match="one of each"):
        make(captions=("a dog",))


def test_a_checkpoint_of_ones_own_is_read_from_its_folder(parts, tmp_path):
    pipe = StableDiffusionImg2ImgPipeline(**{name: part for name, part in parts.items() if name != "controlnet"})
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "mine")
    loaded = load_img2img(str(tmp_path / "mine"), "cpu", torch.float32)
    told = (GUESSES[:1], ("a dog",), (1,), small("img2img", strength=0.5))
    np.testing.assert_allclose(vary_guesses(loaded, *told), vary_guesses(pipe, *told), atol=1e-5)


def test_depth_steers_through_every_controlnet(parts):
    pipe = StableDiffusionControlNetPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    for net in parts["controlnet"]:  # as new ones they add nothing
        for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):
            torch.nn.init.normal_(block.weight, std=0.5)

    def make(scales):
        generator = small("controlnet", controls=("depth", "shuffle"), scales=scales)
        return control_by_depth(pipe, GUESSES, ("a dog", "a cat"), (1, 2), generator)

    made = make((0.7, 0.5))
    assert_pictures(made)
    assert np.abs(make((0.7, 0.0)) - made).max() > 1e-4
    assert np.abs(make((0.0, 0.0)) - make((0.7, 0.0))).max() > 1e-4


def test_a_depth_map_is_shown_in_few_smooth_tones():
    shown = prepare_depth(np.random.default_rng(0).random((64, 64, 3)), 128)
    assert (shown.size, shown.mode) == ((128, 128), "RGB")
    pixels = np.asarray(shown).astype(int)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    rough = np.asarray(Image.fromarray((np.random.default_rng(0).random((128, 128)) * 255).astype(np.uint8)))
    assert np.abs(np.diff(pixels[..., 0])).mean() < 0.2 * np.abs(np.diff(rough.astype(int))).mean()


def test_dual_guidance_takes_words_picture_and_guess(parts):
    class Both(torch.nn.Module):
        """Stands for the joined UNet, whose own test is elsewhere: it shifts noise by what it is told."""

        def __init__(self):
            super().__init__()
            self.weight, self.seen = torch.nn.Parameter(torch.ones(1)), []

        def forward(self, x, step, encoder_hidden_states, return_dict):
            self.seen.append((x.shape, int(step), encoder_hidden_states.mean(dim=(1, 2))))
            return (0.1 * x + encoder_hidden_states.mean(dim=(1, 2))[:, None, None, None],)

    unet, nothing = Both(), (torch.zeros(1, 77, 4), torch.zeros(1, 257, 4))
    dual = DualGenerator(unet, parts["vae"].eval(), parts["scheduler"], nothing)
    generator = small("dual-guided", strength=0.75)
    words, seen = torch.full((2, 77, 4), 0.1), torch.full((2, 257, 4), 0.3)
    made = guide_dual(dual, words, seen, GUESSES, (1, 2), generator)
    assert_pictures(made)
    assert len(unet.seen) == 2 * 3  # three quarters of four steps, two pictures
    assert [step for _, step, _ in unet.seen[:3]] == [501, 251, 1]
    assert unet.seen[0][2].tolist() == pytest.approx([0, (77 * 0.1 + 257 * 0.3) / 334])
    assert np.abs(guide_dual(dual, 3 * words, seen, GUESSES, (1, 2), generator) - made).max() > 1e-4
    with pytest.raises(BadInput, match="one of each"):
        guide_dual(dual, words[:1], seen, GUESSES, (1, 2), generator)


def test_a_checkpoint_that_is_gone_is_named_with_a_way_out(tmp_path):
    with pytest.raises(Unavailable, match="withdrawn or moved"):
        load_img2img(str(tmp_path), "cpu")


def test_gits_tokens_are_those_of_its_own_encoder():
    torch.manual_seed(0)
    config = GitVisionConfig(width=24, layers=2, heads=2, mlp_width=32, patch=16, side=32)
    tower = config.build().eval()
    images = torch.rand(2, 3, 32, 32)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    whole = GitModel(
        GitConfig(vision_config=tower.image_encoder.config.to_dict(), hidden_size=24, num_attention_heads=2)
    ).eval()
    whole.image_encoder.load_state_dict(tower.image_encoder.state_dict())
    shown = [Image.fromarray(np.round(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)) for image in images]
    with torch.no_grad():
        theirs = whole.image_encoder(**processor(shown, return_tensors="pt")).last_hidden_state
        ours = tower(images)
    assert ours.shape == (2, config.tokens, 24) == (2, 5, 24)
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)  # they round pictures to bytes
    assert GitVisionConfig().tokens == 197


def test_word_tokens_are_versatile_diffusions_own():
    torch.manual_seed(0)
    words = WordsConfig(width=16, layers=2, heads=2, mlp_width=16, dim=12).build().eval()
    tokens = words(["a dog on a beach", "two cats"])
    assert tokens.shape == (2, 77, 12)
    numbers = tokenize(["a dog on a beach", "two cats"])
    numbers[numbers == 0] = END
    whole = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
            projection_dim=12, eos_token_id=END,
        )
    ).eval()  # fmt: skip
    whole.load_state_dict(words.state_dict(), strict=False)
    with torch.no_grad():
        told = whole(input_ids=numbers)
        expected = whole.text_projection(told.last_hidden_state) / told.text_embeds.norm(dim=-1)[:, None, None]
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
