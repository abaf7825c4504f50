"""Models of nnU-Net, MONAI and Raidionics: small folders in their layouts, run beside the network itself."""

import json

import numpy as np
import onnx
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from monai.networks.nets import UNet
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from scipy import ndimage
from torch import nn

from voxelight.app.pipelines.segmenters import find_known
from voxelight.medseg.segment import build_segmenter, prepare, segment
from voxelight.medseg.transforms import cut
from voxelight.models.errors import BadInput, Conflict
from voxelight.models.values import Geometry, Volume
from voxelight.storage.imports import Wishes, import_model
from voxelight.storage.trained import TrainedModels

SHAPE = (16, 24, 8)  # i, j, k: of another length along each axis, so that no turn goes unseen
SPACING = (1.0, 0.9, 2.0)


@pytest.fixture
def image():
    rng = np.random.default_rng(1)
    array = rng.normal(100, 30, (1, *SHAPE)).astype(np.float32)
    return Volume(array, Geometry(SHAPE, np.diag([*SPACING, 1.0])))


@pytest.fixture
def models(tmp_path):
    return TrainedModels(tmp_path / "weights")


def run(tmp_path, name, image):
    """Segment as a job does: from the home, by name."""
    known = find_known(tmp_path / "weights", name)
    return segment(image, build_segmenter(known.recipe, known.load(), "cpu")).array


def normed(array):
    return (array - array.mean()) / array.std()


def mirrored(network, x):
    """Average over all eight mirror images, as nnU-Net does."""
    axes = [[axis for axis in range(3) if number >> axis & 1] for number in range(8)]
    flips = [[axis + 2 for axis in some] for some in axes]
    with torch.inference_mode():
        return sum(network(x.flip(some)).softmax(1).flip(some) for some in flips) / 8


ARGUMENTS = {
    "n_stages": 3,
    "features_per_stage": [4, 8, 8],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage": [1, 1, 1],
    "n_conv_per_stage_decoder": [1, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}


def build_direct():
    real = ARGUMENTS | {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    return PlainConvUNet(input_channels=1, num_classes=3, deep_supervision=False, **real).eval()


@pytest.fixture
def nnunet(tmp_path):
    """A folder of two folds as `nnUNetv2_train` leaves it, with what stands beside the weights in its checkpoints."""
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    plans = {
        "dataset_name": "Dataset004_Hippocampus",
        "transpose_forward": [0, 1, 2],
        "configurations": {
            "base": {"spacing": [2.0, 0.9, 1.0], "use_mask_for_norm": [False]},
            "3d_fullres": {
                "inherits_from": "base",
                "patch_size": [8, 24, 16],  # z, y, x
                "normalization_schemes": ["ZScoreNormalization"],
                "architecture": {
                    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                    "arch_kwargs": ARGUMENTS,
                    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
                },
            },
        },
    }
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    dataset = {"channel_names": {"0": "MRI"}, "labels": labels, "licence": "CC-BY-SA 4.0"}
    networks = []
    for fold in range(2):
        torch.manual_seed(fold)
        networks.append(build_direct())
        (folder / f"fold_{fold}").mkdir(parents=True)
        beside = {"trainer_name": "nnUNetTrainer", "current_epoch": 1000, "_best_ema": np.float64(0.9)}
        logging = {"logging": {"train_losses": [np.float32(0.1)]}, "optimizer_state": {}}
        content = {"network_weights": networks[-1].state_dict()} | beside | logging
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder, networks


def test_an_nnunet_folder_gives_what_its_networks_give(nnunet, image, models, tmp_path):
    folder, networks = nnunet
    model = import_model(folder, Wishes("hippocampus-nnunet"), models)
    assert model.recipe.labels == {1: "Anterior", 2: "Posterior"}
    assert (model.licence, len(model.sha256s)) == ("CC-BY-SA 4.0", 2)
    assert model.recipe.patch == SHAPE
    x = torch.from_numpy(normed(image.array[0]).transpose(2, 1, 0).copy())[None, None].float()
    expected = sum(mirrored(network, x) for network in networks).argmax(1)[0].numpy().transpose(2, 1, 0)
    assert len(np.unique(expected)) > 1
    assert np.array_equal(run(tmp_path, "hippocampus-nnunet", image), expected)


def test_one_fold_can_be_named(nnunet, models):
    assert len(import_model(nnunet[0], Wishes("one", folds=("1",)), models).sha256s) == 1
    with pytest.raises(BadInput, match="no fold 4"):
        import_model(nnunet[0], Wishes("four", folds=("4",)), models)
    with pytest.raises(Conflict, match="here already"):
        import_model(nnunet[0], Wishes("one"), models)


def edit(path, change):
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def full(told):
    return told["configurations"]["3d_fullres"]


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("dataset.json", lambda d: d["channel_names"].update({"1": "T2"}), "2 contrasts"),
        ("dataset.json", lambda d: d["labels"].update({"whole": [1, 2]}), "overlap"),
        ("plans.json", lambda p: full(p).update(normalization_schemes=["RescaleTo01Normalization"]), "normalisation"),
        ("plans.json", lambda p: full(p).update(use_mask_for_norm=[True]), "inside a mask"),
        ("plans.json", lambda p: full(p).update(previous_stage="3d_lowres"), "cascade"),
        ("plans.json", lambda p: full(p).pop("architecture"), "before nnU-Net 2.4"),
        ("plans.json", lambda p: full(p)["architecture"].update(network_class_name="os.system"), "the network system"),
        ("plans.json", lambda p: full(p)["architecture"]["arch_kwargs"].update(conv_op="os.system"), "'os.system'"),
        ("plans.json", lambda p: full(p)["architecture"]["arch_kwargs"].update(n_conv_per_stage=[2, 1, 1]), "tensors"),
    ],
)
def test_what_nnunet_asks_for_and_is_not_understood_is_refused(file, change, reason, nnunet, models):
    edit(nnunet[0] / file, change)
    with pytest.raises(BadInput, match=reason):
        import_model(nnunet[0], Wishes("refused"), models)
    assert not models.has("refused")


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    torch.manual_seed(3)
    network = UNet(**arguments, norm="batch").eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.running_mean.normal_(0, 0.1)
    transforms = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": list(SPACING), "mode": "bilinear"},
        {
            "_target_": "ScaleIntensityRanged",
            "keys": "image",
            "a_min": 40,
            "a_max": 160,
            "b_min": 0,
            "b_max": 1,
            "clip": True,
        },
    ]
    inference = {
        "device": "$torch.device('cpu')",
        "patch": list(SHAPE),
        "network_def": {"_target_": "UNet", **arguments, "norm": "batch"},
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": transforms},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "@patch", "overlap": 0.5, "mode": "gaussian"},
        "postprocessing": {"_target_": "Compose", "transforms": [{"_target_": "AsDiscreted", "argmax": True}]},
    }
    outputs = {"pred": {"channel_def": {"0": "background", "1": "spleen"}}}
    metadata = {"name": "Spleen", "network_data_format": {"outputs": outputs}, "license": "Apache-2.0"}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder, network


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_monai_bundle_gives_what_its_network_gives(kind, bundle, image, models, tmp_path):
    folder, network = bundle
    if kind == "safetensors":
        save_file(network.state_dict(), folder / "models" / "model.safetensors")
        (folder / "models" / "model.pt").unlink()
    model = import_model(folder, Wishes("spleen"), models)
    assert (model.recipe.labels, model.licence) == ({1: "spleen"}, "Apache-2.0")
    x = torch.from_numpy((image.array.clip(40, 160) - 40) / 120)[None].float()
    with torch.inference_mode():
        expected = network(x).argmax(1)[0].numpy()
    assert len(np.unique(expected)) > 1
    assert (
        np.mean(run(tmp_path, "spleen", image) == expected) > 0.9999
    )  # folding the normalisation rounds in another way


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t["preprocessing"]["transforms"].append({"_target_": "RandFlipd"}), "the transform RandFlipd"),
        (lambda t: t["preprocessing"]["transforms"][3].update(pixdim="$[1, 1, 1]"), "Python expression in Spacingd"),
        (lambda t: t["preprocessing"]["transforms"][2].update(axcodes="LPS"), "turned to LPS"),
        (lambda t: t["network_def"].update(_target_="subprocess.Popen"), "architecture"),
        (lambda t: t["network_def"].update(in_channels=4), "4 contrasts"),
        (lambda t: t["inferer"].update(_target_="SimpleInferer"), "the inferer"),
        (lambda t: t["postprocessing"]["transforms"].append({"_target_": "Activationsd", "sigmoid": True}), "sigmoid"),
        (lambda t: t["network_def"].update(channels=[4, 6]), "tensors"),
    ],
)
def test_what_a_bundle_asks_for_and_is_not_understood_is_refused(change, reason, bundle, models):
    edit(bundle[0] / "configs" / "inference.json", change)
    with pytest.raises(BadInput, match=reason):
        import_model(bundle[0], Wishes("refused"), models)
    assert not models.has("refused")


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_a_pickle_that_would_run_code_is_not_run(bundle, models, capsys):
    torch.save({"model": Evil()}, bundle[0] / "models" / "model.pt")
    with pytest.raises(BadInput):
        import_model(bundle[0], Wishes("evil"), models)
    assert "run" not in capsys.readouterr().out


def write_onnx(path, last="Softmax", shape=SHAPE):
    """One convolution, channels last as models from Keras have it."""
    rng = np.random.default_rng(5)
    kernel = rng.normal(size=(2, 1, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["input"], ["first"], perm=[0, 4, 1, 2, 3]),
        helper.make_node("Conv", ["first", "kernel"], ["found"], pads=[1] * 6),
        helper.make_node("Transpose", ["found"], ["back"], perm=[0, 2, 3, 4, 1]),
        helper.make_node(last, ["back"], ["output"], **({"axis": -1} if last == "Softmax" else {})),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape, channels])
            for name, channels in (("input", 1), ("output", 2))]  # fmt: skip
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [numpy_helper.from_array(kernel, "kernel")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return kernel


INI = """[PreProcessing]
output_spacing=1.0,0.9,2.0
normalization_method=zeromean
background_cropping=none

[Training]
nb_classes=2
classes=background,Tumor
patch_size=16,24,8
"""


@pytest.fixture
def raidionics(tmp_path):
    folder = tmp_path / "MRI_Meningioma"
    folder.mkdir()
    kernel = write_onnx(folder / "model.onnx")
    (folder / "pre_processing.ini").write_text(INI)
    return folder, kernel


def test_a_raidionics_model_gives_what_its_network_gives(raidionics, image, models, tmp_path):
    folder, kernel = raidionics
    model = import_model(folder, Wishes("meningioma", licence="BSD-2-Clause"), models)
    assert (model.recipe.labels, model.licence) == ({1: "Tumor"}, "BSD-2-Clause")
    x = torch.from_numpy(normed(image.array))[None].float()
    expected = nn.functional.conv3d(x, torch.from_numpy(kernel), padding=1).argmax(1)[0].numpy()
    assert len(np.unique(expected)) > 1
    assert np.mean(run(tmp_path, "meningioma", image) == expected) > 0.9999


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("output_spacing=1.0,0.9,2.0\nnew_axial_size=128,128", r"slab_size = \(none\)"),
        ("output_spacing=1.0,0.9,2.0\nnew_axial_size=128", "2 or 3 positive numbers"),
        ("output_spacing=1.0,0.9,2.0\ncrop_background=brain_mask", "crop_background = brain_mask"),
        ("output_spacing=1.0,0.9,2.0\nnormalization_method_=x\nintensity_clipping_values=-150,250", "clipping_values"),
        ("output_spacing=", "output_spacing"),
    ],
)
def test_what_raidionics_asks_for_and_is_not_understood_is_refused(line, reason, raidionics, models):
    (raidionics[0] / "pre_processing.ini").write_text(INI.replace("output_spacing=1.0,0.9,2.0", line))
    with pytest.raises(BadInput, match=reason):
        import_model(raidionics[0], Wishes("refused"), models)


def test_a_raidionics_model_of_whole_volumes_reads_any_field_at_one_size(raidionics, image, models, tmp_path):
    folder, _ = raidionics
    kernel = write_onnx(folder / "model.onnx", shape=(20, 30, 12))
    line = "output_spacing=1.0,0.9,2.0\nnew_axial_size=20,30,12"
    (folder / "pre_processing.ini").write_text(INI.replace("output_spacing=1.0,0.9,2.0", line))
    recipe = import_model(folder, Wishes("whole"), models).recipe
    assert (recipe.shape, recipe.patch) == ((20, 30, 12), (20, 30, 12))
    smooth = ndimage.gaussian_filter(image.array[0], 2)  # so that two ways of interpolating agree
    seen = nn.functional.interpolate(torch.from_numpy(smooth)[None, None], size=(20, 30, 12), mode="trilinear")
    found = nn.functional.conv3d((seen - seen.mean()) / seen.std(), torch.from_numpy(kernel), padding=1).softmax(1)
    expected = nn.functional.interpolate(found, size=SHAPE, mode="trilinear").argmax(1)[0].numpy()
    labels = run(tmp_path, "whole", Volume(smooth[None], image.geometry))
    inner = (slice(2, -2),) * 3
    assert len(np.unique(expected[inner])) > 1
    assert np.mean(labels[inner] == expected[inner]) > 0.95


def test_a_raidionics_model_of_slabs_keeps_the_proportions_of_the_third_axis(raidionics, image, models, tmp_path):
    folder, _ = raidionics
    write_onnx(folder / "model.onnx", shape=(16, 24, 4))
    line = "output_spacing=1.0,0.9,1.0\nnew_axial_size=16,24"
    text = INI.replace("output_spacing=1.0,0.9,2.0", line) + "slab_size=4\n"
    (folder / "pre_processing.ini").write_text(text)
    recipe = import_model(folder, Wishes("slabs"), models).recipe
    assert (recipe.shape, recipe.patch) == ((16, 24, 0), (16, 24, 4))
    [(grid, _)] = prepare(image, recipe).fields
    assert grid.shape == (16, 24, 16)
    assert run(tmp_path, "slabs", image).shape == SHAPE


def test_a_raidionics_model_that_crops_reads_the_head_and_leaves_the_air(raidionics, image, models, tmp_path):
    folder, _ = raidionics
    (folder / "pre_processing.ini").write_text(INI.replace("cropping=none", "cropping=minimum"))
    import_model(folder, Wishes("cropped"), models)
    head = (slice(3, 13), slice(4, 20), slice(1, 7))
    padded = np.zeros_like(image.array)
    padded[(0, *head)] = image.array[(0, *head)].clip(60)
    found = run(tmp_path, "cropped", Volume(padded, image.geometry))
    (folder / "pre_processing.ini").write_text(INI)
    import_model(folder, Wishes("plain"), models)
    alone = run(tmp_path, "plain", Volume(padded[(slice(None), *head)], cut(image.geometry, head)))
    np.testing.assert_array_equal(found[head], alone)
    assert not np.delete(found, np.r_[3:13], axis=0).any()


def test_a_network_of_another_kind_is_refused(raidionics, models):
    write_onnx(raidionics[0] / "model.onnx", last="Sigmoid")
    with pytest.raises(BadInput, match="sigmoid"):
        import_model(raidionics[0], Wishes("refused"), models)
    (raidionics[0] / "model.onnx").write_bytes(b"no network")
    with pytest.raises(BadInput, match="can't be opened"):
        import_model(raidionics[0], Wishes("refused"), models)


def test_a_file_of_another_layout_is_refused(nnunet, models):
    edit(nnunet[0] / "dataset.json", lambda told: told.update(channel_names=3))
    with pytest.raises(BadInput, match="not of their own layout"):
        import_model(nnunet[0], Wishes("refused"), models)


def test_a_folder_of_no_known_kind_is_refused(tmp_path, models):
    with pytest.raises(BadInput, match=r"plans\.json and dataset\.json"):
        import_model(tmp_path, Wishes("nothing"), models)
