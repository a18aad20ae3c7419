"""``optix-bus checkpoint``: the policies that a run left on disk."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optix_bus.cli.command import command, say
from optix_bus.cli.runs import find_run
from optix_bus.errors import CheckpointError, ConfigurationError

if TYPE_CHECKING:
    from optix_bus.checkpoints import CheckpointRegistry
    from optix_bus.runtime.run_directory import RunDirectory
    from optix_bus.types import NamedArrays, PolicySnapshot
_SNAPSHOT = click.option("--snapshot", help="Id of a snapshot [the best].")


@click.group(
    "checkpoint",
    epilog="\b\nExample:\n  optix-bus checkpoint list\n"
    "  optix-bus checkpoint evaluate runs/tonight --episodes 100 --seed 10000 --json",
)
def checkpoint() -> None:
    """List, show, evaluate and export the policies of a run."""


@command("list", example="optix-bus checkpoint list\noptix-bus checkpoint list runs/tonight --json")
@click.argument("run", required=False)
def list_(run: str | None) -> None:
    """List the snapshots of RUN (by default the newest), best first."""
    registry = _registry(find_run(run))
    for snapshot in registry.snapshots:
        with contextlib.suppress(CheckpointError):  # reading verifies; what is damaged is named below
            registry.load(snapshot)
    rows = [_row(snapshot) for snapshot in registry.snapshots]
    text = [f"{'SNAPSHOT':<22} {'SCORE':>10} {'± 95 %':>8} {'EPISODES':>8} {'POLICY':>7} {'WINDOW':>7}"]
    for row in rows:
        text.append(
            f"{row['snapshot']:<22} {_number(row['score']):>10} {_half(row['standard_error']):>8} "
            f"{row['episodes']:>8} "
            f"{row['policy_version']:>7} {row['window']:>7}"
        )
    text = text if rows else ["no snapshots"]
    text += [f"damaged: {damage}" for damage in registry.damaged]
    say({"snapshots": rows, "damaged": registry.damaged}, "\n".join(text))


@command(
    "show",
    example="optix-bus checkpoint show runs/tonight\noptix-bus checkpoint show --snapshot 00000012-v000012",
)
@click.argument("run", required=False)
@_SNAPSHOT
def show(run: str | None, snapshot: str | None) -> None:
    """Show everything that is known of one snapshot of RUN: score, hyperparameters, arrays, lineage."""
    registry = _registry(find_run(run))
    chosen, policy = _choose(registry, snapshot)
    arrays = {name: {"shape": list(a.shape), "dtype": str(a.dtype)} for name, a in policy.arrays.items()}
    data = {
        **_row(chosen),
        "sha256": registry.sha256(chosen),
        "path": chosen.weights_path,
        "hyperparameters": chosen.hyperparams.params,
        "lineage": registry.lineage(chosen),
        "arrays": arrays,
        "parameters": sum(math.prod(entry["shape"]) for entry in arrays.values()),
    }
    lines = [f"{key:<16} {value}" for key, value in data.items() if key not in ("arrays", "hyperparameters")]
    lines += [f"  {key:<22} {value}" for key, value in chosen.hyperparams.params.items()]
    lines += [f"  {name:<40} {entry['dtype']:<8} {tuple(entry['shape'])}" for name, entry in arrays.items()]
    say(data, "\n".join(lines))


@command(
    "evaluate",
    example="""optix-bus checkpoint evaluate
               optix-bus checkpoint evaluate runs/tonight --episodes 100 --seed 10000 --json
               optix-bus checkpoint evaluate runs/seed-0 runs/seed-1 runs/seed-2 runs/seed-3""",
)
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@_SNAPSHOT
@click.option(
    "--episodes", default=100, show_default=True, type=click.IntRange(1), help="Complete episodes to play."
)
@click.option("--seed", default=10000, show_default=True, help="Seed of the episodes; training used others.")
@click.option("--stochastic", is_flag=True, help="Sample actions instead of taking the likeliest.")
def evaluate(runs: tuple[str, ...], snapshot: str | None, episodes: int, seed: int, stochastic: bool) -> None:
    """Play fresh episodes with a policy of RUN (by default the newest) and print what it earns.

    Acts deterministically where the agent can. The policy is read from disk; nothing of the run needs to be
    running. With several runs each plays the same episodes, and what they say together is printed with
    bootstrap intervals over the runs: the interquartile mean and the mean.
    """
    if len(runs) > 1 and snapshot is not None:
        raise ConfigurationError(
            "found --snapshot and several runs, expected one run: its name is of one run"
        )
    rows = [_evaluate(run, snapshot, episodes, seed, stochastic) for run in (runs or (None,))]
    if len(rows) == 1:
        result = {key: value for key, value in rows[0].items() if key != "run"}
        say(
            result,
            f"policy {result['policy_version']} ({result['snapshot']}): {result['mean']:.2f} "
            f"± {_half(result['standard_error'])} over {result['episodes']} episodes (seed {seed}), "
            f"min {result['min']:.2f}, max {result['max']:.2f}, "
            f"standard error {_number(result['standard_error'], 3)}"
            + ("" if result["deterministic"] else "; stochastic"),
        )
        return
    over = _over_runs([row["mean"] for row in rows])
    width = max(len(row["run"]) for row in rows)
    lines = [f"{'RUN':<{width}} {'SNAPSHOT':<22} {'MEAN':>10} {'± 95 %':>8} {'MIN':>10} {'MAX':>10}"]
    for row in rows:
        lines.append(
            f"{row['run']:<{width}} {row['snapshot']:<22} {row['mean']:>10.2f} "
            f"{_half(row['standard_error']):>8} {row['min']:>10.2f} {row['max']:>10.2f}"
        )
    lines.append(f"{episodes} episodes each (seed {seed}); over {len(rows)} runs, 95 % bootstrap intervals:")
    for name, words in (("interquartile_mean", "interquartile mean"), ("mean", "mean")):
        found = over[name]
        lines.append(f"  {words:<18} {found['estimate']:.2f} [{found['low']:.2f}, {found['high']:.2f}]")
    say({"runs": rows, "over_runs": over}, "\n".join(lines))


def _evaluate(
    name: str | None, snapshot: str | None, episodes: int, seed: int, stochastic: bool
) -> dict[str, Any]:
    """What one run's policy earns, ready for JSON."""
    from optix_bus.cli.playing import play

    run = find_run(name)
    chosen, policy = _choose(_registry(run), snapshot)
    played = play(run.root, chosen, policy, episodes=episodes, seed=seed, stochastic=stochastic)
    return {
        "run": str(run.root),
        "snapshot": chosen.snapshot_id,
        "policy_version": chosen.policy_version,
        "episodes": len(played.returns),
        "seed": seed,
        "deterministic": played.deterministic,
        "mean": played.metrics.primary_score,
        "standard_error": _finite(played.metrics.standard_error),
        "min": min(played.returns),
        "max": max(played.returns),
    }


def _over_runs(means: list[float]) -> dict[str, Any]:
    """What several runs say together."""
    from optix_bus.stats import bootstrap_interval, interquartile_mean, mean

    found: dict[str, Any] = {"runs": len(means), "confidence": 0.95}
    for name, statistic in (("interquartile_mean", interquartile_mean), ("mean", mean)):
        interval = bootstrap_interval(means, statistic)
        found[name] = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return found


@command(
    "export",
    example="""optix-bus checkpoint export runs/tonight best-policy
               optix-bus checkpoint export runs/tonight best.onnx --format onnx""",
)
@click.argument("run")
@click.argument("target", type=click.Path(path_type=Path))
@_SNAPSHOT
@click.option(
    "--format",
    "form",
    type=click.Choice(("weights", "onnx")),
    default="weights",
    show_default=True,
    help="A folder of weights, or the acting half alone as an ONNX file.",
)
def export(run: str, target: Path, snapshot: str | None, form: str) -> None:
    """Copy a policy of RUN to TARGET, which must be new: its weights and a JSON card of what they are.

    Library agents load it with ``agent.load_weights(TARGET + "/weights")``; the arrays are safetensors.
    An ONNX file takes observations and answers deterministic actions, both as the environment has them.
    """
    registry = _registry(find_run(run))
    chosen, policy = _choose(registry, snapshot)
    source = registry.directory / chosen.snapshot_id
    card = {**_row(chosen), "sha256": registry.sha256(chosen)}
    if form == "onnx":
        from optix_bus.agents.onnx_graph import export_onnx

        if target.exists():
            raise ConfigurationError(f"{target} exists already: name a new file")
        export_onnx(policy, str(target))
        say({"target": str(target), **card}, f"{chosen.snapshot_id} -> {target}")
        return
    try:
        shutil.copytree(source, target)
        (target / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    except FileExistsError:
        raise ConfigurationError(f"{target} exists already: name a new folder") from None
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {error}") from error
    say({"target": str(target), **card}, f"{chosen.snapshot_id} -> {target}")


for _command in (list_, show, evaluate, export):
    checkpoint.add_command(_command)


def _registry(run: RunDirectory) -> CheckpointRegistry:
    from optix_bus.checkpoints import CheckpointRegistry

    return CheckpointRegistry(_folder(run), resume=True)


def _folder(run: RunDirectory) -> Path:
    """Where the checkpoint node of the run writes: its setting ``directory``, or the run directory."""
    from optix_bus.runtime.plan import RunPlan

    plan = run.root / "plan.json"
    return RunPlan.read(plan).checkpoint_directory(run.root) if plan.exists() else run.checkpoints


def _choose(registry: CheckpointRegistry, snapshot: str | None) -> tuple[PolicySnapshot, NamedArrays]:
    """The snapshot of that id, or the best one that is not damaged, with its policy."""
    if snapshot is None:
        restored = registry.restore_best()
        if restored is None:
            raise CheckpointError(f"{registry.directory} holds no snapshot")
        for damage in registry.damaged:
            click.echo(f"warning: passed over: {damage}", err=True)
        return restored
    found = {candidate.snapshot_id: candidate for candidate in registry.snapshots}
    if snapshot in found:
        return found[snapshot], registry.load(found[snapshot])
    damaged = f"; damaged: {'; '.join(registry.damaged)}" if registry.damaged else ""
    raise CheckpointError(f"no snapshot {snapshot}; there are {', '.join(found) or 'none'}{damaged}")


def _row(snapshot: PolicySnapshot) -> dict[str, Any]:
    return {
        "snapshot": snapshot.snapshot_id,
        "policy_version": snapshot.policy_version,
        "window": snapshot.episode_id,
        "score": _finite(snapshot.eval_metrics.primary_score),
        "standard_error": _finite(snapshot.eval_metrics.standard_error),
        "episodes": snapshot.eval_metrics.n,
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _number(value: float | None, digits: int = 2) -> str:
    return "—" if value is None else f"{value:.{digits}f}"


def _half(standard_error: float | None) -> str:
    """Half the width of the 95 % interval."""
    return _number(None if standard_error is None else 1.96 * standard_error)
