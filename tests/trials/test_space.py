"""Search spaces: every published form, and one clear error for everything else."""

from __future__ import annotations

import optuna
import pytest

from optix_bus.errors import ConfigurationError
from optix_bus.trials import ParamSpace

EVERY = {
    "lr": ("log_float", 1e-4, 3e-3),
    "clip": ["float", 0.1, 0.3],
    "batch": ("int", 32, 512),
    "units": ("log_int", 8, 256),
    "kind": ("categorical", "relu", "tanh"),
    "sizes": ("categorical", [64, 64], [256]),
    "flag": ("categorical", [True, False, None]),
}


def test_every_kind_gives_values_of_its_type_within_its_ends():
    space = ParamSpace(EVERY)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        trial = study.ask()
        params = space.suggest(trial)
        assert 1e-4 <= params["lr"] <= 3e-3
        assert 0.1 <= params["clip"] <= 0.3
        assert type(params["batch"]) is int
        assert 32 <= params["batch"] <= 512
        assert 8 <= params["units"] <= 256
        assert params["kind"] in ("relu", "tanh")
        assert params["sizes"] in ([64, 64], [256])
        assert params["flag"] in (True, False, None)
        assert space.decode(trial.params) == params


def test_a_log_range_spends_half_of_its_trials_below_the_geometric_mean():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = ParamSpace({"lr": ("log_float", 1e-6, 1e-2)})
    below = sum(space.suggest(study.ask())["lr"] < 1e-4 for _ in range(400))
    assert 160 < below < 240


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("flaot", 0, 1), "did you mean 'float'?"),
        (("gauss", 0, 1), "expected one of float, log_float, int, log_int, categorical"),
        ((1e-4, 1e-3), "expected the kind first"),
        (("float", 1.0), "found 1 values, expected two"),
        (("float", 2.0, 1.0), "expected low < high"),
        (("float", 1.0, 1.0), "expected low < high"),
        (("float", 0.0, float("inf")), "expected a finite number"),
        (("float", "a", 2), "found 'a', expected a finite number"),
        (("log_float", 0.0, 1.0), "expected above 0"),
        (("log_int", 0, 8), "expected at least 1"),
        (("int", 0.5, 8), "expected whole numbers"),
        (("categorical",), "needs values"),
        (("categorical", 1, 2, 1), "1 stands there more than once"),
        ("float", "found 'float'"),
        (3.0, "found 3.0"),
    ],
)
def test_what_is_no_dimension_is_named_with_what_would_be(given, says):
    with pytest.raises(ConfigurationError, match="search space of 'lr'") as refused:
        ParamSpace({"lr": given})
    assert says in str(refused.value)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigurationError, match=r"'a'.*'b'"):
        ParamSpace({"a": ("float", 1, 0), "b": ("it", 1, 2), "c": ("int", 1, 2)})
    with pytest.raises(ConfigurationError, match="empty"):
        ParamSpace({})
    with pytest.raises(ConfigurationError, match="type list"):
        ParamSpace([("float", 0, 1)])


def test_the_bounds_of_an_agent_make_a_space():
    space = ParamSpace.from_bounds({"lr": (1e-4, 1e-2), "n": (2, 8)}, ["lr"], {"lr": 1e-3, "n": 4})
    assert space.plain() == {"lr": ["log_float", 1e-4, 1e-2], "n": ["int", 2, 8]}
    assert ParamSpace(space.plain()).plain() == space.plain()
