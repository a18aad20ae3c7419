"""Images: the network of the public tables, run in NumPy when it acts."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.agents.acting.images import ImageForward
from optix_bus.agents.images import channels_last, image_size
from optix_bus.agents.torch.arrays import module_arrays
from optix_bus.agents.torch.images import ImageInput, build_cnn, describe_images
from optix_bus.agents.torch.networks import describe
from optix_bus.agents.torch.ppo import TorchPPOAgent
from optix_bus.agents.torch.ppo_update import AutogradPPO
from optix_bus.errors import ConfigurationError, Unsuitable
from optix_bus.pipelines import VectorBatchPipeline
from optix_bus.types import ArraySpec, EpisodeData, NamedArrays, SpaceSpec

TWO = ArraySpec("discrete", (), "int64", n=2)
SHAPES = [(36, 40, 3), (4, 40, 36), (36, 36)]


class Pictures(gym.Env[Any, Any]):
    """Noise, brighter in one half; the reward asks which."""

    observation_space = gym.spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space: Any = gym.spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._look(), {}

    def _look(self) -> Any:
        self.bright = int(self.np_random.integers(2))
        picture = self.np_random.integers(0, 60, self.observation_space.shape)
        picture[self.bright * 18 : self.bright * 18 + 18] += 180
        return picture.astype(np.uint8)

    def step(self, action: Any) -> Any:
        self.steps += 1
        reward = float(np.ravel(action)[0] == self.bright)
        return self._look(), reward, self.steps == 10, False, {}


def _images(shape: tuple[int, ...], rows: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, *shape)).astype(np.uint8)


def _cnn(shape: tuple[int, ...], outputs: int = 3) -> nn.Sequential:
    return build_cnn(shape, outputs, output_gain=1.0, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_numpy_computes_what_torch_computes(shape):
    module, x = _cnn(shape), _images(shape)
    layers = describe_images(module, "actor")
    assert [layer["op"] for layer in layers] == [
        "image", "conv", "relu", "conv", "relu", "conv", "relu", "flatten", "linear", "relu", "linear",
    ]  # fmt: skip
    json.dumps(layers)
    outputs, rows = ImageForward(layers, module_arrays("actor", module))(x)
    with torch.no_grad():
        expected = module(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(outputs[:rows], expected, atol=1e-5, rtol=1e-5)
    assert describe(module, "actor") is None, "no small network: it belongs on an accelerator"


def test_a_users_own_convolutions_run_in_numpy_too():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 5, (3, 2), (2, 1), bias=False), nn.Tanh(), nn.Conv2d(5, 4, 3), nn.ELU(0.5), nn.Flatten(),
        nn.Linear(4 * 2 * 5, 6), nn.Sigmoid(), nn.Linear(6, 3),
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((7, 2, 10, 8)).astype(np.float32)
    outputs, rows = ImageForward(describe_images(module, "a"), module_arrays("a", module))(x)
    with torch.no_grad():
        np.testing.assert_allclose(outputs[:rows], module(torch.from_numpy(x)).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(8, 2)),
        nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.Flatten(), nn.Linear(8, 2)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2)),
        nn.Sequential(nn.Conv2d(1, 2, 3), ImageInput(False), nn.Flatten(), nn.Linear(8, 2)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(8, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(8, 2)),
        nn.Sequential(nn.Conv2d(1, 2, 3).double(), nn.Flatten(), nn.Linear(8, 2)),
        nn.Linear(4, 2),
    ],
)
def test_networks_that_numpy_cannot_run_are_not_described(module):
    assert describe_images(module, "actor") is None


def test_weights_are_orthogonal_and_only_the_generator_draws():
    before = torch.get_rng_state()
    one, same = _cnn((36, 36)), _cnn((36, 36))
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    weight = one[1].weight.detach().reshape(32, -1)
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(32), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "last", "size"),
    [
        ((210, 160, 3), True, (3, 210, 160)),
        ((84, 84, 4), True, (4, 84, 84)),
        ((4, 84, 84), False, (4, 84, 84)),
        ((84, 84), False, (1, 84, 84)),
    ],
)
def test_channels_are_found_where_environments_have_them(shape, last, size):
    assert channels_last(shape) == last
    assert image_size(shape) == size


def _agent(algorithm: str = "ppo", **hyperparams: Any) -> Any:
    return make_agent(Pictures(), algorithm=algorithm, seed=0, hyperparams={"n_epochs": 2, **hyperparams})


def test_ppo_acts_by_numpy_and_its_first_ratio_is_one():
    agent = _agent()
    assert isinstance(agent, TorchPPOAgent)
    assert is_portable(agent.state())
    assert isinstance(agent._way_to_update(), AutogradPPO)
    x = _images((36, 36, 1))
    with torch.no_grad():
        logits = agent._actor(torch.from_numpy(x).float())
    policy = load_policy(agent.state(), np.random.default_rng(0))
    np.testing.assert_allclose(policy.action_probs(x), torch.softmax(logits, -1).numpy(), atol=1e-5)
    pipeline = VectorBatchPipeline([Pictures] * 2, policy, window_size=16, seed=0)
    window = pipeline.collect()
    assert window.observations.dtype == np.uint8
    for version, error in ((-1, 1e-4), (0, 0.0)):
        window.metadata |= {"policy_version": version, "learner_version": 0}
        twin = _agent()
        assert twin.learn(window)["initial_ratio_error"] <= error


def test_a_restored_agent_goes_on_to_the_bit():
    first, second = _agent(), make_agent(Pictures(), seed=5, hyperparams={"n_epochs": 2})
    pipeline = VectorBatchPipeline([Pictures] * 2, first, window_size=12, seed=0)
    first.learn(pipeline.collect())
    state = first.state()
    second.load_state(NamedArrays(state.arrays, json.loads(json.dumps(dict(state.metadata)))))
    window, x = pipeline.collect(), _images((36, 36, 1))
    answers = []
    for agent in (first, second):
        agent.reseed(np.random.default_rng(1))
        answers.append(agent.act_batch(x))
        agent.learn(window)
    assert answers[0].log_probs.tobytes() == answers[1].log_probs.tobytes()
    one, two = first.state().arrays, second.state().arrays
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_continuous_actions_from_images():
    class Turning(Pictures):
        action_space = gym.spaces.Box(-2.0, 1.0, (2,))

    agent = make_agent(Turning(), algorithm="ppo", seed=0, hyperparams={"n_epochs": 1})
    assert is_portable(agent.state())
    pipeline = VectorBatchPipeline([Turning] * 2, agent, window_size=8, seed=0)
    window = pipeline.collect()
    window.metadata["policy_version"] = 0
    assert agent.learn(window)["initial_ratio_error"] == 0.0
    assert agent._obs_normalizer is None


def test_dqn_learns_from_bytes_and_acts_by_numpy():
    small = {"learning_starts": 8, "batch_size": 8, "replay_capacity": 100, "train_freq": 8}
    agents = [make_agent(Pictures(), algorithm="dqn", seed=0, hyperparams=small) for _ in range(2)]
    agent = agents[0]
    assert is_portable(agent.state())
    x = _images((36, 36, 1))
    with torch.no_grad():
        values = agent._q_network(torch.from_numpy(x).float()).numpy()
    chosen = load_policy(agent.state()).act_batch(x, deterministic=True).actions
    np.testing.assert_array_equal(chosen, values.argmax(axis=1))
    pipeline = VectorBatchPipeline([Pictures] * 2, agent, window_size=16, seed=0)
    windows = [pipeline.collect(number, np.random.default_rng(number)) for number in range(2)]
    for each in agents:
        each.reseed(np.random.default_rng(0))
        assert np.isfinite(list(each.learn(windows[0]).values())).all()
    stored = [array for array in agent.replay_state().arrays.values() if array.dtype == np.uint8]
    assert any(array[0].size == 36 * 36 for array in stored), "bytes stay bytes"
    agents[1].load_state(agent.state())
    for each in agents:
        each.reseed(np.random.default_rng(1))
        each.learn(windows[1])
    one, two = (each.state().arrays for each in agents)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.slow
def test_pictures_are_learnt():
    agent = _agent(learning_rate=5e-4, n_epochs=4, entropy_coef=0.0)
    pipeline = VectorBatchPipeline([Pictures] * 4, agent, window_size=32, seed=0)
    for number in range(6):
        agent.learn(pipeline.collect(number, np.random.default_rng(number)))
    assert np.mean(pipeline.evaluate(5).metadata["episode_returns"]) >= 9.5


KINDS = [
    *(("torch", each) for each in ("ppo", "dqn", "a2c", "rainbow", "recurrent_ppo")),
    *(("tensorflow", each) for each in ("ppo", "dqn", "a2c")),
    ("jax", "ppo"),
]


@pytest.mark.parametrize(("framework", "algorithm"), KINDS, ids=str)
@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        (
            (8, 8, 1),
            "uint8",
            r"images of shape \[8, 8, 1\] are 8 x 8, expected 36 x 36 or more; .*ResizeObserv",
        ),
        ((3, 84, 35), "uint8", r"images of shape \[3, 84, 35\] are 84 x 35, expected 36 x 36 or more"),
        (
            (84, 4, 84),
            "uint8",
            r"images have shape \[84, 4, 84\], expected \[height, width\], \[channels, hei",
        ),
        (
            (84, 84, 20),
            "uint8",
            r"images have shape \[84, 84, 20\], expected .* at most 16 channels; turn them",
        ),
        (
            (84, 84, 3),
            "float32",
            r"are float32 of shape \[84, 84, 3\], expected a vector \[n\], or bytes \(uint8",
        ),
        ((40, 60), "float64", r"observations are float64 of shape \[40, 60\], .*FlattenObservation"),
        (
            (4, 5),
            "float32",
            r"observations have shape \[4, 5\], expected a vector \[n\]; .*FlattenObservation",
        ),
    ],
    ids=str,
)
def test_images_that_the_network_does_not_take_are_refused_alike_everywhere(
    framework, algorithm, shape, dtype, message
):
    observation = ArraySpec("box", shape, dtype)
    with pytest.raises(Unsuitable, match=f"{algorithm} does not fit seen: .*{message}"):
        make_agent(SpaceSpec("seen", observation, TWO), framework=framework, algorithm=algorithm)


@pytest.mark.parametrize(
    ("framework", "algorithm"), [kind for kind in KINDS if "recurrent_ppo" not in kind], ids=str
)
def test_so_are_sizes_that_it_does_not_have(framework, algorithm):
    with pytest.raises(
        ConfigurationError, match=r"hidden_sizes are \[64\], but the network for images of Pict"
    ):
        make_agent(Pictures(), framework=framework, algorithm=algorithm, hidden_sizes=(64,))


@pytest.mark.parametrize(("framework", "algorithm"), KINDS, ids=str)
def test_images_of_another_order_are_neither_acted_on_nor_learnt_from(framework, algorithm):
    seen = ArraySpec("box", (36, 44, 3), "uint8")
    agent = make_agent(SpaceSpec("seen", seen, TWO), framework=framework, algorithm=algorithm, seed=0)
    for policy in (agent, load_policy(agent.state())):
        for shape in [(3, 36, 44), (36, 44, 1), (44, 44, 3), (36, 44), (3,)]:
            said = ", ".join(map(str, shape))
            with pytest.raises(
                Unsuitable, match=rf"\[{said}\], .* images \[height, width, channels\] of 3 chan"
            ):
                policy.act_batch(_images(shape))
    x = _images((3, 36, 44), 8)
    nothing = np.zeros(8, bool)
    window = EpisodeData(
        observations=x, final_observations=x, actions=np.zeros(8, int), rewards=np.zeros(8),
        terminated=nothing, truncated=nothing, episode_id=0,
    )  # fmt: skip
    with pytest.raises(Unsuitable, match=r"of shape \[3, 36, 44\] in the window, expected \[36, 44, 3\]"):
        agent.learn(window)
