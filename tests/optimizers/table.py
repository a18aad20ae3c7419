"""Prints how far each tuner gets on noisy test functions.

    python -m tests.optimizers.table [RUNS]

Five parameters in [0, 1], 400 evaluations, no delay. Quadratic: condition 10, from 0.5 off the
optimum in each. Rosenbrock: five variables on [-2.048, 2.048], from (-1.2, 1, -1.2, 1, -1.2). The noise is a
share of the value at the start, and so is what is left at the end: medians and 90 % quantiles over the runs.
Flat: how far the centre has moved by noise alone, root mean square and largest mean of a
coordinate, in ranges.
"""

from __future__ import annotations

import sys

import numpy as np

from tests.optimizers.worlds import TUNERS, Loop, Objective, centre, tuner

STIFFNESS = 10.0 ** np.linspace(0.0, 1.0, 5)
EVALUATIONS, DIMENSIONS = 400, 5
CORNER = 2.048


def quadratic(x: np.ndarray) -> float:
    """Condition 10; optimum at 0.7."""
    return float(np.sum(STIFFNESS * (x - 0.7) ** 2))


def rosenbrock(x: np.ndarray) -> float:
    """Chained, in five variables."""
    z = CORNER * (2.0 * x - 1.0)
    return float(np.sum(100.0 * (z[1:] - z[:-1] ** 2) ** 2 + (1.0 - z[:-1]) ** 2))


FUNCTIONS: dict[str, tuple[Objective, np.ndarray]] = {
    "quadratic": (quadratic, np.full(5, 0.2)),
    "Rosenbrock": (rosenbrock, (np.array([-1.2, 1.0, -1.2, 1.0, -1.2]) / CORNER + 1.0) / 2.0),
}


def left(method: str, function: str, noise: float, runs: int) -> np.ndarray:
    """``[runs]`` loss at the final centre, as a share of the loss at the start."""
    loss, start = FUNCTIONS[function]
    first, found = loss(start), []
    for seed in range(runs):
        mind = tuner(method, DIMENSIONS, seed)
        Loop(lambda x: -loss(x), start.tolist(), noise=noise * first, seed=seed).run(mind, EVALUATIONS, 0)
        found.append(loss(centre(mind)) / first)
    return np.array(found)


def wandered(method: str, runs: int) -> np.ndarray:
    """``[runs, d]`` how far the centre has moved where there is nothing but noise."""
    found = []
    for seed in range(runs):
        mind = tuner(method, DIMENSIONS, seed)
        Loop(lambda x: 0.0, [0.5] * DIMENSIONS, noise=1.0, seed=seed).run(mind, EVALUATIONS, 0)
        found.append(centre(mind) - 0.5)
    return np.array(found)


def main(runs: int) -> None:
    """Print the table as Markdown."""
    cases = [(function, noise) for function in FUNCTIONS for noise in (0.1, 0.02)]
    heads = [f"{function}, noise {noise:g}" for function, noise in cases]
    print(f"| {runs} runs | " + " | ".join([*heads, "worse than at the start", "flat: rms, mean"]) + " |")
    print("|" + "---|" * (len(heads) + 3))
    for method in TUNERS:
        cells, worse = [], 0
        for function, noise in cases:
            share = left(method, function, noise, runs)
            worse += int(np.sum(share > 1.0))
            cells.append(f"{np.median(share):.3f} ({np.quantile(share, 0.9):.3f})")
        away = wandered(method, runs)
        flat = f"{np.sqrt(np.mean(away**2)):.2f}, {np.abs(away.mean(axis=0)).max():.2f}"
        print("| " + " | ".join([method, *cells, f"{worse} of {runs * len(cases)}", flat]) + " |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
