"""The page of results: `RESULTS.md` is what this writes, as it is printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

import numpy as np

from tests.learning.demands import interquartile_mean, interval
from tests.learning.gates import Gate
from tests.learning.trial import EPISODES, JUDGE_SEED, Result

_HEAD = (
    "gate", "environment", "algorithm", "framework", "steps", "each seed", "IQM [95 %]", "demand", "",
    "CPU min", "reference",
)  # fmt: skip
_FRAMEWORKS = {"torch": "torch", "tensorflow": "tensorflow", "jax": "jax"}
Results = Mapping[tuple[str, int], Result]


def of(gate: Gate, results: Results) -> list[Result]:
    """Those of the gate's present settings, by seed."""
    found = [each for each in results.values() if (each.gate, each.digest) == (gate.name, gate.digest)]
    return sorted(found, key=lambda each: each.seed)


def verdict(gate: Gate, results: Results, gates: Iterable[Gate]) -> bool | None:
    """Whether the gate is met; None where it, or the gate that it rests on, has not been run."""
    mine, others = of(gate, results), []
    if gate.demand.rests_on is not None:
        others = of(next(each for each in gates if each.name == gate.demand.rests_on), results)
        if not others:
            return None
    return gate.demand.holds(_scores(mine), _scores(others)) if mine else None


def page(gates: Sequence[Gate], results: Results, seeds: int, where: str) -> str:
    """Heading, table and footnotes: where settings differ, and where there are fewer seeds than asked for."""
    rows, notes = [], []
    for gate in gates:
        mine = of(gate, results)
        note = _note(gate, len(mine), seeds)
        if note:
            notes.append(f"{len(notes) + 1}. `{gate.name}`: {note}.")
        rows.append(_row(gate, mine, results, gates, f" ({len(notes)})" if note else ""))
    minutes = sum(each.cpu_minutes for gate in gates for each in of(gate, results))
    lines = [*_heading(gates, where), _line(_HEAD), _line(["---"] * len(_HEAD)), *map(_line, rows), ""]
    return "\n".join([*lines, f"{minutes:.0f} CPU minutes of training in all.", "", *notes]).rstrip() + "\n"


def _heading(gates: Sequence[Gate], where: str) -> list[str]:
    versions = [f"{each} {version(each)}" for each in sorted({_FRAMEWORKS[gate.framework] for gate in gates})]
    return [
        "# Learning gates",
        "",
        f"Printed by `python -m tests.learning --table tests/learning/RESULTS.md` on {where}; "
        f"{', '.join(versions)}. Settings: `tests/learning/gates.py`.",
        "",
        f"A score is the mean return (of bit-flip the share of successes) of {EPISODES} deterministic "
        "episodes of the policy as it is at the end of training, in every row: no best policy is picked, and "
        f"no seed is left out. Episodes of scores begin with seeds that follow from {JUDGE_SEED:,}, those of "
        "training from the seed of the trial. IQM: mean of the middle half of the seeds, with its bootstrap "
        "interval (Agarwal et al. 2021). CPU min: of one seed, all threads, environments included. The "
        "reference figures are of single runs, also of the last policy.",
        "",
    ]


def _note(gate: Gate, found: int, wanted: int) -> str:
    parts = [gate.differs] if gate.differs else []
    if 0 < found < wanted:
        parts.append(f"{found} instead of {wanted} seeds")
    return "; ".join(parts)


def _row(gate: Gate, mine: Sequence[Result], results: Results, gates: Sequence[Gate], mark: str) -> list[str]:
    reference = f"[{gate.reference}]({gate.source})" if gate.source else gate.reference
    algorithm = f"{gate.algorithm} ({gate.rnn})" if gate.rnn else gate.algorithm
    begin = [f"`{gate.name}`{mark}", gate.environment, algorithm, gate.framework, f"{gate.steps:,}"]
    if not mine:
        return [*begin, "not run", "", str(gate.demand), "", "", reference]
    scores, met = _scores(mine), verdict(gate, results, gates)
    low, high = interval(scores)
    return [
        *begin,
        " ".join(map(number, scores)),
        f"{number(interquartile_mean(scores))} [{number(low)}, {number(high)}]",
        str(gate.demand),
        "" if met is None else "met" if met else "**missed**",
        f"{np.mean([each.cpu_minutes for each in mine]):.2f}",
        reference,
    ]


def _scores(results: Iterable[Result]) -> list[float]:
    return [each.score for each in results]


def number(score: float) -> str:
    """A tenth for returns, two digits for shares."""
    return f"{score:.2f}" if abs(score) < 2.0 else f"{score:.1f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
