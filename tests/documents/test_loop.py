"""The documents' programs of the loop: evaluators, callbacks, scorers, every option of the constructor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optix_bus import BaseEvaluator, BatchPipeline, EpisodeData, EvalMetrics, LoopCallback, RLOptimizer
from tests.documents.programs import train
from tests.nodes.worlds import Corridor, Scripted


def agent() -> Scripted:
    return Scripted([1, 5, 3])


def pipeline() -> BatchPipeline:
    return BatchPipeline(env=Corridor(), window_size=20)


class TotalReward(BaseEvaluator):
    def score(self, episode_data: EpisodeData, train_diagnostics: dict[str, Any]) -> EvalMetrics:
        total = sum(episode_data.rewards)
        return EvalMetrics(
            primary_score=total, metrics={"total_reward": total}, episode_id=episode_data.episode_id
        )


class Sharpe(BaseEvaluator):
    def score(self, episode_data: EpisodeData, train_diagnostics: dict[str, Any]) -> EvalMetrics:
        rewards = np.array(episode_data.rewards)
        sharpe = rewards.mean() / (rewards.std() + 1e-8)
        found = {"sharpe": float(sharpe), "mean_reward": float(rewards.mean())}
        return EvalMetrics(primary_score=float(sharpe), metrics=found, episode_id=episode_data.episode_id)


@pytest.mark.parametrize("evaluator", [TotalReward, Sharpe])
def test_an_evaluator_of_ones_own_scores_the_windows(evaluator: Any, tmp_path: Path) -> None:
    opt = train(agent(), pipeline(), tmp_path, evaluator=evaluator())
    assert opt.best_snapshot is not None
    assert opt.best_snapshot.episode_id == 1


def test_a_callback_hears_of_improvements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class MyLogger(LoopCallback):
        def on_improvement(self, snapshot: Any) -> None:
            print(f"New best: {snapshot.eval_metrics.primary_score:.4f}")

        def on_dormant(self, window_id: int) -> None:
            print(f"Converged at window {window_id}")

    train(agent(), pipeline(), tmp_path, callbacks=[MyLogger()])
    assert "New best: 50.0000" in capsys.readouterr().out


def test_verbose_prints_a_line_for_each_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(agent(), pipeline(), tmp_path, verbose=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[loop] ep=")]
    assert len(lines) == 2
    for word in ("raw=", "smoothed=", "state=ACTIVE", "interval=1"):
        assert word in lines[0]


def test_every_option_of_the_constructor_is_taken(tmp_path: Path) -> None:
    trained = agent()
    opt = RLOptimizer(
        agent=trained,
        pipeline=pipeline(),
        val_pipeline=pipeline(),
        evaluator=None,
        optimizer=None,
        checkpoint_dir=str(tmp_path / "checkpoints"),
        max_snapshots=10,
        checkpoint_score_fn=lambda scored: float(scored.level),
        max_episodes=3,
        base_interval=1,
        backoff_factor=2.0,
        max_interval_episodes=100,
        plateau_threshold=5,
        dormant_threshold=20,
        score_smoothing=2,
        improvement_margin=0.0,
        noise_k=2.0,
        score_window=20,
        rollback_on_degradation=True,
        degradation_threshold=0.95,
        min_episodes_before_dormant=0,
        min_episodes_before_degradation=5,
        callbacks=[],
        verbose=False,
    )
    opt.run()
    assert opt.best_snapshot is not None
    assert opt.best_snapshot.eval_metrics.primary_score == 5.0
    assert trained.level == 5


def test_every_hook_of_a_callback_goes_by_its_documented_name(tmp_path: Path) -> None:
    class Every(LoopCallback):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def on_loop_start(self) -> None:
            self.heard.append("start")

        def on_loop_stop(self) -> None:
            self.heard.append("stop")

        def on_episode_end(self, episode_id: int, eval_metrics: Any) -> None:
            self.heard.append("end")

        def on_improvement(self, snapshot: Any) -> None:
            self.heard.append("improvement")

        def on_plateau(self, episode_id: int, state: Any) -> None:
            self.heard.append("plateau")

        def on_dormant(self, episode_id: int) -> None:
            self.heard.append("dormant")

        def on_degradation(self, episode_id: int, eval_metrics: Any) -> None:
            self.heard.append("degradation")

        def on_hyperparam_update(self, old: dict[str, Any], new: dict[str, Any]) -> None:
            self.heard.append("hyperparams")

    callback = Every()
    up_down_flat = Scripted([1, 5, 5, *[1] * 45])
    opt = RLOptimizer(
        agent=up_down_flat,
        pipeline=pipeline(),
        checkpoint_dir=str(tmp_path / "checkpoints"),
        max_episodes=40,
        min_episodes_before_degradation=0,
        plateau_threshold=2,
        dormant_threshold=3,
        convergence="classical",
        convergence_window=12,
        looks=1,
        score_floor=0.0,
    )
    opt.add_callback(callback)
    opt.run()
    assert callback.heard[0] == "start"
    assert callback.heard[-1] == "stop"
    assert {"end", "improvement", "plateau", "degradation", "dormant"} <= set(callback.heard)
