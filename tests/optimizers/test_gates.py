"""The gates of online tuning on noisy functions; the whole table is `python -m tests.optimizers.table`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.optimizers.table import left, wandered

RUNS = 60


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spsa", "momentum"])
@pytest.mark.parametrize(("function", "gate"), [("quadratic", 0.05), ("Rosenbrock", 0.02)])
def test_a_noisy_function_of_five_parameters_is_brought_down(method, function, gate):
    assert np.median(left(method, function, 0.1, RUNS)) <= gate


@pytest.mark.slow
@pytest.mark.parametrize("function", ["quadratic", "Rosenbrock"])
def test_backoff_brings_little_noise_down_and_is_hardly_ever_worse_than_its_start(function):
    share = left("backoff", function, 0.02, RUNS)
    assert np.median(share) <= 0.05
    assert np.mean(share > 1.0) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spsa", "momentum", "backoff", "pbt", "adaptive"])
def test_noise_alone_is_no_drift(method):
    """No coordinate is pulled anywhere on average, beyond three standard errors of that average."""
    away = wandered(method, RUNS)
    spread = np.sqrt(np.mean(away**2))
    assert np.abs(away.mean(axis=0)).max() <= 3.0 * spread / np.sqrt(RUNS)
    assert spread < 0.25
