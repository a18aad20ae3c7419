"""The learner takes up its agent, what is on record, and what a topology says anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nodes.learner import LearnerNode
from optix_bus.agents import make_agent
from optix_bus.bus import blob_format
from optix_bus.messages import (
    Event,
    HyperparametersChanged,
    HyperparametersProposed,
    PolicyUpdated,
    RolledBack,
    RunStarted,
    StopRequested,
    WindowCollected,
)
from optix_bus.runtime.fold import Fold
from optix_bus.types import ArraySpec, EpisodeData, NamedArrays, SpaceSpec
from tests.nodes.stage import Store, stored
from tests.nodes.worlds import Drawing, Scripted

CARTPOLE = SpaceSpec(
    "CartPole-v1", ArraySpec("box", (4,), "float32"), ArraySpec("discrete", (), "int64", n=2)
)


class Bench:
    """A learner, its store, and windows for it."""

    def __init__(self, agent: Any, store: Store | None = None) -> None:
        self.store = store or Store()
        self.node = LearnerNode(agent)
        self.fold = Fold("learner", self.node, seed=3, store=self.store)
        self.sequence = 0

    def tell(self, event: Event) -> list[Event]:
        self.sequence += 1
        return list(self.fold.apply(event, self.sequence, 10**18))

    def repeat(self, event: Event, recorded: Sequence[Event]) -> None:
        self.sequence += 1
        self.fold.repeat(event, self.sequence, 10**18, recorded)

    def start(self) -> list[Event]:
        return self.tell(RunStarted(run_id="bench", seed=3))

    def window(self, number: int, hyperparams_version: int = 0) -> WindowCollected:
        rng = np.random.default_rng(number)
        ends = np.arange(16) % 5 == 4
        data = EpisodeData(
            observations=rng.standard_normal((16, 4)).astype(np.float32),
            actions=rng.integers(0, 2, 16),
            rewards=rng.standard_normal(16).astype(np.float32),
            terminated=ends,
            truncated=np.zeros(16, bool),
            final_observations=rng.standard_normal((16, 4)).astype(np.float32),
        )
        ref = Fold("pipeline", self.node, seed=0, store=self.store).write_blob("window", number, data)
        return WindowCollected(
            role="train",
            purpose="train",
            window=number,
            policy_version=number,
            hyperparams_version=hyperparams_version,
            evaluate=True,
            data=ref,
            steps=16,
            total_steps=16 * (number + 1),
            episodes=3,
        )


def taken_over(bench: Bench, agent: Any) -> tuple[Bench, list[str]]:
    """A new learner with the state of another, after a journey through bytes."""
    other = Bench(agent, bench.store)
    said = other.node.load_state(blob_format.parse(stored(bench.node.state()), "learner"))
    return other, list(said)


def propose(rate: float, window: int = 0) -> HyperparametersProposed:
    return HyperparametersProposed(window=window, params={"learning_rate": rate}, changed=True)


def test_hyperparameters_in_force_come_back_also_those_that_the_agent_changed_itself() -> None:
    class Cooling(Drawing):
        def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
            self.params["learning_rate"] *= 0.5
            return super().learn(episode_data)

    bench = Bench(Cooling([1, 2, 3]))
    bench.start()
    bench.tell(propose(0.4))
    bench.tell(bench.window(0, 1))
    other, said = taken_over(bench, Cooling([1, 2, 3]))
    assert said == []
    assert other.node._agent.get_hyperparams().params == {"learning_rate": 0.2}
    assert stored(other.node.state()) == stored(bench.node.state())


def test_a_ppo_learner_goes_on_with_the_rate_the_tuner_had_set() -> None:
    def agent() -> Any:
        return make_agent(
            CARTPOLE,
            hidden_sizes=(4,),
            device="cpu",
            seed=1,
            hyperparams={"n_epochs": 1, "minibatch_size": 8},
        )

    bench = Bench(agent())
    bench.start()
    bench.tell(bench.window(0))
    bench.tell(propose(0.01))
    other, _ = taken_over(bench, agent())
    assert [group["lr"] for group in other.node._agent._optimizer.param_groups] == [0.01]
    assert other.tell(bench.window(1, 1)) == bench.tell(bench.window(1, 1))


def test_what_the_topology_of_a_fork_changed_holds_after_the_window_in_hand() -> None:
    bench = Bench(Drawing([1, 2, 3]))
    bench.start()
    bench.tell(propose(0.4))

    def changed() -> Drawing:
        agent = Drawing([1, 2, 3])
        agent.params = {"learning_rate": 0.9, "n_steps": 5}
        return agent

    other, said = taken_over(bench, changed())
    assert said == [
        "learning_rate is 0.9 after the next window, as the topology says now",
        "n_steps is 5 after the next window, as the topology says now",
    ]
    assert other.node._agent.params == {"learning_rate": 0.4}
    again, said = taken_over(other, changed())
    assert said == []
    news, learnt = again.tell(bench.window(0, 1))
    assert news == HyperparametersChanged(
        version=2, window=-1, params={"learning_rate": 0.9, "n_steps": 5}, changed=True
    )
    assert isinstance(learnt, PolicyUpdated)
    assert learnt.hyperparams_version == 1
    assert [type(event) for event in again.tell(bench.window(1, 2))] == [PolicyUpdated]
    assert again.node._agent.params["learning_rate"] == 0.9


def test_a_learner_of_six_methods_takes_over_what_is_on_record_and_writes_nothing() -> None:
    class Restless(Scripted):
        """What it learns cannot be repeated."""

        calls = 0

        def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
            diagnostics = super().learn(episode_data)
            Restless.calls += 1
            self.level = 100 + Restless.calls
            return diagnostics

    bench = Bench(Restless([7]))
    bench.start()
    state = blob_format.parse(stored(bench.node.state()), "learner")
    policy = NamedArrays({"opaque": np.frombuffer(b"55", np.uint8)}, {"form": "file"})
    best = bench.store.write("checkpoint/best-000001", policy)
    story: list[Event] = [
        bench.window(0),
        propose(0.3),
        bench.window(1, 1),
        RolledBack(window=1, final=False, policy=best),
        StopRequested(),
    ]
    answers = [bench.tell(event) for event in story]
    blobs = dict(bench.store.blobs)
    again = Bench(Restless([7]), bench.store)
    assert not again.node.repeats
    again.node.load_state(state)
    for event, recorded in zip(story, answers, strict=True):
        again.repeat(event, recorded)
    assert bench.store.blobs == blobs
    assert Restless.calls == 2
    assert stored(again.node.state()) == stored(bench.node.state())
    assert again.node._agent.level == 55


class Hoarding(Drawing):
    """Keeps every window that it learnt from."""

    def __init__(self, script: list[int]) -> None:
        super().__init__(script)
        self.kept = np.zeros(0)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        self.kept = np.concatenate([self.kept, np.ravel(episode_data.rewards)])
        return super().learn(episode_data)

    def replay_state(self) -> NamedArrays:
        return NamedArrays({"kept": self.kept.copy()}, {"windows": len(self.kept) // 16})

    def load_replay_state(self, state: NamedArrays) -> None:
        self.kept = np.array(state.arrays["kept"])


def test_what_an_agent_has_experienced_is_in_its_nodes_state_and_in_no_policy() -> None:
    bench = Bench(Hoarding([1, 2, 3]))
    bench.start()
    updates = [event for number in range(2) for event in bench.tell(bench.window(number))]
    for update in updates:
        assert isinstance(update, PolicyUpdated)
        assert not any("kept" in name for name in bench.store.read(update.policy).arrays)
    other, said = taken_over(bench, Hoarding([1, 2, 3]))
    assert said == []
    assert len(other.node._agent.kept) == 32
    assert stored(other.node.state()) == stored(bench.node.state())
    for each in (other, bench):
        each.tell(bench.window(2))
    assert len(other.node._agent.kept) == 48
    assert stored(other.node.state()) == stored(bench.node.state())


def test_a_dqn_learner_goes_on_to_the_bit_with_the_replay_of_its_cut() -> None:
    def agent() -> Any:
        quick = {"learning_starts": 0, "batch_size": 8, "per_alpha": 0.5, "n_step": 3}
        return make_agent(
            CARTPOLE, algorithm="dqn", hidden_sizes=(4,), device="cpu", seed=1, hyperparams=quick
        )

    bench = Bench(agent())
    bench.start()
    bench.tell(bench.window(0))
    bench.tell(bench.window(1))
    other, _ = taken_over(bench, agent())
    (one,), (two,) = other.tell(bench.window(2)), bench.tell(bench.window(2))
    assert isinstance(one, PolicyUpdated)
    assert one == two
    assert one.diagnostics["updates"] > 0
    assert not any("replay" in name for name in bench.store.read(one.policy).arrays)
    assert stored(other.node.state()) == stored(bench.node.state())


def test_going_back_to_an_older_policy_keeps_what_was_experienced() -> None:
    bench = Bench(Hoarding([1, 2, 3]))
    (_, _, first) = bench.start()
    bench.tell(bench.window(0))
    assert isinstance(first, PolicyUpdated)
    bench.tell(RolledBack(window=0, final=False, policy=first.policy))
    assert len(bench.node._agent.kept) == 16
