"""Agents of all shapes act through one interface."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import Acting
from optix_bus.pipelines import BatchPipeline, VectorBatchPipeline
from optix_bus.pipelines.acting import Actor
from tests.pipelines.counting_environment import CountingEnvironment


class OneByOne:
    """Only `act`."""

    def act(self, observation: Any) -> Any:
        return int(observation[0]) % 2


class Batched(OneByOne):
    """Both ways of acting, and they differ."""

    def act_batch(self, observations: Any, deterministic: bool = False) -> Any:
        return Acting(np.full(len(observations), 1 if deterministic else 0))


def test_an_agent_with_only_act_is_asked_row_by_row() -> None:
    acting = Actor(OneByOne()).act(np.array([[0.0], [1.0], [2.0]]), False)
    assert acting.actions.tolist() == [0, 1, 0]
    assert acting.log_probs is None
    assert acting.values is None


def test_an_agent_with_act_batch_is_asked_once() -> None:
    actor = Actor(Batched())
    observations = np.array([[1.0], [1.0]])
    assert actor.act(observations, False).actions.tolist() == [0, 0]
    assert actor.act(observations, True).actions.tolist() == [1, 1]
    assert actor.can_be_deterministic()


def test_a_subclass_that_changes_act_alone_is_heard() -> None:
    class Changed(Batched):
        def act(self, observation: Any) -> Any:
            return 7

    class ChangedBoth(Changed):
        def act_batch(self, observations: Any, deterministic: bool = False) -> Any:
            return Acting(np.full(len(observations), 8))

    observations = np.zeros((2, 1))
    assert Actor(Changed()).act(observations, False).actions.tolist() == [7, 7]
    assert Actor(ChangedBoth()).act(observations, False).actions.tolist() == [8, 8]


def test_act_batch_may_return_plain_actions_and_know_nothing_of_determinism() -> None:
    class Simple:
        def act_batch(self, observations: Any) -> Any:
            return [1] * len(observations)

    actor = Actor(Simple())
    assert actor.act(np.zeros((3, 1)), True).actions.tolist() == [1, 1, 1]
    assert not actor.can_be_deterministic()


def test_an_agent_that_cannot_act_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="object cannot act"):
        BatchPipeline(CountingEnvironment(), object())


def test_actions_of_different_shapes_are_refused() -> None:
    class Ragged:
        def act(self, observation: Any) -> Any:
            return np.zeros(int(observation[0]) + 1)

    with pytest.raises(ConfigurationError, match="different shapes"):
        Actor(Ragged()).act(np.array([[0.0], [1.0]]), False)


def test_an_agent_may_keep_and_change_the_observation_it_was_given() -> None:
    class Vandal:
        def act(self, observation: Any) -> Any:
            observation[:] = -1
            return 0

    data = BatchPipeline(CountingEnvironment((9,)), Vandal(), window_size=4).collect(0)
    assert data.observations[:, 2].tolist() == [0, 1, 2, 3]


def test_a_policy_may_use_its_output_buffers_again() -> None:
    class Frugal:
        def __init__(self) -> None:
            self.actions = np.zeros(2, np.int64)
            self.log_probs = np.zeros(2, np.float32)

        def act_batch(self, observations: Any, *, deterministic: bool = False) -> Acting:
            self.actions[:] = observations[:, 2] % 2
            self.log_probs[:] = observations[:, 2]
            return Acting(self.actions, self.log_probs)

    data = VectorBatchPipeline([lambda: CountingEnvironment((9,))] * 2, Frugal(), window_size=4).collect(0)
    assert data.actions[:, 0].tolist() == [0, 1, 0, 1]
    assert data.log_probs[:, 1].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_discrete_actions_reach_the_environment_as_plain_integers() -> None:
    environment = CountingEnvironment((9,))
    BatchPipeline(environment, Batched(), window_size=2).collect(0)
    assert [type(action) for action in environment.taken] == [int, int]
