"""How many evaluations it takes to exclude a rise of a given size, and what a given number excludes."""

from __future__ import annotations

import math

#: Fewer evaluations than this do not estimate an autocorrelation.
SMALLEST_WINDOW = 20

#: 1.645 + 1.282: a 95 % bound that passes on 90 % of true plateaus (one-sided normal quantiles).
_QUANTILES = 2.93

#: 1.645 + 0.674: it passes on 75 % of them at one look, and on more at several.
_FRUGAL_QUANTILES = 2.32


def required_window(noise: float, margin: float, r: float, smallest: int = SMALLEST_WINDOW) -> float:
    """``W >= 12 (1 + r) / (1 - r) (2.93 noise / margin)^2``, at least ``smallest``; infinite at margin 0.

    The slope over W scores has the variance ``12 noise^2 (1 + r) / (1 - r) / W^3``, so slope times W has
    ``12 noise^2 (1 + r) / (1 - r) / W``; the rest is asking for the margin to be 2.93 of its roots.

    Args:
        noise: standard deviation of one evaluation around its trend, in score units.
        margin: the rise over the window that is to be excluded, in score units.
        r: lag-1 autocorrelation of the noise, below 1.
        smallest: lower bound of the answer.
    """
    if noise <= 0.0:
        return float(smallest)
    if margin <= 0.0 or r >= 1.0:
        return math.inf
    needed = 12.0 * (1.0 + r) / (1.0 - r) * (_QUANTILES * noise / margin) ** 2
    return float(max(math.ceil(needed), smallest))


def resolvable_margin(noise: float, window: int, r: float) -> float:
    """The rise that ``window`` evaluations exclude at three looks of four: for where more cannot be had.

    `required_window` solved for the margin at 75 % power; see there for the arguments.
    """
    return _FRUGAL_QUANTILES * noise * math.sqrt(12.0 * (1.0 + r) / (1.0 - r) / window)
