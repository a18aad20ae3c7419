"""Agents as users run them, pipeline and learning together, and Stable-Baselines3 with the same settings.

Each function builds one of them and returns what works a little and tells steps of the environment per CPU
second of this process, all its threads together. Both sides compute in one thread; nothing is logged,
monitored or checked on either side.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch

from optix_bus import BatchPipeline, VectorBatchPipeline, make_agent
from tests.benchmarks import cartpole_runs
from tests.benchmarks.cartpole_runs import ENVIRONMENTS, HYPERPARAMETERS, STEPS
from tests.benchmarks.measure import Series

PEER = "Stable-Baselines3"
#: Of PPO, all environments together.
WINDOW = ENVIRONMENTS * STEPS
# DQN: two hidden layers of 256, batches of 64, 128 gradient steps for each 256 steps of one environment.
_DQN = {"learning_rate": 2.3e-3, "train_freq": 256, "gradient_steps": 128, "target_update_freq": 128}
_DQN_WINDOW, _DQN_STARTS = 256, 1000
# SAC 2x256, TD3 400 x 300, as in the public benchmark tables; one gradient step for each step.
_BOUNDED = {"learning_rate": 1e-3, "batch_size": 256, "learning_starts": 0, "replay_capacity": 100_000}
_BOUNDED_WINDOW = 100


def one_thread(framework: str = "torch") -> None:
    """Compute in one thread, as the peer does; before anything else is computed. JAX does so by itself."""
    torch.set_num_threads(1)
    if framework == "tf":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


class Ours:
    """An agent and its pipeline; each call collects and learns a few windows.

    Args:
        agent: learns.
        pipeline: its windows.
        windows: of each call.
        steps: of all environments in a window.
        before: windows that are learnt first, and not measured.

    Attributes:
        collecting: what part of the CPU time of each call went into collecting, in percent.
        agent: the agent.
    """

    def __init__(self, agent: Any, pipeline: Any, windows: int, steps: int, before: int = 1) -> None:
        self.agent = agent
        self.collecting: list[float] = []
        self._count, self._steps = windows, windows * steps
        pipeline.setup()
        self._windows = pipeline.episodes()
        for _ in range(before):
            agent.learn(next(self._windows))

    def __call__(self) -> float:
        """Steps per CPU second."""
        collecting = 0.0
        began = time.process_time()
        for _ in range(self._count):
            start = time.process_time()
            window = next(self._windows)
            collecting += time.process_time() - start
            self.agent.learn(window)
        taken = time.process_time() - began
        self.collecting.append(100 * collecting / taken)
        return self._steps / taken

    def shares(self, rounds: int) -> Series:
        """`collecting` of the last calls."""
        return Series.of(self.collecting[-rounds:])


def rate(steps: int, work: Callable[[], object]) -> float:
    """Steps per CPU second of a piece of work."""
    began = time.process_time()
    work()
    return steps / (time.process_time() - began)


def ppo(framework: str, minibatch: int, windows: int, before: int = 2) -> Ours:
    """PPO on CartPole: 8 environments x 256 steps, 2x64 tanh, 10 epochs."""
    settings = {**HYPERPARAMETERS, "minibatch_size": minibatch}
    agent = make_agent(_cartpole(), framework=framework, algorithm="ppo", hyperparams=settings, seed=0)
    pipeline = VectorBatchPipeline([_cartpole] * ENVIRONMENTS, agent, window_size=STEPS, seed=0)
    return Ours(agent, pipeline, windows, WINDOW, before)


def peer_ppo(minibatch: int, windows: int) -> Callable[[], float]:
    """The same in Stable-Baselines3."""
    model = cartpole_runs.stable_baselines3(0, minibatch)
    model.learn(WINDOW)
    steps = windows * WINDOW
    return lambda: rate(steps, lambda: model.learn(steps, reset_num_timesteps=False))


def dqn(framework: str, windows: int, **options: Any) -> Ours:
    """Double DQN on CartPole. ``options`` are attributes that the agent is given."""
    agent = make_agent(_cartpole(), framework=framework, algorithm="dqn", hyperparams=_DQN, seed=0)
    for name, value in options.items():
        setattr(agent, name, value)
    pipeline = BatchPipeline(_cartpole(), agent, window_size=_DQN_WINDOW, seed=0)
    return Ours(agent, pipeline, windows, _DQN_WINDOW, before=2 + _DQN_STARTS // _DQN_WINDOW)


def peer_dqn(windows: int) -> Callable[[], float]:
    """The same in Stable-Baselines3, which has no double DQN: one pass forward less."""
    from stable_baselines3 import DQN

    model = cartpole_runs.quiet(
        DQN(
            "MlpPolicy",
            cartpole_runs.vector(1),
            learning_rate=_DQN["learning_rate"],
            batch_size=64,
            learning_starts=_DQN_STARTS,
            train_freq=_DQN_WINDOW,
            gradient_steps=128,
            target_update_interval=_DQN_WINDOW,
            policy_kwargs={"net_arch": [256, 256]},
            device="cpu",
            seed=0,
        )
    )
    model.learn((2 + _DQN_STARTS // _DQN_WINDOW) * _DQN_WINDOW)
    steps = windows * _DQN_WINDOW
    return lambda: rate(steps, lambda: model.learn(steps, reset_num_timesteps=False))


def bounded(algorithm: str, framework: str, windows: int) -> Ours:
    """SAC or TD3 on Pendulum, learning from the first step on."""
    env = _pendulum()
    agent = make_agent(env, framework=framework, algorithm=algorithm, hyperparams=_BOUNDED, seed=0)
    pipeline = BatchPipeline(env, agent, window_size=_BOUNDED_WINDOW, seed=0)
    return Ours(agent, pipeline, windows, _BOUNDED_WINDOW)


def peer_bounded(algorithm: str, windows: int) -> Callable[[], float]:
    """The same in Stable-Baselines3."""
    from stable_baselines3 import SAC, TD3
    from stable_baselines3.common.noise import NormalActionNoise
    from stable_baselines3.common.vec_env import DummyVecEnv

    env = DummyVecEnv([_pendulum])
    settings: dict[str, Any] = {**_BOUNDED, "buffer_size": 100_000, "device": "cpu", "seed": 0}
    del settings["replay_capacity"]
    if algorithm == "sac":
        model: Any = SAC("MlpPolicy", env, policy_kwargs={"net_arch": [256, 256]}, **settings)
    else:
        noise = NormalActionNoise(np.zeros(1), np.full(1, 0.1))
        policy = {"net_arch": [400, 300]}
        model = TD3("MlpPolicy", env, action_noise=noise, policy_kwargs=policy, **settings)
    cartpole_runs.quiet(model).learn(_BOUNDED_WINDOW)
    steps = windows * _BOUNDED_WINDOW
    return lambda: rate(steps, lambda: model.learn(steps, reset_num_timesteps=False))


def _cartpole() -> Any:
    return gymnasium.make("CartPole-v1", disable_env_checker=True)


def _pendulum() -> Any:
    return gymnasium.make("Pendulum-v1", disable_env_checker=True)
