"""The network for images in the agents beyond PPO and DQN: acting in NumPy, learning, going on."""

from __future__ import annotations

import copy
import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.agents.acting.recurrent import RecurrentForward
from optix_bus.agents.experience import read_experience
from optix_bus.agents.spaces import space_spec
from optix_bus.agents.torch.images import ImageInput
from optix_bus.agents.torch.noisy import noisy_layers
from optix_bus.agents.torch.rainbow import TorchRainbowDQNAgent
from optix_bus.agents.torch.rainbow_acting import TorchNoisyForward
from optix_bus.agents.torch.rainbow_network import RainbowQNetwork, describe_rainbow
from optix_bus.agents.torch.recurrent_acting import TorchRecurrentStep
from optix_bus.agents.torch.recurrent_networks import features_of
from optix_bus.agents.torch.recurrent_ppo import TorchRecurrentPPOAgent
from optix_bus.agents.torch.recurrent_update import resets_of, unroll
from optix_bus.errors import ConfigurationError, LearningFailure, Unsuitable
from optix_bus.pipelines import VectorBatchPipeline
from optix_bus.types import NamedArrays
from tests.agents.every import small_agent
from tests.agents.test_images import Pictures
from tests.agents.windows import VECTOR, random_window
from tests.oracles import recurrent as oracle

A2C = [("torch", "a2c"), ("tensorflow", "a2c")]
RAINBOW = ("torch", "rainbow")
RECURRENT = ("torch", "recurrent_ppo")
KINDS = [*A2C, RAINBOW, RECURRENT]
ATOMS = {"n_atoms": 11}
#: With which each learns what it sees in a few minutes at most.
QUICK: dict[str, dict[str, Any]] = {
    "a2c": {"entropy_coef": 0.0},
    "recurrent_ppo": {"learning_rate": 5e-4, "entropy_coef": 0.0},
    "rainbow": {"learning_starts": 64, "train_freq": 4, "gradient_steps": 1, "n_step": 1, "gamma": 0.9},
}


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


def trunk_of(*layers: nn.Module, **options: Any) -> RainbowQNetwork:
    torch.manual_seed(0)
    return RainbowQNetwork(5 * 17 * 17, 2, 8, 11, trunk=nn.Sequential(*layers), **options)


def values_of(agent: Any) -> tuple[Any, Any]:
    """Rainbow's forward pass in NumPy and in PyTorch."""
    network, device = agent._q_network, torch.device("cpu")
    policy = load_policy(agent.state())
    return policy._forward, TorchNoisyForward(network, None, device, agent._support, 2)


def test_rainbow_sees_images_by_convolutions_and_two_streams_of_512_noisy_units():
    network = agent_of(RAINBOW)._q_network
    kinds = [type(layer) for layer in network.trunk]
    assert kinds == [ImageInput, *[nn.Conv2d, nn.ReLU] * 3, nn.Flatten]
    for stream, outputs in ((network.value, 1), (network.advantage, 2)):
        assert [layer.weight_mu.shape for layer in noisy_layers(stream)] == [(512, 64), (51 * outputs, 512)]
    one, same = (agent_of(RAINBOW)._q_network.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], same[name]) for name in one)


def test_it_acts_by_numpy_as_by_torch_with_and_without_noise():
    agent = agent_of(RAINBOW)
    agent.perturb_weights(0.5)
    assert is_portable(agent.state())
    assert describe_rainbow(agent._q_network, "") is not None
    x, (ours, theirs) = images(9), values_of(agent)
    assert ours.noise_size == theirs.noise_size
    rng = np.random.default_rng(1)
    for noise in (None, rng.standard_normal((9, ours.noise_size), np.float32)):
        for forward in (ours, theirs):
            forward.set_noise(noise)
        (found, rows), (expected, _) = ours(x), theirs(x)
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(found[:rows], expected, atol=1e-5, rtol=1e-5)


def test_so_does_a_users_own_trunk_and_one_that_numpy_does_not_know_acts_in_torch():
    front = (ImageInput(True), nn.Conv2d(1, 5, 4, 2), nn.Tanh(), nn.Flatten())
    x = images(4)
    for network in (trunk_of(*front), trunk_of(*front, nn.Linear(5 * 17 * 17, 5 * 17 * 17), nn.ELU())):
        agent = TorchRainbowDQNAgent(network, 2, None, torch.optim.Adam(network.parameters()), ATOMS)
        (found, rows), (expected, _) = (forward(x) for forward in values_of(agent))
        np.testing.assert_allclose(found[:rows], expected, atol=1e-5)
        with pytest.raises(Unsuitable, match=r"\[36, 40, 1\], .* images \[height, width, channels\] of 1"):
            agent.act_batch(np.zeros((2, 36, 40, 1), np.uint8))
    network = trunk_of(*front[:2], nn.Softplus(), nn.Flatten())
    agent = TorchRainbowDQNAgent(network, 2, None, torch.optim.Adam(network.parameters()), ATOMS)
    assert not is_portable(agent.state())
    assert agent.act_batch(x).actions.shape == (4,)
    with pytest.raises(ConfigurationError, match=r"a trunk with trunk_sizes \[3\] and one_hot False"):
        trunk_of(*front, trunk_sizes=[3])


def test_its_replay_keeps_bytes():
    agent = agent_of(RAINBOW)
    agent.learn(collecting(agent).collect())
    stored = [array for array in agent.replay_state().arrays.values() if array[0].size == 36 * 36]
    assert stored
    assert {array.dtype for array in stored} == {np.dtype(np.uint8)}


@pytest.fixture(params=["gru", "lstm"])
def remembering(request: pytest.FixtureRequest) -> Any:
    """Recurrent PPO with a memory of 12 units and heads of one hidden layer of 8."""
    quick = {"n_epochs": 1, "bptt_len": 6}
    return make_agent(
        Pictures(),
        algorithm="recurrent_ppo",
        rnn=request.param,
        hidden_sizes=(12, 8),
        hyperparams=quick,
        seed=0,
    )


def test_a_memory_stands_behind_convolutions_and_512_units_and_its_own_size_may_be_chosen(remembering):
    encoder, rnn = remembering._encoder, remembering._rnn
    kinds = [type(layer) for layer in encoder]
    assert kinds == [ImageInput, *[nn.Conv2d, nn.ReLU] * 3, nn.Flatten, nn.Linear, nn.ReLU]
    assert (rnn.input_size, rnn.hidden_size, remembering._actor_head[0].out_features) == (512, 12, 8)
    assert remembering._obs_normalizer is None
    assert {name.partition(".")[0] for name in remembering.state().arrays} >= {
        "encoder",
        "rnn",
        "critic_head",
    }


def test_it_remembers_in_numpy_what_it_does_in_torch(remembering):
    remembering.perturb_weights(1.0)
    state = remembering.state()
    assert is_portable(state)
    step = RecurrentForward(state.metadata["policy"], state.arrays)
    theirs = TorchRecurrentStep(remembering._actor(), None, torch.device("cpu"))
    memories = [np.zeros((3, step.size), np.float32)] * 2
    x = np.random.default_rng(0).integers(0, 256, (8, 3, 36, 36, 1)).astype(np.uint8)
    for row in x:
        found, rows, memories[0] = step(row, memories[0])
        expected, _, memories[1] = theirs(row, memories[1])
        np.testing.assert_allclose(found[:rows], expected, atol=1e-5)
        np.testing.assert_allclose(*memories, atol=1e-5)
    assert np.abs(memories[0]).max() > 0.05


def test_its_first_ratio_is_one_also_in_the_middle_of_episodes(remembering):
    pipeline = collecting(remembering)
    for number in range(2):
        window = pipeline.collect(number, np.random.default_rng(number))
        twin = copy.deepcopy(remembering)
        window.metadata["policy_version"] = remembering.policy_version
        assert remembering.learn(window)["initial_ratio_error"] == 0.0
        window.metadata["policy_version"] = -1
        assert 0.0 < twin.learn(window)["initial_ratio_error"] < 1e-4
    assert np.abs(window.hidden_states).max() > 0.0


def test_gradients_reach_the_encoder_as_in_a_plain_loop_over_single_steps(remembering, monkeypatch):
    monkeypatch.setattr("optix_bus.agents.torch.recurrent_update._CHUNK", 7)
    encoder, rnn, length = remembering._encoder, remembering._rnn, 6
    window = collecting(remembering).collect()
    experience = read_experience(window)
    found = unroll(window, experience, rnn, length, None, torch.device("cpu"), encoder)
    assert found.inputs.dtype is torch.uint8
    every = found.pieces.of(np.arange(len(found.memories)))
    features, steps, rows = features_of(rnn, found.inputs, every, found.memories, encoder)
    weights = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 2, 12)).astype(np.float32))
    parameters = [*encoder.parameters(), *rnn.parameters()]
    ours = torch.autograd.grad((features * weights[steps, rows]).sum(), parameters)
    total, resets = torch.zeros(()), resets_of(window, experience)
    for row in range(2):
        x = encoder(torch.from_numpy(window.observations[:, row]).float())
        outputs, _ = oracle.features(rnn, x, resets[:, row], length, oracle.empty(rnn))
        seen = torch.stack(outputs)
        np.testing.assert_allclose(seen.detach(), found.experience.observations[:, row], atol=1e-6)
        total = total + (seen * weights[:, row]).sum()
    for gradient, expected in zip(ours, torch.autograd.grad(total, parameters), strict=True):
        assert expected.abs().max() > 1e-4
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def test_an_update_that_is_not_finite_leaves_the_encoder_as_it_was(remembering):
    window, before = collecting(remembering).collect(), remembering.state().arrays
    remembering.set_hyperparams({"learning_rate": 1e38, "n_epochs": 2})
    with pytest.raises(LearningFailure, match="the update is not finite"):
        remembering.learn(window)
    after = remembering.state().arrays
    for name in (each for each in before if each.startswith(("encoder.", "rnn.", "actor_head.", "optim"))):
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)


def networks_behind(encoder: nn.Module, inputs: int, **options: Any) -> TorchRecurrentPPOAgent:
    torch.manual_seed(0)
    modules = nn.GRU(inputs, 6), nn.Linear(6, 2), nn.Linear(6, 1)
    parameters = [p for module in (encoder, *modules) for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters)
    return TorchRecurrentPPOAgent(*modules, optimizer, {"n_epochs": 1}, seed=0, encoder=encoder, **options)


@pytest.mark.parametrize("last", [nn.Tanh(), nn.Softplus()], ids=str)
def test_a_users_own_encoder_acts_in_numpy_where_it_is_known_and_otherwise_in_torch(last):
    encoder = nn.Sequential(ImageInput(True), nn.Conv2d(1, 3, 8, 8), last, nn.Flatten())
    agent = networks_behind(encoder, 48, spaces=space_spec(Pictures()))
    assert is_portable(agent.state()) == isinstance(last, nn.Tanh)
    before = [p.detach().clone() for p in encoder.parameters()]
    window = collecting(agent).collect()
    window.metadata["policy_version"] = -1
    assert agent.learn(window)["initial_ratio_error"] < 1e-4
    assert all((p != was).any() for p, was in zip(encoder.parameters(), before, strict=True))


def test_an_encoder_that_does_not_fit_is_refused_by_name():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(36 * 36, 7))
    with pytest.raises(Unsuitable, match=r"the encoder gives \[2, 7\] .* expected \[2, 5\], which the rnn"):
        networks_behind(encoder, 5, spaces=space_spec(Pictures()))
    with pytest.raises(Unsuitable, match=r"encoder does not take observations of vector, shape \[4\]: "):
        networks_behind(encoder, 7, spaces=VECTOR)
    with pytest.raises(Unsuitable, match=r"the encoder does not take observations of shape \[4\]: "):
        networks_behind(encoder, 7).learn(random_window())


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_a_restored_agent_goes_on_to_the_bit(kind):
    first, second = agent_of(kind), agent_of(kind, seed=5)
    pipeline = collecting(first)
    window = pipeline.collect(0, np.random.default_rng(0))
    assert window.observations.dtype == np.uint8
    first.learn(window)
    state = first.state()
    second.load_state(NamedArrays(state.arrays, json.loads(json.dumps(dict(state.metadata)))))
    if hasattr(first, "replay_state"):
        second.load_replay_state(first.replay_state())
    window, answers = pipeline.collect(1, np.random.default_rng(1)), []
    for agent in (first, second):
        agent.reseed(np.random.default_rng(1))
        answers.append(agent.act_batch(images()))
        report = agent.learn(window)
        assert np.isfinite(list(report.values())).all()
    np.testing.assert_array_equal(answers[0].actions, answers[1].actions)
    np.testing.assert_array_equal(answers[0].log_probs, answers[1].log_probs)
    one, two = first.state().arrays, second.state().arrays
    assert any((one[name] != state.arrays[name]).any() for name in state.arrays if name.endswith("weight"))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_pictures_are_learnt(kind):
    framework, algorithm = kind
    agent = make_agent(Pictures(), framework, algorithm, seed=0, hyperparams=QUICK.get(algorithm))
    pipeline = collecting(agent, environments=4)
    for number in range(40 if kind in A2C else 20):
        agent.learn(pipeline.collect(number, np.random.default_rng(number)))
    assert np.mean(pipeline.evaluate(5).metadata["episode_returns"]) >= 9.5
