"""Does the loop stop by itself, with the right policy, and how long after the last real improvement?

python -m tests.learning.stopping topologies/cartpole_ppo.yaml --seeds 10 --within 0.02

For each seed: one run from the topology, inline, which keeps every snapshot that it ever stores and, beside
them, the policy of every Nth evaluated window whether it was stored or not. When the loop has stopped, each
of them plays the same fresh episodes. A seed that is done is not run again, so the command can be
interrupted and repeated; an interrupted seed begins anew.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from ruamel.yaml import YAML

from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.cli.playing import play
from optix_bus.stats import bootstrap_interval
from tests.processes.runs import journal

#: Of the episodes that judge; runs play others.
FRESH_SEED = 770_077

#: A policy was a real improvement where it beats all before it by so many standard errors of the difference,
#: episode by episode.
REAL = 2.0


def write_topology(source: Path, target: Path, every: int, overrides: list[str]) -> list[str]:
    """The topology with a node that keeps policies; and what `up` is to be told besides."""
    yaml = YAML()
    topology = yaml.load(source.read_text(encoding="utf-8"))
    topology["nodes"]["every"] = {
        "node": "tests.learning.every_policy:EveryPolicyNode",
        "directory": str(target.parent / "policies"),
        "every": every,
    }
    (names,) = [n for n, node in topology["nodes"].items() if "CheckpointNode" in node["node"]]
    with target.open("w", encoding="utf-8") as file:
        yaml.dump(topology, file)
    return [f"nodes.{names}.max_snapshots=100000", *overrides]


def train(topology: Path, seed: int, folder: Path, every: int, overrides: list[str]) -> dict[str, Any]:
    """One run to its end; its last event, with the CPU seconds that it took."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    copy = folder / "topology.yaml"
    sets = write_topology(topology, copy, every, overrides)
    run = folder / "run"
    command = [sys.executable, "-m", "optix_bus.cli", "up", str(copy), "--inline", "-q"]
    command += ["--seed", str(seed), "--run-dir", str(run)]
    for value in sets:
        command += ["--set", value]
    used = psutil.Process().cpu_times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    now = psutil.Process().cpu_times()
    spent = now.children_user + now.children_system - used.children_user - used.children_system
    events = journal(run)
    assert events[-1]["type"] == "RunFinished"
    steps = {
        event["body"]["window"]: event["body"]["total_steps"]
        for event in events
        if event["type"] == "WindowCollected" and event["body"]["purpose"] == "train"
    }
    return {"finished": events[-1]["body"], "steps": steps, "cpu_seconds": spent}


def scores(folder: Path, episodes: int) -> dict[str, dict[int, list[float]]]:
    """Returns of the fresh episodes, by kind (stored, every) and window; each policy version plays once."""
    found: dict[str, dict[int, list[float]]] = {}
    known: dict[int, list[float]] = {}
    for kind, place in (("stored", folder / "run" / "checkpoints"), ("every", folder / "policies")):
        registry = CheckpointRegistry(place, resume=True)
        found[kind] = {}
        for snapshot in registry.snapshots:
            version = snapshot.policy_version
            if version not in known:
                policy = registry.load(snapshot)
                played = play(folder / "run", snapshot, policy, episodes=episodes, seed=FRESH_SEED)
                known[version] = played.returns
            found[kind][snapshot.episode_id] = known[version]
    return found


def last_real_improvement(returns: dict[int, list[float]]) -> int:
    """The last window whose policy beat each one before it: the best of them by `REAL` standard errors of
    the difference on the same episodes. -1 where none did."""
    last, leader = -1, None
    for window in sorted(returns):
        mine = np.array(returns[window])
        if leader is not None:
            gain = mine - leader
            error = gain.std(ddof=1) / math.sqrt(len(gain))
            if gain.mean() <= REAL * error or gain.mean() <= 0.0:
                continue
            last = window
        leader = mine
    return last


def judge(seed: int, trained: dict[str, Any], played: dict[str, Any]) -> dict[str, Any]:
    """One line of the table, from what JSON has kept."""
    finished, steps = trained["finished"], {int(k): v for k, v in trained["steps"].items()}
    played = {kind: {int(w): r for w, r in runs.items()} for kind, runs in played.items()}
    means = {kind: {w: float(np.mean(r)) for w, r in runs.items()} for kind, runs in played.items()}
    restored = means["stored"][finished["best_window"]]
    # What acts in a window was learnt from the windows before it.
    last = last_real_improvement({**played["every"], **played["stored"]})
    return {
        "seed": seed,
        "reason": finished["reason"],
        "decided_by_loop": finished["decided_by_loop"],
        "windows": finished["windows"],
        "steps": finished["steps"],
        "restored": restored,
        "best_stored": max(means["stored"].values()),
        "stored": len(means["stored"]),
        "best_of_all": max([*means["stored"].values(), *means["every"].values()]),
        "all": len(set(means["stored"]) | set(means["every"])),
        "steps_after": finished["steps"] - steps.get(last - 1, 0),
        "cpu_seconds": trained["cpu_seconds"],
    }


def short_of(best: float, found: float) -> float:
    """How far a score is below the best, as a share of the best."""
    return (best - found) / abs(best) if best else 0.0


def table(name: str, rows: list[dict[str, Any]], within: float, episodes: int, command: str) -> str:
    """The page."""
    lines = [
        f"# Where the loop stops: {name}",
        "",
        f"Printed by `{command}`",
        f"on a machine with {os.cpu_count()} cores and no GPU.",
        "",
        f"Every policy plays the same {episodes} fresh episodes. Stored: all snapshots that the run",
        "promoted, none deleted. All: with them the policy of every Nth evaluated window, stored or not.",
        "Last real improvement: the last policy that beat the best before it by two standard errors of the",
        "difference, episode by episode.",
        "",
        "| seed | ended by | windows | steps | steps after the last real improvement | restored policy "
        "| best stored | below it | best of all | below it | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        stored, all_ = (short_of(row[k], row["restored"]) for k in ("best_stored", "best_of_all"))
        lines.append(
            f"| {row['seed']} | {row['reason']} | {row['windows']} | {row['steps']:,} | "
            f"{row['steps_after']:,} | {row['restored']:.2f} | {row['best_stored']:.2f} of {row['stored']} | "
            f"{stored:.1%} | {row['best_of_all']:.2f} of {row['all']} | {all_:.1%} | "
            f"{row['cpu_seconds']:.0f} |"
        )
    short = [short_of(row["best_stored"], row["restored"]) for row in rows]
    decided = sum(row["decided_by_loop"] for row in rows)
    over = bootstrap_interval([row["restored"] for row in rows])
    after = np.median([row["steps_after"] for row in rows])
    lines += [
        "",
        f"* Stopped by the loop's own decision: {decided} of {len(rows)}.",
        f"* Restored policy within {within:.0%} of the best stored snapshot: "
        f"{sum(s <= within for s in short)} of {len(rows)}; furthest below: {max(short):.1%}.",
        f"* Restored policy, interquartile mean over seeds: {over.estimate:.2f} "
        f"[{over.low:.2f}, {over.high:.2f}] (95 % bootstrap interval).",
        f"* Steps after the last real improvement: median {after:,.0f}, "
        f"{min(r['steps_after'] for r in rows):,} to {max(r['steps_after'] for r in rows):,}.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then print the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("topology", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--within", type=float, default=0.02)
    parser.add_argument("--every", type=int, default=1, help="windows from one kept policy to the next")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--out", type=Path, default=None, help="folder of the runs [runs/stopping-NAME]")
    parser.add_argument("--set", action="append", default=[], help="as of optix-bus up")
    chosen = parser.parse_args()
    out = (chosen.out or Path("runs") / f"stopping-{chosen.topology.stem}").resolve()
    rows = []
    for seed in range(chosen.seeds):
        result = out / f"seed-{seed}.json"
        if not result.exists():
            begun = time.monotonic()
            folder = out / f"seed-{seed}"
            trained = train(chosen.topology, seed, folder, chosen.every, chosen.set)
            found = {"trained": trained, "played": scores(folder, chosen.episodes)}
            result.write_text(json.dumps(found), encoding="utf-8")
            print(f"seed {seed}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        rows.append(judge(seed, **json.loads(result.read_text(encoding="utf-8"))))
    words = [f"python -m tests.learning.stopping {chosen.topology} --seeds {chosen.seeds}"]
    words += [f"--within {chosen.within:g} --every {chosen.every}", *(f"--set {s}" for s in chosen.set)]
    print(table(chosen.topology.stem, rows, chosen.within, chosen.episodes, " ".join(words)))


if __name__ == "__main__":
    main()
