from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from optix_bus.agents import factory, load_policy, make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.agents.cards import card
from optix_bus.agents.jax.device import use_compilation_cache
from optix_bus.agents.jax.networks import OneHot
from optix_bus.agents.jax.ppo import FlaxPPOAgent
from optix_bus.errors import CheckpointError, ConfigurationError, LearningFailure, MissingExtra, Unsuitable
from optix_bus.interfaces import ArrayAgent, Policy
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import ArraySpec, HyperparamSet, NamedArrays, SpaceSpec
from tests.agents.windows import NUMBERS, VECTOR, random_window

QUICK = {"n_epochs": 2, "minibatch_size": 64}


@pytest.fixture(scope="module", autouse=True)
def _quickly_compiled():
    """Ten programs that run for milliseconds each; `test_flax_update` tests what is compiled in earnest."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def _agent(hyperparams=QUICK, **options):
    return FlaxPPOAgent(4, 3, hyperparams, 16, **options)


def _same(first, second):
    one, two = first.state().arrays, second.state().arrays
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_it_is_what_the_loop_asks_for():
    agent = _agent()
    assert isinstance(agent, ArrayAgent)
    assert isinstance(agent, Policy)
    assert isinstance(agent.policy(), Policy)
    assert is_portable(agent.state())


def test_the_published_constructor_works_by_position_and_keyword():
    agents = [
        FlaxPPOAgent(4, 2, HyperparamSet(params={"clip_ratio": 0.1}), 32, 7),
        FlaxPPOAgent(obs_dim=4, n_actions=2, hyperparams={"clip_ratio": 0.1}, hidden_size=32, seed=7),
    ]
    _same(*agents)
    assert agents[0].state().arrays["actor.2.weight"].shape == (32, 32)
    params = agents[0].get_hyperparams().params
    assert (params["clip_ratio"], params["learning_rate"], params["n_epochs"]) == (0.1, 3e-4, 10)


@pytest.mark.parametrize("framework", ["jax", "flax"])
def test_make_agent_makes_one_with_the_gains_of_the_public_tables(framework):
    agent = make_agent(VECTOR, framework=framework, hidden_sizes=(32, 32), seed=0)
    assert isinstance(agent, FlaxPPOAgent)
    arrays = agent.state().arrays
    for network, gain in (("actor", 0.01), ("critic", 1.0)):
        for layer, factor in ((0, 2**0.5), (2, 2**0.5), (4, gain)):
            singular = np.linalg.svd(arrays[f"{network}.{layer}.weight"], compute_uv=False)
            np.testing.assert_allclose(singular, factor, rtol=1e-4)
            assert not arrays[f"{network}.{layer}.bias"].any()


def test_the_state_of_its_policy_acts_without_jax():
    """In a process that has never imported it, and the same to the bit as the agent."""
    agent = _agent(obs_normalizer=ObsNormalizer((4,)))
    agent.learn(random_window())
    state, x = agent.state(), np.random.default_rng(0).standard_normal((8, 4))
    needed = {k: v for k, v in state.arrays.items() if k.startswith(("actor.", "obs_normalizer."))}
    policy = load_policy(NamedArrays(needed, json.loads(json.dumps(dict(state.metadata)))))
    for each in (agent, policy):
        each.reseed(np.random.default_rng(4))
    one, two = agent.act_batch(x), policy.act_batch(x)
    assert one.actions.tobytes() == two.actions.tobytes()
    assert one.log_probs.tobytes() == two.log_probs.tobytes()
    logits = agent._way.outputs(agent._obs_normalizer.normalize(x))
    np.testing.assert_allclose(agent.policy().action_probs(x), jax.nn.softmax(logits), atol=1e-6)


def test_acting_follows_every_change_of_the_weights_and_a_policy_does_not():
    agent, x = _agent(), np.ones(4, np.float32)
    for change in (lambda: agent.perturb_weights(0.3), lambda: agent.learn(random_window())):
        before, policy = agent.action_probs(x), agent.policy()
        change()
        expected = jax.nn.softmax(agent._way.outputs(x[None])[0])
        np.testing.assert_allclose(agent.action_probs(x), expected, atol=1e-6)
        np.testing.assert_array_equal(policy.action_probs(x[None])[0], before)
        assert not np.allclose(before, expected, atol=1e-6)


class _Residual(nn.Module):
    """A network that only JAX can run."""

    outputs: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.outputs)(x + jnp.tanh(nn.Dense(4)(x)))


def test_networks_that_numpy_cannot_run_act_in_jax(tmp_path):
    agent = _agent(actor=_Residual(3), critic=_Residual(1), obs_normalizer=ObsNormalizer((4,)))
    x = np.random.default_rng(0).standard_normal((8, 4))
    policy = agent.policy()
    before = np.asarray(jax.nn.softmax(agent._way.outputs(x.astype(np.float32))))
    agent.learn(random_window())
    np.testing.assert_allclose(policy.action_probs(x), before, atol=1e-6)
    assert not np.allclose(agent.action_probs(x[0]), before[0], atol=1e-6)
    assert not is_portable(agent.state())
    assert "actor.Dense_0.kernel" in agent.state().arrays
    agent.save_weights(str(tmp_path / "w"))
    other = _agent(actor=_Residual(3), critic=_Residual(1), obs_normalizer=ObsNormalizer((4,)), seed=1)
    other.load_weights(str(tmp_path / "w"))
    _same(agent, other)


def test_a_sequential_of_ones_own_acts_in_numpy_as_in_jax():
    functions = [jax.nn.relu, jax.nn.silu, jax.nn.gelu, jax.nn.elu, jax.nn.leaky_relu, jax.nn.sigmoid]
    layers = [nn.Sequential([nn.Dense(8), function]) for function in functions]
    agent = _agent(actor=nn.Sequential([*layers, nn.Dense(8, use_bias=False), jnp.tanh, nn.Dense(3)]))
    agent.perturb_weights(0.5)
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    assert is_portable(agent.state())
    expected = jax.nn.softmax(agent._way.outputs(x))
    np.testing.assert_allclose(load_policy(agent.state()).action_probs(x), expected, atol=1e-5)


class _Scaled(nn.Dense):
    """A subclass may compute anything."""

    def __call__(self, x):
        return 2.0 * super().__call__(x)


@pytest.mark.parametrize(
    "actor",
    [
        nn.Sequential([_Scaled(3)]),
        nn.Sequential([nn.Dense(3, dtype=jnp.bfloat16)]),
        nn.Sequential([nn.Dense(3), lambda x: 2.0 * x]),
        nn.Sequential([nn.Dense(4), nn.LayerNorm(), nn.Dense(3)]),
    ],
)
def test_what_is_no_plain_network_is_not_taken_for_one(actor):
    assert not is_portable(_agent(actor=actor).state())


def test_discrete_observations_are_learnt_from():
    agent = make_agent(NUMBERS, framework="jax", seed=0, hidden_sizes=(16,), hyperparams=QUICK)
    assert isinstance(agent._way.modules["actor"].layers[0], OneHot)
    assert agent.learn(random_window(spaces=NUMBERS))["samples"] > 0
    x = np.arange(5)
    expected = jax.nn.softmax(agent._way.outputs(x.astype(np.float32)))
    np.testing.assert_allclose(agent.policy().action_probs(x), expected, atol=1e-6)
    with pytest.raises(Unsuitable, match=r"outside 0\.\.4"):
        agent.act(5)


# Learning


def test_the_first_ratio_is_exactly_one_for_the_agents_own_version():
    agent = _agent()
    for number in range(2):
        window = random_window(number, metadata={"policy_version": number}, log_probs=np.full((48, 4), -3.0))
        report = agent.learn(window)
        assert (report["initial_ratio_error"], report["initial_kl"]) == (0.0, 0.0)
    assert agent.policy_version == 2
    assert report["samples"] + report["steps_without_successor"] <= 192


def test_forbidden_actions_are_not_chosen_and_have_no_part_in_the_update():
    agent, x = _agent(), np.random.default_rng(0).standard_normal((192, 4)).astype(np.float32)
    masks = np.random.default_rng(1).random((192, 3)) < 0.4
    masks[np.arange(192), np.random.default_rng(2).integers(0, 3, 192)] = True
    acted = agent.act_batch(x, action_masks=masks)
    assert masks[np.arange(192), acted.actions].all()
    window = random_window(0, actions=acted.actions.reshape(48, 4), metadata={"policy_version": 7})
    window.observations, window.log_probs = x.reshape(48, 4, 4), acted.log_probs.reshape(48, 4)
    window.action_masks = masks.reshape(48, 4, 3)
    assert agent.learn(window)["initial_ratio_error"] < 1e-5
    assert agent.act(x[0], action_mask=[False, True, False]) == 1
    window.action_masks = None
    assert agent.learn(window)["initial_ratio_error"] > 0.1


def test_rows_that_are_no_transitions_change_nothing():
    agents = []
    for junk in (0.0, 1e6):
        window = random_window(0)
        valid = np.ones((48, 4), bool)
        valid[1:] = ~(window.terminated | window.truncated)[:-1]
        for name in ("observations", "rewards", "final_observations"):
            array = np.array(getattr(window, name))
            array[~valid] = junk
            setattr(window, name, array)
        window.valid = valid
        agents.append(_agent(obs_normalizer=ObsNormalizer((4,)), reward_normalizer=RewardNormalizer()))
        assert agents[-1].learn(window)["samples"] == valid.sum()
    _same(*agents)


def test_the_same_seed_learns_the_same_bits_and_another_does_not():
    agents = [_agent(seed=seed) for seed in (1, 1, 2)]
    for agent in agents:
        for number in range(3):
            agent.learn(random_window(number))
    _same(*agents[:2])
    with pytest.raises(AssertionError):
        _same(agents[0], agents[2])


def test_a_failure_names_window_and_statistics_and_leaves_the_agent_as_it_was():
    agent, twin = (_agent(reward_normalizer=RewardNormalizer()) for _ in range(2))
    for each in (agent, twin):
        each.learn(random_window(0))
        each.set_hyperparams({"learning_rate": 1e30})
    with pytest.raises(LearningFailure, match=r"window 9: .* not finite \(.*rewards -\d.* to \d.*, returns "):
        agent.learn(random_window(9))
    _same(agent, twin)
    assert agent.policy_version == twin.policy_version == 1


CHANGES = {
    "learning_rate": 1e-2,
    "clip_ratio": 0.001,
    "entropy_coef": 1.0,
    "vf_coef": 0.0,
    "gamma": 0.5,
    "gae_lambda": 0.1,
    "n_epochs": 3,
    "minibatch_size": 32,
    "max_grad_norm": 1e-3,
    "target_kl": 1e-6,
    "normalize_advantage": False,
    "clip_value": 1e-3,
}


@pytest.mark.parametrize(("name", "value"), CHANGES.items())
def test_every_hyperparameter_changes_what_is_learnt(name, value):
    plain, other = _agent(), _agent({**QUICK, name: value})
    assert set(CHANGES) == set(card("ppo").defaults())
    for agent in (plain, other):
        for number in range(2):
            agent.learn(random_window(number))
    weights = [
        np.concatenate([a.ravel() for n, a in agent.state().arrays.items() if n[:5] in ("actor", "criti")])
        for agent in (plain, other)
    ]
    assert np.abs(weights[0] - weights[1]).max() > 1e-6


def test_ones_own_optimizer_learns_and_is_saved(tmp_path):
    agents = [
        _agent(optimizer=optax.chain(optax.trace(0.9), optax.add_decayed_weights(1e-3))) for _ in range(2)
    ]
    agents[0].learn(random_window())
    assert any(name.startswith("optimizer.0.trace.actor") for name in agents[0].state().arrays)
    agents[0].save_weights(str(tmp_path / "w"))
    agents[1].load_weights(str(tmp_path / "w"))
    _same(*agents)
    with pytest.raises(CheckpointError, match="the saved optimizer is not the one of this agent"):
        _agent().load_state(agents[0].state())


# State


def test_a_restored_agent_goes_on_to_the_bit():
    first, second = (
        _agent(obs_normalizer=ObsNormalizer((4,)), reward_normalizer=RewardNormalizer(), seed=seed)
        for seed in (0, 1)
    )
    for number in range(2):
        first.learn(random_window(number))
    state = first.state()
    second.load_state(NamedArrays(state.arrays, json.loads(json.dumps(dict(state.metadata)))))
    assert second.policy_version == 2
    for agent in (first, second):
        agent.reseed(np.random.default_rng(3))
        agent.learn(random_window(5))
    _same(first, second)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda arrays: arrays.pop("critic.2.bias"), "lack critic.2.bias"),
        (lambda arrays: arrays.update({"actor.0.weight": np.zeros((9, 4), np.float32)}), r"shape \[9, 4\]"),
        (lambda arrays: arrays.pop("reward_normalizer.mean"), "do not fit this agent"),
        (lambda arrays: arrays.pop("optimizer.mu.actor.layers_0.bias"), "optimizer.mu.actor.layers_0.bias"),
    ],
)
def test_a_foreign_state_is_refused_and_changes_nothing(spoil, message):
    agent = _agent(reward_normalizer=RewardNormalizer())
    agent.learn(random_window(0))
    foreign = agent.state()
    agent.learn(random_window(1))
    before = agent.state()
    arrays = dict(foreign.arrays)
    spoil(arrays)
    with pytest.raises(CheckpointError, match=message):
        agent.load_state(NamedArrays(arrays, foreign.metadata))
    for name, array in agent.state().arrays.items():
        np.testing.assert_array_equal(array, before.arrays[name], err_msg=name)


def test_averaged_weights_are_the_mean_of_what_was_saved(tmp_path):
    agent, saved = _agent(), []
    for number in range(2):
        agent.learn(random_window(number))
        agent.save_weights(str(tmp_path / str(number)))
        saved.append(agent.state().arrays["actor.0.weight"])
    agent.average_weights([str(tmp_path / "0"), str(tmp_path / "1")])
    arrays = agent.state().arrays
    np.testing.assert_allclose(arrays["actor.0.weight"], np.mean(saved, 0), atol=1e-7)
    assert not arrays["optimizer.mu.actor.layers_0.kernel"].any()


# What is refused


def test_networks_of_the_wrong_size_are_refused_with_both_sizes():
    with pytest.raises(Unsuitable, match=r"the actor gives \[2, 5\] for 2 .*, expected \[2, 3\]"):
        _agent(actor=nn.Dense(5))
    with pytest.raises(Unsuitable, match="keeps batch_stats beside its weights"):
        _agent(critic=nn.Sequential([nn.BatchNorm(use_running_average=True), nn.Dense(1)]))


def test_actions_that_there_is_no_head_for_are_refused():
    spaces = SpaceSpec("box", VECTOR.observation, ArraySpec("box", (2,), "float32"))
    with pytest.raises(
        Unsuitable, match="box are box and take 4 outputs, but n_actions is 4; expected discrete"
    ):
        FlaxPPOAgent(4, 4, spaces=spaces)
    with pytest.raises(Unsuitable, match="vector are discrete and take 3 outputs, but n_actions is 2"):
        FlaxPPOAgent(4, 2, spaces=VECTOR)


@pytest.mark.parametrize("package", ["jax", "flax.linen", "optax"])
def test_a_missing_package_is_one_line_with_the_remedy(package, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(factory.importlib, "import_module", absent)
    with pytest.raises(MissingExtra, match=r"is needed .* pip install 'optix-bus\[jax\]'"):
        make_agent(VECTOR, framework="flax")


@pytest.mark.parametrize("sizes", [(0, 3, 16), (4, 0, 16), (4, 3, 0)])
def test_sizes_that_are_none_are_refused(sizes):
    with pytest.raises(ConfigurationError, match="whole numbers above 0"):
        FlaxPPOAgent(sizes[0], sizes[1], None, sizes[2])


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(ConfigurationError, match="device 'tpu:3' cannot be used here"):
        _agent(device="tpu:3")


# Processes


def _fresh(code, **environment):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


LEARN = """
from optix_bus.agents.jax.ppo import FlaxPPOAgent
from tests.agents.windows import random_window
agent = FlaxPPOAgent(4, 3, {"n_epochs": 1, "minibatch_size": 64}, 8)
agent.learn(random_window())
"""


@pytest.mark.slow
def test_compiled_programs_are_kept_only_where_somebody_asks(tmp_path):
    asked, home = tmp_path / "programs", tmp_path / "home"
    home.mkdir()
    _fresh(LEARN, HOME=str(home), XDG_CACHE_HOME=str(home / ".cache"))
    assert list(home.rglob("*")) == []
    _fresh(LEARN, HOME=str(home), OPTIX_BUS_JAX_CACHE=str(asked))
    kept = {path.name for path in asked.iterdir()}
    assert any(name.startswith("jit__update") for name in kept)
    _fresh(LEARN, HOME=str(home), OPTIX_BUS_JAX_CACHE=str(asked))
    assert {path.name for path in asked.iterdir() if path.name.endswith("-cache")} == {
        name for name in kept if name.endswith("-cache")
    }
    assert list(home.rglob("*")) == []


@pytest.mark.skipif(os.name != "posix", reason="modes of files are of POSIX")
def test_compiled_programs_are_taken_only_from_where_nobody_else_can_write(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    before = jax.config.jax_compilation_cache_dir
    with pytest.raises(ConfigurationError, match=r"others can write in .*shared.* chmod go-w"):
        use_compilation_cache(shared)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be kept in .*file"):
        use_compilation_cache(tmp_path / "file" / "programs")
    assert jax.config.jax_compilation_cache_dir == before


def test_preloading_computes_nothing_starts_nothing_and_says_nothing():
    code = (
        "import os; from optix_bus.agents.factory import preload; preload('jax'); "
        "from jax._src.xla_bridge import _backends; print(len(os.listdir('/proc/self/task')), len(_backends))"
    )
    assert _fresh(code, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1") == "1 0\n"


def test_an_agent_on_the_cpu_looks_at_no_other_platform():
    code = (
        "from optix_bus.agents.jax.ppo import FlaxPPOAgent; FlaxPPOAgent(4, 3); import jax; "
        "print(jax.config.jax_platforms, [d.platform for d in jax.devices()])"
    )
    assert _fresh(code) == "cpu ['cpu']\n"
