"""SAC and TD3 where observations are no vectors: images, numbers, and what a user's networks take."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from onnxruntime import InferenceSession
from torch import nn

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.agents.onnx_graph import onnx_model
from optix_bus.agents.tensorflow.parts import moments
from optix_bus.errors import ConfigurationError, Unsuitable
from optix_bus.pipelines import VectorBatchPipeline
from optix_bus.types import ArraySpec, EpisodeData, NamedArrays, SpaceSpec
from tests.agents.off_policy_worlds import AGENTS, close, same, steps_of_both
from tests.agents.test_images import Pictures

KINDS = [(framework, name) for framework in ("torch", "tensorflow") for name in ("sac", "td3")]
EVERY = pytest.mark.parametrize(("framework", "algorithm"), KINDS, ids=str)
#: The same; a graph of TensorFlow takes long to make.
OFTEN = pytest.mark.parametrize(
    ("framework", "algorithm"),
    [pytest.param(*kind, marks=pytest.mark.slow if kind == KINDS[-1] else ()) for kind in KINDS],
    ids=str,
)
BOTH = pytest.mark.parametrize("algorithm", ["sac", "td3"])
PAIR = ArraySpec("box", (2,), "float32", low=(-1.0, 10.0), high=(3.0, 10.5))
IMAGE = ArraySpec("box", (44, 52, 3), "uint8")
STATES = ArraySpec("discrete", (), "int64", n=5)
SMALL = {"learning_starts": 8, "batch_size": 4, "replay_capacity": 100, "train_freq": 8, "gradient_steps": 2}


class Turning(Pictures):
    """Rewards an action that is close to 2 where the upper half is bright, and to -1 where the lower is."""

    action_space = gym.spaces.Box(-1.0, 2.0, (1,))

    def step(self, action: Any) -> Any:
        self.steps += 1
        reward = 1.0 - abs(float(np.ravel(action)[0]) - (-1.0 if self.bright else 2.0)) / 3.0
        return self._look(), reward, self.steps == 10, False, {}


def agent_of(framework: str, algorithm: str, seen: ArraySpec = IMAGE, **options: Any) -> Any:
    spaces = SpaceSpec("seen", seen, PAIR)
    options = {"seed": 0, **({"device": "cpu"} if framework == "torch" else {}), **options}
    return make_agent(spaces, framework=framework, algorithm=algorithm, **options)


def observed(seen: ArraySpec, rows: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, seen.n or 256, (rows, *seen.shape)).astype(seen.dtype)


def outputs_of(agent: Any, x: np.ndarray) -> np.ndarray:
    if isinstance(agent._actor, nn.Module):
        with torch.no_grad():
            return agent._actor(torch.from_numpy(x).float()).numpy()
    return agent._actor(tf.constant(x.astype(np.float32))).numpy()


@EVERY
@pytest.mark.parametrize("seen", [IMAGE, STATES], ids=["images", "discrete"])
def test_the_actor_runs_in_numpy_and_actions_come_in_the_environments_units(framework, algorithm, seen):
    agent = agent_of(framework, algorithm, seen)
    agent.perturb_weights(0.5)
    assert is_portable(agent.state())
    x = observed(seen, 16)
    unit = np.tanh(outputs_of(agent, x)[:, :2])
    expected = np.float32([1.0, 10.25]) + unit * np.float32([2.0, 0.25])
    state = agent.state()
    through_json = NamedArrays(state.arrays, json.loads(json.dumps(dict(state.metadata))))
    for policy in (agent, load_policy(through_json)):
        found = policy.act_batch(x, deterministic=True).actions
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(unit, axis=0).min() > 1e-4, "what is seen matters"


@OFTEN
def test_images_are_learnt_from_as_bytes_and_a_restored_agent_goes_on_to_the_bit(framework, algorithm):
    agents = [
        make_agent(Turning(), framework=framework, algorithm=algorithm, seed=seed, hyperparams=SMALL)
        for seed in (0, 5)
    ]
    first, second = agents
    pipeline = VectorBatchPipeline([Turning] * 2, first, window_size=16, seed=0)
    windows = [pipeline.collect(number, np.random.default_rng(number)) for number in range(2)]
    report = first.learn(windows[0])
    assert report["updates"] > 0
    assert np.isfinite(list(report.values())).all()
    stored = [array for array in first.replay_state().arrays.values() if array.dtype == np.uint8]
    assert any(array[0].size == 36 * 36 for array in stored), "bytes stay bytes"
    second.load_state(first.state())
    second.load_replay_state(first.replay_state())
    for each in agents:
        each.reseed(np.random.default_rng(1))
        each.learn(windows[1])
    same(first, second)


@BOTH
@pytest.mark.parametrize("seen", [IMAGE, STATES], ids=["images", "discrete"])
def test_losses_and_gradients_in_tensorflow_equal_those_of_torch(algorithm, seen, tmp_path):
    # With plain gradient descent of rate 0.1 the weights tell the gradients; the actor moves at once.
    params = {"learning_rate": 0.1, **({"policy_delay": 1} if algorithm == "td3" else {})}
    twin = agent_of("torch", algorithm, seen, hyperparams=params)
    twin.perturb_weights(0.5)
    rates = {"actor": 0.1, "critic": 0.1, **({"alpha": 0.1} if algorithm == "sac" else {})}
    agent = agent_of("tensorflow", algorithm, seen, hyperparams=params)
    for role in rates:
        setattr(twin, f"_{role}_optimizer", _descent(getattr(twin, f"_{role}_optimizer")))
        setattr(agent, f"_{role}_optimizer", _keras_descent(agent, role))
    ours, theirs = agent.state(), twin.state().arrays
    assert {name for name in ours.arrays if "optimizer" not in name} <= theirs.keys()
    agent._parts.load({**ours.arrays, **{n: theirs[n] for n in theirs.keys() & ours.arrays.keys()}}, None)
    close((agent, twin), 0.0)
    before = agent.state().arrays
    given = (observed(seen, 8, 1), observed(seen, 8, 2))
    found, expected, errors, missed = steps_of_both((agent, twin), 1, rows=8, seen=given)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
    np.testing.assert_allclose(errors, missed, atol=1e-5)
    close((agent, twin), 1e-6)
    after = agent.state().arrays
    for name in before:
        if name.endswith("weight") and not name.startswith("target"):
            assert np.abs(after[name] - before[name]).max() > 1e-6, f"{name} learns"


def _descent(optimizer: Any) -> Any:
    return torch.optim.SGD([p for group in optimizer.param_groups for p in group["params"]], lr=0.1)


def _keras_descent(agent: Any, role: str) -> Any:
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(agent._trained_by(f"{role}_optimizer"))
    assert moments("", optimizer)
    return optimizer


@BOTH
def test_a_file_of_torch_is_read_in_tensorflow(algorithm):
    agent, twin = agent_of("tensorflow", algorithm), agent_of("torch", algorithm)
    twin.perturb_weights(0.5)
    agent._parts.load(twin.state().arrays, None)
    agent.reset_cache()
    x = observed(IMAGE, 6)
    acted = [each.act_batch(x, deterministic=True).actions for each in (agent, twin)]
    np.testing.assert_allclose(*acted, atol=1e-5)


@EVERY
def test_the_policy_in_onnx_acts_alike(framework, algorithm):
    agent = agent_of(framework, algorithm)
    agent.perturb_weights(0.5)
    x = observed(IMAGE, 8)
    session = InferenceSession(onnx_model(agent.state()).SerializeToString())
    (found,) = session.run(["actions"], {"observations": x.astype(np.float32)})
    np.testing.assert_allclose(found, agent.act_batch(x, deterministic=True).actions, atol=1e-5)


@EVERY
def test_what_the_networks_do_not_take_is_refused(framework, algorithm):
    small = ArraySpec("box", (8, 8, 1), "uint8")
    with pytest.raises(
        Unsuitable, match=rf"{algorithm} does not fit seen: images of shape \[8, 8, 1\] are 8 x"
    ):
        agent_of(framework, algorithm, small)
    with pytest.raises(
        ConfigurationError, match=r"hidden_sizes are \[64\], but the network for images of seen"
    ):
        agent_of(framework, algorithm, hidden_sizes=(64,))
    agent = agent_of(framework, algorithm)
    turned = observed(ArraySpec("box", (3, 44, 52), "uint8"), 8)
    with pytest.raises(Unsuitable, match=r"\[3, 44, 52\], .* images \[height, width, channels\] of 3 chan"):
        agent.act_batch(turned, deterministic=True)
    before = agent.state()
    with pytest.raises(Unsuitable, match=r"\[3, 44, 52\]"):
        agent.learn(window_of(turned))
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(agent.state().arrays[name], array)


def window_of(observations: np.ndarray) -> EpisodeData:
    rows = len(observations)
    nothing = np.zeros(rows, bool)
    return EpisodeData(
        observations=observations, final_observations=observations, terminated=nothing, truncated=nothing,
        actions=np.tile(np.float32([0.0, 10.2]), (rows, 1)), rewards=np.arange(float(rows)), episode_id=0,
    )  # fmt: skip


class TwoInputs(nn.Module):
    """A critic of a user's own for observations ``[B, 2, 3]``."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.both = nn.Linear(6, 4), nn.Linear(6, 1)

    def forward(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return self.both(torch.cat([torch.tanh(self.seen(observations.flatten(1))), actions], 1))


def own_agent(algorithm: str, critic: Any) -> Any:
    """An agent of PyTorch with networks of a user's own."""
    torch.manual_seed(0)
    outputs = 4 if algorithm == "sac" else 2
    actor = nn.Sequential(nn.Flatten(), nn.Linear(6, outputs))
    critics = [critic(), critic()]
    optimizers = [torch.optim.Adam(actor.parameters()), torch.optim.Adam([*critics[0].parameters()])]
    optimizers[1].add_param_group({"params": [*critics[1].parameters()]})
    if algorithm == "sac":
        optimizers.append(torch.optim.Adam([torch.zeros(1, requires_grad=True)]))
    seen = SpaceSpec("seen", ArraySpec("box", (2, 3), "float32"), PAIR)
    return AGENTS[algorithm](actor, *critics, 2, *optimizers, SMALL, "cpu", spaces=seen, seed=0)


@BOTH
def test_a_users_critic_gets_observations_that_are_no_vectors_apart_from_actions(algorithm):
    agent = own_agent(algorithm, TwoInputs)
    before = agent.state().arrays["critic1.seen.weight"]
    x = np.random.default_rng(0).standard_normal((16, 2, 3)).astype(np.float32)
    assert agent.learn(window_of(x))["updates"] == 2
    assert np.abs(agent.state().arrays["critic1.seen.weight"] - before).max() > 0
    with pytest.raises(
        Unsuitable, match=r"critic1 does not take observations of shape \[2, 3\] and 2 numbers"
    ):
        own_agent(algorithm, lambda: nn.Linear(8, 1))


@pytest.mark.slow
@EVERY
def test_pictures_are_learnt(framework, algorithm):
    params = {"learning_rate": 1e-3, "batch_size": 64, "learning_starts": 64, "replay_capacity": 2000,
              "train_freq": 1, "gamma": 0.0}  # fmt: skip
    if algorithm == "sac":
        params["log_alpha_init"] = -4.0  # such small rewards are worth less than entropy at first
    agent = make_agent(Turning(), framework=framework, algorithm=algorithm, seed=0, hyperparams=params)
    pipeline = VectorBatchPipeline([Turning] * 2, agent, window_size=32, seed=0)
    for number in range(10):
        agent.learn(pipeline.collect(number, np.random.default_rng(number)))
    # At random it is 5, and 5 as well for whoever does not look.
    assert np.mean(pipeline.evaluate(5).metadata["episode_returns"]) >= 8.5
