"""The learning gates: train every algorithm to the level of the public tables, and print how far it came.

    python -m tests.learning                              # all gates, 5 seeds each
    python -m tests.learning cartpole-ppo --seeds 2       # some of it
    python -m tests.learning --resume                     # go on where the last one was interrupted
    python -m tests.learning --seeds 0 --resume           # print the table of what there is

Each (gate, seed) is trained in a process of its own. What it found is appended to a file of JSON lines as
soon as it is known. Scored is the policy at the end of training, whichever it is, by the mean of 100
deterministic episodes; no seed is left out. Exit code 3 where a gate is missed, 1 where a trial could not be
run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.benchmarks.measure import MISSED, machine
from tests.learning import table
from tests.learning.gates import GATES, Gate, find
from tests.learning.trial import Result

#: Of a result that is asked for; fewer are said so.
SEEDS = 5
_LOCK = threading.Lock()


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; returns the exit code."""
    chosen = _arguments(arguments)
    if chosen.list:
        for gate in GATES:
            print(f"{gate.name:20} {gate.environment}, {gate.algorithm}, {gate.steps:,} steps: {gate.demand}")
        return 0
    try:
        gates = find(chosen.gates)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    file: Path = chosen.results
    file.parent.mkdir(parents=True, exist_ok=True)
    results = read(file) if chosen.resume else {}
    # Anew, because a line that was cut off would run into the next one.
    file.write_text("".join(f"{result.line()}\n" for result in results.values()))
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    # Seed by seed, so that an interrupted run has as many of each gate.
    todo = [(gate, seed) for seed in seeds for gate in gates if not _has(results, gate, seed)]
    print(f"{machine()}; {len(todo)} trials to do", flush=True)
    with ThreadPoolExecutor(chosen.jobs) as workers:
        done = list(workers.map(lambda each: trial(*each, file), todo))
    results = read(file)
    page = table.page(gates, results, SEEDS)
    print(f"\n{page}", flush=True)
    if chosen.table is not None:
        chosen.table.write_text(page)
    missed = [gate.name for gate in gates if table.verdict(gate, results, gates) is False]
    if missed:
        print(f"missed: {', '.join(missed)}", flush=True)
    broken = [f"{gate.name} seed {seed}" for (gate, seed), ran in zip(todo, done, strict=True) if not ran]
    if broken:
        print(f"could not be run: {', '.join(broken)}", flush=True)
    return 1 if broken else MISSED if missed else 0


def trial(gate: Gate, seed: int, file: Path) -> bool:
    """Train in a process of its own and append what it found; False where it ended otherwise."""
    command = [sys.executable, "-m", "tests.learning.trial", gate.name, str(seed)]
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    ended = subprocess.run(command, env={**os.environ, **one}, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode != 0:
        print(f"{gate.name} seed {seed}: ended with {ended.returncode}", flush=True)
        return False
    result = Result.read(ended.stdout.splitlines()[-1])
    with _LOCK, file.open("a") as out:
        out.write(result.line() + "\n")
    print(
        f"{gate.name} seed {seed}: {table.number(result.score)} after {result.steps:,} steps, "
        f"{result.cpu_minutes:.2f} CPU minutes",
        flush=True,
    )
    return True


def read(file: Path) -> dict[tuple[str, int], Result]:
    """Results by gate and seed, the last of each; a line that was cut off when a run died is left out."""
    found: dict[tuple[str, int], Result] = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            result = Result.read(line)
            found[result.gate, result.seed] = result
    return found


def _has(results: dict[tuple[str, int], Result], gate: Gate, seed: int) -> bool:
    found = results.get((gate.name, seed))
    return found is not None and found.digest == gate.digest


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {number}, expected at least 1")
    return number


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.learning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("gates", nargs="*", metavar="GATE", help="names; all without one (see --list)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many ({SEEDS})")
    parser.add_argument("--first-seed", type=int, default=0, help="the first; tune on others than 0 to 4")
    parser.add_argument("--jobs", type=_at_least_one, default=1, help="trials side by side (1)")
    parser.add_argument("--resume", action="store_true", help="keep results of the same settings")
    parser.add_argument(
        "--results", type=Path, default=Path("runs/learning.jsonl"), help="file of JSON lines"
    )
    parser.add_argument("--table", type=Path, help="write the table there, too")
    parser.add_argument("--list", action="store_true", help="print the gates and end")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
