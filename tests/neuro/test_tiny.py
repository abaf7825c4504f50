"""The training of the `tiny` profile at sizes that a processor bears, on drawn shapes in place of photographs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from voxelight.models.diffusion.presets import PRESETS
from voxelight.models.diffusion.unet import EpsDenoiser, size_vector
from voxelight.models.errors import BadInput, Conflict
from voxelight.models.training.loop import Hooks, LoopOptions
from voxelight.neuro.tiny.augment import augment, mix_pairs
from voxelight.neuro.tiny.autoencoder import build_autoencoder, encode_latents, fit_autoencoder, score_autoencoder, ssim
from voxelight.neuro.tiny.captions import build_speaker, fit_captions, score_captions
from voxelight.neuro.tiny.descent import Sitting, deal_rows, step_generator
from voxelight.neuro.tiny.imagetext import build_image_text, classify, encode_pixels, fit_image_text
from voxelight.neuro.tiny.pictures import Pictures, split_pictures
from voxelight.neuro.tiny.recipe import PART_NETWORKS, Augmentation, Descent, TinyRecipe, find_tiny_recipe
from voxelight.neuro.tiny.teacher import MAP_WIDTH, Teacher, build_teacher, fit_teacher, score_classes
from voxelight.neuro.tiny.unclip import build_unclip, draw_pictures, encode_views, fit_unclip
from voxelight.neuro.tiny.words import build_vocabulary, caption_class, spell_numbers
from voxelight.storage.checkpoints import CheckpointFolder

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("red disc", "potter's wheel", "pop-bottle", "blue square")
SIDE = 32


def draw_shapes(count: int, seed: int = 0) -> Pictures:
    """Discs and squares in two colours: the class is seen in colour and form, place and size differ."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    labels = np.arange(count) % len(NAMES)
    pixels = np.empty((count, 3, SIDE, SIDE), np.uint8)
    for number, label in enumerate(labels):
        middle, half = chance.uniform(10, 22, 2), chance.uniform(4, 9)
        far = np.abs(np.stack([rows - middle[0], columns - middle[1]]))
        inside = np.hypot(*far) < half if label % 2 == 0 else far.max(0) < half
        colour = np.array([220, 40, 30] if label < 2 else [30, 60, 220])
        pixels[number] = np.where(inside, colour[:, None, None], chance.integers(100, 160))
    return Pictures(pixels, labels.astype(np.int64), tuple(f"shape-{seed}-{n}" for n in range(count)), NAMES)


def small_recipe(**steps: int) -> TinyRecipe:
    """The packaged recipe at small sizes, without mixing, with so many steps of a stage."""
    recipe = find_tiny_recipe()
    networks = {
        "image_encoder": {**recipe.networks["image_encoder"], "width": 64, "layers": 2, "side": SIDE},
        "autoencoder": {**recipe.networks["autoencoder"], "channels": [16, 16, 32], "layers": 1, "groups": 8},
        "unclip": {**recipe.networks["unclip"], "channels": [32, 64], "context_dim": 64},
        "converter": {**recipe.networks["converter"], "dim_in": 64, "dim_out": 32, "tokens_in": 16, "tokens_out": 17},
        "captioner": {
            **recipe.networks["captioner"],
            "width": 32,
            "layers": 1,
            "heads": 2,
            "mlp_width": 64,
            "dim_in": 32,
            "tokens": 17,
            "vocabulary": len(build_vocabulary(NAMES)),
        },
    }
    calm = Augmentation(area=0.8)
    changes: dict[str, object] = {"side": SIDE, "networks": networks, "text": {"width": 32, "heads": 2, "layers": 1}}
    for stage, rate in [
        ("teacher", 1e-3),
        ("image_text", 1e-3),
        ("autoencoder", 4e-3),
        ("unclip", 3e-3),
        ("captions", 5e-3),
    ]:
        options = getattr(recipe, stage)
        descent = Descent(steps=steps.get(stage, 2), batch=16, learning_rate=rate, warm_up=3, average=0.9)
        changes[stage] = options.model_copy(update={"descent": descent, "augmentation": calm})
    return recipe.model_copy(update=changes)


class Curve:
    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def write(self, rows: list[dict[str, float]]) -> None:
        self.rows += rows

    def rewind(self, step: int) -> None:
        self.rows = [row for row in self.rows if row["step"] < step]

    def losses(self) -> list[float]:
        return [row["loss"] for row in self.rows]


@pytest.fixture(scope="module")
def shapes() -> tuple[torch.Tensor, torch.Tensor]:
    pictures = draw_shapes(64)
    return torch.from_numpy(pictures.pixels), torch.from_numpy(pictures.labels)


def test_recipe_stays_under_twelve_million_parameters_with_a_decoder_beside_it() -> None:
    recipe = find_tiny_recipe()
    with torch.device("meta"):
        sizes = {part: sum(p.numel() for p in recipe.build_config(part).build().parameters()) for part in PART_NETWORKS}
    assert sum(sizes.values()) < 9_200_000, sizes


def test_recipe_fits_together() -> None:
    recipe = find_tiny_recipe()
    encoder, autoencoder = recipe.build_config("image_encoder"), recipe.build_config("autoencoder")
    unclip, converter = recipe.build_config("unclip"), recipe.build_config("converter")
    captioner = recipe.build_config("captioner")
    assert encoder.side == recipe.side
    assert (encoder.tokens, encoder.width) == (converter.tokens_in, converter.dim_in)
    assert unclip.context_dim == encoder.width
    assert unclip.latent_channels == autoencoder.latent_channels
    assert (converter.tokens_out, converter.dim_out) == (captioner.tokens, captioner.dim_in)


def test_vocabulary_of_the_recipe_is_that_of_the_real_classes(shared_data: Path) -> None:
    classes = json.loads((shared_data / "tiny_imagenet_64" / "classes.json").read_text(encoding="utf-8"))
    vocabulary = build_vocabulary([row["name"] for row in classes])
    recipe = find_tiny_recipe()
    assert len(vocabulary) == recipe.networks["captioner"]["vocabulary"]
    assert recipe.held_out % len(classes) == 0


def test_recipe_is_read_without_torch() -> None:
    code = "import sys; import voxelight.neuro.tiny.recipe as r; r.find_tiny_recipe(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_split_takes_the_same_number_of_every_class_whatever_the_order() -> None:
    pictures = draw_shapes(40)
    training, held_out = split_pictures(pictures, 8)
    assert np.bincount(held_out.labels).tolist() == [2, 2, 2, 2]
    assert set(training.keys) | set(held_out.keys) == set(pictures.keys)
    assert not set(training.keys) & set(held_out.keys)
    shuffled = pictures.take(np.random.default_rng(0).permutation(40))
    again = split_pictures(shuffled, 8)
    assert (again[0].sha256(), again[1].sha256()) == (training.sha256(), held_out.sha256())
    assert shuffled.sha256() != pictures.sha256()


def test_split_never_trains_on_a_copy_of_a_picture_kept_aside() -> None:
    pictures = draw_shapes(40)
    _, held_out = split_pictures(pictures, 8)
    row = pictures.keys.index(held_out.keys[0])
    copied = Pictures(
        np.concatenate([pictures.pixels, pictures.pixels[[row]]]),
        np.append(pictures.labels, (pictures.labels[row] + 1) % 4),
        (*pictures.keys, "copy"),
        NAMES,
    )
    training, held_out = split_pictures(copied, 8)
    kept = {picture.tobytes() for picture in held_out.pixels}
    assert len(kept) == 8
    assert not any(picture.tobytes() in kept for picture in training.pixels)


@pytest.mark.parametrize("held_out", [0, 3, 40])
def test_split_refuses_what_leaves_classes_unequal_or_empty(held_out: int) -> None:
    with pytest.raises(BadInput, match="keep aside"):
        split_pictures(draw_shapes(40), held_out)


def test_pictures_refuse_a_key_twice_and_labels_without_names() -> None:
    pictures = draw_shapes(4)
    with pytest.raises(BadInput, match="3 keys"):
        Pictures(pictures.pixels, pictures.labels, ("a", "b", "c", "a"), NAMES)
    with pytest.raises(BadInput, match="names"):
        Pictures(pictures.pixels, pictures.labels, pictures.keys, NAMES[:3])
    with pytest.raises(BadInput, match="uint8"):
        Pictures(pictures.pixels / 255, pictures.labels, pictures.keys, NAMES)  # type: ignore[arg-type]


def test_every_picture_comes_once_an_epoch_and_any_step_can_be_the_first() -> None:
    def first(count: int, start: int) -> list[list[int]]:
        rows = deal_rows(10, 3, 5, start, "cpu")
        return [next(rows).tolist() for _ in range(count)]

    whole = first(9, 0)
    assert all(len({row for batch in whole[epoch : epoch + 3] for row in batch}) == 9 for epoch in (0, 3, 6))
    assert first(5, 4) == whole[4:]


def test_augmentation_without_strength_mirrors_half_of_the_pictures(shapes: tuple[torch.Tensor, torch.Tensor]) -> None:
    x = augment(shapes[0], Augmentation(), step_generator(0, 0, "cpu"))
    plain = shapes[0].float() / 255
    same = (x == plain).flatten(1).all(1)
    mirrored = (x == plain.flip(3)).flatten(1).all(1)
    assert bool((same | mirrored).all())
    assert 16 < int(mirrored.sum()) < 48


def test_augmentation_hangs_on_its_generator_and_stays_in_range(shapes: tuple[torch.Tensor, torch.Tensor]) -> None:
    strong = Augmentation(area=0.3, stretch=0.3, turn=20, colour=0.5, grey=0.2, erase=0.5)
    one, same, other = (augment(shapes[0], strong, step_generator(0, step, "cpu")) for step in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert 0 <= one.min() <= one.max() <= 1


def test_mixed_targets_weigh_what_is_seen_of_each_picture() -> None:
    x = torch.zeros(2, 3, SIDE, SIDE)
    x[1] = 1
    targets = torch.eye(2)
    for step in range(20):
        mixed, weights = mix_pairs(x, targets, Augmentation(mix=1), step_generator(0, step, "cpu"))
        assert torch.allclose(mixed.mean((1, 2, 3)), weights[:, 1], atol=1e-5)
        assert torch.allclose(weights.sum(1), torch.ones(2))
    mixed, weights = mix_pairs(x, targets, Augmentation(mix=0), step_generator(0, 0, "cpu"))
    assert torch.equal(mixed, x)
    assert torch.equal(weights, targets)


def test_ssim_is_that_of_scikit_image(shapes: tuple[torch.Tensor, torch.Tensor]) -> None:
    one = shapes[0][:3].float() / 255
    other = (one + 0.1 * torch.randn(one.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    expected = [
        structural_similarity(a.numpy(), b.numpy(), win_size=7, channel_axis=0, data_range=1.0)
        for a, b in zip(one, other, strict=True)
    ]
    np.testing.assert_allclose(ssim(one, other), expected, atol=2e-4)
    np.testing.assert_allclose(ssim(one, one), 1, atol=1e-6)


def test_captions_are_spelled_as_the_caption_model_spells_them() -> None:
    vocabulary = build_vocabulary(NAMES)
    numbers = spell_numbers([caption_class(name) for name in NAMES], vocabulary)
    assert max(map(max, numbers)) == len(vocabulary) - 1, "the end has the largest number"
    speaker = build_speaker({}, small_recipe(), NAMES, "cpu")
    tokenizer = speaker.captioner.tokenizer
    assert tokenizer is not None
    for row, name in zip(numbers, NAMES, strict=True):
        assert tokenizer(caption_class(name))["input_ids"] == [number for number in row if number]
        text = tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=True)
        assert score_captions([text], [0], [name]) == 1


def test_an_interrupted_stage_goes_on_to_the_same_weights(
    shapes: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    recipe, whole = small_recipe(autoencoder=5), Curve()
    expected = fit_autoencoder(shapes[0], recipe, Sitting(Hooks(log=whole)))
    assert expected is not None

    class Killed(Exception):
        pass

    def kill(done: int, _total: int) -> None:
        if done == 3:
            raise Killed

    curve, checkpoints = Curve(), CheckpointFolder(tmp_path)
    options = LoopOptions(checkpoint_steps=2, log_steps=1)
    with pytest.raises(Killed):
        fit_autoencoder(shapes[0], recipe, Sitting(Hooks(checkpoints, curve, on_step=kill), options))
    resumed = fit_autoencoder(shapes[0], recipe, Sitting(Hooks(checkpoints, curve), options))
    assert resumed is not None
    assert curve.losses() == whole.losses()
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())
    with pytest.raises(Conflict, match="pictures"):
        fit_autoencoder(shapes[0], recipe, Sitting(Hooks(checkpoints), options, pictures="of others"))


def test_a_paused_stage_gives_no_weights(shapes: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert fit_autoencoder(shapes[0], small_recipe(), Sitting(Hooks(pause=lambda: True))) is None


def test_teacher_tells_shapes_apart(shapes: tuple[torch.Tensor, torch.Tensor]) -> None:
    pixels, labels = shapes
    curve = Curve()
    state = fit_teacher(pixels, labels, len(NAMES), small_recipe(teacher=24), None, Sitting(Hooks(log=curve)))
    assert state is not None
    assert np.mean(curve.losses()[-6:]) < 0.85 * np.mean(curve.losses()[:6])
    answers, middle = build_teacher(state, len(NAMES), "cpu")(pixels[:16].float() / 255)
    assert middle.shape == (16, MAP_WIDTH, 4, 4)
    unfolded = Teacher(len(NAMES))
    unfolded.load_state_dict(state)
    torch.testing.assert_close(unfolded.eval()(pixels[:16].float() / 255)[0], answers, rtol=1e-3, atol=1e-3)
    assert 0 <= score_classes([answers], labels[:16]) <= 1


def test_teacher_begins_with_the_weights_it_is_given() -> None:
    given = {name: value + 1 for name, value in Teacher(7).network.state_dict().items() if value.is_floating_point()}
    still = small_recipe(teacher=1)
    none = still.teacher.model_copy(update={"descent": Descent(steps=1, batch=4, learning_rate=1e-12, average=0)})
    pixels = torch.zeros((4, 3, SIDE, SIDE), dtype=torch.uint8)
    recipe = still.model_copy(update={"teacher": none})
    state = fit_teacher(pixels, torch.arange(4), len(NAMES), recipe, given, Sitting())
    assert state is not None
    torch.testing.assert_close(state["network._conv_head.weight"], given["_conv_head.weight"])
    assert state["network._fc.weight"].shape[0] == len(NAMES)


@pytest.fixture(scope="module")
def image_text_curve() -> Curve:
    return Curve()


@pytest.fixture(scope="module")
def image_text(shapes: tuple[torch.Tensor, torch.Tensor], image_text_curve: Curve) -> dict[str, torch.Tensor]:
    state = fit_image_text(*shapes, NAMES, small_recipe(image_text=60), None, Sitting(Hooks(log=image_text_curve)))
    assert state is not None
    return state


@pytest.fixture(scope="module")
def autoencoder(shapes: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
    state = fit_autoencoder(shapes[0], small_recipe(autoencoder=100), Sitting())
    assert state is not None
    return state


def test_image_text_model_tells_unseen_shapes_apart(
    image_text: dict[str, torch.Tensor], image_text_curve: Curve
) -> None:
    losses = image_text_curve.losses()
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    unseen = draw_shapes(40, seed=1)
    model = build_image_text(image_text, small_recipe(), NAMES, "cpu")
    by_text, by_tokens = classify(model, torch.from_numpy(unseen.pixels))
    labels = torch.from_numpy(unseen.labels)
    assert score_classes([by_text], labels) > 0.45
    assert score_classes([by_tokens], labels) > 0.45


def test_image_text_model_learns_from_the_teacher_too(shapes: tuple[torch.Tensor, torch.Tensor]) -> None:
    recipe = small_recipe()
    state = fit_teacher(*shapes, len(NAMES), recipe, None, Sitting())
    assert state is not None
    curve = Curve()
    teacher = build_teacher(state, len(NAMES), "cpu")
    assert fit_image_text(*shapes, NAMES, recipe, teacher, Sitting(Hooks(log=curve))) is not None
    assert {"loss", "text", "classes", "guide", "pixels"} <= curve.rows[0].keys()


def test_autoencoder_learns_pictures_and_has_standard_latents(
    shapes: tuple[torch.Tensor, torch.Tensor], autoencoder: dict[str, torch.Tensor]
) -> None:
    network = build_autoencoder(autoencoder, small_recipe(), "cpu")
    latents = encode_latents(network, shapes[0])
    assert latents.shape == (64, 4, 8, 8)
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3)
    unseen = torch.from_numpy(draw_shapes(8, seed=1).pixels)
    grey = (unseen.float() / 255 - (unseen.float() / 255).mean((2, 3), keepdim=True)) ** 2
    flat_psnr = float((-10 * grey.mean((1, 2, 3)).log10()).mean())
    assert score_autoencoder(network, unseen)["psnr_db"] > flat_psnr + 1


def test_tokens_of_a_picture_say_what_to_denoise_towards(
    shapes: tuple[torch.Tensor, torch.Tensor],
    image_text: dict[str, torch.Tensor],
    autoencoder: dict[str, torch.Tensor],
) -> None:
    recipe = small_recipe(unclip=150)
    encoder = build_image_text(image_text, recipe, NAMES, "cpu").image
    network = build_autoencoder(autoencoder, recipe, "cpu")
    views = encode_views(shapes[0][:16], encoder, network, 1, Augmentation(), 0)
    curve = Curve()
    state = fit_unclip(views, recipe, Sitting(Hooks(log=curve)))
    assert state is not None
    assert np.mean(curve.losses()[-20:]) < 0.6 * np.mean(curve.losses()[:20])
    unet = build_unclip(state, recipe, "cpu")
    assert views.latents is not None
    z, tokens = views.latents[0], views.tokens[0]
    noisy = z + 5 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    vector = size_vector(SIDE, SIDE, 0, 0).expand(len(z), -1)
    with torch.inference_mode():
        own, others = (
            ((EpsDenoiser(unet)(noisy, torch.tensor(5.0), context, vector) - z) ** 2).mean()
            for context in (tokens, tokens.roll(1, 0))
        )
    assert own < 0.9 * others
    drawn = draw_pictures(unet, network, tokens[:8], SIDE, PRESETS["fast"], seed=0)
    assert drawn.shape == (8, 3, SIDE, SIDE)
    again = draw_pictures(unet, network, tokens[4:8], SIDE, PRESETS["fast"], seed=4)
    assert torch.allclose(again, drawn[4:8], atol=1e-3)


def test_first_view_is_the_picture_itself(
    shapes: tuple[torch.Tensor, torch.Tensor], image_text: dict[str, torch.Tensor]
) -> None:
    encoder = build_image_text(image_text, small_recipe(), NAMES, "cpu").image
    views = encode_views(shapes[0][:4], encoder, None, 3, Augmentation(area=0.5), 0)
    assert views.latents is None
    assert views.tokens.shape == (3, 4, 16, 64)
    assert torch.allclose(views.tokens[0], encode_pixels(encoder, shapes[0][:4]), atol=1e-5)
    assert not torch.allclose(views.tokens[1], views.tokens[0], atol=1e-2)


def test_captions_name_the_class_of_a_picture(
    shapes: tuple[torch.Tensor, torch.Tensor], image_text: dict[str, torch.Tensor]
) -> None:
    pixels, labels = shapes
    recipe = small_recipe(captions=150)
    encoder = build_image_text(image_text, recipe, NAMES, "cpu").image
    tokens = encode_views(pixels, encoder, None, 1, Augmentation(), 0).tokens
    states = fit_captions(tokens, labels, NAMES, recipe, Sitting())
    assert states is not None
    speaker = build_speaker(states, recipe, NAMES, "cpu")
    said = speaker.caption(tokens[0])
    assert all(text.startswith("a photo of a ") for text in said)
    assert score_captions(said, labels.tolist(), NAMES) > 0.6
