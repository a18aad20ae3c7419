"""PPO in TensorFlow as an agent: what `test_torch_ppo` asks of PyTorch, where the framework could differ."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from optix_bus.agents import factory, load_policy, make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.agents.tensorflow.gaussian_ppo import TFGaussianPPOAgent
from optix_bus.agents.tensorflow.ppo import TFPPOAgent
from optix_bus.errors import CheckpointError, ConfigurationError, MissingExtra, Unsuitable
from optix_bus.interfaces import ArrayAgent, Policy
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import ArraySpec, EpisodeData, HyperparamSet, NamedArrays, SpaceSpec
from tests.agents.windows import NUMBERS, VECTOR, random_window

QUICK = {"n_epochs": 2, "minibatch_size": 64}
BOX = SpaceSpec(
    "box",
    ArraySpec("box", (4,), "float32"),
    ArraySpec("box", (2,), "float32", low=(-1.0, 0.0), high=(3.0, 1.0)),
)
L = keras.layers


def _networks(seed=0, actions=3):
    keras.utils.set_random_seed(seed)
    actor, critic = (
        keras.Sequential([keras.Input(shape=(4,)), L.Dense(16, "tanh"), L.Dense(size)])
        for size in (actions, 1)
    )
    return actor, critic


def _agent(hyperparams=QUICK, actor=None, critic=None, optimizer=None, **options):
    own_actor, own_critic = _networks()
    optimizer = optimizer or keras.optimizers.Adam(1e-3)
    return TFPPOAgent(actor or own_actor, critic or own_critic, optimizer, hyperparams, seed=0, **options)


def _same(first, second, **tolerance):
    one, two = first.state().arrays, second.state().arrays
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(
            one[name], two[name], err_msg=name, **(tolerance or {"rtol": 0, "atol": 0})
        )


def test_the_published_constructor_gives_what_the_loop_asks_for():
    actor, critic = _networks()
    agent = TFPPOAgent(
        actor=actor, critic=critic, optimizer=keras.optimizers.Adam(7e-4),
        hyperparams=HyperparamSet(params={"clip_ratio": 0.1}, episode_id=0),
        reward_normalizer=RewardNormalizer(),
    )  # fmt: skip
    params = agent.get_hyperparams().params
    assert (params["clip_ratio"], params["gamma"]) == (0.1, 0.99)
    assert params["learning_rate"] == pytest.approx(7e-4)
    assert isinstance(agent, ArrayAgent)
    assert isinstance(agent, Policy)
    assert isinstance(agent.policy(), Policy)
    assert agent.is_on_policy
    assert agent.default_param_bounds["clip_ratio"] == (0.1, 0.3)
    assert type(agent.act(np.zeros(4, np.float32))) is int


@pytest.mark.parametrize("name", ["tf", "tensorflow"])
def test_the_factory_knows_both_names_of_the_framework(name):
    one, two = (make_agent(VECTOR, name, seed=3) for _ in range(2))
    assert isinstance(one, TFPPOAgent)
    _same(one, two)
    with pytest.raises(Unsuitable, match="recurrent_ppo does not exist for tensorflow; it does for torch"):
        make_agent(VECTOR, name, "recurrent_ppo")


def test_a_missing_tensorflow_is_one_line_with_the_remedy(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    monkeypatch.setattr(factory.importlib, "import_module", absent)
    with pytest.raises(MissingExtra, match=r"pip install 'optix-bus\[tensorflow\]'"):
        make_agent(VECTOR, "tf")


def test_acting_follows_every_change_of_the_weights():
    agent, x = _agent(), np.ones(4, np.float32)
    changes = [
        lambda: agent._actor.layers[1].bias.assign([1.0, 0.0, 0.0]),
        lambda: agent._actor.layers[0].kernel.value.assign_add(np.full((4, 16), 0.3, np.float32)),
        lambda: agent._actor.set_weights(_networks(seed=5)[0].get_weights()),
        lambda: agent.perturb_weights(0.3),
        lambda: agent.learn(random_window()),
    ]
    for change in changes:
        before = agent.action_probs(x)
        change()
        expected = tf.nn.softmax(agent._actor(x[None]))[0].numpy()
        np.testing.assert_allclose(agent.action_probs(x), expected, atol=1e-6)
        assert not np.allclose(before, expected, atol=1e-6)


def test_the_policy_from_the_state_in_another_process_acts_like_the_agent():
    agent, x = _agent(obs_normalizer=ObsNormalizer((4,))), np.random.default_rng(0).standard_normal((8, 4))
    agent.learn(random_window())
    state = agent.state()
    needed = {k: v for k, v in state.arrays.items() if k.startswith(("actor.", "obs_normalizer."))}
    policy = load_policy(NamedArrays(needed, json.loads(json.dumps(dict(state.metadata)))))
    for each in (agent, policy):
        each.reseed(np.random.default_rng(4))
    for _ in range(3):
        one, two = agent.act_batch(x), policy.act_batch(x)
        assert one.actions.tobytes() == two.actions.tobytes()
        assert one.log_probs.tobytes() == two.log_probs.tobytes()


def test_the_weights_of_a_torch_agent_act_alike_here():
    theirs, ours = make_agent(VECTOR, "torch", seed=1), make_agent(VECTOR, "tf", seed=2)
    arrays = {
        **ours.state().arrays,
        **{k: v for k, v in theirs.state().arrays.items() if "." in k and k[0] in "ac"},
    }
    ours.load_state(NamedArrays(arrays, ours.state().metadata))
    x = np.random.default_rng(0).standard_normal(4).astype(np.float32)
    np.testing.assert_allclose(ours.action_probs(x), theirs.action_probs(x), atol=1e-6)
    assert not any(
        name.startswith(("actor", "critic")) for name in arrays.keys() - theirs.state().arrays.keys()
    )


def _residual(outputs):
    x = keras.Input(shape=(4,))
    return keras.Model(x, L.Dense(outputs)(L.Dropout(0.2)(x + L.Dense(4, "tanh")(x))))


def test_networks_that_numpy_cannot_run_act_in_tensorflow():
    agent = _agent(actor=_residual(3), critic=_residual(1))
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    policy, expected = agent.policy(), tf.nn.softmax(agent._actor(x, training=False)).numpy()
    np.testing.assert_allclose(policy.action_probs(x), expected, atol=1e-6)
    agent.learn(random_window())
    np.testing.assert_allclose(policy.action_probs(x[:5]), expected[:5], atol=1e-6)
    assert not np.allclose(agent.action_probs(x[0]), expected[0], atol=1e-6)
    assert not is_portable(agent.state())
    twin = _agent(actor=_residual(3), critic=_residual(1))
    twin.load_state(agent.state())
    _same(agent, twin)


def test_the_update_is_traced_once_whatever_the_numbers_and_the_windows():
    agent = _agent(obs_normalizer=ObsNormalizer((4,)))
    for number, changes in enumerate(
        (
            {},
            {"learning_rate": 1e-4},
            {"clip_ratio": 0.1, "entropy_coef": 0.0},
            {"n_epochs": 3, "minibatch_size": 16},
        )
    ):
        agent.set_hyperparams(changes)
        report = agent.learn(random_window(number, steps=20 + number, width=2 + number))
        assert report["updates"] > 0
    agent.load_state(agent.state())
    agent.perturb_weights(0.1)
    agent.learn(random_window(9, width=None))
    assert agent.traces == 1
    agent.set_hyperparams({"target_kl": 0.5})
    agent.learn(random_window(10))
    assert agent.traces == 2


def test_the_first_ratio_is_exactly_one_for_the_agents_own_version():
    agent = _agent()
    for number in range(2):
        window = random_window(number, metadata={"policy_version": number}, log_probs=np.full((48, 4), -3.0))
        report = agent.learn(window)
        assert (report["initial_ratio_error"], report["initial_kl"]) == (0.0, 0.0)
    window = random_window(0, metadata={"policy_version": 0}, log_probs=np.full((48, 4), -3.0))
    assert agent.learn(window)["initial_ratio_error"] > 0.5


def test_tensorflows_own_seed_covers_an_agent_without_one():
    draws = []
    for _ in range(2):
        actor, critic = _networks()
        agent = TFPPOAgent(actor, critic, keras.optimizers.Adam())
        draws.append(agent.act_batch(np.zeros((50, 4), np.float32)).actions.tolist())
    assert draws[0] == draws[1]


def test_a_restored_agent_goes_on_to_the_bit(tmp_path):
    first, second = (
        _agent(obs_normalizer=ObsNormalizer((4,)), reward_normalizer=RewardNormalizer()) for _ in range(2)
    )
    first.learn(random_window(0))
    first.save_weights(str(tmp_path / "weights"))
    second.load_weights(str(tmp_path / "weights"))
    assert second.policy_version == 1
    for agent in (first, second):
        agent.reseed(np.random.default_rng(7))
        agent.learn(random_window(1))
    _same(first, second)


def test_averaged_weights_are_the_mean_and_the_moments_start_anew(tmp_path):
    agent = _agent()
    paths = [str(tmp_path / name) for name in "ab"]
    kernels = []
    for number, path in enumerate(paths):
        agent.learn(random_window(number))
        agent.save_weights(path)
        kernels.append(agent._actor.layers[0].kernel.numpy())
    agent.average_weights(paths)
    np.testing.assert_allclose(agent._actor.layers[0].kernel.numpy(), np.mean(kernels, 0), rtol=1e-6)
    assert not any(
        array.any() for name, array in agent.state().arrays.items() if name.startswith("optimizer.")
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.arrays.pop("actor.0.weight"), "lack actor.0.weight"),
        (
            lambda s: s.arrays.update({"actor.0.weight": np.zeros((2, 2))}),
            r"shape \[2, 2\], this network \[16, 4\]",
        ),
        (lambda s: s.metadata.update(optimizer={"kind": "SGD", "variables": 1}), "this one a Adam of 17"),
        (lambda s: s.arrays.pop("reward_normalizer.var"), "do not fit|lack"),
    ],
)
def test_a_foreign_state_is_refused_and_changes_nothing(change, message):
    agent, twin = (_agent(reward_normalizer=RewardNormalizer()) for _ in range(2))
    given = _agent(reward_normalizer=RewardNormalizer(), actor=_networks(4)[0]).state()
    foreign = NamedArrays(dict(given.arrays), dict(given.metadata))
    change(foreign)
    with pytest.raises(CheckpointError, match=message):
        agent.load_state(foreign)
    _same(agent, twin)


def test_networks_and_optimizers_that_do_not_fit_are_refused():
    with pytest.raises(
        Unsuitable, match=r"the actor gives \[2, 5\] for 2 observations of vector, expected \[2, 3\]"
    ):
        _agent(actor=_networks(actions=5)[0], spaces=VECTOR)
    with pytest.raises(Unsuitable, match=r"the critic does not take inputs for vector, shape \[4\]"):
        _agent(critic=keras.Sequential([keras.Input(shape=(7,)), L.Dense(1)]), spaces=VECTOR)
    with pytest.raises(
        ConfigurationError, match=r"the actor has no weights yet: begin it with keras.layers.Input"
    ):
        _agent(actor=keras.Sequential([L.Dense(3)]))
    assert _agent(actor=keras.Sequential([L.Dense(3)]), spaces=VECTOR).act(np.zeros(4)) in (0, 1, 2)
    with pytest.raises(ConfigurationError, match="the actor is a function, expected a Keras model"):
        _agent(actor=_networks)
    used = keras.optimizers.Adam()
    _agent(optimizer=used)
    with pytest.raises(ConfigurationError, match="was built for 8 other variables"):
        _agent(optimizer=used)
    decaying = keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(1e-3, 10, 0.9))
    with pytest.raises(ConfigurationError, match="expected an optimizer of Keras with a number"):
        _agent(optimizer=decaying)
    with pytest.raises(ConfigurationError, match="device 'cuda:7' cannot be used here"):
        make_agent(VECTOR, "tf", device="cuda:7")


def test_every_hyperparameter_reaches_the_update():
    changes = {
        "learning_rate": 1e-2, "clip_ratio": 0.001, "entropy_coef": 1.0, "vf_coef": 0.0, "gamma": 0.5,
        "gae_lambda": 0.1, "n_epochs": 3, "minibatch_size": 32, "max_grad_norm": 1e-3, "target_kl": 1e-6,
        "normalize_advantage": False, "clip_value": 1e-3,
    }  # fmt: skip
    agent = _agent()
    assert agent.get_hyperparams().params.keys() == changes.keys()
    start, default = agent.state(), agent.get_hyperparams()

    def learnt(params):
        agent.load_state(start)
        agent.set_hyperparams(default)
        agent.set_hyperparams(params)
        agent.reseed(np.random.default_rng(0))
        for number in range(2):
            agent.learn(random_window(number))
        return np.concatenate([w.ravel() for w in agent._actor.get_weights() + agent._critic.get_weights()])

    plain = learnt({})
    np.testing.assert_array_equal(plain, learnt({}))
    for name, value in changes.items():
        assert np.abs(plain - learnt({name: value})).max() > 1e-6, name


def test_a_subclass_may_read_the_networks_and_extend_learning():
    class Trading(TFPPOAgent):
        def learn(self, episode_data):
            diag = super().learn(episode_data)
            obs = tf.cast(episode_data.observations[:8], tf.float32)
            diag["p_first"] = float(
                tf.reduce_mean(tf.nn.softmax(self._actor(obs, training=False)), 0).numpy()[0]
            )
            return diag

    agent = Trading(*_networks(), keras.optimizers.Adam(), QUICK)
    rows = np.random.default_rng(0).standard_normal((30, 4))
    window = EpisodeData(
        rows, [agent.act(r) for r in rows], [1.0] * 30, [False] * 29 + [True], [False] * 30, [{}] * 30, 0
    )
    report = agent.learn(window)
    assert 0 < report["p_first"] < 1
    assert report["samples"] == 30


def test_discrete_observations_are_learnt_from():
    agent = make_agent(NUMBERS, "tf", seed=0, hyperparams=QUICK)
    assert agent.learn(random_window(spaces=NUMBERS))["samples"] > 0
    assert agent.act(4) in (0, 1)
    with pytest.raises(Unsuitable, match=r"outside 0\.\.4"):
        agent.act(5)


# Continuous actions


def test_continuous_actions_are_learnt_in_the_units_of_the_environment():
    agent = make_agent(BOX, "tf", "ppo", seed=0, hyperparams=QUICK)
    assert isinstance(agent, TFGaussianPPOAgent)
    assert is_portable(agent.state())
    x = np.random.default_rng(0).standard_normal((400, 4)).astype(np.float32)
    acted = agent.act_batch(x)
    np.testing.assert_allclose(acted.actions.mean(0), [1.0, 0.5], atol=0.2)
    np.testing.assert_allclose(acted.actions.std(0), [1.0, 0.25], rtol=0.2)
    window = random_window(steps=20, width=4, actions=acted.actions[:80].reshape(20, 4, 2))
    report = agent.learn(window)
    assert report["initial_ratio_error"] == 0.0
    assert agent.traces == 1
    with pytest.raises(Unsuitable, match="found actions of 3 numbers in the window, expected 2"):
        agent.learn(random_window(steps=20, actions=np.zeros((20, 4, 3))))


def test_a_log_std_may_depend_on_the_observation_and_has_to_be_there():
    agent = TFGaussianPPOAgent(
        _networks(actions=4)[0], _networks()[1], keras.optimizers.Adam(), 2, QUICK, seed=0
    )
    assert agent.act(np.zeros(4)).shape == (2,)
    assert agent.learn(random_window(actions=np.zeros((48, 4, 2))))["updates"] == 6
    with pytest.raises(Unsuitable, match=r"gives 3 numbers, expected 4: \[mean \| log_std\] of 2 actions"):
        TFGaussianPPOAgent(*_networks(), keras.optimizers.Adam(), 2)
    with pytest.raises(Unsuitable, match="action_dim is 3, but actions of box"):
        TFGaussianPPOAgent(_networks(actions=6)[0], _networks()[1], keras.optimizers.Adam(), 3, spaces=BOX)


def test_forbidden_actions_are_never_chosen_and_learnt_with_their_masks():
    agent = _agent()
    masks = np.ones((48, 4, 3), bool)
    masks[..., 2] = False
    x = np.random.default_rng(0).standard_normal((192, 4)).astype(np.float32)
    acted = agent.act_batch(x, action_masks=masks.reshape(192, 3))
    assert set(acted.actions.tolist()) == {0, 1}
    assert agent.act(x[0], action_mask=[False, False, True]) == 2
    window = random_window(
        observations=x.reshape(48, 4, 4), actions=acted.actions.reshape(48, 4), action_masks=masks,
        log_probs=acted.log_probs.reshape(48, 4), metadata={"policy_version": -1},
    )  # fmt: skip
    report = agent.learn(window)
    assert report["initial_ratio_error"] < 1e-5
    assert report["entropy"] <= np.log(2) + 1e-6


def test_several_choices_at_once_are_learnt():
    pairs = SpaceSpec(
        "pairs", ArraySpec("box", (4,), "float32"), ArraySpec("multi_discrete", (2,), "int64", nvec=(3, 2))
    )
    agent = _agent(actor=_networks(actions=5)[0], spaces=pairs)
    acted = agent.act_batch(np.zeros((192, 4), np.float32)).actions
    assert acted.max(0).tolist() == [2, 1]
    assert agent.learn(random_window(actions=acted.reshape(48, 4, 2)))["updates"] == 6
