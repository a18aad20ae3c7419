"""The page of results: `RESULTS.md` is what this writes, as it is printed."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import packages_distributions, version

import numpy as np

from optix_bus.stats import bootstrap_interval
from tests.learning.gates import Gate
from tests.learning.trial import EPISODES, JUDGE_SEED, Result

_HEAD = (
    "gate", "environment", "algorithm", "framework", "steps", "each seed", "IQM [95 %]", "demand", "",
    "CPU min", "reference",
)  # fmt: skip
_HEADING = (
    "# Learning gates",
    "",
    "Printed by `python -m tests.learning --table tests/learning/RESULTS.md`. Settings: "
    "`tests/learning/gates.py`.",
    "",
    f"A score is the mean return (of bit-flip the share of successes) of {EPISODES} deterministic episodes "
    "of the policy as it is at the end of training, in every row: no best policy is picked, and no seed is "
    f"left out. Episodes of scores begin with seeds that follow from {JUDGE_SEED:,}, those of training from "
    "the seed of the trial. IQM: mean of the middle half of the seeds, with its bootstrap interval over "
    "seeds (Agarwal et al. 2021). CPU min: of one seed, all threads, environments included, not the score. "
    "The reference figures are of single runs, also of the last policy.",
    "",
    "Settings are those behind the reference figures where no footnote says otherwise, but DQN is double "
    "everywhere. Changes were tried on seeds from 1,000 on, which are not in the table.",
    "",
)
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


def page(gates: Sequence[Gate], results: Results, seeds: int) -> str:
    """Heading, table and footnotes: where settings differ, and where there are fewer seeds than asked for."""
    rows, notes = [], []
    for gate in gates:
        mine = of(gate, results)
        note = _note(gate, len(mine), seeds)
        if note:
            notes.append(f"{len(notes) + 1}. `{gate.name}`: {note}.")
        rows.append(_row(gate, mine, results, gates, f" ({len(notes)})" if note else "", seeds))
    counted = [each for gate in gates for each in of(gate, results)]
    minutes = sum(each.cpu_minutes for each in counted)
    table = [_line(_HEAD), _line(["---"] * len(_HEAD)), *map(_line, rows)]
    end = [f"{len(counted)} trials, {minutes:.0f} CPU minutes of training in all.", "", *notes]
    return "\n".join([*_HEADING, _machine(gates, counted), "", *table, "", *end]).rstrip() + "\n"


def _machine(gates: Sequence[Gate], counted: Sequence[Result]) -> str:
    """What this process runs on, with which frameworks, and how busy the machine was during the trials."""
    names = sorted({gate.framework for gate in gates})
    distributions = packages_distributions()
    versions = [f"{name} {version(distributions[name][0])}" for name in names if name in distributions]
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, no GPU used"
    loads = [each.load for each in counted if each.load is not None]
    busy = f"; load of the machine {min(loads):g} to {max(loads):g}" if loads else ""
    return f"{where}, Python {platform.python_version()}, {', '.join(versions)}{busy}."


def _note(gate: Gate, found: int, wanted: int) -> str:
    parts = [gate.differs] if gate.differs else []
    if 0 < found < wanted:
        parts.append(f"{found} instead of {wanted} seeds")
    return "; ".join(parts)


def _row(
    gate: Gate, mine: Sequence[Result], results: Results, gates: Sequence[Gate], mark: str, seeds: int
) -> list[str]:
    reference = f"[{gate.reference}]({gate.source})" if gate.source else gate.reference
    algorithm = f"{gate.algorithm} ({gate.rnn})" if gate.rnn else gate.algorithm
    begin = [f"`{gate.name}`{mark}", gate.environment, algorithm, gate.framework, f"{gate.steps:,}"]
    if not mine:
        return [*begin, "not run", "", str(gate.demand), "", "", reference]
    scores, met = _scores(mine), verdict(gate, results, gates)
    over = bootstrap_interval(scores)
    spread = f" [{number(over.low)}, {number(over.high)}]" if over.n > 1 else ""
    return [
        *begin,
        " ".join(map(number, scores)),
        f"{number(over.estimate)}{spread}",
        str(gate.demand),
        "" if met is None else "**missed**" if not met else "met" if len(mine) >= seeds else "met so far",
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
