"""``optix-bus checkpoint``: the policies that a run left on disk."""

from __future__ import annotations

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
    from optix_bus.types import PolicySnapshot

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
    registry = _registry(run)
    rows = [_row(registry, snapshot) for snapshot in registry.snapshots]
    text = [f"{'SNAPSHOT':<22} {'SCORE':>10} {'± 95 %':>8} {'EPISODES':>8} {'POLICY':>7} {'WINDOW':>7}"]
    for row in rows:
        error = "—" if row["standard_error"] is None else f"{1.96 * row['standard_error']:.2f}"
        text.append(
            f"{row['snapshot']:<22} {row['score']:>10.2f} {error:>8} {row['episodes']:>8} "
            f"{row['policy_version']:>7} {row['window']:>7}"
        )
    text += [f"damaged: {damage}" for damage in registry.damaged]
    say({"snapshots": rows, "damaged": registry.damaged}, "\n".join(text) if rows else "no snapshots")


@command(
    "show",
    example="optix-bus checkpoint show runs/tonight\noptix-bus checkpoint show --snapshot 00000012-v000012",
)
@click.argument("run", required=False)
@_SNAPSHOT
def show(run: str | None, snapshot: str | None) -> None:
    """Show everything that is known of one snapshot of RUN: score, hyperparameters, arrays, lineage."""
    registry = _registry(run)
    chosen = _choose(registry, snapshot)
    policy = registry.load(chosen)
    arrays = {name: {"shape": list(a.shape), "dtype": str(a.dtype)} for name, a in policy.arrays.items()}
    data = {
        **_row(registry, chosen),
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
               optix-bus checkpoint evaluate runs/tonight --episodes 100 --seed 10000 --json""",
)
@click.argument("run", required=False)
@_SNAPSHOT
@click.option(
    "--episodes", default=100, show_default=True, type=click.IntRange(1), help="Complete episodes to play."
)
@click.option("--seed", default=10000, show_default=True, help="Seed of the episodes; training used others.")
@click.option("--stochastic", is_flag=True, help="Sample actions instead of taking the likeliest.")
def evaluate(run: str | None, snapshot: str | None, episodes: int, seed: int, stochastic: bool) -> None:
    """Play fresh episodes with a policy of RUN and print what it earns.

    Acts deterministically where the agent can. The policy is read from disk; nothing of the run needs to be
    running.
    """
    from optix_bus.evaluators import ReturnEvaluator
    from optix_bus.pipelines import PipelineSettings, make_pipeline
    from optix_bus.runtime.plan import RunPlan

    registry = _registry(run)
    chosen = _choose(registry, snapshot)
    plan = RunPlan.read(find_run(run).root / "plan.json")
    pipeline = make_pipeline(
        plan.environment["id"],
        plan.environment["kwargs"],
        PipelineSettings(environments=min(episodes, 20)),
        role="validation",
        seed=seed,
    )
    actor, deterministic = _actor(registry, chosen, plan)
    pipeline.set_agent(actor)
    pipeline.setup()
    try:
        data = pipeline.evaluate(episodes, 0, deterministic=deterministic and not stochastic)
    finally:
        pipeline.teardown()
    metrics = ReturnEvaluator().score_validation(data)
    returns = [float(value) for value in data.metadata["episode_returns"]]
    result = {
        "snapshot": chosen.snapshot_id,
        "policy_version": chosen.policy_version,
        "episodes": len(returns),
        "seed": seed,
        "deterministic": deterministic and not stochastic,
        "mean": metrics.primary_score,
        "standard_error": metrics.standard_error,
        "min": min(returns),
        "max": max(returns),
    }
    say(
        result,
        f"policy {chosen.policy_version} ({chosen.snapshot_id}): {metrics.primary_score:.2f} "
        f"± {1.96 * metrics.standard_error:.2f} over {len(returns)} episodes (seed {seed}), "
        f"min {min(returns):.2f}, max {max(returns):.2f}, standard error {metrics.standard_error:.3f}"
        + ("" if result["deterministic"] else "; stochastic"),
    )


@command("export", example="optix-bus checkpoint export runs/tonight best-policy")
@click.argument("run")
@click.argument("target", type=click.Path(path_type=Path))
@_SNAPSHOT
def export(run: str, target: Path, snapshot: str | None) -> None:
    """Copy a policy of RUN to the new folder TARGET: its weights, and a JSON card of what they are.

    Library agents load it with ``agent.load_weights(TARGET + "/weights")``; the arrays are safetensors.
    """
    registry = _registry(run)
    chosen = _choose(registry, snapshot)
    registry.load(chosen)  # verifies the checksums
    source = registry.directory / chosen.snapshot_id
    try:
        shutil.copytree(source, target)
    except FileExistsError:
        raise ConfigurationError(f"{target} exists already: name a new folder") from None
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {error}") from error
    card = {**_row(registry, chosen), "sha256": registry.sha256(chosen)}
    (target / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    say({"target": str(target), **card}, f"{chosen.snapshot_id} -> {target}")


for _command in (list_, show, evaluate, export):
    checkpoint.add_command(_command)


def _registry(run: str | None) -> CheckpointRegistry:
    from optix_bus.checkpoints import CheckpointRegistry

    folder = find_run(run)
    return CheckpointRegistry(folder.checkpoints, resume=True)


def _choose(registry: CheckpointRegistry, snapshot: str | None) -> PolicySnapshot:
    found = registry.snapshots
    if not found:
        damaged = f"; damaged: {'; '.join(registry.damaged)}" if registry.damaged else ""
        raise CheckpointError(f"{registry.directory} holds no usable snapshot{damaged}")
    if snapshot is None:
        return found[0]
    for candidate in found:
        if candidate.snapshot_id == snapshot:
            return candidate
    raise CheckpointError(f"no snapshot {snapshot}; there are {', '.join(s.snapshot_id for s in found)}")


def _row(registry: CheckpointRegistry, snapshot: PolicySnapshot) -> dict[str, Any]:
    error = snapshot.eval_metrics.standard_error
    return {
        "snapshot": snapshot.snapshot_id,
        "policy_version": snapshot.policy_version,
        "window": snapshot.episode_id,
        "score": snapshot.eval_metrics.primary_score,
        "standard_error": None if math.isnan(error) else error,
        "episodes": snapshot.eval_metrics.n,
    }


def _actor(registry: CheckpointRegistry, snapshot: PolicySnapshot, plan: Any) -> tuple[Any, bool]:
    """Who acts: the NumPy policy where the snapshot describes one, else the agent of the topology."""
    from optix_bus.agents import load_policy
    from optix_bus.runtime.site import PlanSite

    policy = registry.load(snapshot)
    if "policy" in policy.metadata:
        return load_policy(policy), True
    agent = PlanSite(plan, plan.nodes[0], {}).agent()
    if "opaque" in policy.arrays:
        agent.load_weights(snapshot.weights_path)
    else:
        agent.load_state(policy)
    return agent, hasattr(agent, "act_batch") or hasattr(agent, "evaluation_mode")
