"""Sizes of probes and steps that begin wide and fade."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Experiments after which a size has faded to the half.
_HALVED_AFTER = 8.0


@dataclass(frozen=True)
class Fading:
    """For what may be far off at first: ``begin`` becomes ``end``.

    Several parameters share it, each by one over the root of their number: as far from the centre, whatever
    their number, so that what probing costs does not grow with it.

    Attributes:
        begin: size before the first experiment where there is one parameter, as a share of the range.
        end: no parameter gets less.
    """

    begin: float
    end: float

    def after(self, experiments: int, parameters: int) -> float:
        """``max(end, begin / (1 + k / 8) / sqrt(d))`` after k experiments with d parameters."""
        faded = self.begin / (1.0 + experiments / _HALVED_AFTER)
        return max(self.end, faded / math.sqrt(max(parameters, 1)))


def size(asked: float | Fading, experiments: int, parameters: int) -> float:
    """What holds for the next experiment, as a share of the range."""
    return asked.after(experiments, parameters) if isinstance(asked, Fading) else asked


def least(asked: float | Fading) -> float:
    """The size that it never goes below."""
    return asked.end if isinstance(asked, Fading) else asked
