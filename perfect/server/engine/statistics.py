"""What is learned from durations: average, standard deviation and how many samples they stand on."""

from __future__ import annotations

import math
from dataclasses import dataclass

# fewer samples say less about what is unusual
_MANY_SAMPLES = 20
_SIGMAS_MANY = 3.3
_SIGMAS_FEW = 5.0
_RUNS_TO_LEARN = 2


@dataclass(frozen=True, slots=True)
class Durations:
    """A summary of durations in ms that can be merged with another (Chan, Golub and LeVeque 1979).

    Attributes:
        samples: how many durations.
        mean: their average.
        m2: the sum of their squared deviations from it.
        runs: in how many runs they were measured.
    """

    samples: int = 0
    mean: float = 0.0
    m2: float = 0.0
    runs: int = 0

    @classmethod
    def of_sums(cls, samples: int, total: float, squares: float) -> Durations:
        """A summary of one run from the sums of its durations and of their squares."""
        mean = total / samples
        return cls(samples, mean, max(0.0, squares - samples * mean * mean), 1)

    def merged(self, other: Durations) -> Durations:
        """The summary of both."""
        if not other.samples:
            return self
        samples = self.samples + other.samples
        delta = other.mean - self.mean
        mean = self.mean + delta * other.samples / samples
        m2 = self.m2 + other.m2 + delta * delta * self.samples * other.samples / samples
        return Durations(samples, mean, m2, self.runs + other.runs)

    @property
    def deviation(self) -> float:
        """The sample standard deviation in ms; 0 for fewer than two samples."""
        return math.sqrt(self.m2 / (self.samples - 1)) if self.samples > 1 else 0.0

    @property
    def learned(self) -> int | None:
        """The estimate in ms that replaces the client's, or None while there are too few runs."""
        return max(1, round(self.mean)) if self.runs >= _RUNS_TO_LEARN else None

    @property
    def unusual(self) -> float | None:
        """Durations in ms beyond this deserve a warning; None while there is nothing to compare with."""
        if self.samples < 2:
            return None
        sigmas = _SIGMAS_MANY if self.samples >= _MANY_SAMPLES else _SIGMAS_FEW
        return self.mean + sigmas * self.deviation
