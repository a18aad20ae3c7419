"""What pruning saves and what it costs, by simulation: ``python -m tests.trials.pruning``.

A trial is a learning curve without an environment: it rises exponentially from 0 to the height that its three
settings earn (1 at the optimum), with a time constant that depends on the settings too, and is seen with
noise. Each search is done twice with the same seeds, with and without pruning, by the same study and the same
grid as real ones. The regret is the loss of true final height, as a share of the height that is lost by not
searching: best possible minus the mean of a random trial.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from optix_bus.trials.course import Budget, Course
from optix_bus.trials.space import ParamSpace
from optix_bus.trials.study import TrialStudy

SPACE = ParamSpace({"a": ("float", 0.0, 1.0), "b": ("float", 0.0, 1.0), "c": ("log_float", 1e-4, 1e-1)})
BUDGET = Budget.of(50_000, None)
EVALUATION_STEPS = 2_048


@dataclass(frozen=True)
class World:
    """How curves come about.

    Attributes:
        name: in the table.
        noise: standard deviation of one evaluation; 1 is the height of the best.
        crossing: how far the time constant is independent of the height. At 0 good settings are quick ones,
            so that curves never cross; at 1 height and pace have nothing to do with one another.
    """

    name: str
    noise: float
    crossing: float


WORLDS = (
    World("good is quick, little noise", 0.02, 0.0),
    World("good is quick, noise", 0.10, 0.0),
    World("curves cross, noise", 0.10, 0.5),
    World("pace says nothing, noise", 0.10, 1.0),
)
#: The worlds of which the gate speaks; in the last one nothing that looks at beginnings can be right.
GATE = WORLDS[:3]


def height(params: dict[str, float]) -> float:
    """True final score of settings, in (0, 1]."""
    c = (np.log10(params["c"]) + 4.0) / 3.0
    return float(np.exp(-4.0 * ((params["a"] - 0.7) ** 2 + (params["b"] - 0.3) ** 2) - 6.0 * (c - 0.5) ** 2))


def pace(params: dict[str, float], world: World) -> float:
    """Time constant in steps: a tenth to half of the budget."""
    other = (np.sin(37.0 * params["a"] + 11.0 * params["b"]) + 1.0) / 2.0
    slowness = (1.0 - world.crossing) * (1.0 - height(params)) + world.crossing * other
    return float(BUDGET.amount * (0.1 + 0.4 * slowness))


def search(world: World, seed: int, trials: int, *, prune: bool) -> tuple[float, int]:
    """True final height of the settings that the search would choose, and the steps that it took."""
    study = TrialStudy(SPACE, BUDGET, None, seed=seed, prune=prune)
    steps = 0
    while (claimed := study.claim(trials)) is not None:
        params = SPACE.suggest(claimed)
        rng = np.random.default_rng([seed, claimed.number])
        course, used, best = Course(claimed, BUDGET), 0, -np.inf
        pruned = False
        while used < BUDGET.amount and not pruned:
            used += EVALUATION_STEPS
            true = height(params) * (1.0 - np.exp(-used / pace(params, world)))
            best = max(best, true)
            pruned = course.see(true + world.noise * rng.normal(), used)
        steps += used
        if pruned:
            study.prune(claimed)
        else:  # as the loop does: the best is confirmed on fresh episodes, four times as many
            study.complete(claimed, best + world.noise / 2.0 * rng.normal())
    found = study.best()
    assert found is not None
    return height(found.params), steps


@dataclass(frozen=True)
class Result:
    """Means over searches; regrets with the half width of their 95 % interval."""

    world: str
    saved: float
    regret: float
    half_width: float
    pruned_height: float
    full_height: float


def simulate(world: World, seeds: Sequence[int], trials: int = 20) -> Result:
    """Pairs of searches with common random numbers."""
    draw = np.random.default_rng(1)
    random = np.mean(
        [
            height({"a": draw.random(), "b": draw.random(), "c": 10 ** draw.uniform(-4, -1)})
            for _ in range(4000)
        ]
    )
    pairs = [(search(world, s, trials, prune=True), search(world, s, trials, prune=False)) for s in seeds]
    regrets = np.array([(full - short) / (1.0 - random) for (short, _), (full, _) in pairs])
    saved = 1.0 - sum(steps for (_, steps), _ in pairs) / sum(steps for _, (_, steps) in pairs)
    return Result(
        world.name,
        float(saved),
        float(regrets.mean()),
        float(1.96 * regrets.std(ddof=1) / np.sqrt(len(regrets))),
        float(np.mean([short for (short, _), _ in pairs])),
        float(np.mean([full for _, (full, _) in pairs])),
    )


def main(count: int = 100) -> None:
    """Print the table."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"`python -m tests.trials.pruning {count}`: {count} pairs of searches a row, 20 trials each of")
    print(f"{BUDGET}, compared every {BUDGET.interval:,} steps after {BUDGET.warmup:,}.\n")
    print("| curves | steps saved | regret | height with pruning | without |")
    print("|---|---|---|---|---|")
    for world in WORLDS:
        row = simulate(world, range(count))
        print(
            f"| {row.world} | {row.saved:.1%} | {row.regret:.2%} ± {row.half_width:.2%} | "
            f"{row.pruned_height:.3f} | {row.full_height:.3f} |"
        )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
