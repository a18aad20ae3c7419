"""SAC and TD3 on Pendulum, beside Stable-Baselines3 with the same settings and beside the bare floor.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_continuous [--quick]

Steps per CPU second of one thread: one environment, one gradient step of 256 transitions for each step, the
networks of the public benchmark tables on both sides (SAC 2x256, TD3 400 x 300), Adam, learning from the
first step on. The floor is what PyTorch cannot do without: the forward and backward passes and optimizer
steps of the very networks of our agent, on constant tensors, with nothing around them. Asked for is 1.5 times
the peer or 80 % of the floor, whichever is less; the last row of each counts from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import torch

from optix_bus import make_agent
from tests.benchmarks import end_to_end, measure
from tests.benchmarks.end_to_end import PEER, rate
from tests.benchmarks.measure import Demand, Series, Table, interleaved

BATCH = 256
DEMAND = Demand(">=", 1.0, "x of the demand")


def bench(quick: bool) -> Table:
    """The table."""
    end_to_end.one_thread()
    steps, rounds = (100, 1) if quick else (300, 5)
    table = Table("Pendulum end to end, one gradient step for each step", judged=not quick)
    for algorithm in ("sac", "td3"):
        windows = steps // 100
        ours_runs = end_to_end.bounded(algorithm, "torch", windows)
        measures = {
            "ours": ours_runs,
            PEER: end_to_end.peer_bounded(algorithm, windows),
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
        table.add(f"  of which collecting, {name}", ours_runs.shares(rounds), "%")
    return table


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

    return lambda: rate(steps, work)


if __name__ == "__main__":
    measure.run(bench)
