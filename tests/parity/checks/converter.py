"""The converter from the tokens of one image encoder to those of another."""

import re

from checks.cases import Kind
from checks.files import Fixture
from torch import Tensor

from voxelight.models.captioning.converter import ConverterConfig


def run_converter(fixture: Fixture, _: re.Match[str]) -> Tensor:
    config = fixture.config
    converter = ConverterConfig(
        tokens_in=config["s_in"], dim_in=config["d_in"], tokens_out=config["s_out"], dim_out=config["d_out"]
    ).build()
    converter.load_state_dict(fixture.part("w."))
    return converter(fixture.given("in.x"))


KIND = Kind(outputs={r"out\.y": run_converter}, known=frozenset({"s_in", "d_in", "s_out", "d_out"}))
