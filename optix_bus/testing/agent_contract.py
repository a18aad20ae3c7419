"""What the loop expects of an agent, as tests that a user's own agent can run.

Say how to make one, and pytest does the rest:

    from optix_bus.testing import AgentContract
    from optix_bus.types import ArraySpec, SpaceSpec

    SPACES = SpaceSpec("mine", ArraySpec("box", (4,), "float32"), ArraySpec("discrete", (), "int64", n=2))
    TestMyAgent = AgentContract.of(lambda: MyAgent(), SPACES)

or, where more than that differs, as a subclass:

    class TestMyAgent(AgentContract):
        spaces = SPACES
        environments = 4                  # it also learns from several environments at once

        def make_agent(self):
            return MyAgent()

Six methods are enough to pass; what an agent offers beyond them is held to its promises, and what it does not
offer is skipped by name.
"""

from __future__ import annotations

import copy
import inspect
import json
import tempfile
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from optix_bus.interfaces import ArrayAgent, BaseAgent, Remembering
from optix_bus.types import ArraySpec, EpisodeData, HyperparamSet, NamedArrays, SpaceSpec

Array = np.ndarray[Any, Any]


class AgentContract:
    """Subclass it as ``Test...``, set ``spaces`` and write `make_agent`, or take `of`; pytest does the rest.

    Attributes:
        spaces: what the agent observes and does.
        window_steps: length of the windows that it is given to learn from.
        environments: None for windows of one environment, lists ``[T]`` without anything optional, as a
            user's own pipeline gives them; a number for arrays ``[T, B]`` with final observations and rows
            that are no transitions, as vector pipelines give them.
    """

    spaces: ClassVar[SpaceSpec]
    window_steps: ClassVar[int] = 64
    environments: ClassVar[int | None] = None

    @classmethod
    def of(
        cls, factory: Callable[[], BaseAgent], spaces: SpaceSpec, **attributes: Any
    ) -> type[AgentContract]:
        """The contract for the agents of a factory, to be bound to a name that begins with ``Test``.

        Args:
            factory: makes a fresh agent; two calls give agents with the same weights if it can be seeded.
            spaces: what the agent observes and does.
            attributes: any other attribute of this class.

        Raises:
            TypeError: there is no such attribute.
        """
        for name in attributes:
            if not hasattr(cls, name):
                raise TypeError(f"AgentContract has no attribute {name!r}")
        body = {"make_agent": lambda self: factory(), "spaces": spaces, **attributes}
        return type("TestAgentContract", (cls,), body)

    def make_agent(self) -> BaseAgent:
        """A fresh agent; two calls give agents with the same weights if the agent can be seeded."""
        raise NotImplementedError("write make_agent() in your subclass")

    def observations(self, rows: int, seed: int = 0) -> Any:
        """Observations ``[rows, *obs_shape]`` of the space; override it where random ones make no sense."""
        rng, spec = np.random.default_rng(seed), self.spaces.observation
        if spec.kind == "discrete":
            return rng.integers(0, spec.n, rows)
        if np.dtype(spec.dtype).kind in "ui":
            return rng.integers(0, 256, (rows, *spec.shape)).astype(spec.dtype)
        return rng.standard_normal((rows, *spec.shape)).astype(spec.dtype)

    def window(self, agent: BaseAgent, number: int = 0) -> EpisodeData:
        """A window that this agent acted in an environment of random observations and rewards."""
        steps, width = self.window_steps, self.environments
        rng = np.random.default_rng(number)
        if width is None:
            seen = list(self.observations(steps, seed=number))
            return EpisodeData(
                observations=seen,
                actions=[agent.act(observation) for observation in seen],
                rewards=rng.standard_normal(steps).tolist(),
                terminated=[t % 17 == 16 for t in range(steps)],
                truncated=[t % 23 == 22 for t in range(steps)],
                infos=[{} for _ in range(steps)],
                episode_id=number,
            )
        shape = (steps, width)
        count = steps * width
        flat, after = self.observations(count, seed=number), self.observations(count, seed=number + 1000)
        terminated, valid = rng.random(shape) < 0.05, np.ones(shape, bool)
        truncated = (rng.random(shape) < 0.05) & ~terminated
        valid[1:] = ~(terminated | truncated)[:-1]  # as under next-step autoreset
        return EpisodeData(
            observations=flat.reshape(*shape, *flat.shape[1:]),
            actions=np.array([agent.act(observation) for observation in flat]).reshape(
                *shape, *self.spaces.action.shape
            ),
            rewards=rng.standard_normal(shape),
            terminated=terminated & valid,
            truncated=truncated & valid,
            final_observations=after.reshape(*shape, *after.shape[1:]),
            valid=valid,
            episode_id=number,
        )

    def test_it_acts_within_the_space(self) -> None:
        """Actions of a discrete space are numbers below n. Those of a box have its shape, and in evaluation
        its units and bounds; what is sampled may lie beyond, and pipelines clip what the environment sees."""
        agent: Any = self.make_agent()
        action = self.spaces.action
        for observation in self.observations(20):
            _check_action(np.asarray(agent.act(observation)), action, bounded=False)
            if hasattr(agent, "evaluation_mode"):
                with agent.evaluation_mode():
                    _check_action(np.asarray(agent.act(observation)), action, bounded=True)

    def test_a_forbidden_action_is_never_taken(self) -> None:
        """In a thousand steps, drawn or best, each with a mask of its own, where the agent takes masks."""
        agent: Any = self.make_agent()
        n, parameters = self.spaces.action.n, {}
        if self.spaces.action.kind == "discrete" and hasattr(agent, "act_batch"):
            parameters = dict(inspect.signature(agent.act_batch).parameters)
        if "action_masks" not in parameters:
            pytest.skip("the agent's act_batch takes no action_masks, or its actions are not discrete")
        rng, rows = np.random.default_rng(0), np.arange(4)
        for step, seen in enumerate(self.observations(1000).reshape(250, 4, *self.spaces.observation.shape)):
            masks = rng.random((4, n)) < 0.5
            masks[rows, rng.integers(0, n, 4)] = True
            options = {"deterministic": True} if step % 2 and "deterministic" in parameters else {}
            answer = agent.act_batch(seen, action_masks=masks, **options)
            assert masks[rows, np.asarray(getattr(answer, "actions", answer))].all()

    def test_it_says_whether_it_is_on_policy(self) -> None:
        """The loop never rolls back an agent that says no."""
        assert isinstance(self.make_agent().is_on_policy, bool)

    def test_learning_returns_named_numbers(self) -> None:
        """Diagnostics are finite numbers by name."""
        agent = self.make_agent()
        for number in range(2):
            found = agent.learn(self.window(agent, number))
            assert isinstance(found, dict)
            assert all(isinstance(name, str) for name in found)
            assert all(isinstance(value, Real) and np.isfinite(float(value)) for value in found.values())

    def test_it_can_learn_from_a_window_that_it_did_not_act(self) -> None:
        """Nothing that learning needs is kept in the agent that acted."""
        actor, learner = self.make_agent(), self.make_agent()
        learner.learn(self.window(actor))

    def test_learning_leaves_the_window_as_it_is(self) -> None:
        """Others read the same window: evaluators, callbacks, the record of the run."""
        agent = self.make_agent()
        window = self.window(agent)
        before = copy.deepcopy(window)
        agent.learn(window)
        for name, value in vars(before).items():
            if isinstance(value, list | np.ndarray):
                np.testing.assert_array_equal(np.asarray(getattr(window, name)), np.asarray(value), name)

    def test_hyperparameters_come_back_as_they_were_set(self) -> None:
        """Setting what was read changes nothing, and the set that was read is a copy."""
        agent = self.make_agent()
        before = copy.deepcopy(agent.get_hyperparams().params)
        agent.set_hyperparams(HyperparamSet(dict(before)))
        assert agent.get_hyperparams().params == before
        agent.get_hyperparams().params["invented"] = 1.0
        assert "invented" not in agent.get_hyperparams().params

    def test_tunable_hyperparameters_exist_and_take_their_bounds(self) -> None:
        """Every name in ``default_param_bounds`` can be set to both of its ends, and learnt with."""
        agent = self.make_agent()
        for name, bounds in agent.default_param_bounds.items():
            assert name in agent.get_hyperparams().params
            for value in bounds:
                agent.set_hyperparams(HyperparamSet({**agent.get_hyperparams().params, name: value}))
                assert agent.get_hyperparams().params[name] == pytest.approx(value)
        assert set(agent.default_log_params) <= set(agent.default_param_bounds)
        agent.learn(self.window(agent))

    def test_saved_weights_bring_the_policy_back(self) -> None:
        """After loading, the agent behaves as when it was saved; so does a fresh one."""
        agent, other = self.make_agent(), self.make_agent()
        agent.learn(self.window(agent, 0))
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "weights")
            agent.save_weights(path)
            before = self._behaviour(agent)
            for number in range(1, 4):
                agent.learn(self.window(agent, number))
            for each in (agent, other):
                each.load_weights(path)
                np.testing.assert_allclose(self._behaviour(each), before, rtol=1e-6, atol=1e-6)

    def test_a_state_brings_everything_back(self) -> None:
        """A second agent with the state of the first goes on exactly like it, replay included."""
        first, second = self.make_agent(), self.make_agent()
        if not isinstance(first, ArrayAgent) or not isinstance(second, ArrayAgent):
            pytest.skip("the agent has no state() and load_state()")
        first.learn(self.window(first, 0))
        _move(first, second)
        window = self.window(first, 1)
        for agent in (first, second):
            agent.reseed(np.random.default_rng(5))
            agent.learn(window)
        _same_arrays(first, second)

    def test_its_policy_acts_like_the_agent(self) -> None:
        """`policy` draws the same actions from the same generator, and does not follow later learning."""
        agent = self.make_agent()
        if not isinstance(agent, ArrayAgent) or not hasattr(agent, "act_batch"):
            pytest.skip("the agent has no policy() or no act_batch()")
        observations = self.observations(32)
        policy = agent.policy()
        for deterministic in (False, True):
            answers = []
            for each in (agent, policy):
                _forget(each)
                each.reseed(np.random.default_rng(3))
                answers.append(each.act_batch(observations, deterministic=deterministic).actions)
            np.testing.assert_array_equal(answers[0], answers[1])
            for action in answers[0]:
                _check_action(np.asarray(action), self.spaces.action, bounded=deterministic)
        _forget(policy)
        before = policy.act_batch(observations, deterministic=True).actions
        for number in range(3):
            agent.learn(self.window(agent, number))
        _forget(policy)
        np.testing.assert_array_equal(policy.act_batch(observations, deterministic=True).actions, before)

    def test_what_it_remembers_goes_on_in_another_version(self) -> None:
        """A policy with the memory of another remembers the same; a start empties its own row alone."""
        agent = self.make_agent()
        if not isinstance(agent, ArrayAgent) or not isinstance(agent, Remembering):
            pytest.skip("the agent remembers nothing: no episode_start(), memory() and load_memory()")
        policies: list[Any] = [agent.policy() for _ in range(3)]
        old, new, fresh = policies
        observations, begins = self.observations(6), np.arange(6) == 2
        for policy in (old, fresh):
            policy.episode_start(np.ones(6, bool))
        old.act_batch(observations)
        new.load_memory(old.memory())
        before = old.memory()
        for policy in (old, new):
            policy.episode_start(begins)
            np.testing.assert_array_equal(policy.memory()[~begins], before[~begins])
            np.testing.assert_array_equal(policy.memory()[begins], fresh.memory()[begins])
        assert not np.array_equal(before[begins], fresh.memory()[begins]), "one observation changes it"
        for policy in (old, new):
            policy.act_batch(observations)
        np.testing.assert_array_equal(old.memory(), new.memory())

    def test_acting_in_between_does_not_change_what_is_learnt(self) -> None:
        """Validation with the same agent leaves no trace in learning."""
        quiet, busy = self.make_agent(), self.make_agent()
        if not isinstance(quiet, ArrayAgent) or not isinstance(busy, ArrayAgent):
            pytest.skip("the agent has no reseed() and state()")
        _move(quiet, busy)
        window = self.window(quiet)
        for agent, acts in ((quiet, 0), (busy, 7)):
            agent.reseed(np.random.default_rng(1))
            for observation in self.observations(acts, seed=9):
                agent.act(observation)
            agent.learn(window)
        _same_arrays(quiet, busy)

    def test_evaluation_is_deterministic(self) -> None:
        """Within ``evaluation_mode`` the same observation gets the same action, whatever was drawn before."""
        agent: Any = self.make_agent()
        if not hasattr(agent, "evaluation_mode"):
            pytest.skip("the agent has no evaluation_mode()")
        answers = []
        for draws in (0, 5):
            for observation in self.observations(draws, seed=8):
                agent.act(observation)
            _forget(agent)
            with agent.evaluation_mode():
                answers.append([np.asarray(agent.act(o)) for o in self.observations(16, seed=4)])
        np.testing.assert_array_equal(answers[0], answers[1])

    def test_the_mean_of_one_policy_is_that_policy(self) -> None:
        """``average_weights``, where there is one, of a single set of weights is `load_weights`."""
        agent, other = self.make_agent(), self.make_agent()
        agent.learn(self.window(agent))
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "weights")
            agent.save_weights(path)
            try:
                other.average_weights([path, path])
            except NotImplementedError:
                pytest.skip("the agent has no average_weights()")
        np.testing.assert_allclose(self._behaviour(other), self._behaviour(agent), rtol=1e-5, atol=1e-6)

    def test_perturbing_changes_the_policy_and_by_nothing_leaves_it(self) -> None:
        """``perturb_weights``, where there is one, multiplies by ``1 + noise_scale * N(0, 1)``."""
        agent = self.make_agent()
        before = self._behaviour(agent)
        try:
            agent.perturb_weights(0.0)
        except NotImplementedError:
            pytest.skip("the agent has no perturb_weights()")
        np.testing.assert_allclose(self._behaviour(agent), before, rtol=1e-6, atol=1e-6)
        if isinstance(agent, ArrayAgent):
            arrays = {name: array.copy() for name, array in agent.state().arrays.items()}
            agent.perturb_weights(0.5)
            after = agent.state().arrays
            assert any(not np.array_equal(arrays[name], after[name]) for name in arrays)

    def test_it_can_be_torn_down(self) -> None:
        """Once, at the end, whatever happened before."""
        agent = self.make_agent()
        agent.learn(self.window(agent))
        agent.teardown()

    def _behaviour(self, agent: Any) -> Array:
        """Something that shows the policy: probabilities, deterministic actions, or an average of many."""
        observations, act = self.observations(16, seed=4), agent.act
        _forget(agent)
        if hasattr(agent, "action_probs"):
            return np.array([agent.action_probs(observation) for observation in observations])
        if hasattr(agent, "evaluation_mode"):
            with agent.evaluation_mode():
                return np.array([act(observation) for observation in observations])
        if isinstance(agent, ArrayAgent):
            agent.reseed(np.random.default_rng(2))
            return np.array([act(observation) for observation in observations])
        pytest.skip(
            "the agent offers no way to compare its behaviour (action_probs, evaluation_mode, reseed)"
        )


def _check_action(chosen: Array, action: ArraySpec, bounded: bool) -> None:
    assert chosen.shape == action.shape
    if action.kind == "discrete":
        assert 0 <= int(chosen) < action.n
        assert chosen.dtype.kind in "iu"
    elif action.kind == "box":
        assert chosen.dtype.kind == "f"
        assert np.isfinite(chosen).all()
    if action.kind == "box" and action.low and bounded:
        assert (chosen.reshape(-1) >= np.asarray(action.low, chosen.dtype)).all()
        assert (chosen.reshape(-1) <= np.asarray(action.high, chosen.dtype)).all()


def _move(first: Any, second: Any) -> None:
    """Everything of the first agent into the second, as a cut of a run moves it: as JSON and arrays."""
    pairs = [("state", "load_state")]
    if hasattr(first, "replay_state"):
        pairs.append(("replay_state", "load_replay_state"))
    second.set_hyperparams(first.get_hyperparams())
    for take, give in pairs:
        state = getattr(first, take)()
        assert all(isinstance(array, np.ndarray) for array in state.arrays.values())
        metadata = json.loads(json.dumps(dict(state.metadata)))
        getattr(second, give)(NamedArrays(state.arrays, metadata))
    second.set_hyperparams(first.get_hyperparams())


def _forget(agent: Any) -> None:
    """A policy with a memory begins anew."""
    if isinstance(agent, Remembering):
        agent.load_memory(None)


def _same_arrays(first: ArrayAgent, second: ArrayAgent) -> None:
    one, two = first.state().arrays, second.state().arrays
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
