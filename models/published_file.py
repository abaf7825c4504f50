"""What is known of one published file. Nothing here reads or fetches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from voxelight.models.licences import LICENCES

VOXELS = {1: 15724, 2: 14278, 3: 15226, 4: 13153, 5: 13039, 6: 17907, 7: 12682, 8: 14386}  # nsdgeneral, 1.8 mm
INFERRED = "Path inferred from the names in the authors' README. "
OPTIMISER = "An optimiser inside the file is neither read nor kept."
SUBJECTS = (1, 2, 5, 7)


@dataclass(frozen=True)
class PartSizes:
    """A part that a file gives: the network that takes it and how large that network is.

    Parameters
    ----------
    network : name in ``voxelight.models.registry.NETWORKS``
    config : what differs from the network's defaults, which are the released sizes
    """

    network: str
    config: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class PublishedFile:
    """One file that others have published.

    Parameters
    ----------
    name : as a person types it: the publisher's own name of the file, folder or repository
    what : what it is
    repository, file : on the Hugging Face hub
    licence_key : key of ``voxelight.models.licences.LICENCES``
    layout : how it is read: a key of ``voxelight.models.layouts.LAYOUTS``, or ``vocabulary``; empty: not by itself
    parts : part of a profile -> the network it goes into
    sha256 : hash of the whole file; empty where none is known, then the first one seen is recorded
    size : bytes, rounded and as others list them except where `sha256` is given; None where not known
    gated : whether the hub asks for an account that has agreed to the terms
    dataset : whether the repository is one of data, not of models
    needs : published names whose files are read together with this one
    note : what is not verified, and what to do about it
    """

    name: str
    what: str
    repository: str
    file: str
    licence_key: str
    layout: str = ""
    parts: Mapping[str, PartSizes] = field(default_factory=lambda: MappingProxyType({}))
    sha256: str = ""
    size: int | None = None
    gated: bool = False
    dataset: bool = False
    needs: tuple[str, ...] = ()
    note: str = ""

    @property
    def licence(self) -> str:
        """Identifier of the licence."""
        return LICENCES[self.licence_key].id

    @property
    def licence_url(self) -> str:
        """Where the text of the licence is."""
        return LICENCES[self.licence_key].url

    @property
    def terms(self) -> str:
        """What the licence restricts."""
        return LICENCES[self.licence_key].terms

    @property
    def page(self) -> str:
        """The repository's page."""
        return f"https://huggingface.co/{'datasets/' if self.dataset else ''}{self.repository}"
