"""Haemodynamic responses in closed form: the difference of two gamma densities and its integral."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc
from scipy.stats import gamma

Floats = NDArray[np.floating[Any]]

_GRID_S, _LENGTH_S = 0.02, 40.0
_PEAKS_S = (3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0)
_DISPERSIONS_S = (1.0, 1.7)


@dataclass(frozen=True)
class Hrf:
    """The response to a moment at time 0: gamma(peak) less `ratio` times gamma(undershoot).

    Parameters
    ----------
    peak_s, undershoot_s : modes of the two densities, s
    dispersion_s, undershoot_dispersion_s : their scales, s
    ratio : of the undershoot

    References
    ----------
    Friston et al. (1998), NeuroImage 7:30. The defaults are SPM's canonical response.
    """

    peak_s: float = 5.0
    undershoot_s: float = 15.0
    dispersion_s: float = 1.0
    undershoot_dispersion_s: float = 1.0
    ratio: float = 1 / 6

    def density(self, times: Floats) -> Floats:
        """Return the response at times after the moment, s; 0 before it."""
        (a, b), (c, d) = self._shapes()
        response: Floats = gamma.pdf(times, a, scale=b) - self.ratio * gamma.pdf(times, c, scale=d)
        return response

    def integral(self, times: Floats) -> Floats:
        """Return the integral of the response from 0 to each time; 0 before it."""
        (a, b), (c, d) = self._shapes()
        after = np.maximum(times, 0.0)
        total: Floats = gammainc(a, after / b) - self.ratio * gammainc(c, after / d)
        return total

    def respond(self, times: Floats, onset: float, duration: float) -> Floats:
        """Return the response to an event that begins at `onset` and lasts `duration`, both in s.

        The convolution of response and event is exact, wherever the onset falls between volumes. An event of no
        duration is a moment.

        Parameters
        ----------
        times : array (volume,), s
        onset, duration : s

        Returns
        -------
        array (volume,), of an integral that grows with the duration
        """
        after = times - onset
        if duration == 0:
            return self.density(after)
        return self.integral(after) - self.integral(after - duration)

    def height(self, duration: float) -> float:
        """Return the largest response to one event of this duration."""
        return float(self.respond(np.arange(0, _LENGTH_S + duration, _GRID_S), 0.0, duration).max())

    def _shapes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        return (
            (self.peak_s / self.dispersion_s + 1, self.dispersion_s),
            (self.undershoot_s / self.undershoot_dispersion_s + 1, self.undershoot_dispersion_s),
        )


CANONICAL = Hrf()


def list_responses() -> tuple[Hrf, ...]:
    """Return the library: twenty responses that peak 3 to 8 s after a moment, each narrow and wide.

    The canonical response is among them. A stand-in for the twenty responses that were measured for GLMsingle (Prince
    et al. 2022, eLife 11:e77599), which it does not copy.
    """
    return tuple(Hrf(peak, peak + 10, dispersion) for dispersion in _DISPERSIONS_S for peak in _PEAKS_S)
