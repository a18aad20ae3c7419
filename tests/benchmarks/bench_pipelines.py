"""How fast experience is collected, beside the environments alone.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_pipelines

Steps per second of one core: the median of five runs, and what the pipeline itself costs per step.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from optix_bus.agents.acting import load_policy
from optix_bus.pipelines import PipelineSettings, build_environment, make_pipeline
from optix_bus.types import NamedArrays

RUNS = 5


def main() -> None:
    """Print the table."""
    for environments in (1, 8, 64):
        policy = mlp_policy()
        report(f"CartPole x{environments} environments alone", raw_steps(environments))
        report(f"CartPole x{environments} acting alone", acting(policy, environments))
        for vectorization in ("sync", "native"):
            settings = PipelineSettings(environments=environments, vectorization=vectorization)
            pipeline = make_pipeline("CartPole-v1", {}, settings, seed=0, agent=policy)
            report(f"CartPole x{environments} {vectorization}, 2x64 MLP sampling", windows(pipeline))
            pipeline.teardown()
    settings = PipelineSettings(environments=10)
    pipeline = make_pipeline("CartPole-v1", {}, settings, role="validation", seed=0, agent=mlp_policy())
    report("CartPole, evaluation of 20 episodes in 10 environments", evaluations(pipeline))


def mlp_policy() -> Any:
    """A random 2x64 tanh policy of the library's own acting format."""
    rng = np.random.default_rng(0)
    arrays, layers = {}, []
    for index, (inputs, outputs) in enumerate([(4, 64), (64, 64), (64, 2)]):
        arrays[f"actor.{index}.weight"] = rng.normal(0, inputs**-0.5, (outputs, inputs)).astype(np.float32)
        arrays[f"actor.{index}.bias"] = np.zeros(outputs, np.float32)
        layers.append({"op": "linear", "weight": f"actor.{index}.weight", "bias": f"actor.{index}.bias"})
        if outputs == 64:
            layers.append({"op": "tanh"})
    description = {"format": 1, "kind": "mlp", "head": "categorical", "layers": layers}
    return load_policy(NamedArrays(arrays, {"policy": description}), np.random.default_rng(0))


def raw_steps(environments: int) -> Callable[[], int]:
    """Bare `env.step` with random actions, resets included."""
    made = [build_environment("CartPole-v1") for _ in range(environments)]
    for environment in made:
        environment.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 2, 2048).tolist()

    def run() -> int:
        count = max(1, 2048 // environments)
        for step in range(count):
            for environment in made:
                _, _, terminated, truncated, _ = environment.step(actions[step])
                if terminated or truncated:
                    environment.reset()
        return count * environments

    return run


def acting(policy: Any, environments: int) -> Callable[[], int]:
    """The policy on constant observations."""
    observations = np.zeros((environments, 4), np.float32)

    def run() -> int:
        for _ in range(500):
            policy.act_batch(observations, deterministic=False)
        return 500 * environments

    return run


def windows(pipeline: Any) -> Callable[[], int]:
    """Windows of 256 steps."""
    return lambda: int(pipeline.collect().metadata["steps"])


def evaluations(pipeline: Any) -> Callable[[], int]:
    """Complete episodes."""
    return lambda: int(pipeline.evaluate(20).metadata["steps"])


def report(name: str, run: Callable[[], int]) -> None:
    """Time it and print a line."""
    run()
    speeds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        steps = run()
        while (seconds := time.perf_counter() - began) < 0.4:
            steps += run()
        speeds.append(steps / seconds)
    speed = statistics.median(speeds)
    print(f"{name:<58} {speed:>12,.0f} steps/s   {1e6 / speed:>8.2f} us a step")


if __name__ == "__main__":
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    main()
