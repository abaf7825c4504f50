"""List models, and import those of other programs."""

from pathlib import Path

import click

from voxelight.app.cli.shell import Group, Shell


@click.group(cls=Group)
def models() -> None:
    """List models, and import those of other programs."""


@models.command("list")
@click.pass_obj
def list_models(shell: Shell) -> None:
    """List models with the hash of their weights and their licence."""
    from voxelight.app.cli.tables import show_models

    found = shell.services.results.list_models()
    shell.answer(found, show_models(found))


@models.command("import")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--name", required=True, help="Name of the model and of its recipe here.")
@click.option("--licence", default="", help="Its terms, where the folder does not state them.")
@click.option("--fold", "folds", multiple=True, help="Of nnU-Net; may be repeated. Default: all that are there.")
@click.option("--configuration", default="3d_fullres", show_default=True, help="Of nnU-Net.")
@click.option("--replace", is_flag=True, help="Put it in place of an earlier model of its name.")
@click.pass_obj
def import_one(
    shell: Shell, /, folder: Path, name: str, licence: str, folds: tuple[str, ...], configuration: str, replace: bool
) -> None:
    """Import a segmentation model, so that segment --recipe NAME and jobs can name it.

    FOLDER is a trained model of nnU-Net v2 (plans.json, dataset.json, fold_*), a MONAI bundle (configs, models), or a
    Raidionics model (model.onnx, pre_processing.ini). Pickles are read as weights alone. What a model asks for and is
    not understood is refused; how its own program goes about it in another way stands in its card.
    """
    from voxelight.app.cli.answers import ModelImported
    from voxelight.storage.imports import Wishes, import_model
    from voxelight.storage.trained import TrainedModels

    kept = TrainedModels(shell.settings.weights)
    model = import_model(folder, Wishes(name, licence, folds, configuration), kept, replace)
    answer = ModelImported(
        name=model.name,
        origin=model.origin,
        labels=model.recipe.output_labels,
        folds=len(model.sha256s),
        weights_sha256=model.sha256,
        licence=model.licence,
        differences=model.provenance["differences"],
    )
    shell.answer(answer, f"{model.name}: {', '.join(model.recipe.labels.values())}; licence {model.licence}.")
