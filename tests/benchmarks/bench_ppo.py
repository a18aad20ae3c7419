"""How fast PPO in PyTorch acts, learns and does both, beside plain PyTorch and beside Stable-Baselines3.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_ppo [--quick]

End to end is CartPole, 8 environments x 256 steps, 10 epochs, two 2x64 tanh networks: steps per CPU second,
the first two windows left out. One update is 2048 samples with those settings, by hand and by autograd.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from optix_bus.agents import make_agent
from optix_bus.agents.torch.ppo import TorchPPOAgent
from tests.agents.windows import VECTOR, random_window
from tests.benchmarks import end_to_end
from tests.benchmarks.end_to_end import PEER
from tests.benchmarks.measure import Demand, Table, interleaved, run


def bench(quick: bool) -> Table:
    """The table."""
    end_to_end.one_thread()
    rounds = 1 if quick else 7
    table = Table("PPO in PyTorch, CPU time", judged=not quick)
    for minibatch in (64, 256):
        ours = end_to_end.ppo("torch", minibatch, 1 if quick else 8)
        peer = end_to_end.peer_ppo(minibatch, 1 if quick else 2)
        found = interleaved(rounds, {"ours": ours, PEER: peer}, warm_up=not quick)
        table.add(
            f"CartPole end to end, minibatch {minibatch}",
            found["ours"],
            "steps/s",
            beside=PEER,
            peer=found[PEER],
            ratio=found["ours"].over(found[PEER]),
            demand=Demand(">=", 1.5),
        )
        table.add("  of which collecting", ours.shares(rounds), "%")
    for minibatch in (64, 256):
        _updates(table, minibatch, rounds)
    _acting(table, rounds, 20 if quick else 2000)
    return table


def _updates(table: Table, minibatch: int, rounds: int) -> None:
    ways = {"by hand": (True, True), "autograd, fused": (False, True), "autograd": (False, False)}
    found = interleaved(rounds, {name: _update(minibatch, *way) for name, way in ways.items()})
    plain = found["autograd"]
    for name, series in found.items():
        beside = {} if name == "autograd" else {"peer": plain, "ratio": plain.over(series)}
        table.add(
            f"update, minibatch {minibatch}, {name}",
            series,
            "ms",
            beside="autograd" if beside else "",
            **beside,  # type: ignore[arg-type]
        )


def _update(minibatch: int, fast: bool, fused: bool) -> Callable[[], float]:
    made = make_agent(VECTOR, seed=0, hyperparams={"minibatch_size": minibatch})
    assert isinstance(made, TorchPPOAgent)
    parameters = [*made._actor.parameters(), *made._critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-4, eps=1e-5, fused=fused)
    agent = TorchPPOAgent(made._actor, made._critic, optimizer, made.get_hyperparams(), fast=fast, seed=0)
    window = random_window(0, steps=256, width=8)
    return lambda: 1e3 * _seconds(lambda: agent.learn(window), 1)


def _acting(table: Table, rounds: int, times: int) -> None:
    agent = make_agent(VECTOR, seed=0)
    assert isinstance(agent, TorchPPOAgent)
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    policy = agent.policy()
    ways: dict[str, Callable[[], Any]] = {
        "policy, batch 8, deterministic": lambda: policy.act_batch(x, deterministic=True),
        "policy, batch 8, sampling": lambda: policy.act_batch(x),
        "agent, batch 8, sampling, weights compared": lambda: agent.act_batch(x),
    }
    measures = {name: (lambda call=call: 1e6 * _seconds(call, times)) for name, call in ways.items()}
    for name, series in interleaved(rounds, measures).items():
        table.add(f"acting: {name}", series, "µs")


def _seconds(call: Callable[[], Any], times: int) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times


if __name__ == "__main__":
    run(bench)
