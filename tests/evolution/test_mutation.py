"""Noise on hyperparameters stays where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optix_bus.evolution.mutation import perturbed

PARAMS = {"learning_rate": 3e-4, "gamma": 0.99, "n_epochs": 10, "scale": 5.0, "clip": True, "name": "adam"}
BOUNDS = {"learning_rate": (1e-5, 1e-2), "gamma": (0.9, 0.999)}


@given(st.floats(0.0, 5.0), st.integers(0, 2**32))
def test_with_bounds_only_those_that_have_some_move_and_stay_inside(noise, seed):
    found = perturbed(PARAMS, noise, np.random.default_rng(seed), BOUNDS, ["learning_rate"])
    assert {key: found[key] for key in PARAMS.keys() - BOUNDS} == {
        key: PARAMS[key] for key in PARAMS.keys() - BOUNDS
    }
    for name, (low, high) in BOUNDS.items():
        assert low <= found[name] <= high


@given(st.floats(0.0, 5.0), st.integers(0, 2**32))
def test_without_bounds_a_share_stays_a_share_and_sizes_stay_as_they_are(noise, seed):
    found = perturbed(PARAMS, noise, np.random.default_rng(seed))
    assert 0.0 < found["learning_rate"] < 1.0
    assert 0.0 < found["gamma"] <= 1.0
    assert found["scale"] > 0.0
    assert (found["n_epochs"], found["clip"], found["name"]) == (10, True, "adam")
    assert list(found) == list(PARAMS)


def test_the_noise_scale_is_a_standard_deviation_in_the_range():
    rng = np.random.default_rng(3)
    drawn = [perturbed(PARAMS, 0.05, rng, BOUNDS, ["learning_rate"])["learning_rate"] for _ in range(2000)]
    assert np.std(np.log(drawn)) / np.log(1e-2 / 1e-5) == pytest.approx(0.05, rel=0.1)
    drawn = [perturbed(PARAMS, 0.05, rng)["learning_rate"] for _ in range(2000)]
    assert np.std(np.log(drawn)) == pytest.approx(0.05, rel=0.1)


def test_no_noise_changes_nothing_and_the_same_seed_gives_the_same_variant():
    assert perturbed(PARAMS, 0.0, np.random.default_rng(0))["gamma"] == pytest.approx(0.99)
    one, two = (perturbed(PARAMS, 0.1, np.random.default_rng(5), BOUNDS) for _ in range(2))
    assert one == two != PARAMS
