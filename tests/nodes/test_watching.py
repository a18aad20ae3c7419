"""After convergence: the best policy is restored, and only evaluated, until the world changes."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nodes.checkpoint import CheckpointNode
from nodes.evaluator import EvaluatorNode
from nodes.learner import LearnerNode
from nodes.pipeline import PipelineNode
from nodes.scheduler import SchedulerNode
from optix_bus import BatchPipeline, LoopCallback, RLOptimizer
from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.evaluators import ReturnEvaluator
from optix_bus.interfaces import BaseOptimizer
from optix_bus.loop import CutPlan, LoopMachine, LoopSettings
from optix_bus.messages import (
    CollectWindow,
    CutAnnounced,
    EvaluationRequested,
    Event,
    HyperparametersProposed,
    LoopStateChanged,
    PolicyPromoted,
    PolicyUpdated,
    RollbackRequested,
    RunFinished,
    TimerFired,
    TimerSet,
    WindowCollected,
    WindowJudged,
)
from optix_bus.runtime.node import Node
from optix_bus.types import EpisodeData, EvalMetrics, HyperparamSet
from tests.nodes.stage import Stage
from tests.nodes.worlds import Corridor, Scripted, Whole

#: Best at the end of the rise, and a little less good from then on.
SCRIPT = [*range(5, 55, 5), 60, *[58] * 100]
QUICK: dict[str, Any] = {
    "convergence": "classical",
    "convergence_window": 6,
    "dormant_threshold": 6,
    "plateau_threshold": 3,
    "score_smoothing": 1,
    "noise_k": 0.5,
    "keep_watching": True,
    "watch_seconds": 0.0,
}


class Weather(Corridor):
    """The corridor, in which every reward is worth more or less with the weather."""

    factor = 1.0

    def step(self, action: int) -> Any:
        seen, reward, over, cut, info = super().step(action)
        return seen, reward * Weather.factor, over, cut, info


@pytest.fixture(autouse=True)
def fair() -> Any:
    Weather.factor = 1.0
    yield
    Weather.factor = 1.0


def run(tmp_path: Path, agent: Scripted, listen: list[Event], **options: Any) -> RLOptimizer:
    options = {**QUICK, "optimizer": False, **options}
    options.setdefault("val_pipeline", BatchPipeline(env=Weather(), window_size=20))
    opt = RLOptimizer(
        agent=agent,
        pipeline=BatchPipeline(env=Weather(), window_size=20),
        checkpoint_dir=tmp_path / "checkpoints",
        val_episodes=3,
        **options,
    )
    tell = opt._controller._listen

    def both(envelope: Any) -> None:
        listen.append(envelope.event)
        tell(envelope)

    opt._controller._listen = both  # type: ignore[method-assign]
    return opt


def of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def watched(events: list[Event]) -> list[WindowJudged]:
    return [event for event in of(events, WindowJudged) if not event.learnt]


@pytest.mark.parametrize("validation", [True, False])
def test_nothing_is_learnt_while_the_best_policy_is_evaluated(tmp_path: Path, validation: bool) -> None:
    agent, events = Scripted(SCRIPT), []
    options = {} if validation else {"val_pipeline": None}
    finished = run(tmp_path, agent, events, max_episodes=50, **options).run()
    assert (finished.reason, finished.state, finished.windows) == ("max_episodes", "watchdog", 50)
    trained = len(of(events, CollectWindow))
    assert agent.updates == len(agent.windows) == trained < 40
    assert [event.window for event in watched(events)] == list(range(trained, 50))
    assert {event.score for event in watched(events)} == {600.0}
    assert {event.state for event in watched(events)} == {"watchdog"}
    assert agent.level == 60
    assert (
        finished.report[-1]
        == f"watchdog: evaluated {50 - trained} times without training, and found no change"
    )
    roles = {event.role for event in of(events, WindowCollected) if event.purpose == "watch"}
    assert roles == {"validation" if validation else "train"}


def test_the_best_policy_comes_back_into_force_before_the_first_evaluation(tmp_path: Path) -> None:
    events: list[Event] = []
    run(tmp_path, Scripted(SCRIPT), events, max_episodes=45).run()
    tail = events[
        next(i for i, e in enumerate(events) if isinstance(e, LoopStateChanged) and e.new == "watchdog") :
    ]
    assert [event.reason for event in of(tail, RollbackRequested)] == ["watch", "max_episodes"]
    back = of(tail, PolicyUpdated)[0]
    assert (back.origin, back.window) == ("rolled_back", watched(events)[0].window)
    assert {event.policy_version for event in of(tail, EvaluationRequested)} == {back.version}
    assert of(tail, CollectWindow) == []


def test_a_change_for_the_worse_wakes_the_loop_which_trains_on_from_the_best(tmp_path: Path) -> None:
    class Relearning(Scripted):
        """What it learns after the weather has turned."""

        def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
            diagnostics = super().learn(episode_data)
            if Weather.factor < 1.0:
                self.level = after.pop(0)
            return diagnostics

    after = [61, 80, 70, *[70] * 20]
    agent, events = Relearning(SCRIPT), []

    class Storm(LoopCallback):
        def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
            if len(watched(events)) == 5:
                Weather.factor = 0.5

    opt = run(tmp_path, agent, events, callbacks=[Storm()], max_episodes=60)
    finished = opt.run()
    wake = next(event for event in of(events, WindowJudged) if event.verdict == "degraded")
    assert (wake.learnt, wake.state, wake.score) == (False, "active", 300.0)
    judged = [event for event in of(events, WindowJudged) if event.window > wake.window]
    assert judged[0].learnt
    assert [event.score for event in judged[:4]] == [300.0, 305.0, 400.0, 350.0]
    # Worse than before the weather turned, and still the best that there is now.
    assert finished.best_score == 400.0
    assert agent.level == 80
    promoted = of(events, PolicyPromoted)
    assert [event.regime for event in promoted[-3:]] == [1, 1, 1]
    assert [event.score for event in promoted[-3:]] == [300.0, 305.0, 400.0]
    assert opt.best_snapshot is not None
    assert opt.best_snapshot.eval_metrics.primary_score == 400.0
    assert Path(opt.best_snapshot.weights_path).read_text() == "80"


def test_no_tuner_is_asked_while_nothing_is_learnt(tmp_path: Path) -> None:
    class Counting(BaseOptimizer):
        asked = 0

        def suggest(self, current: HyperparamSet, history: list[EvalMetrics]) -> HyperparamSet:
            Counting.asked += 1
            return HyperparamSet({"learning_rate": current.params["learning_rate"] * 0.99})

    agent, events = Scripted(SCRIPT), []
    run(tmp_path, agent, events, optimizer=Counting(), max_episodes=50).run()
    assert watched(events)
    assert Counting.asked == agent.updates == len(of(events, HyperparametersProposed))


def test_callbacks_hear_of_each_evaluation(tmp_path: Path) -> None:
    heard: list[tuple[int, float]] = []

    class Ear(LoopCallback):
        def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
            heard.append((episode_id, eval_metrics.primary_score if eval_metrics else float("nan")))

    run(tmp_path, Scripted(SCRIPT), [], callbacks=[Ear()], max_episodes=45).run()
    assert [number for number, _ in heard] == list(range(45))
    assert heard[-1] == (44, 600.0)


def test_it_can_be_stopped_while_it_waits_for_its_next_evaluation(tmp_path: Path) -> None:
    agent, events = Scripted(SCRIPT), []
    opt = run(tmp_path, agent, events, watch_seconds=3600.0)

    def stop() -> None:
        while not of(events, TimerSet):
            time.sleep(0.01)
        opt.stop()

    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    finished = opt.run()
    assert (finished.reason, finished.state) == ("stop requested", "watchdog")
    assert [timer.seconds for timer in of(events, TimerSet)] == [3600.0]
    assert len(watched(events)) == 1
    assert agent.level == 60


def nodes(folder: Path, *, lookahead: int = 0, **settings: Any) -> dict[str, Node]:
    """The loop with stateful nodes, as a process would build it."""
    machine = LoopMachine(LoopSettings(**{**QUICK, "max_episodes": 45, **settings}), validation=True)
    agent = Whole(SCRIPT)
    return {
        "validation": PipelineNode(
            BatchPipeline(env=Weather, window_size=20, seed=1, role="validation"),
            "validation",
            agent=agent,
            episodes=2,
        ),
        "pipeline": PipelineNode(BatchPipeline(env=Weather, window_size=20, seed=1), "train", agent=agent),
        "learner": LearnerNode(agent),
        "evaluator": EvaluatorNode(ReturnEvaluator(), validation=True),
        "scheduler": SchedulerNode(
            machine, validation=True, optimizer=False, lookahead=lookahead, cuts=CutPlan(5, 10**9)
        ),
        "checkpoint": CheckpointNode(CheckpointRegistry(folder, run_id="run")),
    }


def test_nodes_built_anew_watch_on_from_any_event(tmp_path: Path) -> None:
    places = iter(range(10**6))
    build = lambda: nodes(tmp_path / str(next(places)))  # noqa: E731 - each run has a registry of its own
    stage = Stage(build, seed=3)
    boundaries = stage.run_with_boundaries()
    first = next(
        i for i, e in enumerate(stage.events) if isinstance(e, LoopStateChanged) and e.new == "dormant"
    )
    assert stage.finished is not None
    assert stage.finished.state == "watchdog"
    for boundary in boundaries[first - 3 :: 7]:
        again = Stage.at(build, boundary, seed=3).run()
        assert again.stream == stage.stream[boundary.sequence :]


def test_a_window_that_is_under_way_is_learnt_before_the_watch_begins(tmp_path: Path) -> None:
    stage = Stage(lambda: nodes(tmp_path, lookahead=1), seed=3).run()
    events = stage.events
    begins = next(i for i, e in enumerate(events) if isinstance(e, LoopStateChanged) and e.new == "watchdog")
    asked = {event.window for event in of(events, CollectWindow)}
    judged = {event.window for event in of(events[:begins], WindowJudged)}
    assert asked == judged
    assert [event.window for event in watched(events)] == list(range(max(asked) + 1, 45))
    learnt = {event.window for event in of(events, PolicyUpdated) if event.origin == "learned"}
    assert learnt == asked


def waiting(folder: Path) -> tuple[Stage, Any]:
    """A loop that waits for its timer, and where it stands then."""
    stage = Stage(lambda: nodes(folder, watch_seconds=60.0), seed=3)
    while stage.queue:
        stage.step()
    assert isinstance(stage.events[-1], TimerSet | CutAnnounced)
    return stage, stage.boundary()


def fired(build: Any, boundary: Any) -> list[Event]:
    """What follows when the timer fires for nodes built anew, up to the next wait or the end."""
    stage = Stage.at(build, boundary, seed=3)
    stage.queue.append(("scheduler", 0, 0, TimerFired(node="scheduler", key="watch")))
    while stage.queue:
        stage.step()
    return stage.events


def test_between_two_evaluations_it_waits_as_long_as_asked(tmp_path: Path) -> None:
    stage, boundary = waiting(tmp_path / "a")
    assert [(e.node, e.key, e.seconds) for e in of(stage.events, TimerSet)] == [("scheduler", "watch", 60.0)]
    assert len(watched(stage.events)) == 1
    events = fired(lambda: nodes(tmp_path / "b", watch_seconds=60.0), boundary)
    assert len(watched(events)) == 1
    assert len(of(events, TimerSet)) == 1


def test_a_timer_of_somebody_else_wakes_nobody(tmp_path: Path) -> None:
    _, boundary = waiting(tmp_path / "a")
    stage = Stage.at(lambda: nodes(tmp_path / "b", watch_seconds=60.0), boundary, seed=3)
    for node, key in (("learner", "watch"), ("scheduler", "other")):
        stage.queue.append((node, 0, 0, TimerFired(node=node, key=key)))
    while stage.queue:
        stage.step()
    assert len(stage.events) == 2


def test_a_run_that_is_taken_up_with_other_settings_does_what_they_say(tmp_path: Path) -> None:
    _, boundary = waiting(tmp_path / "a")
    over = fired(lambda: nodes(tmp_path / "b", keep_watching=False), boundary)
    assert [event.reason for event in of(over, RunFinished)] == ["converged"]
    short = fired(lambda: nodes(tmp_path / "c", max_episodes=10), boundary)
    assert [event.reason for event in of(short, RunFinished)] == ["max_episodes"]
