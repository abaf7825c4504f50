"""Fixtures of the tests of several workers."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from imitated import bucket, hosts, objects, services

__all__ = ["bucket", "hosts", "objects", "services"]
