"""The network for images in the agents beyond PPO and DQN: acting in NumPy, learning, going on."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.pipelines import VectorBatchPipeline
from optix_bus.types import NamedArrays
from tests.agents.every import small_agent
from tests.agents.test_images import Pictures

A2C = [("torch", "a2c"), ("tensorflow", "a2c")]


class Turning(Pictures):
    action_space = gym.spaces.Box(-2.0, 1.0, (2,))


def images(rows: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, 36, 36, 1)).astype(np.uint8)


def agent_of(kind: tuple[str, str], world: Any = Pictures, seed: int = 0, **hyperparams: Any) -> Any:
    return small_agent(kind, seed, world(), None, **hyperparams)


def collecting(agent: Any, world: Any = Pictures, environments: int = 2) -> VectorBatchPipeline:
    return VectorBatchPipeline([world] * environments, agent, window_size=16, seed=0)


def outputs(module: Any, x: Any) -> Any:
    """What a network itself says."""
    x = x.astype(np.float32)
    with torch.no_grad():
        return module(torch.from_numpy(x) if isinstance(module, torch.nn.Module) else x).numpy()


@pytest.mark.parametrize("kind", A2C, ids="-".join)
def test_the_policy_of_a2c_acts_by_numpy_as_its_network_says(kind):
    agent = agent_of(kind)
    agent.perturb_weights(3.0)
    x, state = images(), agent.state()
    assert is_portable(state)
    logits = torch.from_numpy(outputs(agent.model, x))
    assert logits.abs().max() > 0.1
    for policy in (agent.policy(), load_policy(state)):
        np.testing.assert_allclose(policy.action_probs(x), torch.softmax(logits, -1), atol=1e-5)


@pytest.mark.parametrize("kind", A2C, ids="-".join)
def test_so_do_its_continuous_actions_whose_spread_is_a_parameter(kind):
    agent = agent_of(kind, Turning)
    agent.perturb_weights(3.0)
    x, state = images(), agent.state()
    assert is_portable(state)
    means, log_std = np.split(outputs(agent.model, x), 2, axis=1)
    assert (log_std == log_std[0]).all()
    # The box is 3 wide around -0.5, and means are in units of half of that.
    for policy in (agent.policy(), load_policy(state)):
        actions = policy.act_batch(x, deterministic=True).actions
        np.testing.assert_allclose(actions, np.clip(1.5 * means - 0.5, -2.0, 1.0), atol=1e-5)
    report = agent.learn(collecting(agent, Turning).collect())
    assert np.isfinite(list(report.values())).all()
    assert report["grad_norm"] > 0.0
    assert (agent.state().arrays["model.11.value"] != state.arrays["model.11.value"]).all()


@pytest.mark.parametrize("kind", A2C, ids="-".join)
def test_a_restored_agent_goes_on_to_the_bit(kind):
    first, second = agent_of(kind), agent_of(kind, seed=5)
    pipeline = collecting(first)
    window = pipeline.collect(0, np.random.default_rng(0))
    assert window.observations.dtype == np.uint8
    first.learn(window)
    state = first.state()
    second.load_state(NamedArrays(state.arrays, json.loads(json.dumps(dict(state.metadata)))))
    window, answers = pipeline.collect(1, np.random.default_rng(1)), []
    for agent in (first, second):
        agent.reseed(np.random.default_rng(1))
        answers.append(agent.act_batch(images()))
        report = agent.learn(window)
        assert np.isfinite(list(report.values())).all()
    assert answers[0].log_probs.tobytes() == answers[1].log_probs.tobytes()
    one, two = first.state().arrays, second.state().arrays
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", A2C, ids="-".join)
def test_pictures_are_learnt(kind):
    framework, algorithm = kind
    agent = make_agent(Pictures(), framework, algorithm, seed=0, hyperparams={"entropy_coef": 0.0})
    pipeline = collecting(agent, environments=4)
    for number in range(40):
        agent.learn(pipeline.collect(number, np.random.default_rng(number)))
    assert np.mean(pipeline.evaluate(5).metadata["episode_returns"]) >= 9.5
