"""The pipeline node takes up open episodes, frozen agents and what is on record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nodes.pipeline import PipelineNode
from optix_bus import BasePipeline, BatchPipeline
from optix_bus.bus import blob_format
from optix_bus.messages import CollectWindow, EvaluationRequested, Event, PolicyUpdated, WindowCollected
from optix_bus.portable import capture
from optix_bus.runtime.fold import Fold
from optix_bus.types import EpisodeData, HyperparamSet
from tests.nodes.stage import Store, stored
from tests.nodes.worlds import Corridor, Drawing, Scripted, Whole, Winding


class Booth:
    """A pipeline node and its store."""

    def __init__(self, node: PipelineNode, store: Store | None = None) -> None:
        self.store = store or Store()
        self.node = node
        node.setup()
        self.fold = Fold("pipeline", node, seed=3, store=self.store)
        self.sequence = 0

    def tell(self, event: Event) -> list[Any]:
        self.sequence += 1
        return list(self.fold.apply(event, self.sequence, 10**18))

    def learnt(self, version: int, agent: Any) -> None:
        ref = self.store.write(f"learner/policy-{version:06d}", capture(agent))
        told: dict[str, Any] = {"window": version - 1, "hyperparams_version": 0, "origin": "learned"}
        self.tell(PolicyUpdated(version=version, policy=ref, **told))

    def state(self) -> Any:
        return blob_format.parse(stored(self.node.state()), "pipeline")


def collect(window: int, version: int = 0, *, evaluate: bool = True) -> CollectWindow:
    return CollectWindow(window=window, policy_version=version, hyperparams_version=0, evaluate=evaluate)


class Endless(BasePipeline):
    """Windows from a generator, and nothing else."""

    def setup(self) -> None:
        """Nothing to open."""

    def teardown(self) -> None:
        """Nothing to close."""

    def set_agent(self, agent: Any, policy_version: int | None = None) -> None:
        """It acts by itself."""

    def episodes(self) -> Iterator[EpisodeData]:
        while True:
            ends = np.arange(6) == 5
            yield EpisodeData(np.zeros((6, 2)), np.zeros(6), np.ones(6), ends, np.zeros(6, bool))


def test_a_pipeline_that_only_has_a_generator_is_named_once_it_has_collected() -> None:
    booth = Booth(PipelineNode(Endless(), agent=Scripted([1])))
    assert not booth.node.repeats
    fresh = Booth(PipelineNode(Endless(), agent=Scripted([1])))
    assert not fresh.node.load_state(booth.state())
    booth.tell(collect(0))
    said = fresh.node.load_state(booth.state())
    assert said == [
        "Endless has no progress() and rebuild(): its open episodes are cut as truncated, and it begins anew"
    ]
    (answer,) = fresh.tell(collect(1))
    assert answer.total_steps == 12


def test_what_could_not_be_rebuilt_is_named_and_the_next_window_lists_it() -> None:
    class Forgetful(Winding):
        """Never begins twice in the same way."""

        made = 0

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            Forgetful.made += 1
            return super().reset(seed=None if seed is None else seed + Forgetful.made)

    def node() -> PipelineNode:
        return PipelineNode(BatchPipeline(Forgetful, window_size=4, seed=1), agent=Scripted([3]))

    booth, other = Booth(node()), Booth(node())
    booth.tell(collect(0))
    assert other.node.load_state(booth.state()) == [
        "episode 0 of environment 0 could not be rebuilt: cut as truncated after 4 steps"
    ]
    (answer,) = other.tell(collect(1))
    data = other.store.read(answer.data)
    assert data.metadata["facts"]["abandoned_episodes"] == [0]


@pytest.mark.parametrize("make", [Whole, Drawing])
def test_a_candidate_is_confirmed_after_a_restart_with_the_policy_that_was_scored(make: Any) -> None:
    """By then the agent, which pipelines and learner share, has learnt on."""

    def node(agent: Any) -> PipelineNode:
        pipeline = BatchPipeline(Corridor, seed=1, role="validation")
        return PipelineNode(pipeline, "validation", agent=agent, episodes=2)

    agent = make([20])
    booth = Booth(node(agent))
    booth.learnt(0, agent)
    booth.tell(collect(0))
    agent.level = 70
    agent.set_hyperparams(HyperparamSet({"learning_rate": 0.7}))
    booth.learnt(1, agent)
    newer = make([90])
    newer.set_hyperparams(HyperparamSet({"learning_rate": 0.9}))
    other = Booth(node(newer), booth.store)
    assert not other.node.load_state(booth.state())
    request = EvaluationRequested(window=0, policy_version=0)
    first, second = booth.tell(request), other.tell(request)
    assert first == second
    assert set(other.store.read(second[0].data).arrays["rewards"]) == {20.0}
    assert newer.level == 90
    assert newer.params == {"learning_rate": 0.9}
    assert other.node._frozen_params == {0: {"learning_rate": 0.1}}


def test_a_pipeline_that_cannot_repeat_counts_what_is_on_record_and_writes_nothing() -> None:
    def node() -> PipelineNode:
        return PipelineNode(BatchPipeline(Winding, window_size=9, seed=2), agent=Scripted([3]))

    booth = Booth(node())
    before = booth.state()
    story = [collect(number) for number in range(3)]
    answers = [booth.tell(event) for event in story]
    blobs = dict(booth.store.blobs)
    again = Booth(node(), booth.store)
    again.node.load_state(before)
    for number, (event, recorded) in enumerate(zip(story, answers, strict=True)):
        again.fold.repeat(event, number + 1, 10**18, recorded)
    assert booth.store.blobs == blobs
    used = max(booth.node._pipeline.progress()["episodes"])
    (first,), (second,) = booth.tell(collect(3)), again.tell(collect(3))
    assert isinstance(second, WindowCollected)
    assert (first.window, first.total_steps) == (second.window, second.total_steps)
    assert min(again.node._pipeline.progress()["episodes"]) > used


def test_validation_that_cannot_repeat_plays_the_episodes_that_would_have_come_next() -> None:
    def node() -> PipelineNode:
        pipeline = BatchPipeline(Corridor, seed=1, role="validation")
        return PipelineNode(pipeline, "validation", agent=Scripted([5]), episodes=4)

    booth, again = Booth(node()), Booth(node())
    for each in (booth, again):
        each.learnt(0, Scripted([5]))
    recorded = booth.tell(collect(0))
    again.fold.repeat(collect(0), 1, 10**18, recorded)
    request = EvaluationRequested(window=0, policy_version=0)
    assert booth.tell(request) == again.tell(request)


def test_another_future_plays_other_episodes_of_both_roles(tmp_path: Path) -> None:
    for role in ("train", "validation"):
        first, second = (
            Booth(
                PipelineNode(
                    BatchPipeline(Winding, window_size=40, seed=1, role=role),
                    role,  # type: ignore[arg-type]
                    agent=Drawing([5]),
                    episodes=3,
                )
            )
            for _ in range(2)
        )
        second.node.branch(1)
        for each in (first, second):
            each.learnt(0, Drawing([5]))
        (one,), (other,) = first.tell(collect(0)), second.tell(collect(0))
        assert one.data.checksum != other.data.checksum
        numbers = second.store.read(other.data).metadata["facts"]["episode_numbers"]
        assert min(numbers) >= 1 << 32
