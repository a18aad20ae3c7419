"""PPO on CartPole end to end, beside Stable-Baselines3 with the same settings.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_training [--quick]

8 environments x 256 steps, 2x64 tanh, 10 epochs, minibatch 256, one thread. Steps per second are of
collecting and learning alone, over whole windows, the first left out. Time to 475 counts from nothing (agent
and environments are built in it) until the mean of 20 deterministic episodes is 475 or more, with such an
evaluation of every window on both sides. Through processes it counts from the command line on, and so does
the peer there: the time that a fresh interpreter takes to import it is added.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from tests.benchmarks import cartpole_runs, measure
from tests.benchmarks.cartpole_runs import Reached
from tests.benchmarks.measure import Demand, Series, Table, interleaved

SCORE = 475.0
DEMAND = Demand(">=", 1.5, "x")
PEER = "Stable-Baselines3"


def bench(quick: bool) -> Table:
    """The table."""
    import torch

    torch.set_num_threads(1)
    table = Table("PPO CartPole end to end, 8 x 256 steps a window", judged=not quick)
    _speed(table, *((3, 1) if quick else (12, 5)))
    _time_to_score(table, *((20.0, 3, 1) if quick else (SCORE, 200, 5)))
    return table


def _speed(table: Table, windows: int, rounds: int) -> None:
    ways: dict[str, Callable[[int, int], float]] = {
        PEER: cartpole_runs.stable_baselines3_speed,
        "inline": cartpole_runs.inline_speed,
        "processes": cartpole_runs.processes_speed,
        "processes, lookahead 1": functools.partial(cartpole_runs.processes_speed, lookahead=1),
    }
    found = interleaved(rounds, {name: _seeded(way, windows) for name, way in ways.items()}, warm_up=False)
    peer = found.pop(PEER)
    for name, ours in found.items():
        demand = DEMAND if name in ("inline", "processes") else None
        ratio = ours.over(peer)
        table.add(
            f"collect and learn, {name}", ours, "steps/s", beside=PEER, peer=peer, ratio=ratio, demand=demand
        )


def _seeded(way: Callable[[int, int], float], windows: int) -> Callable[[], float]:
    """Another seed each time it is called."""
    seeds = iter(range(1000))
    return lambda: way(windows, next(seeds))


def _time_to_score(table: Table, score: float, windows: int, seeds: int) -> None:
    peers: list[Reached] = []
    inline: list[Reached] = []
    processes: list[Reached] = []
    starts: list[float] = []
    imports: list[float] = []
    for seed in range(seeds):
        inline.append(cartpole_runs.inline_until(score, windows, seed))
        peers.append(cartpole_runs.stable_baselines3_until(score, windows, seed))
        imports.append(cartpole_runs.import_seconds("stable_baselines3"))
        reached, start = cartpole_runs.processes_until(score, windows, seed)
        processes.append(reached)
        starts.append(start)
    took = _seconds(peers)
    command = Series.of(a + b for a, b in zip(took.values, imports, strict=True))
    for name, ours, peer in (
        ("inline", inline, took),
        ("processes, from the command on", processes, command),
    ):
        table.add(
            f"time to {score:g}, {name}",
            _seconds(ours),
            "s",
            beside=PEER,
            peer=peer,
            # Seeds of different programs are no pairs: the ratio of the medians is what there is to say.
            ratio=Series((peer.median / _seconds(ours).median,)),
        )
    table.add("  of which until the first evaluation, processes", Series.of(starts), "s")
    for name, ours in (("inline", inline), ("processes", processes)):
        table.add(
            f"windows to {score:g}, {name}", _windows(ours), "windows", beside=PEER, peer=_windows(peers)
        )


def _seconds(reached: list[Reached]) -> Series:
    return Series.of(one.seconds for one in reached)


def _windows(reached: list[Reached]) -> Series:
    return Series.of(one.windows for one in reached)


if __name__ == "__main__":
    measure.run(bench)
