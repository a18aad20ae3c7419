"""Nodes built anew go on from the states of others exactly as those would have, after any event."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nodes.callbacks import CallbackNode
from nodes.checkpoint import CheckpointNode
from nodes.evaluator import EvaluatorNode
from nodes.learner import LearnerNode
from nodes.optimizer import OptimizerNode
from nodes.pipeline import PipelineNode
from nodes.scheduler import SchedulerNode
from optix_bus import BatchPipeline, LoopCallback, VectorBatchPipeline
from optix_bus.agents import make_agent
from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.evaluators import ReturnEvaluator
from optix_bus.interfaces import BaseOptimizer
from optix_bus.loop import CutPlan, LoopMachine, LoopSettings
from optix_bus.messages import CollectWindow, HyperparametersChanged
from optix_bus.optimizers import make_optimizer
from optix_bus.optimizers.settings import TuningSettings
from optix_bus.pipelines import PipelineSettings, make_pipeline
from optix_bus.runtime.node import Node
from optix_bus.types import ArraySpec, EpisodeData, EvalMetrics, HyperparamSet, SpaceSpec
from tests.nodes.stage import Build, Stage
from tests.nodes.worlds import Drawing, Whole, Winding

CARTPOLE = SpaceSpec(
    "CartPole-v1", ArraySpec("box", (4,), "float32"), ArraySpec("discrete", (), "int64", n=2)
)
SCRIPT = [10, 40, 70, 5, 6, 90, 20, 120, 130]
World = Callable[[Path, int], Mapping[str, Node]]


class Slow(ReturnEvaluator):
    """An evaluator with a memory: scores lag behind."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = np.zeros(0)

    def score(self, episode_data: EpisodeData, train_diagnostics: Mapping[str, Any]) -> EvalMetrics:
        metrics = super().score(episode_data, train_diagnostics)
        self.seen = np.append(self.seen, metrics.primary_score)[-3:]
        metrics.primary_score = float(np.nanmean(self.seen)) if np.isfinite(self.seen).any() else float("nan")
        return metrics

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state(self, state: dict[str, Any]) -> None:
        self.seen = np.array(state["seen"])


class Halving(BaseOptimizer):
    """Halves the learning rate at every other suggestion."""

    def __init__(self) -> None:
        self.asked = 0

    def suggest(self, current: HyperparamSet, history: list[EvalMetrics]) -> HyperparamSet:
        self.asked += 1
        rate = current.params["learning_rate"] * (0.5 if self.asked % 2 else 1.0)
        return HyperparamSet({**current.params, "learning_rate": rate})


class Remembering(Halving):
    """The same with a state."""

    def state(self) -> dict[str, Any]:
        return {"asked": self.asked}

    def load_state(self, state: dict[str, Any]) -> None:
        self.asked = int(state["asked"])


class Diary(LoopCallback):
    """A callback with a memory."""

    def __init__(self) -> None:
        self.pages: list[Any] = []

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
        self.pages.append([episode_id, eval_metrics.primary_score if eval_metrics else None])

    def state(self) -> dict[str, Any]:
        return {"pages": self.pages}

    def load_state(self, state: dict[str, Any]) -> None:
        self.pages = [list(page) for page in state["pages"]]


def loop(
    folder: Path, tuning: Any, *, lookahead: int = 0, evaluator: Any = None, **settings: Any
) -> dict[str, Node]:
    """The nodes behind pipelines and learner."""
    options = {
        "max_episodes": 6,
        "plateau_threshold": 1,
        "min_episodes_before_degradation": 1,
        "min_consecutive_degradations": 1,
        "rollback_on_degradation": True,
        "noise_k": 0.1,
        "score_smoothing": 1,
        **settings,
    }
    machine = LoopMachine(LoopSettings(**options), validation=True)
    return {
        "evaluator": EvaluatorNode(evaluator or ReturnEvaluator(), validation=True),
        "scheduler": SchedulerNode(
            machine, validation=True, optimizer=True, lookahead=lookahead, cuts=CutPlan(2, 10**9)
        ),
        "checkpoint": CheckpointNode(CheckpointRegistry(folder, 2, run_id="states")),
        "optimizer": OptimizerNode(tuning),
        "callbacks": CallbackNode([Diary(), LoopCallback()]),
    }


def spsa(bounds: Any, log_params: Any, rng: Any) -> Any:
    return make_optimizer(TuningSettings(), bounds, log_params, rng)


def shared_arrays(folder: Path, seed: int) -> dict[str, Node]:
    """One agent object whose policy travels; evaluator and callback with a memory."""
    agent = Drawing([value + seed for value in SCRIPT])
    train = VectorBatchPipeline([Winding] * 3, window_size=7, seed=seed)
    validation = VectorBatchPipeline([Winding] * 2, window_size=7, seed=seed, role="validation")
    return {
        "validation": PipelineNode(validation, "validation", agent=agent, episodes=3),
        "pipeline": PipelineNode(train, "train", agent=agent),
        "learner": LearnerNode(agent),
        **loop(folder, spsa, evaluator=Slow()),
    }


def shared_weights(folder: Path, seed: int) -> dict[str, Node]:
    """One agent object of six methods, and a tuner of the user's own."""
    agent = Whole([value + seed for value in SCRIPT])
    return {
        "validation": PipelineNode(
            BatchPipeline(Winding, seed=seed, role="validation"), "validation", agent=agent, episodes=2
        ),
        "pipeline": PipelineNode(BatchPipeline(Winding, window_size=9, seed=seed), "train", agent=agent),
        "learner": LearnerNode(agent, score=lambda agent: float(agent.level)),
        **loop(folder, lambda *_: Remembering(), base_interval=2),
    }


@functools.cache
def ppo(seed: int, algorithm: str = "ppo", rnn: str | None = None) -> Any:
    """An agent that has not learnt anything, for copies: building takes longer than all that they do here."""
    hyperparams = {"n_epochs": 1, "minibatch_size": 32}
    options: dict[str, Any] = {"device": "cpu", "seed": seed, "hyperparams": hyperparams}
    return make_agent(CARTPOLE, algorithm=algorithm, rnn=rnn, hidden_sizes=(4,), **options)


def apart(folder: Path, seed: int, lookahead: int = 0, agent: Any = None, **more: Any) -> dict[str, Node]:
    """As in processes: pipelines act with what the learner announces."""
    agent = copy.deepcopy(ppo(seed) if agent is None else agent)
    train = PipelineSettings(environments=2, window_steps=16)
    validation = PipelineSettings(environments=2, episodes=3, max_evaluation_steps=30)
    made = {
        "validation": PipelineNode(
            make_pipeline("CartPole-v1", {}, validation, role="validation", seed=seed),
            "validation",
            episodes=3,
        ),
        "pipeline": PipelineNode(make_pipeline("CartPole-v1", {}, train, seed=seed)),
        "learner": LearnerNode(agent),
    }
    return {**made, **loop(folder, spsa, lookahead=lookahead, **{"max_episodes": 4, **more})}


def ahead(folder: Path, seed: int) -> dict[str, Node]:
    return apart(folder, seed, 1)


def remembering(folder: Path, seed: int) -> dict[str, Node]:
    """A policy with a memory of open episodes, which no policy version outlives."""
    return apart(folder, seed, agent=ppo(seed, "recurrent_ppo", "lstm" if seed % 2 else "gru"))


WORLDS: dict[str, World] = {
    "shared arrays": shared_arrays,
    "shared weights": shared_weights,
    "apart": apart,
    "ahead": ahead,
    "remembering": remembering,
}


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("world", WORLDS)
def test_new_nodes_go_on_from_every_boundary_with_the_same_bytes(
    world: str, seed: int, tmp_path: Path
) -> None:
    def build() -> Mapping[str, Node]:
        return WORLDS[world](tmp_path, seed)

    whole = Stage(build, seed=seed)
    boundaries = whole.run_with_boundaries()
    last, on_disk, pages = boundaries[-1], files(tmp_path), whole.node("callbacks").callbacks[0].pages
    whole.close()
    for boundary in boundaries:
        # The snapshots of later events are on disk, as after a kill.
        stage = Stage.at(build, boundary, seed=seed)
        assert stage.remarks == []
        assert stage.states() == boundary.states, f"after event {boundary.sequence}"
        if boundary is not last:
            stage.run()
        assert stage.stream == whole.stream[boundary.sequence :], f"from event {boundary.sequence} on"
        assert stage.states() == last.states
        assert stage.node("callbacks").callbacks[0].pages == pages
        assert files(tmp_path) == on_disk
        stage.close()


def test_the_worlds_of_this_file_do_everything_that_a_loop_can_do(tmp_path: Path) -> None:
    seen: set[str] = set()
    for number, build in enumerate(WORLDS.values()):
        stage = Stage(lambda build=build, n=number: build(tmp_path / str(n), 0), seed=0).run()  # type: ignore[misc]
        seen |= {type(event).__name__ for event in stage.events}
        rollbacks = [event for event in stage.events if type(event).__name__ == "RollbackRequested"]
        seen |= {"a rollback in the middle"} if len(rollbacks) > 1 else set()
        stage.close()
    assert seen >= {
        *("AgentDescribed", "CollectWindow", "EvaluationRequested", "WindowCollected", "PolicyUpdated"),
        *("ExternallyScored", "WindowScored", "WindowJudged", "Improved", "Plateaued", "Degraded"),
        *("LoopStateChanged", "PolicyPromoted", "SnapshotSaved", "RollbackRequested", "RolledBack"),
        *("HyperparametersProposed", "HyperparametersChanged", "CutAnnounced", "RunFinished"),
        "a rollback in the middle",
    }


@pytest.mark.parametrize("world", WORLDS)
def test_a_state_holds_no_stamp_and_the_same_seed_gives_the_same_bytes(world: str, tmp_path: Path) -> None:
    def states(name: str, **options: Any) -> list[dict[str, bytes]]:
        stage = Stage(lambda: WORLDS[world](tmp_path / name, 4), seed=4, **options)
        found = [boundary.states for boundary in stage.run_with_boundaries()]
        stage.close()
        return found

    assert states("first") == states("second", first_stamp=1_900_000_000_123_456_789)


def sha256(agent: Any) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(agent.state().arrays.items()):
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def test_ppo_on_cartpole_ends_with_the_same_weights_after_everything_was_set_up_again(tmp_path: Path) -> None:
    def build() -> Mapping[str, Node]:
        return apart(tmp_path, 5, max_episodes=6)

    whole = Stage(build, seed=5)
    while whole.node("learner")._version < 3:
        whole.step()
    middle = whole.boundary()
    open_episodes = whole.node("pipeline")._pipeline.progress()
    assert sum(open_episodes["steps"]) > 0
    other = Stage.at(build, middle, seed=5)
    rebuilt = other.node("pipeline")._pipeline.progress()
    assert rebuilt["episodes"] == open_episodes["episodes"]
    assert np.array_equal(rebuilt["observations"], open_episodes["observations"])
    before = sha256(whole.node("learner")._agent)
    assert sha256(other.node("learner")._agent) == before
    whole.run()
    other.run()
    assert sha256(whole.node("learner")._agent) == sha256(other.node("learner")._agent) != before
    whole.close()
    other.close()


def test_the_memory_of_open_episodes_goes_from_version_to_version_and_into_a_new_node(tmp_path: Path) -> None:
    def build() -> Mapping[str, Node]:
        return remembering(tmp_path, 3)

    stage = Stage(build, seed=3)
    while stage.node("learner")._version < 2:
        stage.step()
    pipeline = stage.node("pipeline")._pipeline
    open_episodes = pipeline.progress()
    remembered = open_episodes["memory"]
    assert remembered.shape == (2, 8)
    going_on = ~np.array(open_episodes["starts"]) & ~np.isin([0, 1], open_episodes["waiting"])
    assert going_on.any()
    assert remembered[going_on].any(axis=1).all()
    other = Stage.at(build, stage.boundary(), seed=3)
    rebuilt = other.node("pipeline")._pipeline
    assert np.array_equal(rebuilt.progress()["memory"], remembered)
    for each in (stage, other):
        windows = each.node("pipeline")._pipeline
        while windows.progress()["windows"] == open_episodes["windows"]:
            each.step()
    assert np.array_equal(rebuilt.progress()["memory"], pipeline.progress()["memory"])
    assert not np.array_equal(pipeline.progress()["memory"], remembered)
    stage.close()
    other.close()


def test_a_scheduler_goes_on_under_the_settings_that_it_is_built_with(tmp_path: Path) -> None:
    stage = Stage(lambda: apart(tmp_path / "a", 1), seed=1)
    while stage.node("scheduler")._now.next_window < 4:
        stage.step()
    boundary = stage.boundary()
    longer = Stage.at(
        lambda: apart(tmp_path / "b", 1, max_episodes=7, base_interval=3), boundary, seed=1
    ).run()
    stage.run()
    assert stage.finished is not None
    assert longer.finished is not None
    assert (stage.finished.windows, longer.finished.windows) == (4, 7)
    assert longer.node("scheduler").machine.scheduler.current_interval >= 3
    stage.close()
    longer.close()


@pytest.mark.parametrize("window", [0, 2, 3])
def test_a_fork_with_another_learning_rate_collects_and_tunes_with_it(window: int, tmp_path: Path) -> None:
    def build(rate: float, name: str) -> Mapping[str, Node]:
        nodes = shared_arrays(tmp_path / name, 1)
        nodes["learner"]._agent.params["learning_rate"] = rate  # type: ignore[attr-defined]
        return {**nodes, "learner": LearnerNode(nodes["learner"]._agent)}  # type: ignore[attr-defined]

    stage = Stage(lambda: build(0.1, "past"), seed=1)
    while stage.node("scheduler")._now.next_window <= window:
        stage.step()
    fork = Stage.at(lambda: build(0.4, "future"), stage.boundary(), seed=1)
    assert any(said.startswith("learning_rate is 0.4 after the next window") for said in fork.remarks)
    fork.run()
    (news,) = [e for e in fork.events if isinstance(e, HyperparametersChanged) and e.window == -1]
    assert news.params == {"learning_rate": 0.4}
    behind = fork.events[fork.events.index(news) :]
    asked = next(event for event in behind if isinstance(event, CollectWindow))
    first = next(e for e in behind if isinstance(e, HyperparametersChanged) and e.window >= 0)
    assert asked.hyperparams_version in (news.version, first.version)
    assert 0.3 < first.params["learning_rate"] < 0.5  # a probe around the new rate
    tuner = fork.node("optimizer")._optimizer
    assert tuner._version == max(fork.node("learner")._params)
    stage.close()
    fork.close()


def test_two_futures_of_one_past_differ_in_chance_and_each_can_be_repeated(tmp_path: Path) -> None:
    def build(name: str) -> Build:
        return lambda: shared_arrays(tmp_path / name, 1)

    past = Stage(build("past"), seed=1)
    while past.node("scheduler")._now.next_window < 3:
        past.step()
    futures = [Stage.at(build(str(n)), past.boundary(), seed=1, branch=n) for n in (0, 1, 1, 2)]
    streams = [stage.run().stream for stage in futures]
    past.run()
    assert streams[0] == past.stream[-len(streams[0]) :]
    assert streams[1] == streams[2]
    assert len({b"".join(stream) for stream in streams}) == 3
    seeds = {stage.node("optimizer")._optimizer.state()["seed"] for stage in futures}
    assert len(seeds) == 3
    for stage in (past, *futures):
        stage.close()


def test_a_tuner_without_a_state_is_named_and_cannot_repeat(tmp_path: Path) -> None:
    def build() -> Mapping[str, Node]:
        nodes = shared_weights(tmp_path, 0)
        return {**nodes, "optimizer": OptimizerNode(lambda *_: Halving())}

    stage = Stage(build, seed=0).run()
    assert not stage.node("optimizer").repeats
    other = Stage.at(build, stage.boundary(), seed=0)
    assert other.remarks == ["Halving has no state() and load_state(): its memory starts anew"]
    assert not other.node("optimizer").repeats
    stage.close()
    other.close()


def test_what_can_repeat_says_so_and_six_methods_do_not(tmp_path: Path) -> None:
    def repeats(world: str) -> dict[str, bool]:
        stage = Stage(lambda: WORLDS[world](tmp_path / world, 0), seed=0)
        found = {fold.name: fold.node.repeats for fold in stage.folds}
        stage.close()
        return found

    everything = dict.fromkeys(repeats("apart"), True)
    assert repeats("apart") == repeats("shared arrays") == everything
    six = {"learner": False, "pipeline": False, "validation": False}
    assert repeats("shared weights") == {**everything, **six}


def test_environments_that_are_not_seeded_one_by_one_do_not_repeat() -> None:
    settings = PipelineSettings(environments=2, window_steps=8, vectorization="native")
    node = PipelineNode(make_pipeline("CartPole-v1", {}, settings))
    node.setup()
    assert not node.repeats
    node.teardown()


class Shy(Diary):
    """Its memory cannot be had."""

    def state(self) -> dict[str, Any]:
        raise RuntimeError("that is private")


class Confused(Diary):
    """It does not know its own memory."""

    def load_state(self, state: dict[str, Any]) -> None:
        raise KeyError("leaves")


class Careless(Diary):
    """Its memory is no data."""

    def state(self) -> dict[str, Any]:
        return {"pages": object()}


def test_a_callback_whose_memory_makes_trouble_hurts_nobody_and_is_named(tmp_path: Path) -> None:
    def build() -> Mapping[str, Node]:
        return {"callbacks": CallbackNode([Shy(), Diary(), Confused(), Careless()])}

    boundary = Stage(build, seed=0).boundary()
    assert Stage.at(build, boundary, seed=0).remarks == [
        "callback Shy starts anew: RuntimeError: that is private",
        "callback Confused starts anew: KeyError: 'leaves'",
        "callback Careless starts anew: ConfigurationError: found object at pages of a state, expected "
        "numbers, texts, arrays, and lists and mappings of them",
    ]
    others = Stage.at(lambda: {"callbacks": CallbackNode([LoopCallback(), Diary()])}, boundary, seed=0)
    assert "callback Confused starts anew: another one is in its place" in others.remarks
