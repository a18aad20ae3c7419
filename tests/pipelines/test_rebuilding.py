"""Open episodes are taken up again from their numbers and their actions."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import optix_bus.pipelines.ledger
from optix_bus.errors import ConfigurationError, EnvironmentFailure
from optix_bus.interfaces import Acting
from optix_bus.pipelines import (
    BatchPipeline,
    PipelineSettings,
    SteppingPipeline,
    VectorBatchPipeline,
    make_pipeline,
)
from optix_bus.pipelines.resuming import take_up
from optix_bus.types import EpisodeData
from tests.pipelines.counting_environment import CountingEnvironment, Scripted


class Wavering:
    """Leans with the pole, and now and then not, by its own random stream."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def act_batch(self, observations: Any, *, deterministic: bool = False) -> Acting:
        right = observations[:, 2] + 0.4 * observations[:, 3] > 0
        return Acting((right ^ (self.rng.random(len(right)) < 0.1)).astype(np.int64))

    def reseed(self, rng: np.random.Generator) -> None:
        self.rng = rng


def windows(pipeline: SteppingPipeline, numbers: range) -> list[EpisodeData]:
    return [pipeline.collect(number, np.random.default_rng(number)) for number in numbers]


def assert_same(found: EpisodeData, expected: EpisodeData) -> None:
    for name in ("observations", "actions", "rewards", "terminated", "truncated", "final_observations"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert np.array_equal(found.episode_starts, expected.episode_starts)
    assert found.metadata == expected.metadata
    assert found.episode_id == expected.episode_id


def cartpole(vectorization: str = "sync", environments: int = 4) -> SteppingPipeline:
    settings = PipelineSettings(environments=environments, window_steps=30, vectorization=vectorization)
    return make_pipeline("CartPole-v1", {}, settings, seed=11, agent=Wavering())


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("cut", [0, 1, 5])
def test_a_rebuilt_pipeline_continues_identically(vectorization: str, cut: int) -> None:
    original, rebuilt = cartpole(), cartpole(vectorization)
    windows(original, range(cut))
    progress = original.progress()
    expected = windows(original, range(cut, cut + 4))
    try:
        assert rebuilt.rebuild(progress) == []
        for found, other in zip(windows(rebuilt, range(cut, cut + 4)), expected, strict=True):
            assert_same(found, other)
    finally:
        rebuilt.teardown()


def test_a_pipeline_goes_back_to_its_own_past() -> None:
    pipeline = cartpole()
    windows(pipeline, range(2))
    progress = pipeline.progress()
    first = windows(pipeline, range(2, 5))
    assert pipeline.rebuild(progress) == []
    for found, expected in zip(windows(pipeline, range(2, 5)), first, strict=True):
        assert_same(found, expected)


def test_progress_is_a_picture_and_does_not_move_on() -> None:
    pipeline = cartpole()
    windows(pipeline, range(2))
    progress = pipeline.progress()
    steps, total = list(progress["steps"]), progress["total_steps"]
    observations = progress["observations"].copy()
    windows(pipeline, range(2, 4))
    assert progress["steps"] == steps
    assert progress["total_steps"] == total
    assert np.array_equal(progress["observations"], observations)
    assert [len(actions) for actions in progress["actions"]] == steps


def test_an_episode_longer_than_a_window_is_replayed_from_its_beginning() -> None:
    def build() -> BatchPipeline:
        return BatchPipeline(partial(CountingEnvironment, (25,)), Scripted(), window_size=10, seed=1)

    pipeline = build()
    windows(pipeline, range(2))
    rebuilt = build()
    assert rebuilt.rebuild(pipeline.progress()) == []
    data = rebuilt.collect(2)
    assert data.observations[:6, 2].tolist() == [20, 21, 22, 23, 24, 0]
    assert data.metadata["episode_returns"] == [25 * 26 / 2]
    assert data.metadata["total_steps"] == 30


def test_an_environment_that_forgets_its_seed_is_given_up_and_named() -> None:
    class Fickle(CountingEnvironment):
        counter = 0

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            Fickle.counter += 1
            self.tag = Fickle.counter
            return super().reset(seed=seed, options=options)

    def build() -> VectorBatchPipeline:
        makers = [partial(CountingEnvironment, (50,)), partial(Fickle, (50,))]
        return VectorBatchPipeline(makers, Scripted(), window_size=10, seed=1)

    pipeline = build()
    windows(pipeline, range(2))
    rebuilt = build()
    assert rebuilt.rebuild(pipeline.progress()) == [1]
    data = rebuilt.collect(2)
    assert data.metadata["abandoned_episodes"] == [1]
    assert data.episode_starts[0].tolist() == [False, True]
    assert data.observations[0, 0].tolist() == [0, 0, 20]


def test_an_episode_that_ends_early_in_the_replay_is_given_up() -> None:
    pipeline = BatchPipeline(partial(CountingEnvironment, (50,)), Scripted(), window_size=10, seed=1)
    pipeline.collect(0)
    other = BatchPipeline(partial(CountingEnvironment, (4,)), Scripted(), window_size=10, seed=1)
    assert other.rebuild(pipeline.progress()) == [0]
    assert other.collect(1).episode_starts[0]


def test_what_cannot_be_seeded_one_by_one_begins_anew_and_says_so() -> None:
    pipeline, rebuilt = cartpole("native"), cartpole("native")
    windows(pipeline, range(2))
    progress = pipeline.progress()
    lost = rebuilt.rebuild(progress)
    assert lost == [number for number in progress["episodes"] if number >= 0] != []
    data = rebuilt.collect(2)
    assert data.metadata["abandoned_episodes"] == lost
    assert data.episode_starts[0].all()


def test_an_episode_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optix_bus.pipelines.ledger, "REPLAYABLE_STEPS", 25)
    pipeline = BatchPipeline(partial(CountingEnvironment, (10**9,)), Scripted(), window_size=10, seed=1)
    kept = []
    for number in range(4):
        pipeline.collect(number)
        kept.append(len(pipeline.progress()["actions"][0]))
    assert kept == [10, 20, 0, 0]
    rebuilt = BatchPipeline(partial(CountingEnvironment, (10**9,)), Scripted(), window_size=10, seed=1)
    assert rebuilt.rebuild(pipeline.progress()) == [0]


@pytest.mark.parametrize(("change", "message"), [({"role": "other"}, "role"), ({"seed": 12}, "seed 12")])
def test_progress_of_another_pipeline_is_refused(change: dict[str, Any], message: str) -> None:
    pipeline = cartpole()
    with pytest.raises(ConfigurationError, match=message):
        pipeline.rebuild(pipeline.progress() | change)


def test_progress_of_another_number_of_environments_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="4 environments cannot be rebuilt with 3"):
        cartpole(environments=3).rebuild(cartpole().progress())


def test_a_pipeline_without_a_seed_of_its_own_takes_the_saved_one() -> None:
    pipeline = BatchPipeline(env_id="CartPole-v1", agent=Wavering(), window_size=20)
    windows(pipeline, range(2))
    rebuilt = BatchPipeline(env_id="CartPole-v1", agent=Wavering(), window_size=20)
    assert rebuilt.rebuild(pipeline.progress()) == []
    for found, expected in zip(windows(rebuilt, range(2, 4)), windows(pipeline, range(2, 4)), strict=True):
        assert_same(found, expected)


def test_an_environment_that_raises_during_the_replay_is_named() -> None:
    class Tired(CountingEnvironment):
        def step(self, action: Any) -> Any:
            raise RuntimeError("no more")

    pipeline = BatchPipeline(partial(CountingEnvironment, (50,)), Scripted(), window_size=10, seed=1)
    pipeline.collect(0)
    with pytest.raises(EnvironmentFailure, match=r"a replayed step of train episode 0 .*no more"):
        BatchPipeline(partial(Tired, (50,)), Scripted(), window_size=10, seed=1).rebuild(pipeline.progress())


# What stands between a pipeline and the node that takes it up


def test_a_pipeline_says_whether_it_can_collect_the_same_again() -> None:
    assert cartpole().repeatable
    assert not cartpole("native").repeatable


class Steady(CountingEnvironment):
    """All its episodes are alike."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.episode = -1
        return super().reset(seed=seed)


class Restless(Steady):
    """Begins as its seed says, and then does what it likes."""

    steps = 0

    def step(self, action: Any) -> Any:
        Restless.steps += 1
        observation, reward, *rest = super().step(action)
        return observation, float(reward) + Restless.steps, *rest


class Unique(Steady):
    """There can be only one."""

    made = 0

    def __init__(self, lengths: tuple[int, ...]) -> None:
        Unique.made += 1
        if Unique.made > 1:
            raise RuntimeError("the device is busy")
        super().__init__(lengths)


@pytest.mark.parametrize("kind", [Steady, CountingEnvironment, Restless, Unique])
def test_it_says_no_where_environments_do_not_keep_to_their_seeds_or_nobody_can_tell(
    kind: type[CountingEnvironment],
) -> None:
    pipeline = BatchPipeline(partial(kind, (50,)), Scripted(), window_size=10, seed=1)
    before = pipeline.collect(0)
    progress = pipeline.progress()
    assert pipeline.repeatable is (kind is Steady)
    np.testing.assert_equal(pipeline.progress(), progress)  # the trial leaves no trace
    assert before.length == 10


def test_an_open_episode_that_is_too_long_to_be_played_again_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optix_bus.pipelines.ledger.REPLAYABLE_STEPS", 15)
    pipeline = BatchPipeline(partial(Steady, (25,)), Scripted(), window_size=10, seed=1)
    found = []
    for window in range(3):
        pipeline.collect(window)
        found.append(pipeline.repeatable)
    assert found == [True, False, True]


def test_taking_up_says_which_episode_of_which_environment_was_lost_and_where() -> None:
    pipeline, rebuilt = cartpole("native", 2), cartpole("native", 2)
    pipeline.collect(0, np.random.default_rng(0))
    progress = pipeline.progress()
    assert take_up(rebuilt, progress) == [
        f"episode {number} of environment {row} could not be rebuilt: cut as truncated after {steps} steps"
        for row, (number, steps) in enumerate(zip(progress["episodes"], progress["steps"], strict=True))
    ]
    assert take_up(cartpole(), cartpole().progress()) == []


def test_a_pipeline_built_otherwise_begins_anew_and_counts_on() -> None:
    pipeline, wider = cartpole(environments=2), cartpole(environments=3)
    windows(pipeline, range(3))
    progress = pipeline.progress()
    said = take_up(wider, progress)
    assert "2 environments cannot be rebuilt with 3" in said[0]
    lost = [number for number in progress["episodes"] if number >= 0]
    assert [line.split()[1] for line in said[1:]] == [str(number) for number in lost]
    data = wider.collect(3)
    assert data.metadata["abandoned_episodes"] == lost
    assert data.metadata["total_steps"] == progress["total_steps"] + data.length
    assert data.episode_starts[0].all()
    assert min(number for number in wider.progress()["episodes"] if number >= 0) >= progress["next_episode"]


def test_an_environment_that_raises_in_the_replay_costs_its_episodes_and_not_the_run() -> None:
    class Tired(CountingEnvironment):
        def step(self, action: Any) -> Any:
            if self.at == 2:
                raise RuntimeError("no more")
            return super().step(action)

    pipeline = BatchPipeline(partial(CountingEnvironment, (50,)), Scripted(), window_size=10, seed=1)
    pipeline.collect(0)
    other = BatchPipeline(partial(Tired, (50,)), Scripted(), window_size=1, seed=1)
    said = take_up(other, pipeline.progress())
    assert "no more" in said[0]
    assert said[1:] == ["episode 0 of environment 0 could not be rebuilt: cut as truncated after 10 steps"]
    assert other.collect(1).metadata["abandoned_episodes"] == [0]


def test_a_pipeline_of_the_users_own_is_taken_up_by_its_own_methods_or_named() -> None:
    class Bare:
        pass

    class Own:
        def rebuild(self, progress: dict[str, Any]) -> list[int]:
            return [7]

    class Strict:
        def rebuild(self, progress: dict[str, Any]) -> list[int]:
            raise ConfigurationError("not mine")

    (said,) = take_up(Bare(), None)
    assert said.startswith("Bare has no progress() and rebuild()")
    assert take_up(Own(), {"at": 3}) == ["episode 7 could not be rebuilt: cut as truncated"]
    with pytest.raises(ConfigurationError, match="not mine"):
        take_up(Strict(), {})


def test_a_window_that_is_passed_over_uses_up_its_numbers() -> None:
    pipeline = cartpole()
    pipeline.collect(0)
    before = pipeline.progress()
    pipeline.pass_over(1, 120, 5)
    after = pipeline.progress()
    assert (after["windows"], after["total_steps"]) == (2, before["total_steps"] + 120)
    assert after["next_episode"] >= before["next_episode"] + 5
    data = pipeline.collect(2)
    assert data.metadata["abandoned_episodes"] == [number for number in before["episodes"] if number >= 0]
    assert data.episode_starts[0].all()


def test_other_episodes_follow_when_numbers_are_skipped_and_open_ones_go_on() -> None:
    pipeline, other = cartpole(), cartpole()
    for each in (pipeline, other):
        windows(each, range(1))
    other.skip_episodes(1 << 32)
    first, second = windows(pipeline, range(1, 30)), windows(other, range(1, 30))
    assert np.array_equal(first[0].observations[0], second[0].observations[0])
    assert not np.array_equal(first[-1].observations, second[-1].observations)
    assert max(other.progress()["episodes"]) >= 1 << 32 > max(pipeline.progress()["episodes"])
