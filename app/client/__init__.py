"""The HTTP API from Python, typed: no torch, no database, the same requests and answers as at every other door."""

from voxelight.app.client.client import Client
from voxelight.app.client.problems import ChangedMeanwhile, Gone
from voxelight.app.client.tagged import Tagged

__all__ = ["ChangedMeanwhile", "Client", "Gone", "Tagged"]
