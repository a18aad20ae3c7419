"""Exported policies act in onnxruntime as the agent does: normalisation and the actions' units are inside."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession
from torch import nn

from optix_bus.agents import make_agent, onnx_graph
from optix_bus.agents.torch.ppo import TorchPPOAgent
from optix_bus.errors import CheckpointError, ConfigurationError, MissingExtra, Unsuitable
from optix_bus.rl import ObsNormalizer
from optix_bus.types import ArraySpec, NamedArrays, SpaceSpec
from tests.agents.every import BOX, EVERY, small_agent, spaces_of
from tests.agents.windows import NUMBERS, VECTOR


def _session(agent, folder):
    path = str(folder / "policy.onnx")
    agent.export_onnx(path)
    onnx.checker.check_model(path, full_check=True)
    return InferenceSession(path, providers=["CPUExecutionProvider"])


def _observations(spaces, rows=64, seed=0):
    rng = np.random.default_rng(seed)
    if spaces.observation.kind == "discrete":
        return rng.integers(0, spaces.observation.n, rows)
    return 3 * rng.standard_normal((rows, *spaces.observation.shape)).astype(np.float32)


def _same_actions(agent, session, x):
    expected = agent.act_batch(x, deterministic=True).actions
    (found,) = session.run(["actions"], {"observations": x})
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    return expected


def _what_the_best_is_taken_of(agent, x):
    """The graph's inner result, which ArgMax takes."""
    model = onnx_graph.onnx_model(agent.state())
    inner = model.graph.node[-2].input[0]
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(inner))
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([inner], {"observations": x})[0]


def _scattered(agent):
    """Weights and statistics of the observations that are not those of the beginning."""
    agent.perturb_weights(0.5)
    if agent._obs_normalizer is not None:
        rng = np.random.default_rng(1)
        agent._obs_normalizer.update(rng.normal(1.5, 2.0, (100, *agent._obs_normalizer.shape)))
    return agent


@pytest.mark.parametrize("kind", [each for each in EVERY if each[1] != "recurrent_ppo"], ids="-".join)
def test_every_agent_acts_in_onnx_as_it_does_itself(kind, tmp_path):
    agent = _scattered(small_agent(kind))
    _same_actions(agent, _session(agent, tmp_path), _observations(spaces_of(kind)))


@pytest.mark.parametrize("rnn", ["gru", "lstm"])
def test_a_policy_with_a_memory_hands_it_on(rnn, tmp_path):
    agent = _scattered(make_agent(VECTOR, algorithm="recurrent_ppo", rnn=rnn, seed=0, hidden_sizes=(8,)))
    session, policy = _session(agent, tmp_path), agent.policy()
    memory = np.zeros((5, session.get_inputs()[1].shape[1]), np.float32)
    for step in range(20):
        x = _observations(VECTOR, 5, seed=step)
        expected = policy.act_batch(x, deterministic=True).actions
        actions, memory = session.run(["actions", "next_memory"], {"observations": x, "memory": memory})
        np.testing.assert_array_equal(actions, expected)
        np.testing.assert_allclose(memory, policy.memory(), atol=1e-5)
    assert np.abs(memory).max() > 0.1


def test_so_does_one_that_sees_images(tmp_path):
    agent = _scattered(make_agent(_images((44, 40, 2)), algorithm="recurrent_ppo", seed=0, hidden_sizes=(8,)))
    session, policy = _session(agent, tmp_path), agent.policy()
    assert [each.name for each in session.get_inputs()] == ["observations", "memory"]
    memory, rng = np.zeros((3, 8), np.float32), np.random.default_rng(0)
    for _ in range(6):
        x = rng.integers(0, 256, (3, 44, 40, 2)).astype(np.uint8)
        expected = policy.act_batch(x, deterministic=True).actions
        given = {"observations": x.astype(np.float32), "memory": memory}
        actions, memory = session.run(["actions", "next_memory"], given)
        np.testing.assert_array_equal(actions, expected)
        np.testing.assert_allclose(memory, policy.memory(), atol=1e-5)
    assert np.abs(memory).max() > 0.1


def _spaces(action):
    return SpaceSpec("made", ArraySpec("box", (3,), "float32"), action)


@pytest.mark.parametrize(
    ("algorithm", "action"),
    [
        ("ppo", ArraySpec("multi_discrete", (2,), "int64", nvec=(3, 4))),
        ("ppo", ArraySpec("multi_binary", (3,), "int8")),
        ("sac", ArraySpec("box", (2, 2), "float64", low=(-1.0, 0, 5, -9), high=(3.0, 0.5, 6, 9))),
        ("td3", ArraySpec("box", (1,), "float32", low=(-2.0,), high=(1.0,))),
        ("gaussian_ppo", ArraySpec("box", (2,), "float32", low=(-1.0, 0.0), high=(0.1, 0.2))),
        ("gaussian_ppo", ArraySpec("box", (2, 1), "float32")),
    ],
    ids=str,
)
def test_every_kind_of_action_comes_in_the_environments_units(algorithm, action, tmp_path):
    agent = _scattered(make_agent(_spaces(action), algorithm=algorithm, seed=0, hidden_sizes=(16, 16)))
    if algorithm != "ppo":
        for _ in range(3):
            agent.perturb_weights(3.0)  # far enough that bounds are met
    actions = _same_actions(agent, _session(agent, tmp_path), _observations(_spaces(action), 200))
    assert len(np.unique(actions, axis=0)) > 1


def test_discrete_observations_are_numbers_in_onnx_too(tmp_path):
    agent = _scattered(make_agent(NUMBERS, algorithm="ppo", seed=0, hidden_sizes=(16,)))
    session = _session(agent, tmp_path)
    _same_actions(agent, session, np.arange(5))
    with pytest.raises(Exception, match="indices element out of data bounds"):
        session.run(None, {"observations": np.array([5])})


def test_what_the_network_flattens_comes_flat_unless_its_shape_is_given(tmp_path):
    actor, critic = (nn.Sequential(nn.Flatten(), nn.Linear(6, n)) for n in (3, 1))
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()])
    agent = TorchPPOAgent(actor, critic, optimizer, seed=0)
    x = np.random.default_rng(0).standard_normal((32, 2, 3)).astype(np.float32)
    expected = agent.act_batch(x, deterministic=True).actions
    for given, observations in ((None, x.reshape(32, 6)), ((2, 3), x)):
        agent.export_onnx(str(tmp_path / "x.onnx"), given)
        session = InferenceSession(str(tmp_path / "x.onnx"))
        np.testing.assert_array_equal(session.run(None, {"observations": observations})[0], expected)


def _images(shape, action=VECTOR.action):
    image = ArraySpec("box", shape, "uint8", low=(0.0,) * math.prod(shape), high=(255.0,) * math.prod(shape))
    return SpaceSpec("seen", image, action)


@pytest.mark.parametrize(
    ("framework", "shape"),
    [
        ("torch", (44, 40, 3)), ("torch", (4, 44, 40)), ("torch", (44, 40)), ("tensorflow", (2, 52, 44)),
        ("jax", (52, 44, 2)),
    ],
    ids=str,
)  # fmt: skip
def test_images_are_scaled_and_turned_in_the_graph(framework, shape, tmp_path):
    agent = _scattered(make_agent(_images(shape), framework=framework, algorithm="ppo", seed=0))
    x = np.random.default_rng(0).integers(0, 256, (32, *shape)).astype(np.uint8)
    expected = agent.act_batch(x, deterministic=True).actions
    (found,) = _session(agent, tmp_path).run(["actions"], {"observations": x.astype(np.float32)})
    np.testing.assert_array_equal(found, expected)
    logits = _what_the_best_is_taken_of(agent, x.astype(np.float32))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, agent.policy().action_probs(x), atol=1e-5)


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_so_are_those_of_values_and_of_continuous_actions(framework, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (32, 44, 40, 3)).astype(np.float32)
    made = [
        _scattered(make_agent(_images((44, 40, 3), action), framework=framework, algorithm=algorithm, seed=0))
        for action, algorithm in ((VECTOR.action, "dqn"), (BOX.action, "gaussian_ppo"))
    ]
    network = made[0]._q_network
    values = network(torch.from_numpy(x)).detach() if framework == "torch" else network(x)
    np.testing.assert_allclose(_what_the_best_is_taken_of(made[0], x), values.numpy(), atol=1e-5)
    actions = _same_actions(made[1], _session(made[1], tmp_path), x)
    assert len(np.unique(actions, axis=0)) > 1


def test_so_are_those_that_rainbow_sees(tmp_path):
    agent = _scattered(make_agent(_images((2, 44, 40)), algorithm="rainbow", seed=0))
    x = np.random.default_rng(0).integers(0, 256, (16, 2, 44, 40)).astype(np.float32)
    agent._q_network.eval()
    with torch.no_grad():
        mass = torch.softmax(agent._q_network(torch.from_numpy(x)), 2).numpy()
    np.testing.assert_allclose(_what_the_best_is_taken_of(agent, x), mass @ agent._support(), atol=1e-5)
    _same_actions(agent, _session(agent, tmp_path), x)


ACTIVATIONS = [
    nn.Tanh(), nn.ReLU(), nn.ELU(0.7), nn.Sigmoid(), nn.GELU(), nn.GELU("tanh"), nn.LeakyReLU(0.2), nn.SiLU(),
    nn.Identity(),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_the_logits_of_every_activation_are_those_of_torch(activation, tmp_path):
    """Not only the best of them: the graph's inner result is looked at."""
    torch.manual_seed(0)
    actor = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), activation, nn.Linear(8, 3, bias=False))
    critic = nn.Sequential(nn.Flatten(), nn.Linear(6, 1))
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()])
    agent = _scattered(TorchPPOAgent(actor, critic, optimizer, seed=0, obs_normalizer=ObsNormalizer((2, 3))))
    x = np.random.default_rng(0).standard_normal((32, 2, 3)).astype(np.float32)
    with torch.no_grad():
        expected = actor(torch.from_numpy(agent._obs_normalizer.normalize(x))).numpy()
    np.testing.assert_allclose(_what_the_best_is_taken_of(agent, x), expected, atol=1e-5)


def test_a_large_mean_of_the_observations_loses_nothing(tmp_path):
    plain = make_agent(VECTOR, algorithm="ppo", seed=0, hidden_sizes=(16,))
    normalizer = ObsNormalizer((4,))
    normalizer.update(1e4 + np.random.default_rng(0).standard_normal((1000, 4)))
    made = TorchPPOAgent(plain._actor, plain._critic, plain._optimizer, seed=0, obs_normalizer=normalizer)
    made.perturb_weights(0.5)
    _same_actions(made, _session(made, tmp_path), np.float32(1e4) + _observations(VECTOR, 200) / 3)


def test_the_graph_says_what_it_is(tmp_path):
    model = onnx_graph.onnx_model(small_agent(("torch", "ppo")).state())
    assert {each.key: each.value for each in model.metadata_props} == {
        "algorithm": "ppo",
        "head": "categorical",
    }
    assert [each.name for each in model.graph.input] == ["observations"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


# What is refused


class _Residual(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.last = nn.Linear(4, outputs)

    def forward(self, x):
        return self.last(x + torch.tanh(x))


def test_a_network_that_is_not_known_is_refused_with_what_to_do(tmp_path):
    actor, critic = _Residual(3), _Residual(1)
    agent = TorchPPOAgent(actor, critic, torch.optim.Adam(actor.parameters()), seed=0)
    with pytest.raises(Unsuitable, match=r"kind 'agent', expected one of mlp.*torch\.onnx\.export"):
        agent.export_onnx(str(tmp_path / "x.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_a_state_without_a_policy_is_refused():
    with pytest.raises(ConfigurationError, match="without a policy description"):
        onnx_graph.onnx_model(NamedArrays({}, {"algorithm": "mine"}))


def test_an_array_that_is_missing_is_named():
    state = small_agent(("torch", "ppo")).state()
    arrays = {name: array for name, array in state.arrays.items() if name != "actor.0.weight"}
    with pytest.raises(ConfigurationError, match=r"names the array 'actor\.0\.weight'"):
        onnx_graph.onnx_model(NamedArrays(arrays, state.metadata))


def test_where_nothing_can_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write the policy"):
        small_agent(("torch", "ppo")).export_onnx(str(tmp_path / "file" / "x.onnx"))


def test_without_onnx_the_error_is_one_line_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"pip install 'optix-bus\[onnx\]'"):
        small_agent(("torch", "ppo")).export_onnx(str(tmp_path / "x.onnx"))


def test_a_saved_policy_is_exported_without_its_framework(tmp_path):
    small_agent(("torch", "ppo")).save_weights(str(tmp_path / "w"))
    code = (
        "import sys; from optix_bus.agents.storage import read_state; "
        "from optix_bus.agents.onnx_graph import export_onnx; "
        f"export_onnx(read_state({str(tmp_path / 'w')!r}), {str(tmp_path / 'x.onnx')!r}); "
        "print([m for m in ('torch', 'tensorflow', 'jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert (tmp_path / "x.onnx").stat().st_size > 100
