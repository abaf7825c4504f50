"""Published files at small sizes, in their own layout, become parts that give the same outputs."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from voxelight.models.convert import ConvertOptions, convert, find_sources
from voxelight.models.errors import BadInput, Conflict, NotFound, Refused, Unavailable
from voxelight.models.layouts import LAYOUTS, describe_network
from voxelight.models.published import find_published
from voxelight.models.records import accept_licence, find_manifest
from voxelight.models.registry import NETWORKS, find_config
from voxelight.models.weights import find_part_sha256, load_into, load_part, read_vocabulary, verify_parts
from voxelight.neuro.profiles import find_profile

SMALL = {part: (sizes.network, dict(sizes.config)) for part, sizes in find_profile("random-small").parts.items()}
MINDEYE1 = {"voxels": [30], "hidden": 24, "blocks": 2, "dim": 32, "projector_width": 20}
OTHERS = {  # parts of the same name that other networks take
    "prior_257_final_subj01_bimixco_softclip_byol": {
        "decoder": (
            "mindeye1",
            {**MINDEYE1, "tokens": 5, "prior": {"dim": 32, "depth": 1, "dim_head": 8, "heads": 4, "tokens": 5}},
        )
    },
    "prior_1x768_final_subj01_bimixco_softclip_byol": {
        "decoder": ("mindeye1", {**MINDEYE1, "tokens": 1, "prior": None})
    },
    "autoencoder_subj01_4x_locont_no_reconst": {
        "low_level": ("mindeye1-low-level", {"voxels": [30], "hidden": 16, "decoder_widths": [32, 32], "maps_width": 8})
    },
    "versatile-diffusion-image-unet": {
        "variation": ("variation-unet", {"channels": [32, 32], "layers": 1, "heads": 2, "context_dim": 16})
    },
    "clip-vit-large-patch14-vision": {
        "image_encoder": (
            "clip-vision",
            {"width": 16, "layers": 1, "heads": 2, "mlp_width": 16, "side": 28, "dim": 12},
        )
    },
    "git-base-coco-vision": {
        "target_encoder": ("git-vision", {"width": 16, "layers": 1, "heads": 2, "mlp_width": 16, "side": 32})
    },
    "versatile-diffusion-text-encoder": {
        "target_encoder": ("clip-words", {"width": 16, "layers": 1, "heads": 2, "mlp_width": 16, "dim": 12})
    },
}
NAMES = [
    *OTHERS,
    "versatile-diffusion-vae",
    "final_subj01_pretrained_40sess_24bs",
    "unclip6_epoch0_step110000",
    "zavychromaxl_v30",
    "sd_image_var_autoenc",
    "CLIP-ViT-bigG-14-laion2B-39B-b160k",
    "bigG_to_L_epoch8",
    "git-large-coco",
]
EXTRA = {  # what the published files hold beside the parts
    "unclip": {"denoiser.sigmas": torch.ones(9), "conditioner.embedders.0.model.logit_scale": torch.tensor(4.6)},
    "mindeye1-pooled": {"net.null_text_embeds": torch.ones(1, 3), "noise_scheduler.betas": torch.ones(9)},
    "clip-vision": {"text_projection.weight": torch.ones(3, 3), "logit_scale": torch.tensor(4.6)},
    "git-vision": {"output.bias": torch.ones(9)},
    "git": {"git.image_encoder.vision_model.post_layernorm.weight": torch.ones(4)},
}


def small(name: str, part: str) -> tuple[str, dict]:
    """Network and sizes that a part of a published file has here."""
    return OTHERS[name][part] if name in OTHERS else SMALL[part]


def build(part: str, name: str = "") -> torch.nn.Module:
    network, config = small(name, part)
    torch.manual_seed(sum(map(ord, part)))
    module = find_config(NETWORKS, network)(**config).build().eval()
    for parameter in module.parameters():
        if parameter.requires_grad and not parameter.any():  # norms' biases and the like, to tell them apart
            torch.nn.init.normal_(parameter, std=0.1)
    return module


def publish(name: str, folder: Path) -> list[Path]:
    """Write a small file as its publishers would, and those that it needs."""
    row = find_published(name)
    layout = LAYOUTS[row.layout]
    contents: list[dict[str, torch.Tensor]] = [{}, {}]
    for part in row.parts:
        network = describe_network(*small(name, part))
        values = build(part, name).state_dict()
        for section in layout.sections[part]:
            for theirs, ours in section.find_names(network).items():
                contents[section.file][theirs] = as_published(name, theirs, values[ours])
    contents[0] |= EXTRA.get(row.layout, {})
    if name in ("sd_image_var_autoenc", "autoencoder_subj01_4x_locont_no_reconst"):
        contents[0] = {old_attention(theirs): tensor for theirs, tensor in contents[0].items()}
    path = folder / Path(row.file).name
    if path.suffix == ".safetensors":
        save_file({theirs: tensor.clone() for theirs, tensor in contents[0].items()}, path)
    else:
        torch.save({layout.root: contents[0], "epoch": 3} if layout.root else contents[0], path)
    paths = [path]
    for number, needed in enumerate(row.needs, 1):
        paths.append(folder / f"{number}-{Path(find_published(needed).file).name}")
        if contents[number]:
            save_file(contents[number], paths[-1])
        else:
            paths[-1].write_text("".join(f"word{n}\n" for n in range(512)))
    return paths


def as_published(name: str, theirs: str, tensor: torch.Tensor) -> torch.Tensor:
    """Sgm writes the attention of an autoencoder as 1x1 convolutions."""
    if ".attn_1." in theirs and tensor.ndim == 2:
        return tensor[:, :, None, None].contiguous()
    return tensor


def old_attention(theirs: str) -> str:
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        theirs = theirs.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
    return theirs


@torch.no_grad()
def outputs(module: torch.nn.Module) -> list[torch.Tensor]:
    """What a network gives on fixed inputs."""
    torch.manual_seed(0)
    found = outputs_of_others(module)
    if found is not None:
        return found
    match type(module).__name__:
        case "MindEye2":
            prior = module.diffusion_prior.net(torch.rand(1, 16, 64), torch.tensor([3]), torch.rand(1, 16, 64))
            return [*module(torch.rand(2, 1, 1200)), prior]
        case "UNet2DConditionModel":
            size = module.config.cross_attention_dim, module.config.projection_class_embeddings_input_dim
            context, vector = torch.rand(1, 5, size[0]), torch.rand(1, size[1])
            given = {"encoder_hidden_states": context, "class_labels": vector}
            return [module(torch.rand(1, 4, 16, 16), torch.tensor([7]), return_dict=False, **given)[0]]
        case "Autoencoder":
            latents = module.encode(torch.rand(1, 3, 32, 32))
            return [latents, module.decode(latents)]
        case "ClipImageEncoder":
            return [module(torch.rand(1, 3, 60, 60))]
        case "SdxlText":
            return list(module(["a cat on a mat", ""]))
        case "TokenConverter":
            return [module(torch.rand(2, 16, 64))]
        case "Captioner":
            ids = torch.arange(6)[None]
            return [module(input_ids=ids, pixel_values=torch.rand(1, 1, 17, 32)).logits]
    raise AssertionError(type(module))


def outputs_of_others(module: torch.nn.Module) -> list[torch.Tensor] | None:
    """The same of the networks of MindEye1 and of linear decoders."""
    match type(module).__name__:
        case "MindEye1":
            told = module(torch.rand(2, 30))
            return [told.tokens, told.retrieval]
        case "LowLevel":
            return list(module(torch.rand(2, 30)))
        case "UNet2DConditionModel" if module.config.class_embed_type is None:
            given = {"encoder_hidden_states": torch.rand(1, 5, 16)}
            return [module(torch.rand(1, 4, 16, 16), torch.tensor([7]), return_dict=False, **given)[0]]
        case "Words":
            return [module(["a cat on a mat", ""])]
        case "ClipVision" | "GitVision":
            return [module(torch.rand(1, 3, 60, 60))]
    return None


@pytest.fixture
def agreed(tmp_path) -> Callable[[str], Path]:
    """Return a folder of weights in which the licences of a row were agreed to."""

    def _agreed(name: str) -> Path:
        row = find_published(name)
        for needed in (row, *map(find_published, row.needs)):
            accept_licence(tmp_path / "weights", needed)
        return tmp_path / "weights"

    return _agreed


def options(name: str, **more: object) -> ConvertOptions:
    return ConvertOptions(sizes={part: small(name, part)[1] for part in find_published(name).parts}, **more)


def left(folder: Path) -> list[str]:
    """What lies in a folder of weights, locks and agreements aside."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock" and path.name != "accepted")


@pytest.mark.parametrize("name", NAMES)
def test_converted_weights_give_the_same_outputs(name, tmp_path, agreed):
    folder, row = agreed(name), find_published(name)
    manifest = convert(row, publish(name, tmp_path), folder, options(name))
    assert set(manifest.parts) == set(row.parts)
    for part in row.parts:
        network, config = small(name, part)
        with torch.device("meta"):
            module = find_config(NETWORKS, network)(**config).build().eval()
        load_into(module, load_part(folder, name, part))
        given = build(part, name).state_dict()
        assert all(torch.equal(tensor, given[key]) for key, tensor in module.state_dict().items())
        for found, expected in zip(outputs(module), outputs(build(part, name)), strict=True):
            torch.testing.assert_close(found, expected)  # mapped tensors lie elsewhere in a cache line: other kernels


def test_every_layout_is_converted_by_some_test():
    assert {find_published(name).layout for name in NAMES} == set(LAYOUTS)


def test_the_words_of_a_captioner_are_kept_with_it(tmp_path, agreed):
    name = "git-large-coco"
    folder = agreed(name)
    convert(find_published(name), publish(name, tmp_path), folder, options(name))
    assert read_vocabulary(folder, name) == tuple(f"word{n}" for n in range(512))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_matrices_are_rounded_and_vectors_and_schedules_are_not(dtype, tmp_path, agreed):
    name = "final_subj01_pretrained_40sess_24bs"
    folder = agreed(name)
    convert(find_published(name), publish(name, tmp_path), folder, options(name, dtype=dtype))
    given, found = build("decoder").state_dict(), load_part(folder, name, "decoder")
    rounded = {key for key in found if found[key].dtype == getattr(torch, dtype)}
    assert "backbone.backbone_linear.weight" in rounded
    assert {key for key in found if found[key].ndim < 2} & rounded == set()
    assert all(found[key].dtype == given[key].dtype for key in found.keys() - rounded)
    assert all(torch.equal(found[key], given[key].to(found[key].dtype)) for key in found)


def test_files_are_split_hashed_and_readable_by_others(tmp_path, agreed):
    name = "unclip6_epoch0_step110000"
    folder = agreed(name)
    manifest = convert(find_published(name), publish(name, tmp_path), folder, options(name, shard_bytes=200_000))
    files = manifest.parts["unclip"].files
    assert len(files) > 3
    assert files[0].file == f"unclip-00001-of-{len(files):05}.safetensors"
    lines = subprocess.run(
        ["sha256sum", *(file.file for file in files)], cwd=folder / name, capture_output=True, check=True
    ).stdout
    assert hashlib.sha256(lines).hexdigest() == find_part_sha256(folder, name, "unclip")
    for file in files:
        with safe_open(str(folder / name / file.file), "np") as opened:
            assert opened.metadata()["licence"] == manifest.accepted[0].licence
            assert all(np.isfinite(opened.get_tensor(key)).all() for key in opened.keys())  # noqa: SIM118
    assert {file.file for part in manifest.parts.values() for file in part.files} | {"manifest.json"} == {
        path.name for path in (folder / name).iterdir()
    }


def test_the_manifest_says_from_what_and_on_which_terms(tmp_path, agreed):
    name = "final_subj01_pretrained_40sess_24bs"
    folder, (path,) = agreed(name), publish(name, tmp_path)
    manifest = convert(find_published(name), [path], folder, options(name))
    assert find_manifest(folder, name) == manifest
    (source,), (accepted,) = manifest.sources, manifest.accepted
    assert source.stored.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (accepted.licence, accepted.url) == (find_published(name).licence, find_published(name).licence_url)
    record = manifest.parts["decoder"]
    assert record.tensors == len(build("decoder").state_dict())
    assert record.config["voxels"] == [1200]


def test_a_part_is_mapped_and_not_read(tmp_path, agreed):
    name = "unclip6_epoch0_step110000"
    folder = agreed(name)
    convert(find_published(name), publish(name, tmp_path), folder, options(name))
    held = load_part(folder, name, "unclip")
    assert held
    assert f"{folder / name}/unclip-00001-of-00001.safetensors" in Path("/proc/self/maps").read_text()


def test_a_second_conversion_changes_nothing(tmp_path, agreed):
    name = "final_subj01_pretrained_40sess_24bs"
    folder, paths, row = agreed(name), publish(name, tmp_path), find_published(name)
    first = convert(row, paths, folder, options(name))
    paths[0].unlink()
    assert convert(row, paths, folder, options(name)) == first
    with pytest.raises(Conflict, match="dtype keep"):
        convert(row, paths, folder, options(name, dtype="bfloat16"))


@pytest.mark.parametrize(("interruption", "told"), [(KeyboardInterrupt, KeyboardInterrupt), (OSError, Unavailable)])
def test_an_interrupted_conversion_leaves_nothing(interruption, told, tmp_path, agreed):
    name = "unclip6_epoch0_step110000"
    folder, paths, row = agreed(name), publish(name, tmp_path), find_published(name)
    seen = []

    def _stop(written: int, total: int) -> None:
        seen.append(written / total)
        if written > total / 2:
            raise interruption

    with pytest.raises(told):
        convert(row, paths, folder, options(name), _stop)
    assert left(folder) == []
    with pytest.raises(Unavailable):
        load_part(folder, name, "unclip")
    assert convert(row, paths, folder, options(name), lambda *_: None).name == name


def test_a_conversion_that_was_killed_is_done_anew(tmp_path, agreed):
    name = "bigG_to_L_epoch8"
    folder, (path,), row = agreed(name), publish(name, tmp_path), find_published(name)
    code = (
        "import os, sys; from pathlib import Path\n"
        "from voxelight.models.convert import ConvertOptions, convert\n"
        "from voxelight.models.published import find_published\n"
        "row, options = find_published(sys.argv[1]), ConvertOptions.model_validate_json(sys.argv[4])\n"
        "convert(row, [Path(sys.argv[2])], Path(sys.argv[3]), options, lambda *_: os.kill(os.getpid(), 9))"
    )
    words = (name, path, folder, options(name).model_dump_json())
    assert subprocess.run([sys.executable, "-c", code, *map(str, words)]).returncode == -9
    assert find_manifest(folder, name) is None
    assert left(folder) == [f".converting-{name}"]
    convert(row, [path], folder, options(name))
    assert left(folder) == [name]


def test_a_file_that_is_not_the_fetched_one_is_refused(tmp_path, agreed):
    name = "sd_xl_base_1.0"
    folder, paths, row = agreed(name), publish(name, tmp_path), find_published(name)
    with pytest.raises(Conflict, match=row.sha256):
        convert(row, paths, folder, options(name))
    assert left(folder) == []


@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
def test_a_changed_checkpoint_is_refused_and_nothing_is_written(change, tmp_path, agreed):
    name = "bigG_to_L_epoch8"
    folder, (path,), row = agreed(name), publish(name, tmp_path), find_published(name)
    content = torch.load(path)
    weights = content["model_state_dict"]
    changed = {
        "missing": {key: weights[key] for key in weights if key != "linear2.bias"},
        "unexpected": weights | {"linear3.bias": torch.ones(1)},
        "of another shape": weights | {"linear2.bias": torch.ones(1)},
    }
    torch.save(content | {"model_state_dict": changed[change]}, path)
    with pytest.raises(BadInput, match=rf"1 {change} \(linear\d.bias"):
        convert(row, [path], folder, options(name))
    assert left(folder) == []


def test_the_published_sizes_are_meant_unless_others_are_given(tmp_path, agreed):
    name = "bigG_to_L_epoch8"
    with pytest.raises(BadInput, match="--sizes") as refusal:
        convert(find_published(name), publish(name, tmp_path), agreed(name))
    assert "linear1.weight (17, 16) for (257, 256)" in refusal.value.found


def test_a_number_too_large_for_float16_is_refused(tmp_path, agreed):
    name = "bigG_to_L_epoch8"
    folder, (path,), row = agreed(name), publish(name, tmp_path), find_published(name)
    content = torch.load(path)
    content["model_state_dict"]["linear2.weight"][0, 0] = 1e5
    torch.save(content, path)
    with pytest.raises(BadInput, match="bfloat16"):
        convert(row, [path], folder, options(name, dtype="float16"))
    convert(row, [path], folder, options(name, dtype="bfloat16"))


def test_nothing_is_converted_without_agreement(tmp_path):
    name = "bigG_to_L_epoch8"
    with pytest.raises(Refused, match="voxelight weights accept"):
        convert(find_published(name), publish(name, tmp_path), tmp_path / "weights", options(name))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nonsense": {}}, "nonsense"),
        ({"converter": {"tokens_in": -1}}, "tokens_in of token-converter"),
        ({"converter": {"depth": 3}}, "depth"),
    ],
)
def test_sizes_that_no_network_has_are_refused(given, words, tmp_path, agreed):
    name = "bigG_to_L_epoch8"
    with pytest.raises(BadInput, match=words):
        convert(find_published(name), publish(name, tmp_path), agreed(name), ConvertOptions(sizes=given))


def test_files_that_are_needed_must_be_given(tmp_path, agreed):
    name = "git-large-coco"
    with pytest.raises(BadInput, match=r"files: 1; .* git-large-coco, git-large-coco-vocabulary"):
        convert(find_published(name), publish(name, tmp_path)[:1], agreed(name), options(name))
    with pytest.raises(BadInput, match="gives no part"):
        convert(find_published("gnet_multisubject"), [tmp_path], tmp_path)


def test_weights_that_are_not_here_name_the_file_its_licence_and_the_commands(tmp_path):
    name = "final_subj01_pretrained_40sess_24bs"
    row = find_published(name)
    for ask in (lambda: load_part(tmp_path, name, "decoder"), lambda: find_part_sha256(tmp_path, name, "decoder")):
        with pytest.raises(Unavailable) as refusal:
            ask()
        for word in (row.file, row.licence, f"voxelight weights fetch {name}", f"voxelight weights convert {name}"):
            assert word in str(refusal.value)
    with pytest.raises(Unavailable, match=f"voxelight weights fetch {name}"):
        find_sources(tmp_path, row)
    with pytest.raises(NotFound, match="unclip6"):
        load_part(tmp_path, "unclip7", "unclip")


def test_a_damaged_part_is_found(tmp_path, agreed):
    name = "bigG_to_L_epoch8"
    folder = agreed(name)
    manifest = convert(find_published(name), publish(name, tmp_path), folder, options(name))
    verify_parts(folder, manifest)
    with pytest.raises(NotFound, match="converter"):
        load_part(folder, name, "decoder")
    part = folder / name / "converter-00001-of-00001.safetensors"
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    with pytest.raises(Conflict, match="sha256"):
        verify_parts(folder, manifest)
    os.truncate(part, 100)
    with pytest.raises(Conflict, match="convert the weights again"):
        load_part(folder, name, "converter")
