"""SAC and TD3 on Pendulum, beside Stable-Baselines3 with the same settings and beside the bare floor.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_continuous [--quick]

Steps per CPU second of one thread: one environment, one gradient step of 256 transitions for each step, the
networks of the public benchmark tables on both sides (SAC 2x256, TD3 400 x 300), Adam, learning from the
first step on. The floor is what PyTorch cannot do without: the forward and backward passes and optimizer
steps of the very networks of our agent, on constant tensors, with nothing around them. Asked for is 1.5 times
the peer or 80 % of the floor, whichever is less; the last row of each counts from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch

from optix_bus import BatchPipeline, make_agent
from tests.benchmarks import measure
from tests.benchmarks.measure import Demand, Series, Table, interleaved

PEER = "Stable-Baselines3"
BATCH = 256
WINDOW = 100
DEMAND = Demand(">=", 1.0, "x of the demand")


def bench(quick: bool) -> Table:
    """The table."""
    torch.set_num_threads(1)
    steps, rounds = (100, 1) if quick else (300, 5)
    table = Table("Pendulum end to end, one gradient step for each step", judged=not quick)
    for algorithm in ("sac", "td3"):
        measures = {
            "ours": _ours(algorithm, steps),
            PEER: _stable_baselines3(algorithm, steps),
            "floor": _floor(algorithm, steps),
        }
        found = interleaved(rounds, measures, warm_up=not quick)
        ours, peer, floor = found["ours"], found[PEER], found["floor"]
        asked = Series.of(
            min(1.5 * one, 0.8 * two) for one, two in zip(peer.values, floor.values, strict=True)
        )
        name, unit = algorithm.upper(), "steps/CPU s"
        table.add(f"{name}, collect and learn", ours, unit, beside=PEER, peer=peer, ratio=ours.over(peer))
        table.add(
            f"{name}, collect and learn", ours, unit, beside="floor", peer=floor, ratio=ours.over(floor)
        )
        table.add(
            f"{name}, what is asked for", ours, unit, beside="the lesser of 1.5 peers and .8 floors",
            peer=asked, ratio=ours.over(asked), demand=DEMAND,
        )  # fmt: skip
    return table


def _rate(steps: int, work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return steps / (time.process_time() - began)


def _ours(algorithm: str, steps: int) -> Callable[[], float]:
    env = gymnasium.make("Pendulum-v1")
    agent = make_agent(env, algorithm=algorithm, seed=0, hyperparams=_settings())
    pipeline = BatchPipeline(env, agent, window_size=WINDOW, seed=0)
    pipeline.setup()
    windows = pipeline.episodes()
    agent.learn(next(windows))

    def work() -> None:
        for _ in range(steps // WINDOW):
            agent.learn(next(windows))

    return lambda: _rate(steps, work)


def _settings() -> dict[str, Any]:
    return {"learning_rate": 1e-3, "batch_size": BATCH, "learning_starts": 0, "replay_capacity": 100_000}


def _stable_baselines3(algorithm: str, steps: int) -> Callable[[], float]:
    from stable_baselines3 import SAC, TD3
    from stable_baselines3.common.noise import NormalActionNoise

    env = gymnasium.make("Pendulum-v1")
    settings = {**_settings(), "buffer_size": 100_000, "device": "cpu", "seed": 0}
    del settings["replay_capacity"]
    if algorithm == "sac":
        model: Any = SAC("MlpPolicy", env, policy_kwargs={"net_arch": [256, 256]}, **settings)
    else:
        noise = NormalActionNoise(np.zeros(1), np.full(1, 0.1))
        policy = {"net_arch": [400, 300]}
        model = TD3("MlpPolicy", env, action_noise=noise, policy_kwargs=policy, **settings)
    model.learn(WINDOW)
    return lambda: _rate(steps, lambda: model.learn(steps, reset_num_timesteps=False))


def _floor(algorithm: str, steps: int) -> Callable[[], float]:
    """Steps for which the networks alone could be trained; a step is one gradient step."""
    agent: Any = make_agent(gymnasium.make("Pendulum-v1"), algorithm=algorithm, seed=0)
    actor, critics, targets = agent._actor, (agent._critic1, agent._critic2), agent._targets
    generator = torch.Generator().manual_seed(0)
    observations, following = torch.randn((2, BATCH, 3), generator=generator)
    actions = torch.randn((BATCH, 1), generator=generator)
    sac = algorithm == "sac"
    next_actor, judges = (actor, critics) if sac else (agent._target_actor, critics[:1])
    optimizers = agent._optimizers
    if sac:
        agent._temperature.log_alpha.grad = torch.zeros(())

    def work() -> None:
        for step in range(steps):
            with torch.no_grad():
                next_actor(following)
                x = torch.cat([following, actions], 1)
                for target in targets:
                    target(x)
            x = torch.cat([observations, actions], 1)
            optimizers["critic_optimizer"].zero_grad()
            torch.autograd.backward(sum(critic(x).mean() for critic in critics))
            optimizers["critic_optimizer"].step()
            if not sac and step % 2:
                continue
            x = torch.cat([observations, actor(observations)[:, :1]], 1)
            optimizers["actor_optimizer"].zero_grad()
            weights = list(actor.parameters())
            torch.autograd.backward(sum(judge(x).mean() for judge in judges), inputs=weights)
            optimizers["actor_optimizer"].step()
            if sac:
                optimizers["alpha_optimizer"].step()

    return lambda: _rate(steps, work)


if __name__ == "__main__":
    measure.run(bench)
