"""Random draws by name: a part draws the same numbers, whatever else is drawn before or beside it."""

from hashlib import sha256

import numpy as np


def find_stream(seed: int, *names: object) -> np.random.Generator:
    """Return the generator of one part of the simulation.

    The key is SHA-256 of ``"<seed>:<name>:<name>..."``, its first 128 bits, so that neighbouring seeds and parts share
    nothing.

    Parameters
    ----------
    seed : of the whole simulation, any integer
    names : what draws, "subject", 3, "session", 1 for one

    Returns
    -------
    counter-based generator (Salmon et al. 2011, Philox 4x64)
    """
    digest = sha256(":".join(map(str, (int(seed), *names))).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
