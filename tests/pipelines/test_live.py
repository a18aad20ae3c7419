"""Windows from a stream that does not wait: what follows what, what is lost, and what comes after a loss."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from optix_bus import LivePipeline, RLOptimizer, make_agent
from optix_bus.errors import ConfigurationError, EnvironmentFailure
from optix_bus.interfaces import BasePipeline
from optix_bus.testing.pipeline_contract import PipelineContract
from tests.pipelines.test_rebuilding import Wavering

END = object()


class Told:
    """Acts with the number that it saw, plus a half."""

    def act(self, observation: np.ndarray) -> float:
        return float(observation[0]) + 0.5


class Script:
    """One list of items for each time that the stream is opened; what is callable is called on the way."""

    def __init__(self, *streams: list[Any]) -> None:
        self.streams = list(streams)
        self.opened = 0
        self.actions: list[float] = []
        self.closed = False

    def stream(self) -> Iterator[Any]:
        items = self.streams[min(self.opened, len(self.streams) - 1)]
        self.opened += 1
        for item in items:
            if callable(item):
                item()
            else:
                yield item

    def act(self, action: float) -> None:
        self.actions.append(float(action))

    def close(self) -> None:
        self.closed = True


class World:
    """A Gymnasium environment as a stream: it goes on when it is told an action."""

    def __init__(self) -> None:
        self.env = gym.make("CartPole-v1")
        self.actions: queue.Queue[Any] = queue.Queue()
        self.readers: list[threading.Thread] = []

    def stream(self) -> Iterator[Any]:
        self.readers.append(threading.current_thread())
        observation, info = self.env.reset(seed=3)
        yield observation, 0.0, False, False, info
        while (action := self.actions.get()) is not END:
            observation, reward, terminated, truncated, info = self.env.step(int(action))
            yield observation, reward, terminated, truncated, info
            if terminated or truncated:
                observation, info = self.env.reset()
                yield observation, 0.0, False, False, info

    def act(self, action: Any) -> None:
        self.actions.put(action)

    def close(self) -> None:
        self.actions.put(END)


class TestLivePipeline(PipelineContract):
    def make_pipeline(self) -> BasePipeline:
        return LivePipeline(World(), Wavering(), LivePipeline.every_n_steps(60))


def item(number: float, reward: float = 0.0, terminated: bool = False, truncated: bool = False, **info: Any):
    return np.array([number], np.float32), reward, terminated, truncated, info


def steps(first: int, last: int) -> list[Any]:
    """Items whose reward says which step they followed from."""
    return [item(number, reward=number - 1) for number in range(first, last + 1)]


def over(source: Any, boundary: Any = None, **options: Any) -> LivePipeline:
    made = LivePipeline(source, Told(), boundary, reconnect_on_disconnect=False, **options)
    made.setup()
    return made


def test_a_reward_belongs_to_the_action_on_the_item_before() -> None:
    source = Script(steps(1, 6))
    pipeline = over(source, LivePipeline.every_n_steps(3))
    first = next(pipeline.episodes())
    assert first.observations[:, 0].tolist() == [1, 2, 3]
    assert first.rewards.tolist() == [1, 2, 3]
    assert first.final_observations[:, 0].tolist() == [2, 3, 4]
    assert first.actions.tolist() == source.actions == [1.5, 2.5, 3.5]
    assert first.episode_starts.tolist() == [True, False, False]
    assert not first.dones.any()
    # The last window is what there was when the stream ended; what would have followed is missing.
    second = next(pipeline.episodes())
    assert second.rewards.tolist() == [4, 5]
    assert second.truncated.tolist() == [False, True]
    assert (second.metadata["total_steps"], second.metadata["window"]) == (5, 1)
    with pytest.raises(EnvironmentFailure, match="the stream of Script is over: it ended"):
        next(pipeline.episodes())
    pipeline.teardown()
    assert source.closed


def test_windows_of_one_episode_and_of_seconds() -> None:
    ends = [item(1), item(2, 5.0), item(3, 7.0, terminated=True)]
    again = [item(11, 99.0), item(12, 1.0), item(13, 2.0, truncated=True)]
    pipeline = over(Script([*ends, *again]), LivePipeline.on_done_signal())
    first, second = next(pipeline.episodes()), next(pipeline.episodes())
    assert (first.metadata["episode_returns"], first.metadata["episode_lengths"]) == ([12.0], [2])
    assert (first.terminated[-1], first.truncated[-1]) == (True, False)
    # The reward that came with the first item of an episode followed from nothing that was done in it.
    assert (second.metadata["episode_returns"], second.truncated[-1]) == ([3.0], True)
    assert second.episode_starts.tolist() == [True, False]

    read, halt = threading.Event(), threading.Event()
    slow = over(Script([*steps(1, 4), read.set, halt.wait]), LivePipeline.every_n_seconds(0.3))
    assert read.wait(10)
    # It is over although nothing comes any more.
    assert next(slow.episodes()).rewards.tolist() == [1, 2, 3]
    halt.set()
    for pipe in (pipeline, slow):
        pipe.teardown()


def test_the_oldest_items_go_when_nobody_takes_them_and_the_step_across_the_gap_is_none() -> None:
    read, halt = threading.Event(), threading.Event()
    taken = threading.Semaphore(0)
    source = Script([*steps(1, 3), taken.acquire, *steps(4, 13), read.set, halt.wait])
    pipeline = over(source, lambda count, seconds, done: count >= 2, buffer_size=4)
    first = next(pipeline.episodes())
    assert first.rewards.tolist() == [1, 2]
    taken.release()
    assert read.wait(10)
    second = next(pipeline.episodes())
    # Item 3 was seen before, 4 to 9 were lost: what was done on 3 has no outcome, and 10 begins anew.
    assert second.observations[:, 0].tolist() == [10, 11]
    assert second.rewards.tolist() == [10, 11]
    assert second.episode_starts.tolist() == [True, False]
    assert (second.metadata["dropped_items"], second.metadata["gaps"]) == (6, 1)
    halt.set()
    pipeline.teardown()


def test_a_gap_inside_a_window_ends_the_recording_before_it() -> None:
    def broken() -> None:
        raise ConnectionError("gone")

    source = Script([*steps(1, 3), broken], [*steps(21, 23), broken])
    pipeline = LivePipeline(source, Told(), LivePipeline.every_n_steps(4))
    window = next(pipeline.episodes())
    assert window.rewards.tolist() == [1, 2, 21, 22]
    assert window.truncated.tolist() == [False, True, False, False]
    assert window.episode_starts.tolist() == [True, False, True, False]
    assert window.metadata["episode_returns"] == []  # neither ended
    assert (window.metadata["gaps"], window.metadata["connections"]) == (1, 2)
    pipeline.teardown()


def test_a_silent_stream_is_opened_again() -> None:
    halt = threading.Event()
    source = Script([*steps(1, 2), halt.wait, *steps(3, 9)], steps(11, 13))
    pipeline = LivePipeline(source, Told(), LivePipeline.every_n_steps(3), silence_seconds=1.0)
    window = next(pipeline.episodes())
    halt.set()  # whoever reads the first stream is heard no more
    assert window.rewards.tolist() == [1, 11, 12]
    assert source.opened >= 2
    pipeline.teardown()


def test_a_stream_that_gives_nothing_is_given_up() -> None:
    def broken() -> None:
        raise ConnectionError("no route")

    pipeline = LivePipeline(Script([broken]), Told(), reconnect_attempts=2)
    with pytest.raises(EnvironmentFailure, match=r"over: ConnectionError: no route, and 2 more gave no item"):
        next(pipeline.episodes())
    pipeline.teardown()
    with pytest.raises(EnvironmentFailure, match="is over"):
        pipeline.collect()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((np.zeros(1), 1.0), r"Script gave .*, expected \(observation, reward"),
        ((np.zeros(1), "much", False, False, {}), "Script gave"),
        (item(float("nan")), "the observation .*expected finite"),
        (item(1.0, reward=float("inf")), "the reward inf"),
    ],
)
def test_what_is_no_item_is_refused(given: Any, message: str) -> None:
    pipeline = over(Script([item(1), item(2), given]))
    with pytest.raises(EnvironmentFailure, match=message):
        list(pipeline.episodes())
    pipeline.teardown()


def test_a_source_that_takes_no_action_says_so() -> None:
    source = Script(steps(1, 3))
    source.act = lambda action: 1 / 0  # type: ignore[method-assign,assignment]
    pipeline = over(source)
    with pytest.raises(EnvironmentFailure, match=r"Script\.act raised ZeroDivisionError"):
        pipeline.collect()
    pipeline.teardown()


def test_masks_come_with_the_observations() -> None:
    first = [item(1, action_mask=[1, 0]), item(2), item(3, action_mask=[0, 1])]
    pipeline = over(Script(first))
    window = next(pipeline.episodes())
    pipeline.teardown()
    assert window.action_masks.tolist() == [[True, False], [True, True]]
    assert window.final_action_masks.tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_source": object()}, r"expected one with stream\(\)"),
        ({"data_source": Script([]), "buffer_size": 0}, "buffer_size=0"),
        ({"data_source": Script([]), "silence_seconds": 0.0}, r"silence_seconds=0\.0"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        LivePipeline(**arguments)
    with pytest.raises(ConfigurationError, match="expected more than 0"):
        LivePipeline.every_n_steps(0)


def test_it_needs_an_agent() -> None:
    pipeline = LivePipeline(Script(steps(1, 3)), episode_boundary_fn=LivePipeline.every_n_steps(3))
    with pytest.raises(ConfigurationError, match="has no agent"):
        next(pipeline.episodes())
    pipeline.set_agent(Told())
    assert pipeline.is_live
    assert pipeline.collect(7).rewards.tolist() == [1, 2, 1]  # the stream is opened again
    pipeline.teardown()


def test_an_agent_learns_from_a_stream_until_it_is_stopped(tmp_path: Any) -> None:
    agent = make_agent(gym.make("CartPole-v1"), hyperparams={"n_epochs": 1}, seed=0)
    world = World()
    pipeline = LivePipeline(world, agent, LivePipeline.every_n_steps(128))
    loop = RLOptimizer(agent=agent, pipeline=pipeline, checkpoint_dir=tmp_path, max_episodes=4, verbose=False)
    assert loop.scheduler is not None
    loop.run()
    assert loop.best_snapshot is not None
    assert [reader.is_alive() for reader in world.readers] == [False]
