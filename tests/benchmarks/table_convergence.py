"""Prints how often each rule stops a curve that still rises, and how soon it sees a plateau.

python -m tests.benchmarks.table_convergence [RUNS]
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from optix_bus.loop import ConvergenceWatch, Evaluation, LoopMachine, LoopSettings
from optix_bus.stats import classical_test
from optix_bus.stats.power import required_window
from tests.benchmarks.convergence_curves import EPISODES, Curve, Rule, noise, stops, wilson


def equivalence(**settings: object) -> Rule:
    """The test alone."""
    watch = ConvergenceWatch(LoopSettings(**settings))  # type: ignore[arg-type]
    error = 1.0

    def rule(score: float, std: float) -> int:
        watch.record(score, std=std, n=EPISODES, standard_error=error)
        return watch.window if watch.converged else 0

    return rule


def loop(**settings: object) -> Rule:
    """The whole loop: the test, its guards, and evaluations without improvement before it is consulted."""
    machine = LoopMachine(LoopSettings(**settings))  # type: ignore[arg-type]
    seen = [0]

    def rule(score: float, std: float) -> int:
        seen[0] += 1
        found = Evaluation(seen[0] - 1, seen[0] - 1, 0, score, EPISODES, 1.0, std, seen[0] * 1000)
        return machine.watch.window if machine.judge(found).verdict == "dormant" else 0

    return rule


def classical(window: int = 20, corrected: bool = True) -> Rule:
    """Stops at the first full window without a significant rise."""
    scores: list[float] = []

    def rule(score: float, std: float) -> int:
        scores.append(score)
        if len(scores) < window:
            return 0
        return window if classical_test(scores[-window:], corrected=corrected).verdict == "plateau" else 0

    return rule


def window_for(amplitude: float, r: float) -> int:
    """The window that the automatic margin asks for at this amplitude and noise, as far as the cap allows."""
    settings = LoopSettings()
    margin = max(settings.margin_episode_sd * EPISODES**0.5, settings.margin_score_share * amplitude)
    return int(min(required_window(1.0, margin, r), settings.max_convergence_window))


def simulate(
    make: Callable[[], Rule], curve: Curve, r: float, window: int, runs: int, seed: int = 0
) -> tuple[int, int, float]:
    """Runs that stopped before 95 % of the end; runs that had stopped 1.5 windows (their own, or the given
    one where that is longer) after the plateau began; mean delay from 95 % to the stop, in windows."""
    length = curve.plateau + max(5 * window, 240)
    early = found = 0
    delays = []
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        at, used = stops(make(), curve.mean(length) + noise(rng, length, r))
        early += at < curve.settled
        found += at <= curve.plateau + 1.5 * max(window, used)
        if curve.settled <= at < length:
            delays.append((at - curve.settled) / window)
    return early, found, float(np.mean(delays)) if delays else float("nan")


RULES = {
    "equivalence": equivalence,
    "loop with guards": loop,
    "classical, corrected": classical,
    "classical, plain": lambda: classical(corrected=False),
}


def main(runs: int = 100) -> None:
    """Print the table."""
    print(
        f"{runs} runs a line; amplitude in noise-sd; early: stopped before 95 % of the end (95 % interval);"
    )
    print("power: stopped at the latest 1.5 windows after the plateau; delay: windows from 95 % to the stop")
    print(f"{'rule':22s}{'curve':13s}    A  tau/W    r    W   early                    power   delay")
    for kind in ("exponential", "ramp", "square root", "staircase"):
        for amplitude in (20.0, 100.0):
            for r in (0.0, 0.3, 0.6):
                for ratio in (0.5, 1.0, 3.0):
                    window = window_for(amplitude, r)
                    curve = Curve(kind, amplitude, ratio * window)
                    for name, make in RULES.items():
                        early, found, delay = simulate(make, curve, r, window, runs)
                        low, high = wilson(early, runs)
                        print(
                            f"{name:22s}{kind:13s}{amplitude:5.0f}{ratio:7.2f}{r:5.1f}{window:5d}   "
                            f"{early / runs:5.3f} [{low:.3f}, {high:.3f}]  {found / runs:7.3f}{delay:8.2f}",
                            flush=True,
                        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
