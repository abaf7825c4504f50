"""Whose file it is that comes in, and what is to be stored of it."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelight.storage.formats.found import Intake
from voxelight.storage.identity import IdentityKey, SeriesIdentity


@dataclass(frozen=True)
class Owner:
    """Whose file it is, and what may be known of that.

    Parameters
    ----------
    key : of the installation
    dataset_id, subject : the person, by label
    keeps_headers : leave everything as it came
    has_links : whether something was sealed with the key before
    """

    key: IdentityKey
    dataset_id: uuid.UUID
    subject: str
    keeps_headers: bool = False
    has_links: bool = False

    def name_uid(self, uid: str) -> str:
        """Return the UID that is stored for one that came in; the key is made where this is its first use.

        Raises
        ------
        Unavailable
            The key is missing though something was sealed with it.
        """
        if self.keeps_headers:
            return uid
        self.key.ensure(self.has_links)
        return self.key.hash_uid(uid)

    def stand_in(self, uids: Iterable[str] = ()) -> "StandIns":
        """Return what stands in a cleaned file for its person, some UIDs and its days.

        Raises
        ------
        Unavailable
            The key is missing though something was sealed with it.
        """
        named = {uid: self.name_uid(uid) for uid in uids}
        days = self.key.shift_days(self.dataset_id, self.subject) if named and not self.keeps_headers else 0
        return StandIns(self.subject, days, named, self.keeps_headers)


@dataclass(frozen=True)
class StandIns:
    """What stands in a cleaned file for its identity; whoever cleans it needs no key.

    Parameters
    ----------
    subject : in place of name and number
    days : by how many days dates are moved
    uids : original UID -> the one in its place
    keeps_headers : leave everything as it came
    """

    subject: str
    days: int = 0
    uids: Mapping[str, str] = field(default_factory=dict)
    keeps_headers: bool = False


@dataclass(frozen=True, eq=False)
class Accepted:
    """A file that may be stored.

    Parameters
    ----------
    path : of its content: the file itself where nothing had to be cleaned
    name : to store it under
    intake : what it is
    picture : small, where there is something to see
    status : ``clean``, ``cleaned``, ``kept`` or ``held``
    changed : whether the content is other than what came in
    held : why a person must look at it first; else empty
    identity : what was taken out of a DICOM series
    """

    path: Path
    name: str
    intake: Intake
    picture: NDArray[np.uint8] | None
    status: str
    changed: bool
    held: str = ""
    identity: SeriesIdentity | None = None
