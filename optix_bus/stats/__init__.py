"""Statistics of score series: slope, autocorrelation, equivalence and power. NumPy, pure, cited."""

from __future__ import annotations

from optix_bus.stats.equivalence import EquivalenceReport, classical_test, equivalence_test
from optix_bus.stats.power import required_window, resolvable_margin
from optix_bus.stats.quantiles import t_quantile
from optix_bus.stats.seeds import SeedInterval, bootstrap_interval, interquartile_mean, mean
from optix_bus.stats.slope import SlopeFit, fit_slope

__all__ = [
    "EquivalenceReport",
    "SeedInterval",
    "SlopeFit",
    "bootstrap_interval",
    "classical_test",
    "equivalence_test",
    "fit_slope",
    "interquartile_mean",
    "mean",
    "required_window",
    "resolvable_margin",
    "t_quantile",
]
