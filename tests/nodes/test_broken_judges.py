"""What the loop does when those fail whom it asks: environments, evaluators, scorers, callbacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optix_bus import BaseEvaluator, BatchPipeline, LoopCallback, RLOptimizer
from optix_bus.errors import EnvironmentFailure, OptixError
from optix_bus.types import EpisodeData, EvalMetrics
from tests.nodes.worlds import Corridor, Scripted

SCRIPT = [1, 8, 2, 3, 3, 3, 3]


class FailsLater(Corridor):
    """A simulator that crashes in the middle of its ninth episode."""

    def __init__(self) -> None:
        self.episodes = 0

    def reset(self, **options: Any) -> Any:
        self.episodes += 1
        return super().reset(**options)

    def step(self, action: int) -> Any:
        if self.episodes == 9 and self.left == 5:
            raise RuntimeError("the simulator has crashed")
        return super().step(action)


def loop(tmp_path: Path, agent: Scripted, **options: Any) -> RLOptimizer:
    options.setdefault("val_pipeline", BatchPipeline(env=Corridor(), window_size=20))
    return RLOptimizer(
        agent=agent,
        pipeline=BatchPipeline(env=Corridor(), window_size=20),
        checkpoint_dir=tmp_path / "checkpoints",
        optimizer=False,
        val_episodes=2,
        max_episodes=6,
        **options,
    )


def test_a_validation_environment_that_crashes_half_way_ends_the_run_with_the_best_policy(
    tmp_path: Path,
) -> None:
    agent = Scripted(SCRIPT)
    opt = loop(tmp_path, agent, val_pipeline=BatchPipeline(env=FailsLater(), window_size=20))
    with pytest.raises(EnvironmentFailure, match="the simulator has crashed") as failure:
        opt.run()
    assert "episode" in str(failure.value)
    # Windows 0 and 1 were scored and confirmed on eight episodes; the ninth was the first of window 2.
    assert agent.level == 8
    assert opt.best_snapshot is not None
    assert opt.best_snapshot.eval_metrics.primary_score == 80.0


class Judge(BaseEvaluator):
    """Says what it is told to, window by window; the last for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def score(self, episode_data: EpisodeData, train_diagnostics: dict[str, Any]) -> EvalMetrics:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if not isinstance(answer, float) else EvalMetrics(answer, {}, episode_data.episode_id)


def test_an_evaluator_that_raises_is_named_and_the_agent_holds_the_best_policy(tmp_path: Path) -> None:
    agent = Scripted(SCRIPT)
    judge = Judge(1.0, 5.0, 2.0, ZeroDivisionError("no trades"))
    with pytest.raises(OptixError, match=r"evaluator.*no trades"):
        loop(tmp_path, agent, evaluator=judge, val_pipeline=None).run()
    assert agent.level == 8


def test_an_evaluator_that_has_no_score_is_passed_over(tmp_path: Path) -> None:
    agent = Scripted(SCRIPT)
    judge = Judge(float("nan"), 5.0, float("inf"), float("nan"), 2.0)
    finished = loop(tmp_path, agent, evaluator=judge, val_pipeline=None).run()
    assert (finished.windows, finished.best_score, finished.best_window) == (6, 5.0, 1)
    assert agent.level == 8


def test_an_evaluator_of_metrics_that_do_not_combine_is_its_own_judge(tmp_path: Path) -> None:
    class Own(Judge):
        def combine(self, train: EvalMetrics, val: EvalMetrics) -> EvalMetrics:
            return EvalMetrics(min(train.primary_score, val.primary_score), {}, val.episode_id)

    agent = Scripted(SCRIPT)
    # Train, validation of windows 0 and 1, and what confirms them in between.
    judge = Own(4.0, 3.0, 3.0, 9.0, 8.0, 8.0, 1.0)
    finished = loop(tmp_path, agent, evaluator=judge).run()
    assert (finished.best_score, finished.best_window) == (8.0, 1)


@pytest.mark.parametrize("answer", [float("nan"), float("-inf")])
def test_a_scorer_of_snapshots_that_has_no_number_chooses_nothing(answer: float, tmp_path: Path) -> None:
    agent = Scripted(SCRIPT)

    def score(scored: Any) -> float:
        return answer if scored.level == 8 else float(scored.level)

    finished = loop(tmp_path, agent, checkpoint_score_fn=score).run()
    assert finished.best_score == 3.0
    assert agent.level == 3


def test_a_scorer_of_snapshots_that_raises_is_named(tmp_path: Path) -> None:
    agent = Scripted(SCRIPT)

    def score(scored: Any) -> float:
        if scored.level == 2:
            raise RuntimeError("the exam is closed")
        return float(scored.level)

    with pytest.raises(OptixError, match="the exam is closed"):
        loop(tmp_path, agent, checkpoint_score_fn=score).run()
    assert agent.level == 8


HOOKS = [name for name in vars(LoopCallback) if name.startswith("on_")]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_callback_that_raises_anywhere_changes_nothing(hook: str, tmp_path: Path) -> None:
    calls = []

    def rude(self: Any, *arguments: Any) -> None:
        calls.append(arguments)
        raise RuntimeError("not my day")

    script = [*range(1, 9), *[9] * 6, 1, 1, 1, 1, *[9] * 40]
    options: dict[str, Any] = {
        "rollback_on_degradation": True,
        "convergence": "classical",
        "convergence_window": 6,
        "dormant_threshold": 8,
        "score_smoothing": 1,
        "noise_k": 0.5,
    }
    finished = []
    for name, callbacks in (("plain", []), ("rude", [type("Rude", (LoopCallback,), {hook: rude})()])):
        (tmp_path / name).mkdir()
        opt = RLOptimizer(
            agent=Scripted(script),
            pipeline=BatchPipeline(env=Corridor(), window_size=20),
            checkpoint_dir=tmp_path / name / "checkpoints",
            optimizer=False,
            max_episodes=60,
            callbacks=callbacks,
            **options,
        )
        finished.append(opt.run())
    assert finished[0] == finished[1]
    assert calls or hook == "on_hyperparam_update"
