"""What the loop expects of an agent, as tests that a user's own agent can run.

    class TestMyAgent(AgentContract):
        spaces = SpaceSpec("mine", ArraySpec("box", (4,), "float32"), ArraySpec("discrete", (), "int64", n=2))

        def make_agent(self):
            return MyAgent()

Six methods are enough to pass; what an agent offers beyond them is held to its promises.
"""

from __future__ import annotations

import copy
import json
import tempfile
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from optix_bus.interfaces import ArrayAgent, BaseAgent
from optix_bus.types import EpisodeData, HyperparamSet, SpaceSpec

Array = np.ndarray[Any, Any]


class AgentContract:
    """Subclass it as ``Test...``, set ``spaces`` and write `make_agent`; pytest does the rest.

    Attributes:
        spaces: what the agent observes and does.
        window_steps: length of the windows that it is given to learn from.
    """

    spaces: ClassVar[SpaceSpec]
    window_steps: ClassVar[int] = 64

    def make_agent(self) -> BaseAgent:
        """A fresh agent; two calls give agents with the same weights if the agent can be seeded."""
        raise NotImplementedError("write make_agent() in your subclass")

    def observations(self, rows: int, seed: int = 0) -> Array:
        """Observations ``[rows, *obs_shape]`` of the space; override it where random ones make no sense."""
        rng, spec = np.random.default_rng(seed), self.spaces.observation
        if spec.kind == "discrete":
            return rng.integers(0, spec.n, rows)
        return rng.standard_normal((rows, *spec.shape)).astype(spec.dtype)

    def window(self, agent: BaseAgent, number: int = 0) -> EpisodeData:
        """A window as a user's own pipeline gives it: lists of one environment, nothing optional."""
        steps = self.window_steps
        rng = np.random.default_rng(number)
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

    def test_it_acts_within_the_space(self) -> None:
        """Actions of a discrete space are numbers below n, those of a box have its shape."""
        agent, action = self.make_agent(), self.spaces.action
        for observation in self.observations(20):
            chosen = np.asarray(agent.act(observation))
            assert chosen.shape == action.shape
            assert action.kind != "discrete" or 0 <= int(chosen) < action.n

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

    def test_hyperparameters_come_back_as_they_were_set(self) -> None:
        """Setting what was read changes nothing, and the set that was read is a copy."""
        agent = self.make_agent()
        before = copy.deepcopy(agent.get_hyperparams().params)
        agent.set_hyperparams(HyperparamSet(dict(before)))
        assert agent.get_hyperparams().params == before
        agent.get_hyperparams().params["invented"] = 1.0
        assert "invented" not in agent.get_hyperparams().params

    def test_tunable_hyperparameters_exist_and_take_their_bounds(self) -> None:
        """Every name in ``default_param_bounds`` can be set to both of its ends."""
        agent = self.make_agent()
        for name, bounds in agent.default_param_bounds.items():
            assert name in agent.get_hyperparams().params
            for value in bounds:
                agent.set_hyperparams(HyperparamSet({**agent.get_hyperparams().params, name: value}))
                assert agent.get_hyperparams().params[name] == pytest.approx(value)
        assert set(agent.default_log_params) <= set(agent.default_param_bounds)

    def test_saved_weights_bring_the_policy_back(self) -> None:
        """After loading, the agent behaves as when it was saved."""
        agent = self.make_agent()
        agent.learn(self.window(agent, 0))
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "weights")
            agent.save_weights(path)
            before = self._behaviour(agent)
            for number in range(1, 4):
                agent.learn(self.window(agent, number))
            agent.load_weights(path)
            np.testing.assert_allclose(self._behaviour(agent), before, rtol=1e-6, atol=1e-6)

    def test_a_state_brings_everything_back(self) -> None:
        """A second agent with the state of the first goes on exactly like it."""
        first, second = self.make_agent(), self.make_agent()
        if not isinstance(first, ArrayAgent) or not isinstance(second, ArrayAgent):
            pytest.skip("the agent has no state() and load_state()")
        first.learn(self.window(first, 0))
        state = first.state()
        json.dumps(dict(state.metadata))
        second.load_state(state)
        second.set_hyperparams(first.get_hyperparams())
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
                each.reseed(np.random.default_rng(3))
                answers.append(each.act_batch(observations, deterministic=deterministic).actions)
            np.testing.assert_array_equal(answers[0], answers[1])
        before = policy.act_batch(observations, deterministic=True).actions
        for number in range(3):
            agent.learn(self.window(agent, number))
        np.testing.assert_array_equal(policy.act_batch(observations, deterministic=True).actions, before)

    def test_acting_in_between_does_not_change_what_is_learnt(self) -> None:
        """Validation with the same agent leaves no trace in learning."""
        quiet, busy = self.make_agent(), self.make_agent()
        if not isinstance(quiet, ArrayAgent) or not isinstance(busy, ArrayAgent):
            pytest.skip("the agent has no reseed() and state()")
        busy.load_state(quiet.state())
        window = self.window(quiet)
        for agent, acts in ((quiet, 0), (busy, 7)):
            agent.reseed(np.random.default_rng(1))
            for observation in self.observations(acts, seed=9):
                agent.act(observation)
            agent.learn(window)
        _same_arrays(quiet, busy)

    def _behaviour(self, agent: Any) -> Array:
        """Something that shows the policy: probabilities, deterministic actions, or an average of many."""
        observations, act = self.observations(16, seed=4), agent.act
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


def _same_arrays(first: ArrayAgent, second: ArrayAgent) -> None:
    one, two = first.state().arrays, second.state().arrays
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
