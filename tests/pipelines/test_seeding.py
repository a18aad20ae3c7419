"""Episodes are seeded one by one, from their number."""

from __future__ import annotations

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from optix_bus.pipelines import (
    BatchPipeline,
    PipelineSettings,
    SteppingPipeline,
    VectorBatchPipeline,
    make_pipeline,
)
from optix_bus.pipelines.seeding import acting_stream, episode_seed
from tests.pipelines.counting_environment import CountingEnvironment, Scripted


def first_observations(pipeline: SteppingPipeline, windows: int) -> dict[int, list[float]]:
    """First observation of each episode, by its number; numbers follow the order of beginning."""
    begun: list[list[float]] = []
    for number in range(windows):
        data = pipeline.collect(number)
        starts = np.asarray(data.episode_starts).reshape(len(data.observations), -1)
        observations = np.asarray(data.observations).reshape(*starts.shape, -1)
        begun += [observations[step, row].tolist() for step, row in zip(*np.nonzero(starts), strict=True)]
    return dict(enumerate(begun))


def test_an_episode_begins_alike_whatever_the_size_of_the_batch() -> None:
    def begun(environments: int) -> dict[int, list[float]]:
        settings = PipelineSettings(environments=environments, window_steps=128)
        return first_observations(make_pipeline("CartPole-v1", {}, settings, seed=5, agent=Scripted()), 2)

    eight, three = begun(8), begun(3)
    single = first_observations(BatchPipeline(env_id="CartPole-v1", agent=Scripted(), seed=5), 2)
    shared = set(eight) & set(three) & set(single)
    assert len(shared) >= 8
    for number in shared:
        assert eight[number] == three[number] == single[number]


def test_an_episode_can_be_rebuilt_from_its_number() -> None:
    pipeline = BatchPipeline(env_id="CartPole-v1", agent=Scripted(), seed=9, role="train", window_size=128)
    begun = first_observations(pipeline, 1)
    environment = gymnasium.make("CartPole-v1")
    for number, observation in begun.items():
        assert environment.reset(seed=pipeline.episode_seed(number))[0].tolist() == observation


def test_each_environment_is_reset_with_the_seed_of_its_episode() -> None:
    environments = [CountingEnvironment((2,)), CountingEnvironment((3,))]
    pipeline = VectorBatchPipeline([lambda: environments[0], lambda: environments[1]], Scripted(), 5, seed=4)
    pipeline.collect(0)
    expected = [episode_seed(4, "train", number) for number in range(5)]
    assert environments[0].seeds == [expected[0], expected[2], expected[4]]
    assert environments[1].seeds == [expected[1], expected[3]]


def test_a_ready_environment_without_autoreset_is_seeded_one_by_one_too() -> None:
    makers = [partial(CountingEnvironment, (2,)), partial(CountingEnvironment, (3,))]
    envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED)
    data = VectorBatchPipeline(envs=envs, agent=Scripted(), window_size=5, seed=4).collect(0)
    assert data.metadata["episode_seeding"] == "each"
    expected = [episode_seed(4, "train", number) for number in range(5)]
    assert envs.envs[0].seeds == [expected[0], expected[2], expected[4]]
    assert envs.envs[1].seeds == [expected[1], expected[3]]


def test_what_cannot_be_seeded_one_by_one_says_so() -> None:
    envs = SyncVectorEnv([CountingEnvironment] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    data = VectorBatchPipeline(envs=envs, agent=Scripted(), window_size=5, seed=4).collect(0)
    assert data.metadata["episode_seeding"] == "reset"
    assert [env.seeds[0] for env in envs.envs] == [episode_seed(4, "train", 0), episode_seed(4, "train", 1)]
    assert envs.envs[0].seeds[1] is None


def test_roles_and_seeds_have_different_episodes() -> None:
    seeds = {
        episode_seed(seed, role, number)
        for seed in range(5)
        for role in ("train", "validation", "actor-0")
        for number in range(50)
    }
    assert len(seeds) == 5 * 3 * 50
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_episode_seeds_are_the_same_in_every_process_and_version() -> None:
    assert [episode_seed(0, "train", number) for number in range(3)] == GOLDEN


GOLDEN = [1430681047, 414688459, 544229375]


def test_a_seeded_pipeline_collects_the_same_twice_and_seeds_the_acting() -> None:
    class Coin(Scripted):
        def reseed(self, rng: np.random.Generator) -> None:
            super().reseed(rng)

    agents = [Coin(), Coin()]
    windows = []
    for agent in agents:
        stream = BatchPipeline(env_id="CartPole-v1", agent=agent, seed=2, window_size=50).episodes()
        windows.append([next(stream), next(stream)])
    for first, second in zip(*windows, strict=True):
        assert np.array_equal(first.observations, second.observations)
    assert agents[0].seeded_with == agents[1].seeded_with
    assert agents[0].seeded_with == [float(acting_stream(2, "train", number).random()) for number in range(2)]


def test_without_a_seed_the_policy_keeps_its_own_randomness() -> None:
    agent = Scripted()
    pipeline = BatchPipeline(env_id="CartPole-v1", agent=agent, window_size=5)
    next(pipeline.episodes())
    assert agent.seeded_with == []
    pipeline.collect(1, np.random.default_rng(8))
    assert agent.seeded_with == [float(np.random.default_rng(8).random())]


@pytest.mark.parametrize("seed", [None, 0])
def test_the_seed_in_force_is_told(seed: int | None) -> None:
    pipeline = BatchPipeline(env_id="CartPole-v1", seed=seed)
    assert pipeline.seed >= 0
    assert seed is None or pipeline.seed == seed
