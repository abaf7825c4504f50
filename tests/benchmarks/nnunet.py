"""nnU-Net itself on the folds of the hippocampus, its schedule ending in a given time. Prints one JSON object.

python tests/benchmarks/nnunet.py prepare FOLDER OUT
    Lets it plan (3d_fullres) and packs plan, folds and cases as arrays; needs the whole installation.
python tests/benchmarks/nnunet.py train OUT --folds 0 [--seconds 228]
    Trains and scores each fold by its own trainer: network, augmentation, loss, optimiser and mirrored sliding window
    are nnU-Net's, preprocessing too; the rate falls to zero over the seconds, where nnU-Net would take 250,000 steps.
    Reads arrays only, so that no reader of images is needed.

Both need `nnunetv2`, which is no dependency of ours.
"""

import argparse
import json
import os
import sys
import time
import types
from dataclasses import asdict
from pathlib import Path

import numpy as np
from segmentation_baseline import read_scores

from voxelight.medseg.evaluate import dice_by_case, mean_by_person, paired_difference
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.splits import choose_split

OURS = find_recipe("hippocampus-agunet")
DATASET, NUMBER, CONFIGURATION = "Dataset004_Hippocampus", 4, "3d_fullres"


def prepare(folder, out):
    """Lay the cases out as nnU-Net reads them and let it plan; keep plan, our folds and the arrays."""
    import nibabel

    from voxelight.storage.formats.cases import read_cases

    name_folders(out)
    cases = read_cases(folder, OURS.labels, OURS.values)
    raw, arrays = out / "raw" / DATASET, {}
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True, exist_ok=True)
    for case in cases:
        affine = case.volume.geometry.affine
        image, labels = case.volume.array[0].astype(np.float32), case.labels.array.astype(np.uint8)
        nibabel.Nifti1Image(image, affine).to_filename(raw / "imagesTr" / f"{case.name}_0000.nii.gz")
        nibabel.Nifti1Image(labels, affine).to_filename(raw / "labelsTr" / f"{case.name}.nii.gz")
        arrays |= {f"{case.name}/image": image, f"{case.name}/labels": labels}
    named = {"background": 0} | {label: number for number, label in OURS.labels.items()}
    facts = {"channel_names": {"0": "MRI"}, "labels": named, "numTraining": len(cases), "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(facts))

    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments

    extract_fingerprints([NUMBER], num_processes=2)
    plan_experiments([NUMBER])
    split = choose_split(OURS.name, [case.name for case in cases], OURS.seed)
    folds = [{"train": list(split.rest(fold)), "val": list(held_out)} for fold, held_out in enumerate(split.folds)]
    ready = out / "preprocessed" / DATASET
    (ready / "splits_final.json").write_text(json.dumps(folds))
    np.savez_compressed(ready / "cases.npz", **arrays)
    print(json.dumps({"cases": len(cases), "plan": json.loads((ready / "nnUNetPlans.json").read_text())}, indent=2))


def name_folders(out):
    """Say where nnU-Net's folders are; it reads this as it is imported."""
    for part in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{part}"] = str(out / part)


def train(args):
    name_folders(args.out)
    try:
        import SimpleITK  # noqa: F401
    except ImportError:  # it reads images only, and none is read here
        sys.modules["SimpleITK"] = types.ModuleType("SimpleITK")
    ready = args.out / "preprocessed" / DATASET
    references = preprocess(ready)
    split = choose_split(OURS.name, list(references), OURS.seed)
    found, facts = {}, {}
    for fold in args.folds:
        dice, facts[fold] = train_fold(ready, fold, args, references)
        found |= dice
    shipped, table = read_scores()["agunet"], {}
    for label in OURS.labels.values():
        scores = {case: row[label] for case, row in found.items()}
        ours = {case: shipped[label][case] for case in scores}
        table[label] = {
            "nnunet": asdict(mean_by_person(scores, split.person_of, OURS.seed)),
            "agunet, as it ships": asdict(mean_by_person(ours, split.person_of, OURS.seed)),
            "agunet above nnunet": asdict(paired_difference(ours, scores, split.person_of, OURS.seed)),
        }
    print(json.dumps({"folds": facts, "dice": table, "cases": found}, indent=2))


def preprocess(ready):
    """Let nnU-Net preprocess the arrays where that was not done yet; return case -> labels."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans, facts = (json.loads((ready / f"{name}.json").read_text()) for name in ("nnUNetPlans", "dataset"))
    manager = PlansManager(plans)
    configuration = manager.get_configuration(CONFIGURATION)
    folder = ready / configuration.data_identifier
    folder.mkdir(exist_ok=True)
    with np.load(ready / "cases.npz") as arrays:
        names = sorted({key.split("/")[0] for key in arrays.files})
        references = {name: arrays[f"{name}/labels"] for name in names}
        for name in names:
            if not (folder / f"{name}.b2nd").exists():
                # Last axis first, as its reader gives them; every voxel of the set is 1 mm.
                image, labels = arrays[f"{name}/image"].T[None], references[name].T[None].astype(np.int16)
                data, seg, properties = DefaultPreprocessor(verbose=False).run_case_npy(
                    image, labels, {"spacing": [1.0, 1.0, 1.0]}, manager, configuration, facts
                )
                nnUNetDatasetBlosc2.save_case(data, seg.astype(np.int16), properties, str(folder / name))
    return references


def train_fold(ready, fold, args, references):
    """Train one fold until its time is over; return case -> label -> Dice of the cases held out, and what it took."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.manual_seed(args.seed + fold)
    np.random.seed(args.seed + fold)
    plans = json.loads((ready / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    trainer = nnUNetTrainer(
        plans, CONFIGURATION, fold, json.loads((ready / "dataset.json").read_text()), torch.device(args.device)
    )
    trainer.on_train_start()
    trainer.network.train()
    for _ in range(args.warm_up):
        trainer.train_step(next(trainer.dataloader_train))  # compiled, and cuDNN's choice, before the clock runs
    steps, losses, began = 0, [], time.monotonic()
    while (share := (time.monotonic() - began) / args.seconds) < 1:
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - share) ** 0.9
        losses.append(float(trainer.train_step(next(trainer.dataloader_train))["loss"]))
        steps += 1
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):
            loader._finish()
    facts = {
        "steps": steps,
        "seconds": args.seconds,
        "batch": trainer.configuration_manager.batch_size,
        "patch": [int(side) for side in trainer.configuration_manager.patch_size],
        "parameters": sum(value.numel() for value in trainer.network.parameters()),
        "loss": float(np.mean(losses[-100:])),
    }
    return score(trainer, references, args.device), facts


def score(trainer, references, device):
    """Predict the cases held out, mirrored averaging included, on the grids they came on."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(
        use_mirroring=True, device=torch.device(device), perform_everything_on_device=True, allow_tqdm=False
    )
    predictor.manual_initialization(
        trainer.network, trainer.plans_manager, trainer.configuration_manager, None, trainer.dataset_json,
        type(trainer).__name__, trainer.inference_allowed_mirroring_axes,
    )  # fmt: skip
    _, held_out = trainer.get_tr_and_val_datasets()
    found, wanted = [], []
    for name in held_out.identifiers:
        data, _, _, properties = held_out.load_case(name)
        labels = predictor.predict_sliding_window_return_logits(torch.from_numpy(data[:])).argmax(0).cpu().numpy()
        box = tuple(slice(*ends) for ends in properties["bbox_used_for_cropping"])
        whole = np.zeros(properties["shape_before_cropping"], np.uint8)
        whole[box] = labels  # 1 mm as the set has it, so that nothing was resampled
        found.append(whole.T)
        wanted.append(references[name])
    rows = dice_by_case(found, wanted, OURS.scored)
    return dict(zip(held_out.identifiers, rows, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    preparing = verbs.add_parser("prepare")
    preparing.add_argument("folder", type=Path)
    preparing.add_argument("out", type=Path)
    training = verbs.add_parser("train")
    training.add_argument("out", type=Path)
    training.add_argument("--folds", type=int, nargs="+", default=[0])
    training.add_argument("--seconds", type=float, default=228.0, help="of steps, for each fold")
    training.add_argument("--warm-up", type=int, default=3, help="steps before the clock runs")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--device", default="cuda")
    args = parser.parse_args()
    if args.verb == "prepare":
        prepare(args.folder, args.out.resolve())
    else:
        args.out = args.out.resolve()
        train(args)


if __name__ == "__main__":
    main()
