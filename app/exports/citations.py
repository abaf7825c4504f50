"""Whom to name, and under which terms a result may be passed on."""

from voxelight.app.exports.entries import Entry
from voxelight.app.version import find_version

_OF = {
    "hippocampus-agunet": (
        "Bouget D. et al. (2021). Meningioma segmentation in T1-weighted MRI leveraging global context and attention "
        "mechanisms. Frontiers in Radiology 1:711514. (AGUNet)",
        "Antonelli M. et al. (2022). The Medical Segmentation Decathlon. Nature Communications 13:4128.",
        "Simpson A. L. et al. (2019). A large annotated medical image dataset for the development and evaluation of "
        "segmentation algorithms. arXiv:1902.09063.",
    ),
    "miyawaki": (
        "Miyawaki Y. et al. (2008). Visual image reconstruction from human brain activity using a combination of "
        "multiscale local image decoders. Neuron 60:915-929.",
    ),
    "mindeye2": (
        "Scotti P. S. et al. (2024). MindEye2: shared-subject models enable fMRI-to-image with 1 hour of data. "
        "ICML 2024.",
    ),
    "bids": (
        "Gorgolewski K. J. et al. (2016). The brain imaging data structure, a format for organizing and describing "
        "outputs of neuroimaging experiments. Scientific Data 3:160044.",
    ),
}


def list_citations(entry: Entry) -> list[str]:
    """Return whom to cite for a result: the software, the model, and where its data come from."""
    result = entry.result
    names = f"{result.model} {result.recipe}"
    cited = [f"Voxelight {find_version()}. Research software, not for clinical use."]
    cited += [line for key, lines in _OF.items() if key in names for line in lines]
    if entry.terms.dataset_source:
        cited.append(f"Data set {result.dataset}: {entry.terms.dataset_source}")
    return cited


def describe_licence(entry: Entry) -> list[str]:
    """Return the licences of data and weights, as they were stated."""
    result, terms = entry.result, entry.terms
    weights = [f"weights {result.model}: {terms.model_licence}"] if terms.model_licence else []
    return [f"data set {result.dataset}: {terms.dataset_licence or 'not stated'}", *weights]
