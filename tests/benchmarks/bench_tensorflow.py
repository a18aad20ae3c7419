"""Every algorithm in TensorFlow end to end, beside Stable-Baselines3 (PyTorch) with the same settings.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_tensorflow [--quick]

Steps of the environment per CPU second, user and system of all threads, collecting and learning together.
PPO on CartPole (8 environments x 256 steps, 2x64 tanh, 10 epochs), DQN on CartPole (2x256, 128 gradient steps
of 64 for 256 steps), SAC (2x256) and TD3 (400 x 300) on Pendulum (a gradient step of 256 for each step). What
is traced and compiled is not in it: the first windows of both sides are left out.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks import end_to_end, measure
from tests.benchmarks.end_to_end import PEER, Ours
from tests.benchmarks.measure import Demand, Table, interleaved

DEMAND = Demand(">=", 1.0)


def bench(quick: bool) -> Table:
    """The table."""
    end_to_end.one_thread("tf")
    few, more, rounds = (1, 1, 1) if quick else (2, 8, 5)
    table = Table("TensorFlow end to end, steps of the environment per CPU second", judged=not quick)
    pairs: dict[str, tuple[Callable[[], Ours], Callable[[], Callable[[], float]]]] = {
        "PPO, minibatch 64": (
            lambda: end_to_end.ppo("tf", 64, more),
            lambda: end_to_end.peer_ppo(64, few),
        ),
        "PPO, minibatch 256": (
            lambda: end_to_end.ppo("tf", 256, more),
            lambda: end_to_end.peer_ppo(256, few),
        ),
        "DQN": (lambda: end_to_end.dqn("tf", more), lambda: end_to_end.peer_dqn(more)),
        "SAC": (lambda: end_to_end.bounded("sac", "tf", few), lambda: end_to_end.peer_bounded("sac", few)),
        "TD3": (lambda: end_to_end.bounded("td3", "tf", few), lambda: end_to_end.peer_bounded("td3", few)),
    }
    for name, (make_ours, make_peer) in pairs.items():
        ours = make_ours()
        found = interleaved(rounds, {"ours": ours, PEER: make_peer()}, warm_up=not quick)
        mine, peer = found["ours"], found[PEER]
        table.add(name, mine, "steps/s", beside=PEER, peer=peer, ratio=mine.over(peer), demand=DEMAND)
        table.add("  of which collecting", ours.shares(rounds), "%")
    return table


if __name__ == "__main__":
    measure.run(bench)
