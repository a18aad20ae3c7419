from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optix_bus.errors import ConfigurationError
from optix_bus.optimizers import ParamBox

BOUNDS = {"learning_rate": (1e-4, 1e-2), "gamma": (0.9, 0.999), "n_epochs": (3, 30)}
PARAMS = {"learning_rate": 1e-3, "gamma": 0.95, "n_epochs": 10, "name": "x", "flag": True}


def box() -> ParamBox:
    made = ParamBox(BOUNDS, ["learning_rate"])
    made.fit(PARAMS)
    return made


def test_a_log_parameter_lies_halfway_between_its_bounds_at_their_geometric_mean():
    made = box()
    place = made.encode(PARAMS)[made.names.index("learning_rate")]
    assert place == pytest.approx(0.5)


@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3))
def test_every_point_decodes_into_the_bounds_and_back(point):
    made = box()
    params = made.decode(np.array(point), PARAMS)
    for name, (low, high) in BOUNDS.items():
        assert low <= params[name] <= high
    assert isinstance(params["n_epochs"], int)
    again = made.encode(params)
    reals = [i for i, name in enumerate(made.names) if name != "n_epochs"]
    assert again[reals] == pytest.approx(np.array(point)[reals], abs=1e-9)


def test_unknown_keys_are_untouched():
    params = box().decode(np.zeros(3), PARAMS)
    assert params["name"] == "x"
    assert params["flag"] is True


def test_what_lies_outside_counts_as_lying_on_the_bounds():
    made = box()
    assert made.encode({**PARAMS, "gamma": 0.1})[made.names.index("gamma")] == 0.0


@pytest.mark.parametrize(
    ("bounds", "logs", "words"),
    [
        ({"a": (1.0, 1.0)}, [], "low < high"),
        ({"a": (float("nan"), 1.0)}, [], "low < high"),
        ({"a": (0.0, 1.0)}, ["a"], "log scale"),
    ],
)
def test_bounds_that_are_no_interval_are_refused(bounds, logs, words):
    with pytest.raises(ConfigurationError, match=words):
        ParamBox(bounds, logs)


def test_a_misspelt_name_is_an_error_with_a_suggestion():
    with pytest.raises(ConfigurationError, match="did you mean 'learning_rate'"):
        ParamBox({"learnin_rate": (1e-4, 1e-2)}).fit(PARAMS)


def test_bounds_for_nothing_that_the_agent_has_are_an_error():
    with pytest.raises(ConfigurationError, match="numeric hyperparameters of the agent"):
        ParamBox({"zzz": (0.0, 1.0)}).fit(PARAMS)


def test_bounds_beyond_what_the_agent_has_are_left_out():
    made = ParamBox({**BOUNDS, "tau": (0.001, 0.1)})
    made.fit(PARAMS)
    assert "tau" not in made.names
