"""Our modules beside the published code: random weights, inputs, and what came out of it.

A folder of fixtures decides what is run here: `pytest tests/parity --fixtures DIR`.
"""

import pytest
import torch
from checks.cases import Case
from checks.compare import Disagreement
from checks.report import FIGURE


def test_what_the_published_code_gives(shared_fixtures, case: Case | None, request: pytest.FixtureRequest):
    assert case, f"{shared_fixtures} holds no fixture"
    notes = request.node.user_properties
    with torch.no_grad():
        figures = case.run()
    notes.extend((FIGURE, figure.as_row()) for figure in figures)
    apart = [str(figure) for figure in figures if not figure.agrees]
    if apart:
        raise Disagreement("\n".join(apart))
    assert figures, f"{case.id} compared nothing"
