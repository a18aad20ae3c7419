"""Does an ensemble over three regimes beat every member? ``python -m tests.evolution.regimes`` prints it.

`topologies/regime_ensemble.yaml` is run inline for each seed, 8 windows; the best snapshot of each
run and every member of it alone are then played on the same fresh episodes, in which the regime changes under
way.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.runtime.inline_run import run_inline
from optix_bus.runtime.progress import QuietView
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.runtime.topology import load_topology
from optix_bus.runtime.topology_classes import add_search_path, load_object
from optix_bus.stats import t_quantile

ROOT = Path(__file__).parents[2]
TOPOLOGY = ROOT / "topologies" / "regime_ensemble.yaml"
SEEDS, WINDOWS, EPISODES = range(6), 8, 40
#: Of the episodes that decide; no run plays any of them.
_FRESH = 10_000_000

Act = Callable[[Any, Any], Any]


def trained(seed: int, folder: Path, windows: int = WINDOWS) -> Any:
    """The ensemble of the best snapshot of one run."""
    changes = [f"seed={seed}", f"nodes.scheduler.max_episodes={windows}"]
    outcome = run_inline(
        load_topology(TOPOLOGY, changes, build_environment=False),
        RunDirectory.create(folder / f"run-{seed}"),
        QuietView(),
    )
    assert outcome.exit_code == 0, outcome.reason
    ensemble = load_object("regime_ensemble:RegimeEnsemble")()
    snapshot = CheckpointRegistry(folder / f"run-{seed}" / "checkpoints", resume=True).load_best(ensemble)
    assert snapshot is not None
    ensemble.set_hyperparams(snapshot.hyperparams)
    return ensemble


def played(act: Act, episodes: int, seed: int) -> Any:
    """``[episodes]`` returns of a way to act, on streams that are the same for every way."""
    stream: Any = load_object("regime_ensemble:ShiftingStream")
    worlds = [stream() for _ in range(episodes)]
    firsts = _FRESH + seed * episodes
    seen = np.stack([world.reset(seed=firsts + number)[0] for number, world in enumerate(worlds)])
    returns = np.zeros(episodes)
    for _ in range(worlds[0].length):
        steps = [world.step(action) for world, action in zip(worlds, act(seen, worlds), strict=True)]
        returns += [step[1] for step in steps]
        seen = np.stack([step[0] for step in steps])
    return returns


def ways(ensemble: Any) -> dict[str, Act]:
    """The ensemble, its members alone, and what it would gain with other weights."""
    regimes = list(load_object("regime_ensemble:REGIMES"))

    def positions(seen: Any) -> Any:
        newest = seen.astype(float)[:, -2:]
        return np.stack([member.positions(newest) for member in ensemble.members], axis=1)

    def told(seen: Any, worlds: Any) -> Any:
        return positions(seen)[np.arange(len(seen)), [regimes.index(world.regime) for world in worlds]]

    alone = {
        f"member {number} alone (began as {regime})": lambda seen, _, k=number: positions(seen)[:, k]
        for number, regime in enumerate(regimes)
    }
    return {
        "ensemble": lambda seen, _: ensemble.act_batch(seen),
        **alone,
        "all members with equal weights": lambda seen, _: positions(seen).mean(axis=1),
        "told the regime (nobody is)": told,
    }


def scores(seed: int, folder: Path, windows: int = WINDOWS, episodes: int = EPISODES) -> dict[str, float]:
    """Mean return of each way, for one run."""
    ensemble = trained(seed, folder, windows)
    return {name: float(played(act, episodes, seed).mean()) for name, act in ways(ensemble).items()}


def interval(values: list[float]) -> tuple[float, float]:
    """Mean over runs and the half width of its 95 % interval."""
    found = np.array(values)
    half = t_quantile(0.975, len(found) - 1.0) * found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean()), float(half)


def table(rows: list[dict[str, float]]) -> str:
    """Of all runs: each way with its interval, and what the ensemble gains over it in the same runs."""
    lines = [
        f"{len(rows)} seeds, {WINDOWS} windows, {EPISODES} fresh episodes each: mean return with its "
        "95 % interval over seeds.",
        "",
        "| who acts | return | the ensemble gains | in runs |",
        "|---|---|---|---|",
    ]
    for name in rows[0]:
        mean, half = interval([row[name] for row in rows])
        more, width = interval([row["ensemble"] - row[name] for row in rows])
        wins = sum(row["ensemble"] > row[name] for row in rows)
        beside = "| | |" if name == "ensemble" else f"| {more:+.1f} ± {width:.1f} | {wins} of {len(rows)} |"
        lines.append(f"| {name} | {mean:.1f} ± {half:.1f} {beside}")
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    add_search_path(TOPOLOGY.parent)
    with tempfile.TemporaryDirectory(prefix="optix-bus-regimes-") as folder:
        rows = [scores(seed, Path(folder)) for seed in SEEDS]
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
