"""PPO on CartPole with one set of settings, three ways: ours inline, ours in processes, Stable-Baselines3.

Each way tells how long it takes per window without any evaluation, and when the mean of 20 deterministic
episodes first reaches a score when every window is evaluated.
"""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from optix_bus.interfaces import LoopCallback
from optix_bus.types import EvalMetrics

ENVIRONMENTS, STEPS = 8, 256
EPISODES = 20
NEVER = 1_000_000
#: Under our names; `stable_baselines3` translates.
HYPERPARAMETERS: dict[str, Any] = {
    "learning_rate": 3e-4,
    "clip_ratio": 0.2,
    "entropy_coef": 0.0,
    "vf_coef": 0.5,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "n_epochs": 10,
    "minibatch_size": 256,
    "max_grad_norm": 0.5,
}
TOPOLOGY = Path(__file__).parents[2] / "topologies" / "cartpole_ppo.yaml"


@dataclass(frozen=True)
class Reached:
    """When a score was reached, counted from the start; infinite where the windows did not suffice."""

    seconds: float
    windows: float


def inline_speed(windows: int, seed: int) -> float:
    """Steps a second of `RLOptimizer`, collecting and learning."""
    clock = _Clock()
    with _rl_optimizer(seed, evaluated=False, max_episodes=windows, callbacks=[clock]) as optimizer:
        optimizer.run()
    return _speed(clock.ends)


def inline_until(score: float, windows: int, seed: int) -> Reached:
    """`RLOptimizer`, from its construction on."""
    began = time.perf_counter()
    target = _Target(score)
    with _rl_optimizer(seed, evaluated=True, max_episodes=windows, callbacks=[target]) as optimizer:
        target.optimizer = optimizer
        optimizer.run()
    return Reached(target.at - began, target.window + 1)


def processes_speed(windows: int, seed: int, lookahead: int = 0) -> float:
    """Steps a second in processes, by the journal's stamps, start and end of the processes left out."""
    from optix_bus.bus.journal_reader import read_journal

    with tempfile.TemporaryDirectory() as folder:
        command = _command(folder, seed, windows, evaluated=False, lookahead=lookahead)
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr}")
        records = read_journal(f"{folder}/run/journal")
        return _speed([record.stamp_ns / 1e9 for record in records if record.type == "CollectWindow"][1:])


def processes_until(score: float, windows: int, seed: int) -> tuple[Reached, float]:
    """The command as a person would type it, start of all processes included; and how long that start was."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        command = _command(folder, seed, windows, evaluated=True)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        reached, first, said = Reached(np.inf, np.inf), np.nan, []
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                now = time.perf_counter() - began
                event = json.loads(line) if line.startswith("{") else {}
                if event.get("event") != "WindowJudged":
                    continue
                first = now if np.isnan(first) else first
                if (event["score"] or 0.0) >= score:
                    reached = Reached(now, event["window"] + 1)
                    break
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if np.isnan(first):
        raise RuntimeError(f"{' '.join(command)} evaluated nothing:\n{''.join(said)}")
    return reached, first


def stable_baselines3_speed(windows: int, seed: int) -> float:
    """Steps a second of Stable-Baselines3."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Clock(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.starts: list[float] = []

        def _on_rollout_start(self) -> None:
            self.starts.append(time.perf_counter())

        def _on_training_end(self) -> None:
            self.starts.append(time.perf_counter())

        def _on_step(self) -> bool:
            return True

    clock = Clock()
    model = stable_baselines3(seed)
    model.learn(windows * ENVIRONMENTS * STEPS, callback=clock)
    model.env.close()
    return _speed(clock.starts[1:])


def stable_baselines3_until(score: float, windows: int, seed: int) -> Reached:
    """Stable-Baselines3, from the construction of the model on; it is evaluated before every window."""
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.evaluation import evaluate_policy

    class Target(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.reached = Reached(np.inf, np.inf)
            self.windows = 0
            self.environments = vector(EPISODES)
            self.environments.seed(seed + 1000)

        def _on_rollout_start(self) -> None:
            self.windows += 1
            mean, _ = evaluate_policy(self.model, self.environments, EPISODES, deterministic=True, warn=False)
            if mean >= score:
                self.reached = Reached(time.perf_counter() - began, self.windows)

        def _on_step(self) -> bool:
            return not np.isfinite(self.reached.seconds)

    began = time.perf_counter()
    target = Target()
    model = stable_baselines3(seed)
    model.learn(windows * ENVIRONMENTS * STEPS, callback=target)
    model.env.close()
    target.environments.close()
    return target.reached


def import_seconds(module: str) -> float:
    """How long a fresh interpreter takes to start and import a module."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - began


class _Clock(LoopCallback):
    """Notes when windows end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
        self.ends.append(time.perf_counter())


class _Target(LoopCallback):
    """Notes when a score is reached, and stops the loop."""

    def __init__(self, score: float) -> None:
        self.score = score
        self.at = self.window = np.inf
        self.optimizer: Any = None

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
        reached = eval_metrics is not None and eval_metrics.primary_score >= self.score
        if reached and not np.isfinite(self.at):
            self.at, self.window = time.perf_counter(), episode_id
            self.optimizer.stop()


@contextlib.contextmanager
def _rl_optimizer(seed: int, *, evaluated: bool, **settings: Any) -> Iterator[Any]:
    from optix_bus import RLOptimizer, make_agent
    from optix_bus.pipelines import PipelineSettings, make_pipeline

    training = PipelineSettings(environments=ENVIRONMENTS, window_steps=STEPS)
    validation = PipelineSettings(environments=EPISODES)
    example = gym.make("CartPole-v1")
    agent = make_agent(example, algorithm="ppo", hyperparams=HYPERPARAMETERS, device="cpu", seed=seed)
    example.close()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        yield RLOptimizer(
            agent,
            make_pipeline("CartPole-v1", {}, training, seed=seed),
            val_pipeline=make_pipeline("CartPole-v1", {}, validation, role="validation", seed=seed)
            if evaluated
            else None,
            optimizer=False,
            checkpoint_dir=folder,
            val_episodes=EPISODES,
            seed=seed,
            **_loop(evaluated),
            **settings,
        )


def _loop(evaluated: bool) -> dict[str, Any]:
    """Settings of the scheduler: evaluate every window, or none but the first, and do not stop by itself."""
    return {
        "base_interval": 1 if evaluated else NEVER,
        "max_interval_episodes": NEVER,
        "backoff_factor": 1.0,
        "min_episodes_before_dormant": NEVER,
    }


def _command(folder: str, seed: int, windows: int, *, evaluated: bool, lookahead: int = 0) -> list[str]:
    scheduler = {**_loop(evaluated), "max_episodes": windows, "lookahead": lookahead}
    changes = {f"nodes.scheduler.{name}": value for name, value in scheduler.items()}
    changes |= {f"agent.hyperparameters.{name}": value for name, value in HYPERPARAMETERS.items()}
    changes |= {"nodes.optimizer.method": "none", "agent.device": "cpu"}
    command = [sys.executable, "-m", "optix_bus.cli", "up", str(TOPOLOGY), "--json", "--seed", str(seed)]
    command += ["--run-dir", f"{folder}/run"]
    for name, value in changes.items():
        command += ["--set", f"{name}={value}"]
    return command


def stable_baselines3(seed: int, minibatch: int | None = None) -> Any:
    """PPO of Stable-Baselines3 in one thread, with `HYPERPARAMETERS` or another size of minibatches."""
    import torch
    from stable_baselines3 import PPO

    torch.set_num_threads(1)
    model = PPO(
        "MlpPolicy",
        vector(ENVIRONMENTS),
        learning_rate=HYPERPARAMETERS["learning_rate"],
        n_steps=STEPS,
        batch_size=minibatch or HYPERPARAMETERS["minibatch_size"],
        n_epochs=HYPERPARAMETERS["n_epochs"],
        gamma=HYPERPARAMETERS["gamma"],
        gae_lambda=HYPERPARAMETERS["gae_lambda"],
        clip_range=HYPERPARAMETERS["clip_ratio"],
        ent_coef=HYPERPARAMETERS["entropy_coef"],
        vf_coef=HYPERPARAMETERS["vf_coef"],
        max_grad_norm=HYPERPARAMETERS["max_grad_norm"],
        policy_kwargs={"net_arch": {"pi": [64, 64], "vf": [64, 64]}, "activation_fn": torch.nn.Tanh},
        seed=seed,
        device="cpu",
        verbose=0,
    )
    return quiet(model)


def quiet(model: Any) -> Any:
    """A model of Stable-Baselines3 that logs nothing: its own logger makes a folder in the temporary one for
    each model and leaves it there.
    """
    from stable_baselines3.common.logger import Logger

    model.set_logger(Logger(None, []))
    return model


def vector(environments: int) -> Any:
    """CartPole for Stable-Baselines3, at its fastest: without the monitor, which counts returns as our
    pipeline does, and without Gymnasium's checker.
    """
    from stable_baselines3.common.vec_env import DummyVecEnv

    return DummyVecEnv([lambda: gym.make("CartPole-v1", disable_env_checker=True)] * environments)


def _speed(borders: list[float]) -> float:
    """Steps a second over whole windows, from the times between them."""
    return ENVIRONMENTS * STEPS * (len(borders) - 1) / (borders[-1] - borders[0])
