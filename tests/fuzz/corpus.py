"""Small sound files by real writers, and some that were made to hurt: what mutation begins with."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import scipy.io
import SimpleITK as sitk  # noqa: N813
import tifffile
from PIL import Image, PngImagePlugin
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

Seed = tuple[str, bytes]
FORMATS = ("nifti", "dicom", "hdf5", "picture", "zip", "json", "other")
_RNG = np.random.default_rng(8)
BETAS_FILE = "betas.h5"


def write_corpus(folder: Path) -> dict[str, list[Path]]:
    """Write every seed below a folder of its format; its name is the one that the door is told."""
    written: dict[str, list[Path]] = {}
    for kind in FORMATS:
        for number, (name, content) in enumerate(SEEDS[kind]()):
            path = folder / kind / f"{number:02d}-{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            written.setdefault(kind, []).append(path)
    return written


def nifti() -> Iterator[Seed]:
    array = _RNG.integers(-5, 900, (5, 6, 4)).astype(np.int16)
    affine = np.diag([1.0, 1.5, 2, 1])
    for cls in (nib.Nifti1Image, nib.Nifti2Image):
        image = cls(array, affine)
        yield "a.nii", image.to_bytes()
        yield "a.nii.gz", gzip.compress(image.to_bytes(), mtime=0)
    series = nib.Nifti1Image(_RNG.normal(size=(4, 3, 2, 5)).astype(np.float32), affine)
    series.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe, Jane"))
    yield "s.nii.gz", gzip.compress(series.to_bytes(), mtime=0)
    labels = nib.Nifti1Image((array > 400).astype(np.uint8), affine)
    labels.header["scl_slope"], labels.header["scl_inter"], labels.header["descrip"] = 2.0, 1.0, b"who"
    yield "m_dseg.nii", labels.to_bytes()
    for dtype in (np.float64, np.complex64, np.uint64):
        yield "d.nii", nib.Nifti1Image(array.astype(dtype), affine, dtype=dtype).to_bytes()
    claimed = bytearray(nib.Nifti1Image(array, affine).to_bytes())
    struct.pack_into("<8h", claimed, 40, 3, 32767, 32767, 32767, 1, 1, 1, 1)
    yield "huge.nii", bytes(claimed)
    yield "huge.nii.gz", gzip.compress(bytes(claimed), mtime=0)
    yield "bomb.nii.gz", gzip.compress(bytes(nib.Nifti1Image(array, affine).to_bytes()) + bytes(1 << 24), mtime=0)


def _slice(place: int, syntax: UID = ExplicitVRLittleEndian, frames: int = 1) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"1.2.3.{place + 1}"
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = "1.2.3", "1.2.3.100", "1.2.3.200"
    header.PatientName, header.PatientID, header.StudyDate, header.Modality = "Doe^Jane", "H-1", "20240310", "MR"
    header.SeriesDescription, header.SeriesNumber, header.InstanceNumber = "t1 mprage", 3, place + 1
    header.ImagePositionPatient, header.ImageOrientationPatient = [-20, 5, 2.5 * place], [1, 0, 0, 0, 1, 0]
    header.PixelSpacing, header.SliceThickness, header.Rows, header.Columns = [0.8, 0.9], 2.5, 6, 5
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.PatientName = "1.2.3.9", "Doe^Jane"
    header.ReferencedImageSequence = [item]
    header.private_block(0x0029, "MAKER", create=True).add_new(0x10, "LO", "Doe, private")
    if frames > 1:
        header.NumberOfFrames = frames
    header.PixelData = _RNG.integers(0, 900, (frames, 6, 5)).astype("<u2").tobytes()
    return header


def _dicom_bytes(header: Dataset) -> bytes:
    file = io.BytesIO()
    syntax = header.file_meta.TransferSyntaxUID
    if syntax == RLELossless:
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.compress(RLELossless, generate_instance_uid=False)
    header.save_as(file, enforce_file_format=True)
    return file.getvalue()


def dicom() -> Iterator[Seed]:
    yield "a.dcm", _dicom_bytes(_slice(0))
    yield "implicit.dcm", _dicom_bytes(_slice(0, ImplicitVRLittleEndian))
    yield "rle.dcm", _dicom_bytes(_slice(0, RLELossless))
    yield "frames.dcm", _dicom_bytes(_slice(0, frames=3))
    yield "series.dcm.zip", _zip([(f"{n}.dcm", _dicom_bytes(_slice(n))) for n in range(3)])
    long = _dicom_bytes(_slice(0))
    at = long.index(b"\x28\x00\x10\x00US")  # Rows
    yield "long.dcm", long[:at] + b"\x09\x00\x01\x00OB\0\0\xf0\xff\xff\xff" + long[at:]
    nested = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    yield "nested.dcm", long[:at] + nested * 400 + long[at:]
    many = _slice(0)
    many.NumberOfFrames, many.Rows, many.Columns = 2**31 - 1, 65535, 65535
    yield "many.dcm", _dicom_bytes(many)


def hdf5() -> Iterator[Seed]:
    betas = _RNG.normal(size=(8, 4)).astype(np.float32)

    def write(change: str = "") -> bytes:
        file = io.BytesIO()
        with h5py.File(file, "w") as out:
            how = {"chunks": (4, 2), "compression": "gzip", "shuffle": True, "fletcher32": True} if change else {}
            if change in ("external", "loop"):
                out["betas"] = (
                    h5py.ExternalLink("/etc/passwd", "/") if change == "external" else h5py.SoftLink("/betas")
                )
            elif change == "virtual":
                layout = h5py.VirtualLayout((8, 1 << 36), "f4")
                layout[:, :4] = h5py.VirtualSource("/etc/hostname", "x", (8, 4))
                out.create_virtual_dataset("betas", layout)
            else:
                out.create_dataset("betas", data=betas, **how)
            out["stimulus"] = [f"s{n % 4}" for n in range(8)]
            out["session"], out["up"] = np.arange(8) // 4, h5py.SoftLink("/")
            if change == "claims":
                out.create_dataset("images", (1 << 30, 64, 64, 3), "u1", chunks=(1, 64, 64, 3), compression="gzip")
                out["image_ids"] = [f"s{n}" for n in range(4)]
        return file.getvalue()

    for change in ("", "chunked", "external", "loop", "virtual", "claims"):
        yield BETAS_FILE, write(change)
    matlab = io.BytesIO(b"")
    with h5py.File(matlab, "w", userblock_size=512) as out:
        out.create_dataset("betas", data=betas)
    content = bytearray(matlab.getvalue())
    content[:19] = b"MATLAB 7.3 MAT-file"
    yield "b.mat", bytes(content)


def picture() -> Iterator[Seed]:
    colour = Image.fromarray(_RNG.integers(0, 255, (12, 9, 3)).astype(np.uint8))
    note = PngImagePlugin.PngInfo()
    note.add_text("Author", "Doe", zip=True)
    for name, mode, how in (
        ("a.png", "RGB", {"pnginfo": note}), ("p.png", "P", {}), ("g.png", "L", {}), ("t.png", "RGBA", {}),
        ("a.jpg", "RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}),
        ("b.jpg", "RGB", {"progressive": True}), ("c.jpg", "CMYK", {}),
        ("a.tif", "RGB", {"compression": "tiff_lzw"}), ("b.tif", "L", {"compression": "tiff_deflate"}),
        ("j.tif", "RGB", {"compression": "jpeg"}),
    ):  # fmt: skip
        file = io.BytesIO()
        colour.convert(mode).save(file, {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF"}[name[1:]], **how)
        yield name, file.getvalue()
    pages = io.BytesIO()
    tifffile.imwrite(pages, _RNG.integers(0, 4000, (2, 10, 8)).astype(np.uint16), bigtiff=True, tile=(16, 16))
    yield "pages.tif", pages.getvalue()
    plain = io.BytesIO()
    tifffile.imwrite(plain, _RNG.normal(size=(10, 8)).astype(np.float32))
    content = bytearray(plain.getvalue())
    first = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * count, first)
    yield "loop.tif", bytes(content)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    yield "wide.png", b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 24)))
    yield "text.png", next(picture_of("RGB"))[:33] + bomb + next(picture_of("RGB"))[33:]


def picture_of(mode: str) -> Iterator[bytes]:
    file = io.BytesIO()
    Image.new(mode, (7, 5), 3).save(file, "PNG")
    yield file.getvalue()


def _zip(members: list[Seed], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, method)
    return file.getvalue()


def zips() -> Iterator[Seed]:
    image = next(nifti())[1]
    png = next(picture_of("L"))
    yield "mixed.zip", _zip([("d/a.nii", image), ("b.png", png), ("c.txt", b"hello"), (".DS_Store", b"x")])
    yield "series.zip", _zip([(f"d/{n}.dcm", _dicom_bytes(_slice(n))) for n in range(2)], zipfile.ZIP_STORED)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield "packed.zip", _zip([("a.nii", image)], method)
    for name in ("../../escape.nii", "/tmp/escape.nii", "C:\\escape.nii", "a/../../b.nii", "nul\0l.nii", "é\u202e.nii"):
        yield "names.zip", _zip([(name, image)])
    link = zipfile.ZipInfo("link.nii")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    yield "link.zip", file.getvalue()
    yield "bomb.zip", _zip([("zeros.nii", image[:352] + bytes(1 << 25))])
    yield "nest.zip", _zip([("in.zip", _zip([("a.nii", image)]))])
    yield "many.zip", _zip([(f"{number}.png", b"") for number in range(300)])


def jsons() -> Iterator[Seed]:
    sidecar = {"RepetitionTime": 2.0, "TaskName": "rest", "SliceTiming": [0, 0.5, 1, 1.5], "EchoTime": 0.03}
    sidecar |= {"InstitutionName": "Mercy", "PatientName": "Doe", "Nested": {"a": [1, {"b": None}]}}
    yield "sub-01_bold.json", json.dumps(sidecar).encode()
    yield "deep_bold.json", b'{"RepetitionTime": 2, "a": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    yield "wide_bold.json", b'{"RepetitionTime": 1' + b"0" * 5000 + b"}"
    yield "nan_bold.json", b'{"RepetitionTime": NaN, "SliceTiming": [Infinity, -1e999], "x": "\\ud800"}'
    yield "twice_bold.json", b'{"RepetitionTime": 2, "RepetitionTime": [3], "SliceTiming": "0"}'
    yield "bom_bold.json", b"\xef\xbb\xbf" + json.dumps(sidecar).encode()


def other() -> Iterator[Seed]:
    mat = io.BytesIO()
    ids = np.array([f"s{n % 4}" for n in range(8)], dtype=object)
    scipy.io.savemat(mat, {"betas": _RNG.normal(size=(8, 5)), "stimulus": np.arange(8) % 4, "ids": ids, "roi": "V1",
                           "images": _RNG.random((4, 6, 6)), "s": {"a": [1, 2]}}, do_compression=True)  # fmt: skip
    yield "b.mat", mat.getvalue()
    image = sitk.GetImageFromArray(_RNG.integers(0, 99, (4, 5, 6)).astype(np.int16))
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name, packed in (("a.nrrd", False), ("z.nrrd", True), ("a.mha", False), ("z.mha", True)):
            path = Path(folder, name)
            sitk.WriteImage(image, str(path), packed)
            yield name, path.read_bytes()
    yield "sub-01_events.tsv", b"onset\tduration\ttrial_type\tstim_file\n0.0\t1\ta\tx.png\n2.5\t1\tb\ty.png\n"
    yield "sub-01_desc-confounds_timeseries.tsv", b"trans_x\trot_y\tcsf\n0.1\t0.2\tn/a\n0.2\t0.3\t5\n"
    array = io.BytesIO()
    np.save(array, np.arange(9.0))
    yield "a.npy", array.getvalue()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as out:
        out.addfile(tarfile.TarInfo("../x"), io.BytesIO(b""))
    yield "a.nii", tar.getvalue()
    yield "a.nii", b"cos\nsystem\n(S'touch escaped'\ntR."


SEEDS = {
    "nifti": nifti, "dicom": dicom, "hdf5": hdf5, "picture": picture, "zip": zips, "json": jsons, "other": other,
}  # fmt: skip
