from __future__ import annotations

import numpy as np
import pytest

from optix_bus.agents.experience import read_experience
from optix_bus.errors import ConfigurationError, LearningFailure
from optix_bus.types import EpisodeData
from tests.agents.windows import random_window


def _values(experience):
    """V(s) is the first number of s: the advantage then shows which observation it bootstrapped on."""
    return experience.observations[..., 0], experience.after[..., 0]


def _returns(data, gamma=0.5):
    experience = read_experience(data)
    values, after = _values(experience)
    return experience, experience.advantages(values, after, experience.rewards, gamma, 0.0)[1]


def _lists(steps=5, **changes):
    """Observation t is [10 (t + 1)]; rewards are 1; lambda 0, so a return is 1 + gamma V(next)."""
    content = {
        "observations": [np.array([10.0 * (t + 1)]) for t in range(steps)],
        "actions": [0] * steps,
        "rewards": [1.0] * steps,
        "terminated": [False] * steps,
        "truncated": [False] * steps,
    }
    return EpisodeData(**{**content, **changes})


def test_a_truncated_step_bootstraps_on_the_final_observation():
    data = _lists(
        truncated=[False, True, False, False, False],
        final_observations=[np.array([x]) for x in (20.0, 777.0, 40.0, 50.0, 60.0)],
    )
    experience, returns = _returns(data)
    assert returns[:, 0].tolist() == [1 + 10.0, 1 + 388.5, 1 + 20.0, 1 + 25.0, 1 + 30.0]
    assert experience.valid.all()


def test_a_terminated_step_bootstraps_on_nothing():
    _, returns = _returns(_lists(terminated=[False] * 4 + [True]))
    assert returns[-1, 0] == 1.0


def test_a_step_that_is_both_terminated_and_truncated_is_terminated():
    _, returns = _returns(_lists(terminated=[False] * 4 + [True], truncated=[False] * 4 + [True]))
    assert returns[-1, 0] == 1.0


def test_a_last_step_without_a_known_successor_is_left_out_and_its_predecessor_bootstraps_on_it():
    experience, returns = _returns(_lists())
    assert experience.valid[:, 0].tolist() == [True] * 4 + [False]
    assert experience.without_successor == 1
    assert returns[3, 0] == 1 + 0.5 * 50.0


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"final_obs": np.array([60.0])}},
        {"infos": [{}] * 4 + [{"final_obs": np.array([60.0])}]},
        {"final_observations": [None] * 4 + [np.array([60.0])]},
    ],
)
def test_the_last_observation_is_found_wherever_a_pipeline_puts_it(changes):
    experience, returns = _returns(_lists(**changes))
    assert experience.without_successor == 0
    assert returns[-1, 0] == 1 + 0.5 * 60.0


def test_a_truncation_inside_without_its_observation_is_left_out_and_joins_nothing():
    data = _lists(truncated=[False, True, False, False, False], metadata={"final_obs": np.array([60.0])})
    experience, returns = _returns(data)
    assert experience.valid[:, 0].tolist() == [True, False, True, True, True]
    assert returns[0, 0] == 1 + 0.5 * 20.0
    assert experience.truncated[1, 0]


def test_rows_after_an_episode_end_are_no_transitions():
    window = random_window(0)
    done = np.asarray(window.terminated) | np.asarray(window.truncated)
    valid = np.ones(done.shape, bool)
    valid[1:] = ~done[:-1]
    broken = np.array(window.observations)
    broken[~valid] = np.nan
    experience = read_experience(random_window(0, valid=valid, observations=broken))
    np.testing.assert_array_equal(experience.valid, valid)
    assert (experience.rewards[~valid] == 0.0).all()


def test_an_open_step_before_a_gap_is_cut_there():
    valid = np.ones((5, 1), bool)
    valid[2] = False
    observations = np.arange(5.0).reshape(5, 1, 1)
    data = EpisodeData(
        observations, np.zeros((5, 1)), np.ones((5, 1)), np.zeros((5, 1)), np.zeros((5, 1)),
        final_observations=observations + 100, valid=valid,
    )  # fmt: skip
    experience, returns = _returns(data)
    assert returns[1, 0] == 1 + 0.5 * 101.0
    assert experience.truncated[1, 0]


def test_one_environment_and_a_column_are_the_same_window():
    alone, column = random_window(1, width=None), random_window(1, width=1)
    column.observations = np.asarray(alone.observations)[:, None]
    for name in ("actions", "rewards", "terminated", "truncated", "final_observations"):
        setattr(column, name, np.asarray(getattr(alone, name))[:, None])
    np.testing.assert_array_equal(_returns(alone)[1], _returns(column)[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": []}, "rewards have shape"),
        ({"actions": [0, 0]}, "actions have shape"),
        (
            {"observations": [np.zeros(2), np.zeros(3), np.zeros(2), np.zeros(2), np.zeros(2)]},
            "no rectangular",
        ),
        ({"final_observations": np.zeros((5, 2))}, "final_observations have shape"),
        ({"valid": [False] * 5}, "none of its 5 rows"),
    ],
)
def test_windows_without_a_usable_shape_are_refused_by_number(changes, message):
    with pytest.raises(ConfigurationError, match=f"window 0.*{message}"):
        read_experience(_lists(**changes))


@pytest.mark.parametrize("name", ["observations", "rewards", "final_observations", "log_probs"])
def test_numbers_that_are_not_finite_are_a_failure_that_names_window_and_array(name):
    window = random_window(7, log_probs=np.zeros((48, 4)), truncated=np.ones((48, 4), bool))
    array = np.array(getattr(window, name), np.float64)
    array[3, 2] = np.inf
    array[4, 1] = np.nan
    setattr(window, name, array)
    window.terminated = np.zeros((48, 4), bool)
    words = name.replace("_", " ") if name == "final_observations" else name
    with pytest.raises(LearningFailure, match=rf"window 7: \d+ of \d+ numbers in {words}.*\([14] NaN\)"):
        read_experience(window)
