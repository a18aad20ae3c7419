"""Evaluations: exactly the numbered episodes, whole, whoever plays them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from optix_bus.errors import ConfigurationError, EnvironmentFailure
from optix_bus.interfaces import Acting
from optix_bus.pipelines import BatchPipeline, PipelineSettings, VectorBatchPipeline, make_pipeline
from optix_bus.pipelines.seeding import episode_seed
from tests.pipelines.counting_environment import CountingEnvironment, Scripted


class Drawn(gymnasium.Env[Any, Any]):
    """An episode whose length is drawn from its seed: ``1 + seed % 37`` steps; the reward is the length."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        assert seed is not None, "episodes of an evaluation are seeded one by one"
        self.length, self.at = length_of(seed), 0
        return np.array([self.length, 0], np.float32), {}

    def step(self, action: Any) -> Any:
        self.at += 1
        over = self.at == self.length
        return np.array([self.length, self.at], np.float32), 1.0, over, False, {"at": self.at}


def length_of(seed: int) -> int:
    return 1 + seed % 37


class Reader(Scripted):
    def act_batch(self, observations: Any, *, deterministic: bool = False) -> Acting:
        self.asked.append(deterministic)
        return Acting(np.asarray(observations[:, 1] % 2, np.int64))


class Leaning(Scripted):
    """Pushes CartPole to where it leans: falls after some 25 to 60 steps."""

    def act_batch(self, observations: Any, *, deterministic: bool = False) -> Acting:
        return Acting((observations[:, 2] > 0).astype(np.int64))


def expected_lengths(numbers: range, seed: int = 3) -> list[int]:
    return [length_of(episode_seed(seed, "validation", number)) for number in numbers]


@pytest.mark.parametrize("environments", [1, 3, 8, 40])
def test_exactly_the_numbered_episodes_are_scored_however_long_they_are(environments: int) -> None:
    pipeline = VectorBatchPipeline([Drawn] * environments, Reader(), seed=3, role="validation")
    data = pipeline.evaluate(20, 5)
    lengths = expected_lengths(range(5, 25))
    assert data.metadata["episode_numbers"] == list(range(5, 25))
    assert data.metadata["episode_lengths"] == lengths
    assert data.metadata["episode_returns"] == lengths
    assert data.length == sum(lengths) == len(data.observations)
    assert data.metadata["deterministic"] is True


def test_rows_are_concatenated_episode_after_episode() -> None:
    data = VectorBatchPipeline([Drawn] * 4, Reader(), seed=3, role="validation").evaluate(10, 0)
    lengths = expected_lengths(range(10))
    assert data.observations[:, 0].tolist() == [n for n in lengths for _ in range(n)]
    assert data.observations[:, 1].tolist() == [at for n in lengths for at in range(n)]
    assert data.final_observations[:, 1].tolist() == [at + 1 for n in lengths for at in range(n)]
    ends = np.cumsum(lengths) - 1
    assert data.terminated.nonzero()[0].tolist() == ends.tolist()
    assert not data.truncated.any()
    assert data.episode_starts.nonzero()[0].tolist() == [0, *(ends[:-1] + 1).tolist()]
    assert [info["at"] for info in data.infos] == data.final_observations[:, 1].tolist()
    assert np.asarray(data.actions).tolist() == (data.observations[:, 1] % 2).tolist()


@pytest.mark.parametrize("mode", ["list", *AutoresetMode.__members__])
def test_a_ready_vector_environment_plays_the_same_episodes_in_every_mode(mode: str) -> None:
    def pipeline(environments: int) -> VectorBatchPipeline:
        makers = [partial(CountingEnvironment, (4, 2), tag) for tag in range(environments)]
        if mode == "list":
            return VectorBatchPipeline(makers, Scripted(), seed=1)
        envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode[mode])
        return VectorBatchPipeline(envs=envs, agent=Scripted(), seed=1)

    data = pipeline(3).evaluate(3, 0)
    assert data.metadata["episode_lengths"] == [4, 4, 4]
    assert data.final_observations[3::4].tolist() == [[0, 0, 4], [1, 0, 4], [2, 0, 4]]
    assert data.rewards.tolist() == [1, 2, 3, 4] * 3


def test_evaluating_cartpole_does_not_depend_on_who_plays_which_episode() -> None:
    returns = []
    for environments in (1, 4, 7):
        settings = PipelineSettings(environments=environments)
        pipeline = make_pipeline("CartPole-v1", {}, settings, role="validation", seed=2, agent=Leaning())
        returns.append(pipeline.evaluate(12, 30).metadata["episode_returns"])
    assert returns[0] == returns[1] == returns[2]
    assert len(set(returns[0])) > 3, "a policy that scores the same everywhere would prove nothing"


def test_processes_play_the_same_episodes_as_one_process() -> None:
    results = []
    for vectorization in ("sync", "async"):
        settings = PipelineSettings(environments=3, vectorization=vectorization)
        pipeline = make_pipeline("CartPole-v1", {}, settings, role="validation", seed=2, agent=Leaning())
        data = pipeline.evaluate(7, 1)
        results.append((data.metadata["episode_returns"], data.observations.tolist()))
        pipeline.teardown()
    assert results[0] == results[1]


def test_native_cartpole_plays_complete_episodes() -> None:
    settings = PipelineSettings(environments=4, vectorization="native")
    pipeline = make_pipeline("CartPole-v1", {}, settings, role="validation", seed=2, agent=Leaning())
    data = pipeline.evaluate(10, 0)
    assert len(data.metadata["episode_returns"]) == 10
    assert data.metadata["episode_returns"] == data.metadata["episode_lengths"]
    assert int(data.dones.sum()) == 10
    assert data.metadata["episode_seeding"] == "first"
    assert pipeline.evaluate(10, 0).metadata["episode_returns"] == data.metadata["episode_returns"]


def test_an_endless_episode_is_cut_and_named() -> None:
    pipeline = VectorBatchPipeline(
        [partial(CountingEnvironment, (3,)), partial(CountingEnvironment, (10**9,))], Scripted(), seed=1
    )
    data = pipeline.evaluate(2, 10, max_steps=50)
    assert data.metadata["episode_lengths"] == [3, 50]
    assert data.metadata["cut_episodes"] == [11]
    assert data.truncated[-1]
    assert not data.terminated[-1]


def test_the_limit_may_be_set_for_the_pipeline() -> None:
    pipeline = BatchPipeline(CountingEnvironment((10**9,)), Scripted(), max_evaluation_steps=9)
    assert pipeline.evaluate(1, 0).metadata["episode_lengths"] == [9]


def test_the_environments_own_limit_is_the_default() -> None:
    class Upright(Leaning):
        def act_batch(self, observations: Any, *, deterministic: bool = False) -> Acting:
            return Acting((observations[:, 2] + 0.5 * observations[:, 3] > 0).astype(np.int64))

    pipeline = BatchPipeline(env_id="CartPole-v1", agent=Upright(), seed=0)
    metadata = pipeline.evaluate(2, 0).metadata
    assert metadata["episode_lengths"] == [500, 500]
    assert metadata["cut_episodes"] == [], "the environment truncated them itself"


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_an_endless_episode_does_not_hold_up_the_others_in_any_mode(mode: str) -> None:
    makers = [partial(CountingEnvironment, (2,)), partial(CountingEnvironment, (10**9,))]
    envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode[mode])
    data = VectorBatchPipeline(envs=envs, agent=Scripted()).evaluate(5, 0, max_steps=6)
    assert data.metadata["episode_lengths"] == [2, 6, 2, 6, 2]
    assert data.metadata["cut_episodes"] == [1, 3]


def test_training_windows_are_not_disturbed_by_an_evaluation() -> None:
    settings = PipelineSettings(environments=2, window_steps=20)
    undisturbed = make_pipeline("CartPole-v1", {}, settings, seed=2, agent=Leaning())
    disturbed = make_pipeline("CartPole-v1", {}, settings, seed=2, agent=Leaning())
    for number in range(4):
        expected, found = undisturbed.collect(number), disturbed.collect(number)
        assert np.array_equal(expected.observations, found.observations)
        assert expected.metadata == found.metadata
        disturbed.evaluate(3, 0)


def test_an_only_environment_gives_up_its_open_episode_and_says_so() -> None:
    pipeline = BatchPipeline(CountingEnvironment((9,)), Scripted(), window_size=4)
    pipeline.collect(0)
    pipeline.evaluate(1, 0)
    data = pipeline.collect(1)
    assert data.episode_starts[0]
    assert data.metadata["abandoned_episodes"] == [0]
    assert data.metadata["episode_returns"] == []


def test_a_drawn_action_is_asked_for_only_on_request() -> None:
    agent = Reader()
    pipeline = VectorBatchPipeline([Drawn] * 2, agent, seed=3)
    assert pipeline.evaluate(2, 0, deterministic=False).metadata["deterministic"] is False
    assert not any(agent.asked)
    pipeline.evaluate(2, 0)
    assert agent.asked[-1]


def test_an_agent_with_six_methods_is_called_stochastic_unless_it_has_an_evaluation_mode() -> None:
    class Plain:
        greedy = False

        def act(self, observation: Any) -> int:
            return int(self.greedy)

    class Considerate(Plain):
        @contextlib.contextmanager
        def evaluation_mode(self) -> Iterator[None]:
            self.greedy = True
            yield
            self.greedy = False

    plain, considerate = (
        BatchPipeline(CountingEnvironment((3,)), agent).evaluate(1, 0) for agent in (Plain(), Considerate())
    )
    assert plain.metadata["deterministic"] is False
    assert considerate.metadata["deterministic"] is True
    assert np.asarray(plain.actions).tolist() == [0, 0, 0]
    assert np.asarray(considerate.actions).tolist() == [1, 1, 1]


def test_an_agent_that_acts_row_by_row_plays_one_episode_at_a_time() -> None:
    class Remembering:
        def __init__(self) -> None:
            self.seen: list[list[float]] = []

        def act(self, observation: Any) -> int:
            self.seen.append(observation.tolist())
            return 0

    agent = Remembering()
    data = VectorBatchPipeline([Drawn] * 3, agent, seed=3, role="validation").evaluate(4, 0)
    assert agent.seen == data.observations.tolist()


def test_a_failing_environment_is_named_by_episode_and_step() -> None:
    class Breaking(Drawn):
        def step(self, action: Any) -> Any:
            if self.at == 2:
                raise RuntimeError("out of paper")
            return super().step(action)

    pipeline = VectorBatchPipeline([Breaking] * 3, Reader(), seed=3, role="validation")
    with pytest.raises(EnvironmentFailure, match=r"step 3 of validation episode 1\d .*out of paper"):
        pipeline.evaluate(6, 10)


@pytest.mark.parametrize("arguments", [{"episodes": 0}, {"episodes": 2, "max_steps": 0}])
def test_an_evaluation_of_nothing_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="expected at least 1"):
        VectorBatchPipeline([Drawn], Reader()).evaluate(**arguments)


def test_clipped_actions_of_an_evaluation_are_counted_for_scored_rows_only() -> None:
    class Boxed(CountingEnvironment):
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    class Bold(Scripted):
        def act_batch(self, observations: Any, *, deterministic: bool = False) -> Acting:
            return Acting(np.full((len(observations), 1), 2.0, np.float32))

    envs = SyncVectorEnv([Boxed] * 4, autoreset_mode=AutoresetMode.NEXT_STEP)
    data = VectorBatchPipeline(envs=envs, agent=Bold()).evaluate(2, 0)
    assert data.metadata["clipped_actions"] == data.length == 6
    assert (np.asarray(data.actions) == 2.0).all()
