"""Real pictures and the captions that people gave them."""

import io
import json

import numpy as np
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from voxelight.neuro.evaluate.metrics.captions import Captions, References


@pytest.fixture(scope="session")
def photographs(shared_data):
    """Photographs of COCO at 160 x 160: array (picture, row, column, 3) in [0, 1]."""
    paths = sorted((shared_data / "coco_mini" / "train2017").glob("*.jpg"))[:12]
    pixels = [np.asarray(Image.open(path).convert("RGB").resize((160, 160))) for path in paths]
    return np.stack(pixels).astype(np.float32) / 255


@pytest.fixture(scope="session")
def small_photographs(shared_data):
    """Photographs of Tiny ImageNet at 64 x 64, each of another class."""
    table = parquet.read_table(shared_data / "tiny_imagenet_64" / "train-0.parquet", columns=["image", "label"])
    _, rows = np.unique(table["label"].to_numpy(), return_index=True)
    pixels = [
        np.asarray(Image.open(io.BytesIO(table["image"][row].as_py())).convert("RGB")) for row in rows[:16].tolist()
    ]
    return np.stack(pixels).astype(np.float32) / 255


@pytest.fixture(scope="session")
def told_by_people(shared_data):
    """For 80 photographs the five captions of COCO."""
    rows = json.loads((shared_data / "coco_mini" / "annotations" / "captions_train2017.json").read_text())
    told = {}
    for row in rows["annotations"]:
        told.setdefault(row["image_id"], []).append(row["caption"])
    return [tuple(texts) for texts in told.values()]


@pytest.fixture(scope="session")
def captions(told_by_people):
    """One person's caption against those of the four others."""
    references = References("coco captions", tuple(texts[1:] for texts in told_by_people))
    return Captions(tuple(texts[0] for texts in told_by_people), references)
