"""The whole loop inline, in a world where every score says which policy earned it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from optix_bus import BatchPipeline, LoopCallback, RLOptimizer, VectorBatchPipeline
from optix_bus.errors import ConfigurationError, EnvironmentFailure, LearningFailure
from optix_bus.interfaces import BaseOptimizer
from optix_bus.types import EvalMetrics, HyperparamSet, LoopState, PolicySnapshot
from tests.nodes.worlds import Corridor, Failing, Scripted


def optimizer(tmp_path: Path, agent: Scripted, **options: Any) -> RLOptimizer:
    options.setdefault("optimizer", False)
    options.setdefault("val_pipeline", BatchPipeline(env=Corridor(), window_size=20))
    options.setdefault("val_episodes", 3)
    return RLOptimizer(
        agent=agent,
        pipeline=BatchPipeline(env=Corridor(), window_size=20),
        checkpoint_dir=tmp_path / "checkpoints",
        **options,
    )


class Recorder(LoopCallback):
    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def on_loop_start(self) -> None:
        self.calls.append(("start", None))

    def on_loop_stop(self) -> None:
        self.calls.append(("stop", None))

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
        self.calls.append(("end", (episode_id, eval_metrics.primary_score if eval_metrics else None)))

    def on_improvement(self, snapshot: PolicySnapshot) -> None:
        self.calls.append(("improvement", snapshot))

    def on_degradation(self, episode_id: int, eval_metrics: EvalMetrics) -> None:
        self.calls.append(("degradation", episode_id))

    def on_hyperparam_update(self, old_params: dict[str, Any], new_params: dict[str, Any]) -> None:
        self.calls.append(("hyperparams", (old_params, new_params)))


def test_the_agent_comes_back_with_the_policy_that_earned_the_best_score(tmp_path: Path) -> None:
    agent = Scripted([1, 5, 3, 9, 2, 2, 2, 2])
    opt = optimizer(tmp_path, agent, max_episodes=7)
    finished = opt.run()
    assert agent.level == 9
    assert finished.best_score == 90.0
    assert finished.best_policy_version == 3
    assert opt.best_snapshot is not None
    assert opt.best_snapshot.eval_metrics.primary_score == 90.0
    assert Path(opt.best_snapshot.weights_path).read_text() == "9"


def test_a_candidate_is_confirmed_with_the_policy_that_was_scored_and_not_with_a_newer_one(
    tmp_path: Path,
) -> None:
    # Scored 50 at window 1; by the time it is confirmed, the agent has already learnt to be a 3.
    agent = Scripted([1, 5, 3, 3, 3])
    finished = optimizer(tmp_path, agent, max_episodes=5).run()
    assert (finished.best_policy_version, finished.best_score) == (1, 50.0)


def test_validation_episodes_do_not_reach_what_the_agent_stashes_for_learning(tmp_path: Path) -> None:
    agent = Scripted([1, 2, 3])
    optimizer(tmp_path, agent, max_episodes=4).run()
    assert agent.stashes == [20, 20, 20, 20]


def test_without_validation_the_training_episodes_decide(tmp_path: Path) -> None:
    agent = Scripted([1, 7, 2, 2])
    finished = optimizer(tmp_path, agent, val_pipeline=None, max_episodes=4).run()
    assert (finished.best_policy_version, finished.best_score, agent.level) == (1, 70.0, 7)


def test_an_episode_longer_than_the_window_is_scored_whole(tmp_path: Path) -> None:
    agent = Scripted([4])
    opt = RLOptimizer(
        agent=agent,
        pipeline=BatchPipeline(env=Corridor(), window_size=4),
        checkpoint_dir=tmp_path / "checkpoints",
        optimizer=False,
        max_episodes=6,
    )
    assert opt.run().best_score == 40.0


def test_stop_from_a_callback_collects_nothing_more(tmp_path: Path) -> None:
    agent = Scripted([1, 2, 3, 4, 5, 6])

    class Stopper(LoopCallback):
        def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
            if episode_id == 2:
                opt.stop()

    opt = optimizer(tmp_path, agent, callbacks=[Stopper()], max_episodes=50)
    finished = opt.run()
    assert finished.reason == "stop requested"
    assert len(agent.windows) == 3
    assert agent.level == 3


def test_callbacks_hear_the_loop_in_order_and_one_that_raises_hurts_nobody(tmp_path: Path) -> None:
    class Rude(LoopCallback):
        def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
            raise RuntimeError("not my day")

    recorder = Recorder()
    opt = optimizer(tmp_path, Scripted([1, 5, 3]), callbacks=[Rude()], max_episodes=3)
    opt.add_callback(recorder)
    opt.run()
    names = [name for name, _ in recorder.calls]
    assert (names[0], names[-1]) == ("start", "stop")
    assert [what for name, what in recorder.calls if name == "end"] == [(0, 10.0), (1, 50.0), (2, 30.0)]
    snapshots = [what for name, what in recorder.calls if name == "improvement"]
    assert [snapshot.policy_version for snapshot in snapshots] == [0, 1]
    assert Path(snapshots[-1].weights_path).read_text() == "5"


def test_rollback_gives_the_learner_the_best_policy_back_and_training_goes_on(tmp_path: Path) -> None:
    recorder = Recorder()
    agent = Scripted([1, 1, 1, 1, 1, 90, 5, 5, 5, 5, 5, 5])
    opt = optimizer(
        tmp_path,
        agent,
        max_episodes=12,
        rollback_on_degradation=True,
        min_consecutive_degradations=2,
        callbacks=[recorder],
    )
    levels: list[int] = []

    class Watch(LoopCallback):
        def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
            levels.append(int(eval_metrics.primary_score / 10) if eval_metrics else -1)

    opt.add_callback(Watch())
    opt.run()
    degraded = [what for name, what in recorder.calls if name == "degradation"]
    assert degraded[0] == 7
    assert levels[7:10] == [5, 90, 5]
    assert agent.level == 90


def test_an_off_policy_agent_is_not_rolled_back(tmp_path: Path) -> None:
    class OffPolicy(Scripted):
        is_on_policy = False  # type: ignore[assignment]

    agent = OffPolicy([1, 1, 1, 1, 1, 90, 5, 5, 5, 5, 5, 5])
    levels: list[float] = []

    class Watch(LoopCallback):
        def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
            levels.append(eval_metrics.primary_score if eval_metrics else -1)

    optimizer(tmp_path, agent, max_episodes=12, rollback_on_degradation=True, callbacks=[Watch()]).run()
    assert levels.count(900.0) == 1


def test_an_environment_that_raises_ends_the_run_and_nothing_invented_is_learnt(tmp_path: Path) -> None:
    agent = Scripted([1, 2])
    opt = RLOptimizer(
        agent=agent,
        pipeline=BatchPipeline(env=Failing(), window_size=20),
        checkpoint_dir=tmp_path / "checkpoints",
        optimizer=False,
    )
    with pytest.raises(EnvironmentFailure, match="the simulator has crashed"):
        opt.run()
    assert agent.windows == []


def test_after_an_error_the_agent_holds_the_best_policy_known(tmp_path: Path) -> None:
    class Diverging(Scripted):
        def learn(self, episode_data: Any) -> dict[str, Any]:
            diagnostics = super().learn(episode_data)
            return {"policy_loss": float("nan")} if self.updates == 4 else diagnostics

    agent = Diverging([1, 8, 2, 2, 2])
    with pytest.raises(LearningFailure, match=r"learning from window 3 gave policy_loss = nan"):
        optimizer(tmp_path, agent, max_episodes=9).run()
    assert agent.level == 8


def test_an_unknown_option_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'max_episodes'"):
        optimizer(tmp_path, Scripted([1]), max_episode=3)
    with pytest.raises(ConfigurationError, match="set dormant_threshold"):
        optimizer(tmp_path, Scripted([1]), convergence_patience=3)


@pytest.mark.parametrize("option", ["lookahead", "cut_windows", "cut_bytes"])
def test_what_only_a_topology_can_do_is_refused_with_the_reason(option: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"no option {option!r}.*topology"):
        optimizer(tmp_path, Scripted([1]), **{option: 1})


def test_a_run_without_a_run_directory_announces_no_cuts(tmp_path: Path) -> None:
    seen: list[str] = []
    opt = optimizer(tmp_path, Scripted([1]), max_episodes=12)
    listen = opt._controller._listen
    opt._controller._listen = lambda envelope: (seen.append(type(envelope.event).__name__), listen(envelope))[
        1
    ]  # type: ignore[method-assign]
    opt.run()
    assert "WindowJudged" in seen
    assert "CutAnnounced" not in seen


def test_a_second_run_in_the_same_folder_is_refused_and_deletes_nothing(tmp_path: Path) -> None:
    first = optimizer(tmp_path, Scripted([1, 5]), max_episodes=2)
    first.run()
    with pytest.raises(Exception, match="another run"):
        optimizer(tmp_path, Scripted([1, 5]), max_episodes=2)
    assert first.best_snapshot is not None
    assert Path(first.best_snapshot.weights_path).exists()


def test_a_tuner_is_credited_by_what_the_scored_policy_was_learnt_with(tmp_path: Path) -> None:
    class Tuner(BaseOptimizer):
        """Proposes a new learning rate each time and remembers what it was told."""

        def __init__(self) -> None:
            self.heard: list[tuple[int, int, float]] = []
            self.proposals = 0

        def suggest(self, current: HyperparamSet, history: list[EvalMetrics]) -> HyperparamSet:
            last = history[-1]
            version = int(last.metrics["hyperparams_version"])
            self.heard.append((last.episode_id, version, last.primary_score))
            self.proposals += 1
            return HyperparamSet({**current.params, "learning_rate": 0.1 * (self.proposals + 1)})

    class Rated(Scripted):
        """Its level is what the learning rate in force makes of it."""

        def learn(self, episode_data: Any) -> dict[str, Any]:
            diagnostics = super().learn(episode_data)
            self.level = round(self.params["learning_rate"] * 100)
            return diagnostics

    tuner = Tuner()
    optimizer(tmp_path, Rated([1]), optimizer=tuner, max_episodes=5).run()
    # Window 0 scores the initial policy; what is proposed after it acts on window 1, which window 2 scores.
    assert [(window, version) for window, version, _ in tuner.heard] == [
        (0, 0),
        (1, 0),
        (2, 1),
        (3, 2),
        (4, 3),
    ]
    assert [score for _, _, score in tuner.heard[1:]] == [100.0, 200.0, 300.0, 400.0]


def test_a_vector_pipeline_and_a_pipeline_without_agent_work_alike(tmp_path: Path) -> None:
    agent = Scripted([1, 6, 2])
    opt = RLOptimizer(
        agent=agent,
        pipeline=VectorBatchPipeline(env_fns=[Corridor] * 4, window_size=10),
        val_pipeline=VectorBatchPipeline(env_fns=[Corridor] * 2, window_size=10),
        checkpoint_dir=tmp_path / "checkpoints",
        optimizer=False,
        max_episodes=3,
    )
    assert opt.run().best_score == 60.0
    assert agent.windows[0].rewards.shape == (10, 4)
    assert opt.state in (LoopState.ACTIVE, LoopState.COOLING)
    assert opt._scheduler is opt.scheduler


def test_the_external_scorer_chooses_the_snapshot_by_the_policy_that_acted(tmp_path: Path) -> None:
    seen: list[int] = []

    def prefer_threes(agent: Scripted) -> float:
        seen.append(agent.level)
        return 1.0 if agent.level == 3 else 0.0

    agent = Scripted([1, 5, 3, 9, 2])
    optimizer(tmp_path, agent, checkpoint_score_fn=prefer_threes, max_episodes=5).run()
    assert seen == [1, 5, 3, 9, 2]
    assert agent.level == 3


def test_an_interrupt_stops_the_loop_and_restores_the_best_policy(tmp_path: Path) -> None:
    class Interrupted(Scripted):
        """As when somebody presses the stop button of a notebook in the middle of learning."""

        def learn(self, episode_data: Any) -> dict[str, Any]:
            diagnostics = super().learn(episode_data)
            if self.updates == 4:
                raise KeyboardInterrupt
            return diagnostics

    agent = Interrupted([1, 8, 2, 2, 2, 2])
    finished = optimizer(tmp_path, agent, max_episodes=20).run()
    assert finished.reason == "interrupted"
    assert agent.level == 8
    assert agent.updates == 4


def test_it_runs_where_there_are_no_unix_things_and_no_sockets(tmp_path: Path) -> None:
    program = f"""
import mmap, os, sys
for name in ("fcntl", "zmq", "resource", "pwd", "grp"):
    sys.modules[name] = None  # importing it fails, as on Windows
gone = {{mmap: ("MAP_SHARED", "PROT_READ", "MAP_POPULATE"), os: ("pread", "getuid", "fdatasync")}}
for module, names in gone.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
from tests.nodes.worlds import Corridor, Scripted
from optix_bus import BatchPipeline, RLOptimizer
agent = Scripted([1, 5, 2])
opt = RLOptimizer(
    agent=agent, pipeline=BatchPipeline(env=Corridor(), window_size=20), optimizer=False,
    val_pipeline=BatchPipeline(env=Corridor()), val_episodes=2, max_episodes=3,
    checkpoint_dir={str(tmp_path)!r},
)
assert opt.run().best_score == 50.0
assert agent.level == 5
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
