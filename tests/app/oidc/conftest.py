"""A small identity provider of our own for each test."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from little_provider import IdentityProvider, providing


@pytest.fixture
def identity_provider() -> Iterator[IdentityProvider]:
    with providing() as provider:
        yield provider
