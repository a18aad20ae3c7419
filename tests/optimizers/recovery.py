"""What online tuning recovers from a wrong learning rate: PPO on CartPole, 100,000 steps a run.

    python -m tests.optimizers.recovery RESULTS.jsonl             # runs what is not yet in the file
    python -m tests.optimizers.recovery RESULTS.jsonl --seeds 0   # prints the table of what there is

What was found stands in `recovery.jsonl`, beside this file.

The score of a run is the mean of its validation scores over the second half of its windows (10 episodes
each). Tuners work within the agent's own bounds of the learning rate, 1e-4 to 3e-3: a rate outside of them is
taken to the nearest bound with the first suggestion. Random search spends the same steps on four trials with
rates drawn from the same bounds, and its score is that of the best of them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from optix_bus import EvalMetrics, LoopCallback, RLOptimizer, VectorBatchPipeline, make_agent
from tests.optimizers.worlds import TUNERS

GOOD = 3e-3
FACTORS = (0.03, 0.1, 1.0, 10.0, 30.0)
BOUNDS = {"learning_rate": (1e-4, 3e-3)}
STEPS, ENVIRONMENTS, WINDOW, EPISODES, TRIALS = 100_000, 8, 256, 10, 4
SETTINGS = {"n_epochs": 4, "minibatch_size": 256, "entropy_coef": 0.0}
METHODS = ("fixed", "adaptive", "spsa", "momentum", "backoff", "pbt")
SEARCH = "random search"


class Scores(LoopCallback):
    """Remembers what each window scored, and the learning rates that were in force."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.rates: list[float] = []

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
        if eval_metrics is not None:
            self.scores.append(eval_metrics.primary_score)

    def on_hyperparam_update(self, old_params: dict[str, Any], new_params: dict[str, Any]) -> None:
        self.rates.append(new_params["learning_rate"])


def train(rate: float, method: str, seed: int, steps: int = STEPS) -> Scores:
    """One run from this learning rate; it does not end by itself, so that all have the same steps."""
    hyperparams = {**SETTINGS, "learning_rate": rate}
    agent = make_agent(gym.make("CartPole-v1"), seed=seed, hyperparams=hyperparams)
    tuner: Any = False
    if method != "fixed":
        tuner = TUNERS[method](BOUNDS, log_params=["learning_rate"], seed=seed)
    seen = Scores()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        RLOptimizer(
            agent=agent,
            pipeline=VectorBatchPipeline(
                [lambda: gym.make("CartPole-v1")] * ENVIRONMENTS, window_size=WINDOW, seed=seed
            ),
            val_pipeline=VectorBatchPipeline([lambda: gym.make("CartPole-v1")] * EPISODES, seed=seed + 500),
            val_episodes=EPISODES,
            optimizer=tuner,
            callbacks=[seen],
            checkpoint_dir=str(Path(folder) / "snapshots"),
            seed=seed,
            max_episodes=steps // (ENVIRONMENTS * WINDOW),
            min_episodes_before_dormant=10**6,
            max_interval_episodes=1,
        ).run()
    return seen


def second_half(scores: list[float]) -> float:
    """Mean of the second half."""
    return float(np.mean(scores[len(scores) // 2 :]))


def search(seed: int) -> float:
    """The best of four random learning rates, each with a quarter of the steps."""
    low, high = BOUNDS["learning_rate"]
    rates = np.exp(np.random.default_rng([7, seed]).uniform(np.log(low), np.log(high), TRIALS))
    trials = [train(float(rate), "fixed", 100 * seed + i, STEPS // TRIALS) for i, rate in enumerate(rates)]
    return max(second_half(trial.scores) for trial in trials)


def run_missing(path: Path, seeds: int) -> None:
    """Append a line for each run that the file does not hold yet."""
    done = {(line["method"], line["factor"], line["seed"]) for line in lines(path)}
    for method, factor, seed in order(seeds):
        if (method, factor, seed) in done:
            continue
        started = time.process_time()
        found: dict[str, Any] = {"method": method, "factor": factor, "seed": seed}
        if method == SEARCH:
            found["score"] = search(seed)
        else:
            seen = train(GOOD * factor, method, seed)
            found["score"] = second_half(seen.scores)
            found["rates"] = [float(f"{rate:.3g}") for rate in seen.rates]
        found["cpu_seconds"] = round(time.process_time() - started, 1)
        with path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(found) + "\n")


def order(seeds: int) -> list[tuple[str, float, int]]:
    """All runs, those first that say most where there is no time for all of them."""
    everything = [(m, f, seed) for seed in range(seeds) for m in METHODS for f in FACTORS]
    everything += [(SEARCH, 1.0, seed) for seed in range(seeds)]

    def rank(run: tuple[str, float, int]) -> tuple[bool, int, bool]:
        method, factor, seed = run
        core = method in ("fixed", "adaptive") and factor in (0.1, 1.0, 10.0)
        return (not core, seed, factor not in (0.1, 10.0))

    return sorted(everything, key=rank)


def lines(path: Path) -> list[dict[str, Any]]:
    """What was run so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def recovery(found: list[dict[str, Any]], method: str, factor: float) -> list[float]:
    """Per seed the share of the gap between the wrong rate and the good one that was closed.

    From the good rate itself: the score relative to it, minus 1, so that a loss is negative.
    """
    scores = {(line["method"], line["factor"], line["seed"]): line["score"] for line in found}
    shares = []
    for (name, times, seed), score in scores.items():
        good, bad = scores.get(("fixed", 1.0, seed)), scores.get(("fixed", factor, seed))
        if good is None or bad is None or name != method or times != factor:
            continue
        shares.append(score / good - 1.0 if factor == 1.0 else (score - bad) / (good - bad))
    return shares


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: medians over seeds of scores and of the recovered share, with its lowest and highest."""
    head = ["method", *(f"x{factor:g}" for factor in FACTORS)]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for method in METHODS:
        cells = []
        for factor in FACTORS:
            mine = [x["score"] for x in found if (x["method"], x["factor"]) == (method, factor)]
            if not mine:
                cells.append("not run")
                continue
            cell = f"{np.median(mine):.0f}"
            shares = recovery(found, method, factor) if method != "fixed" else []
            if shares:
                middle, form = float(np.median(shares)), "+.1%" if factor == 1.0 else ".2f"
                spread = f"; {min(shares):{form}} to {max(shares):{form}}" if len(shares) > 1 else ""
                cell += f" ({middle:{form}}{spread})"
            cells.append(f"{cell}, n={len(mine)}")
        rows.append("| " + " | ".join([method, *cells]) + " |")
    searched = [x["score"] for x in found if x["method"] == SEARCH]
    if searched:
        rows.append(
            f"| random search, whatever the start | {np.median(searched):.0f}, n={len(searched)} | | | | |"
        )
    return "\n".join(rows)


def main() -> None:
    """Run what is missing, then print the table."""
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=about)
    parser.add_argument("results", type=Path, help="file of JSON lines; what it holds is not run again")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on [5]")
    chosen = parser.parse_args()
    run_missing(chosen.results, chosen.seeds)
    print(table(lines(chosen.results)))


if __name__ == "__main__":
    main()
