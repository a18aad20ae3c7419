"""The replay that scripts fill step by step holds the transitions of the definition."""

from __future__ import annotations

import numpy as np
import pytest

from optix_bus import PrioritizedReplayBuffer
from optix_bus.errors import ConfigurationError
from tests.oracles import replay as oracle

GAMMA = 0.9


def _stream(seed=0, steps=40):
    rng = np.random.default_rng(seed)
    ends = rng.choice(["", "terminated", "truncated"], steps, p=[0.7, 0.15, 0.15])
    return [
        oracle.Step(
            float(t), int(rng.integers(4)), float(np.float32(rng.standard_normal())), t + 1.0, str(end)
        )
        for t, end in enumerate(ends)
    ]


def _filled(stream, **settings):
    buffer = PrioritizedReplayBuffer(1000, gamma=GAMMA, seed=0, **settings)
    for step in stream:
        buffer.push(
            np.array([step.observation]),
            step.action,
            step.reward,
            np.array([step.next_observation]),
            step.ends == "terminated",
        )
        if step.ends == "truncated":
            buffer.flush_episode()
    buffer.flush_episode()
    return buffer


@pytest.mark.parametrize("n", [1, 3])
def test_it_holds_what_the_definition_says(n):
    stream = _stream()
    buffer = _filled(stream, n_step=n)
    wanted = {t.observation: t for t in oracle.transitions(stream, n, GAMMA)}
    assert len(buffer) == len(wanted)
    obs, actions, rewards, next_obs, dones, weights, indices, steps = buffer.sample(500)
    for row in range(500):
        transition = wanted[float(obs[row, 0])]
        assert actions[row] == transition.action
        assert rewards[row] == pytest.approx(transition.reward, rel=1e-4, abs=1e-5)
        assert GAMMA ** steps[row] * (1 - dones[row]) == pytest.approx(transition.discount)
        assert dones[row] == 1.0 or next_obs[row, 0] == transition.next_observation
    assert set(indices) <= set(range(len(buffer)))
    np.testing.assert_array_equal(weights, 1.0)


def test_beta_rises_to_one_where_it_was_asked_to():
    buffer = _filled(_stream(), alpha=0.5, beta=0.4, beta_steps=10)
    seen = []
    for _ in range(12):
        seen.append(buffer.beta)
        buffer.sample(4)
    np.testing.assert_allclose(seen, [*np.linspace(0.4, 1.0, 11), 1.0])


def test_parameters_change_and_the_content_stays():
    stream = _stream()
    buffer = _filled(stream)
    held = len(buffer)
    buffer.update_priorities(np.arange(held), np.linspace(1, 2, held))
    buffer.set_params(alpha=1.0, beta=1.0, n_step=3, gamma=0.5)
    assert len(buffer) == held
    found = buffer.transitions(200)
    assert found.weights.min() < 1.0
    assert set(found.discounts.tolist()) == {0.0, 0.5}


def test_it_says_that_it_is_empty_and_refuses_numbers_out_of_range():
    with pytest.raises(ConfigurationError, match="push a step first"):
        PrioritizedReplayBuffer(10).sample(1)
    for wrong in ({"capacity": 0}, {"capacity": 5, "alpha": 2.0}, {"capacity": 5, "n_step": 0}):
        with pytest.raises(ConfigurationError, match="expected"):
            PrioritizedReplayBuffer(**wrong)
