"""How fast DQN learns, beside the bare calls of PyTorch and beside Stable-Baselines3, in CPU time.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_dqn

Both train on CartPole with two hidden layers of 256, batches of 64 and 128 gradient steps for each 256 steps
of one environment; ours is double, which is one more pass forward. The floor is what a gradient step takes
with nothing around it: the passes of the same networks forward and back, and the optimizer. Asked for is 1.5
times the peer or 80 % of the floor, whichever is less.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch import nn

from tests.benchmarks import end_to_end
from tests.benchmarks.end_to_end import PEER
from tests.benchmarks.measure import Demand, Series, Table, interleaved, run

STEPS = 256


def bench(quick: bool) -> Table:
    """The table."""
    end_to_end.one_thread()
    windows, rounds = (2, 1) if quick else (16, 5)
    by_hand = end_to_end.dqn("torch", windows)
    measures: dict[str, Callable[[], float]] = {
        "by hand": by_hand,
        "autograd": end_to_end.dqn("torch", windows, _fast=False),
        "floor": lambda: _floor(windows),
        PEER: end_to_end.peer_dqn(windows),
    }
    found = interleaved(rounds, measures, warm_up=not quick)
    peer, floor = found[PEER], found["floor"]
    asked = Series.of(min(1.5 * one, 0.8 * two) for one, two in zip(peer.values, floor.values, strict=True))
    besides = {PEER: peer, "the bare gradient steps": floor, "the lesser of 1.5 peers and .8 floors": asked}
    table = Table("DQN on CartPole: steps of the environment per CPU second", judged=not quick)
    for name in ("by hand", "autograd"):
        for beside, series in besides.items():
            demanded = name == "by hand" and series is asked
            table.add(
                f"acting and learning, {name}",
                found[name],
                "steps/s",
                beside=beside,
                peer=series,
                ratio=found[name].over(series),
                demand=Demand(">=", 1.0) if demanded else None,
            )
    table.add("  of which collecting, by hand", by_hand.shares(rounds), "%")
    return table


def _floor(windows: int) -> float:
    """Gradient steps alone, as steps of the environment that they would belong to."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))
    target = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    x, following, slopes = torch.randn(64, 4), torch.randn(64, 4), torch.randn(64, 2)

    def steps(count: int) -> None:
        for _ in range(count):
            with torch.no_grad():
                target(following)
                network(following)
            optimizer.zero_grad()
            network(x).backward(slopes)
            optimizer.step()

    steps(50)
    began = time.process_time()
    steps(windows * 128)
    return windows * STEPS / (time.process_time() - began)


if __name__ == "__main__":
    run(bench)
