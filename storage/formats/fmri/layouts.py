"""The layouts of fMRI betas that can be read, by name; a reader is imported when it is used."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.formats.fmri.options import ReadingOptions
from voxelight.storage.formats.fmri.recording import Recording


@dataclass(frozen=True)
class Layout:
    """One layout.

    Parameters
    ----------
    title : whose it is
    files : what one looks for in a folder
    reading : how betas are read: "mapped", "streamed", or "whole" where the format leaves no choice
    terms : under which terms the published data stand, as far as known
    reader : module and class of the reader, below this package
    marks : glob patterns of which one finds a file; the more specific layouts stand first
    """

    title: str
    files: str
    reading: str
    terms: str
    reader: str
    marks: tuple[str, ...]


_NSD_TERMS = "NSD terms and conditions with its data access form; not redistributable"

LAYOUTS: dict[str, Layout] = {
    "simulated": Layout(
        "Subjects that `voxelight simulate` made", "make.json, sub-NN/betas.npy", "mapped", "simulated, one's own",
        "simulated:SimulatedRecording", ("make.json",),
    ),
    "nsd": Layout(
        "Natural Scenes Dataset as published", "nsddata, nsddata_betas, nsddata_stimuli", "streamed", _NSD_TERMS,
        "nsd:NsdRecording", ("nsddata_betas/ppdata/subj*",),
    ),
    "mindeye2": Layout(
        "Containers of MindEye2", "wds/*.tar, betas_all_subj0X*.hdf5, coco_images_224_float16.hdf5", "streamed",
        _NSD_TERMS, "mindeye2:MindEye2Recording", ("betas_all_subj*.hdf5",),
    ),
    "mindeye1": Layout(
        "Containers of MindEye1", "webdataset_avg_split/{train,val,test}/*.tar", "streamed", _NSD_TERMS,
        "mindeye1:MindEye1Recording", ("webdataset_avg_split/*/*.tar", "train/train_subj*.tar"),
    ),
    "brain-diffuser": Layout(
        "Arrays of brain-diffuser", "nsd_train_fmriavg_nsdgeneral_sub1.npy and nsd_train_stim_sub1.npy", "mapped",
        _NSD_TERMS, "braindiffuser:BrainDiffuserRecording", ("**/nsd_*_fmriavg_nsdgeneral_sub*.npy",),
    ),
    "laion-fmri": Layout(
        "LAION-fMRI, and BIDS derivatives like it", "*_stat-effect_desc-SingletrialBetas_statmap.nii.gz, *_trials.tsv",
        "streamed", "fMRI data CC0; pictures under a data use agreement", "laion:LaionRecording",
        ("**/*_desc-SingletrialBetas_statmap.nii*",),
    ),
    "glmsingle": Layout(
        "What GLMsingle writes", "TYPED_FITHRF_GLMDENOISE_RR.hdf5 or .mat, trials.tsv", "streamed", "one's own",
        "glmsingle:GlmSingleRecording", ("TYPE*_*.*", "*/TYPE*_*.*"),
    ),
    "haxby": Layout(
        "Haxby et al. 2001 as nilearn and PyMVPA lay it out", "bold.nii.gz, labels.txt, mask*.nii.gz", "streamed",
        "CC BY-SA 3.0", "haxby:HaxbyRecording", ("bold.nii.gz", "*/bold.nii.gz"),
    ),
    "surface": Layout(
        "Betas on a surface", "lh.S_betas.mgh, S_hemi-L_*betas.func.gii or S_*betas.dscalar.nii, S_events.tsv",
        "mapped (.mgh, CIFTI), whole (GIFTI)", "one's own", "surface_events:SurfaceRecording",
        ("lh.*_betas.mg*", "*_hemi-L_*betas.func.gii", "*betas*.dscalar.nii", "*betas*.dtseries.nii"),
    ),
    "nifti": Layout(
        "NIfTI with a mask and events", "S_betas.nii.gz, S_mask.nii.gz, S_events.tsv", "streamed", "one's own",
        "nifti_events:NiftiRecording", ("*_betas.nii*",),
    ),
    "npy": Layout(
        "A NumPy table with trials", "betas.npy, trials.tsv, pictures", "mapped", "one's own",
        "arrays:ArrayRecording", ("betas.npy", "*/betas.npy"),
    ),
    "bdata": Layout(
        "BData of bdpy", "*.h5 with dataset and metadata", "streamed", "as its source says", "bdata:BDataRecording", (),
    ),
    "hdf5": Layout(
        "An HDF5 table", "*.h5 with betas and stimulus", "streamed", "one's own", "hdf5_table:Hdf5Recording", (),
    ),
    "mat": Layout(
        "A MATLAB file with betas and pictures", "*.mat with fmriTrn and stimTrn", "whole", "as its source says",
        "mat:MatRecording", ("*.mat",),
    ),
}  # fmt: skip


def open_recording(path: Path, layout: str | None = None, options: ReadingOptions | None = None) -> Recording:
    """Open a folder or a file of fMRI betas: its index is made, no beta is read.

    Parameters
    ----------
    path : the folder, or the file where the layout is one file
    layout : a key of `LAYOUTS`; left out, told by the files
    options : ReadingOptions

    Raises
    ------
    NotFound
        There is no such path or layout, a file of the layout is missing, or nothing of any layout is there.
    BadInput
        Files are damaged or contradict each other, or could be of two layouts.
    """
    if not _is_there(path):
        raise NotFound(f"nothing at {path}", "a folder or a file of betas", "Check the path.")
    chosen = LAYOUTS[find_layout(path) if layout is None else _known(layout)]
    module, name = chosen.reader.split(":")
    reader = cast(type[Recording], getattr(import_module(f"{__package__}.{module}"), name))
    return reader(path, options or ReadingOptions())


def find_layout(path: Path) -> str:
    """Tell the layout of a folder or file by its files.

    Raises
    ------
    NotFound
        No layout fits.
    """
    if path.is_file():
        return _find_by_content(path)
    for name, layout in LAYOUTS.items():
        if any(next(path.glob(mark), None) is not None for mark in layout.marks):
            return name
    packed = [each for each in sorted(path.iterdir()) if each.suffix in (".h5", ".hdf5")]
    if packed:
        return _find_by_content(packed[0])
    wanted = "; ".join(f"{name}: {layout.files}" for name, layout in LAYOUTS.items())
    raise NotFound(f"no betas of a known layout in {path}", wanted, "Name the layout, or convert the files to one.")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no disk can hold, or a folder that may not be read
        return False


def _find_by_content(path: Path) -> str:
    from voxelight.storage.formats.hdf5 import opened_hdf5
    from voxelight.storage.formats.sniff import NAMES, sniff

    kind = sniff(path)
    if kind == "mat":
        return "mat"
    if kind == "hdf5":
        with opened_hdf5(path) as file:
            return "bdata" if {"metadata", "metaData"} & set(file) else "hdf5"
    raise BadInput(
        f"{NAMES[kind]}, {path.name}", "a folder of betas, or one .mat or .h5 file", "Name the folder that it lies in."
    )


def _known(layout: str) -> str:
    if layout not in LAYOUTS:
        raise NotFound(f"no layout {layout!r}", f"one of {', '.join(LAYOUTS)}", "Correct the name.")
    return layout
